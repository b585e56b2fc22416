"""What is refused before the first step: shifts, schedules, boundaries that do not fit."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np
from gymnasium import spaces

from rlplastic.envs.copies import Array
from rlplastic.envs.schedules import Ramped, Schedule, worlds_of
from rlplastic.envs.shifts import Shift
from rlplastic.errors import UsageError, unknown
from rlplastic.suite import Boundary

_FAR = 1e3  # stands for infinity where a shift is tried


def refuse_arguments(
    seed: int, boundary: str, reward_scale: float, copy: int, number: int, ticks: int
) -> None:
    """Refuse what a stream cannot be given, whatever its parts are.

    Args:
        seed: 0 or more.
        boundary: One of `Boundary`.
        reward_scale: Above 0 and finite.
        copy: The first of the copies that are stepped here.
        number: How many are stepped here.
        ticks: How many there are in all.

    Raises:
        UsageError: one of them is not what it must be.
    """
    _whole("seed", seed, 0)
    _whole("copies", ticks, max(1, number))
    _whole("copy", copy, 0, ticks - number)
    if boundary not in get_args(Boundary):
        raise unknown("boundary", str(boundary), get_args(Boundary))
    if not isinstance(reward_scale, int | float | np.number) or not 0 < reward_scale < np.inf:
        raise UsageError(f"reward_scale = {reward_scale!r}; valid: a finite number above 0")


def _whole(name: str, value: Any, least: int, most: float = np.inf) -> None:
    if not isinstance(value, int | np.integer) or not least <= value <= most:
        valid = f"{least} or more" if most == np.inf else f"{least} to {most}"
        raise UsageError(f"{name} = {value!r}; valid: a whole number, {valid}")


def refuse_impossible(schedule: Schedule, ticks: int) -> None:
    """Refuse a schedule that no clock can follow.

    Args:
        schedule: The schedule, bound.
        ticks: What one step of all copies adds to the clock.

    Raises:
        UsageError: no phase, a phase without a step or with part of one, a mix beyond [0, 1].
    """
    if schedule.phases < 1:
        raise UsageError(f"{schedule} has {schedule.phases} phases; valid: 1 or more")
    starts = [schedule.start(phase) for phase in range(schedule.phases + 1)]
    if starts[0] != 0:
        raise UsageError(f"{schedule}: phase 0 starts at step {starts[0]}; valid: 0")
    for phase, (before, start) in enumerate(itertools.pairwise(starts), start=1):
        if start <= before:
            raise UsageError(
                f"{schedule}: phase {phase - 1} starts at step {before} and ends at step {start}; "
                f"valid: an end of {before + ticks} or more"
            )
        if start % ticks:
            raise UsageError(
                f"phase {phase} starts at step {start}, which is not a whole number of steps "
                f"of {ticks} copies; nearest valid: {-(-start // ticks) * ticks}"
            )
    if isinstance(schedule, Ramped):
        for start in starts[:-1]:
            if not 0 <= schedule.mix(start) <= 1:
                raise UsageError(f"{schedule}: mix({start}) = {schedule.mix(start)}; valid: 0 to 1")


def refuse_boundary(
    boundary: str, by_method: Mapping[str, Sequence[Shift]], ramps: bool, clip_reward: bool
) -> None:
    """Refuse a boundary, or a ramp, that these shifts cannot take.

    Args:
        boundary: When a copy enters the new world.
        by_method: The shifts that have a method, by its name.
        ramps: Whether worlds come little by little.
        clip_reward: Whether the learner is paid the sign of the reward.

    Raises:
        UsageError: another base environment, or a mix, in mid-episode; the sign of a mix.
    """
    if boundary != "truncate" and by_method["configure"]:
        names = ", ".join(shift.name for shift in by_method["configure"])
        raise UsageError(
            f"boundary {boundary!r}: shift {names} builds another base environment for "
            "each world, which needs boundary 'truncate'"
        )
    if ramps and boundary == "episode":
        raise UsageError(
            "boundary 'episode': a ramp changes the world within an episode; "
            "valid: 'truncate', 'step'"
        )
    if ramps and clip_reward and by_method["reward"]:
        names = ", ".join(shift.name for shift in by_method["reward"])
        raise UsageError(
            f"clip_reward: of a mix of rewards (shift {names}) only the sign is left, which is "
            "no ramp; valid: clip_reward = false"
        )


def refuse_misfit(shifts: Sequence[Shift], schedule: Schedule, space: spaces.Space[Any]) -> None:
    """Refuse bound shifts that have too few worlds for a schedule, or do not keep to the rules.

    Raises:
        UsageError: nothing changes between two phases, or one of the above.
    """
    if not shifts:
        return
    for phase in range(1, schedule.phases):
        if schedule.world(phase) == schedule.world(phase - 1):
            raise UsageError(
                f"phases {phase - 1} and {phase} are both in world {schedule.world(phase)}; "
                "consecutive worlds must differ"
            )
    worlds = worlds_of(schedule)
    for shift in shifts:
        if shift.worlds is not None and worlds[-1] >= shift.worlds:
            those = f"0 to {shift.worlds - 1}" + f", {shift.counted}" * bool(shift.counted)
            raise UsageError(
                f"shift {shift.name!r} has {shift.worlds} worlds ({those}), "
                f"but the schedule {schedule} asks for world {worlds[-1]}; "
                f"let them come back: schedule 'cyclic' with worlds = {shift.worlds}"
            )
        if isinstance(schedule, Ramped) and (not shift.mixes or shift.memory(1)):
            raise UsageError(
                f"shift {shift.name!r} has nothing between two of its worlds, so that none can "
                f"turn into another little by little as {schedule} asks for; "
                "valid: a schedule without a ramp"
            )
    if worlds[-1]:
        _rehearse(shifts, space, next(world for world in worlds if world))


def _rehearse(shifts: Sequence[Shift], space: spaces.Space[Any], world: int) -> None:
    """Try bound shifts on the two ends of the spaces, in a world other than 0.

    Raises:
        UsageError: one of them does not keep shape and type, or leaves the space that it declares.
    """
    frames, worlds, reward = _ends(space), np.full(2, world), np.array([1.0, -1.0])
    for shift in shifts:
        tried = type(shift)
        shift.prepare(2)
        actions = _ends(shift.base.action_space)
        if tried.action is not Shift.action and actions is not None:
            taken = shift.action(actions, worlds)
            _refuse_other(shift, "action", actions, taken)
            if not all(map(shift.base.action_space.contains, taken)):
                raise UsageError(
                    f"shift {shift.name!r}: action() leaves {shift.base.action_space} in world "
                    f"{world}; the base environment takes no others"
                )
        if tried.observation is not Shift.observation and frames is not None:
            seen = shift.observation(frames, worlds)
            _refuse_other(shift, "observation", frames, seen)
            space = shift.space(space)
            assert isinstance(space, spaces.Box)
            if not ((seen >= space.low) & (seen <= space.high)).all():
                raise UsageError(
                    f"shift {shift.name!r}: observation() leaves {space} in world {world}; "
                    "its space() must return the union of all worlds"
                )
            frames = seen
        if tried.reward is not Shift.reward and frames is not None:
            _refuse_other(shift, "reward", reward, shift.reward(reward, worlds, frames))
        if tried.target is not Shift.target:
            _refuse_other(shift, "target", reward, shift.target(reward, worlds))
        shift.prepare(shift.base.num_copies)


def _ends(space: spaces.Space[Any]) -> Array | None:
    """The lowest and the highest point of a space; None if it has none."""
    if isinstance(space, spaces.Discrete):
        return np.array([space.start, space.start + space.n - 1], dtype=space.dtype)
    if isinstance(space, spaces.Box):
        ends = np.clip(space.low, -_FAR, _FAR), np.clip(space.high, -_FAR, _FAR)
        return np.stack(ends).astype(space.dtype)
    return None


def _refuse_other(shift: Shift, method: str, given: Array, got: Any) -> None:
    if np.shape(got) != given.shape or np.asarray(got).dtype != given.dtype:
        raise UsageError(
            f"shift {shift.name!r}: {method}() was given {given.dtype} {given.shape} and returned "
            f"{np.asarray(got).dtype} {np.shape(got)}; it must keep both"
        )
