"""The checks of `rlplastic.envs.check` that are about time: when what changes, and who is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rlplastic.doctor import Broken
from rlplastic.envs.copies import Array, Copies, Transition
from rlplastic.envs.schedules import Schedule
from rlplastic.envs.stream import Stream
from rlplastic.envs.tasks import Subject
from rlplastic.envs.traces import Effort, actions, difference, opened, step, step_scalars

INFOS = frozenset({"terminal_observation", "TimeLimit.truncated", "episode"})
ACCOUNT = frozenset({"r", "l", "t"})  # of `episode`, as SB3's Monitor has them
STATED = ("observation_space", "action_space", "metadata", "render_mode")  # what an agent may read


class _Watch:
    """Looks on as base copies are stepped and reset.

    Attributes:
        base: The copies, which may be used as before.
        forced: Number of resets that somebody called for.
        terminated: Of the last step.
        truncated: Of the last step.
    """

    def __init__(self, base: Copies) -> None:
        self.base, self.forced = base, 0
        self.terminated = self.truncated = np.zeros(base.num_copies, dtype=bool)
        self._step, self._reset = base.step, base.reset
        base.step, base.reset = self.step, self.reset  # type: ignore[method-assign]

    def step(self, actions: Array) -> Transition:
        """See `Copies.step`."""
        out = self._step(actions)
        self.terminated, self.truncated = out.terminated.copy(), out.truncated.copy()
        return out

    def reset(self, seeds: Sequence[int] | None = None) -> Array:
        """See `Copies.reset`."""
        self.forced += 1
        return self._reset(seeds)


def timing(subject: Subject, effort: Effort) -> str:
    """Phases, worlds, truncations and resets change at the schedule's steps and at no other."""
    for copies in effort.copies:
        schedule = subject.short(copies, effort.phase)
        episodes: list[Any] = []
        watch = _Watch(subject.copies(copies))
        stream = subject.stream(copies, schedule, base=watch.base, seed=1, listener=episodes.append)
        _timed(stream, watch, schedule, copies)
        stream.close()
        told = np.zeros(copies, dtype=int)
        for episode in episodes:
            told[episode.copy] += episode.length
            if episode.end - episode.begin != episode.length * copies:
                raise Broken(f"{copies} copies: {episode} is not {episode.length} steps long")
            if episode.cut and episode.end not in map(schedule.start, range(schedule.phases + 1)):
                raise Broken(f"{copies} copies: {episode} is cut where no phase ends")
        if subject.keywords.get("boundary", "truncate") == "truncate":
            end = schedule.start(schedule.phases) // copies
            if (told < end).any():
                raise Broken(f"{copies} copies: of {end} steps the episodes tell {told.tolist()}")
    counts = " and ".join(str(copies) for copies in effort.copies)
    return f"{schedule.phases} phases with {counts} copies, each step"


def _timed(stream: Stream, watch: _Watch, schedule: Schedule, copies: int) -> None:
    """Play a stream to the end of its schedule and beyond; expect each step from the schedule."""
    stream.reset()
    draws = actions(stream.action_space, copies, 6, 3)
    phase, worlds = 0, np.full(copies, schedule.world(0))
    for number in range(1, schedule.start(schedule.phases) // copies + 8):
        where = f"{copies} copies, step {number}, clock {number * copies}"
        watch.forced = 0
        seen = step(stream, next(draws))
        ended = watch.terminated | watch.truncated
        boundary = number * copies == schedule.start(phase + 1)
        if boundary and phase + 1 < schedule.phases:
            phase += 1
        cut = boundary and stream.boundary == "truncate"
        over = ended | cut
        changed = over if stream.boundary != "step" else np.ones(copies, dtype=bool)
        worlds = np.where(changed, schedule.world(phase), worlds)
        facts = {
            "phase": (stream.phase, phase),
            "worlds": (stream.worlds.tolist(), worlds.tolist()),
            "done": (seen.done.tolist(), over.tolist()),
            "truncated": (seen.truncated.tolist(), (over & ~watch.terminated).tolist()),
            "resets of the base environment": (watch.forced, int(cut)),
        }
        for what, (found, expected) in facts.items():
            if found != expected:
                raise Broken(f"{where}: {what} {found}; by the schedule {expected}")


def begins(subject: Subject, effort: Effort) -> str:
    """A stream begun at a phase, as a newborn's, is one that came there by itself."""
    if subject.keywords.get("boundary", "truncate") != "truncate":
        return "episodes cross the boundary: a phase is not to be begun anew"
    schedule = subject.short(2, effort.phase)
    arrived = subject.stream(2, schedule, seed=1)
    first = opened(np.asarray(arrived.reset()))
    for phase in range(schedule.phases):
        begun = subject.stream(2, schedule, seed=1)
        begun.begin(phase)
        draws = actions(begun.action_space, 2, phase, 3)
        mine = opened(np.asarray(begun.reset()))
        if text := difference(first, mine):
            raise Broken(f"phase {phase}, first observation, {text} where it was begun")
        for number in range(1, (schedule.start(phase + 1) - schedule.start(phase)) // 2 + 1):
            action = next(draws)
            seen, mine = step(arrived, action), step(begun, action)
            if text := difference(seen, mine):
                raise Broken(f"phase {phase}, step {number}, {text} where it was begun")
        first = opened(seen.observation)
        begun.close()
    arrived.close()
    return f"each of {schedule.phases} phases"


def leaks(subject: Subject, effort: Effort) -> str:
    """Neither infos nor spaces nor other attributes tell the agent of phase or world."""
    schedule = subject.short(2, effort.phase)
    stream, env = subject.stream(2, schedule, seed=1), subject.scalar(2, 0, schedule, seed=1)
    stream.reset()
    _, info = env.reset()
    stated = _stated(stream), _stated(env)
    draws = actions(stream.action_space, 2, 1, 3)
    for number in range(schedule.start(schedule.phases) // 2 + 2):
        if info or any(stream.reset_infos):
            raise Broken(f"step {number}: infos of resets and environment must be empty: {info}")
        action = next(draws)
        *_, infos = stream.step(action)
        _, _, terminated, truncated, info = env.step(action[0])
        where = f"step {number + 1}, phase {stream.phase}"
        for one in infos:
            if more := (set(one) - INFOS) | (set(one.get("episode", ())) - ACCOUNT):
                raise Broken(f"{where}: infos tell {sorted(more)}; allowed: {sorted(INFOS)}")
        for before, now in zip(stated, (_stated(stream), _stated(env)), strict=True):
            if changed := [name for name in STATED if before[name] != now[name]]:
                raise Broken(f"{where}: {changed[0]} was {before[changed[0]]} at the start")
        if terminated or truncated:
            info = {**info, **env.reset()[1]}
    stream.close()
    env.close()
    return f"infos hold at most {', '.join(sorted(INFOS))}; spaces stay"


def agree(subject: Subject, effort: Effort) -> str:
    """Gymnasium environments are the copies of the vectorised stream."""
    copies = 3
    schedule = subject.short(copies, effort.phase)
    vector = subject.stream(copies, schedule, seed=9)
    envs = [subject.scalar(copies, i, schedule, seed=9) for i in range(copies)]
    first = opened(np.asarray(vector.reset()))
    if text := difference(first, opened(np.stack([env.reset()[0] for env in envs]))):
        raise Broken(f"first observation, {text} in the Gymnasium environment")
    draws = actions(vector.action_space, copies, 5, 3)
    steps = schedule.start(schedule.phases) // copies + 5
    for number in range(1, steps + 1):
        action = next(draws)
        if text := difference(step(vector, action), step_scalars(envs, action)):
            raise Broken(f"step {number}, phase {vector.phase}, {text} as Gymnasium environment")
    vector.close()
    for env in envs:
        env.close()
    return f"{copies} environments, {steps} steps over {schedule.phases} phases"


def _stated(env: Any) -> dict[str, str]:
    return {name: str(getattr(env, name, None)) for name in STATED}
