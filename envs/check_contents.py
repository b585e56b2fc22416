"""The checks of `rlplastic.envs.check` that are about contents: what is shown and paid where."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from rlplastic import registry
from rlplastic.doctor import Broken
from rlplastic.envs.copies import Array, Transition
from rlplastic.envs.schedules import Listed, Schedule
from rlplastic.envs.stream import Stream
from rlplastic.envs.tasks import Subject
from rlplastic.envs.traces import Effort, Seen, actions, difference, opened, play, step_base


def spaces(subject: Subject, effort: Effort) -> str:
    """What is shown has the declared shape, dtype and range; what is paid is a finite float32."""
    schedule = subject.short(2, effort.phase)
    stream = subject.stream(2, schedule, seed=1)
    declared, steps = stream.observation_space, schedule.start(schedule.phases) // 2 + 10
    low, high = getattr(declared, "low", None), getattr(declared, "high", None)
    for number, seen in enumerate(play(stream, steps, seed=1, hold=3)):
        where = f"step {number}, phase {stream.phase}"
        for part in ("observation", "final"):
            shown = getattr(seen, part)
            if shown.shape[1:] != declared.shape or shown.dtype != declared.dtype:
                raise Broken(
                    f"{where}: {part} is {shown.dtype} {shown.shape[1:]}; "
                    f"declared is {declared.dtype} {declared.shape}"
                )
            for i, one in enumerate(shown):
                if not declared.contains(one):
                    raise Broken(f"{where}, copy {i}: {part} {_outside(one, low, high)}")
        if seen.reward.dtype != np.float32 or not np.isfinite(seen.reward).all():
            raise Broken(f"{where}: paid {seen.reward.dtype} {seen.reward.tolist()}")
    stream.close()
    return f"{steps} steps of 2 copies over {schedule.phases} phases"


def inputs(subject: Subject, effort: Effort) -> str:
    """Shifts do not write into what they are given, which others read too."""
    schedule, alone = subject.short(2, effort.phase), subject.copies(2)
    step = alone.step

    def locked(actions: Array) -> Transition:
        out = step(actions)
        for array in (out.observation, out.reward, out.final):
            array.flags.writeable = False
        return out

    alone.step = locked  # type: ignore[method-assign]
    stream = subject.stream(2, schedule, base=alone, seed=1)
    stream.reset()
    draws, steps = actions(alone.action_space, 2, 1, 3), schedule.start(schedule.phases) // 2
    for _ in range(steps):
        action = next(draws)
        action.flags.writeable = False
        stream.step(action)
    stream.close()
    return f"actions, frames and rewards of {steps} steps could not be written to"


def determinism(subject: Subject, effort: Effort) -> str:
    """The same seed and actions give the same bytes, whatever the global generators hold."""
    schedule = subject.short(2, effort.phase)
    steps = schedule.start(schedule.phases) // 2 + 5
    with _global_generators(1):
        first = subject.stream(2, schedule, seed=5)
        expected = list(play(first, steps, seed=2, hold=2))
    with _global_generators(2):
        again = subject.stream(2, schedule, seed=5)
        for number, seen in enumerate(play(again, steps, seed=2, hold=2)):
            if text := difference(expected[number], seen):
                raise Broken(f"step {number}, phase {again.phase}, {text} at the second time")
    first.close()
    again.close()
    if effort.processes:
        other = _in_another_process(subject, effort.phase)
        if other != contents_digest(subject, effort.phase):
            raise Broken("another process, with other hashes of words, sees other bytes")
    where = "here and in another process" if effort.processes else "twice"
    return f"{where} {steps} steps of 2 copies over {schedule.phases} phases"


def forgets(subject: Subject, effort: Effort) -> str:
    """After a reset with a seed at the start of a phase nothing remains of any past."""
    stream, steps = subject.stream(1, _visit(subject, 1), seed=1), effort.phase
    expected: dict[int, list[Seen]] = {}
    for past in range(-2, effort.histories):
        phase = past % 2
        if past >= 0:  # before that, there is none
            stream.begin(past // 2 % 2)
            list(play(stream, 1 + 7 * past % 40, seed=past, seeds=[past], hold=3))
        stream.begin(phase)
        sights = list(play(stream, steps, seed=3, seeds=[11], hold=2))
        for number, seen in enumerate(sights):
            if text := difference(expected.setdefault(phase, sights)[number], seen):
                raise Broken(
                    f"step {number} after a reset in phase {phase}, {text} after past {past}"
                )
    stream.close()
    env = subject.scalar(1, 0, _visit(subject, 1), seed=1)
    shown = set()
    for past in range(effort.histories):
        env.stream.begin(0)
        env.reset(seed=past)
        over = False
        draws = actions(env.action_space, 1, past, 3)
        while not over and past:  # up to the end of an episode, where something may be kept
            _, _, terminated, truncated, _ = env.step(next(draws)[0])
            over = terminated or truncated or env.stream.clock == 200
        env.stream.begin(0)
        first, info = env.reset(seed=7)
        shown.add((first.tobytes(), env.reset()[0].tobytes(), str(info)))
        if len(shown) > 1:
            raise Broken(
                f"past {past}: reset(seed=7), reset() of the Gymnasium environment show something "
                "else than they did at first"
            )
    env.close()
    return f"{effort.histories} pasts; {effort.histories} as a Gymnasium environment"


def base(subject: Subject, effort: Effort) -> str:
    """World 0, at first and when it comes back, is the base environment byte for byte."""
    schedule = _visit(subject, 2, effort.base)
    stream = subject.stream(2, schedule, seed=1, notify=False)  # the base tells of no world
    alone = subject.copies(2)
    alone.draw(1)
    for phase in (0, 2) if schedule.phases > 2 else (0,):
        draws = actions(stream.action_space, 2, 1)
        while stream.phase < phase:
            stream.step(next(draws))
        sights = play(stream, effort.base, seed=4, seeds=[21, 22], hold=3)
        stack = _Stack(alone.reset([21, 22]), alone.stack)
        draws = actions(alone.action_space, 2, 4, 3)
        for number, seen in enumerate(sights):
            if number == 0:
                own = opened(stack.shown)
            else:
                own = stack.stacked(step_base(alone, next(draws)), stream)
            if number == effort.base:  # where the phase ends, whatever the base does
                break
            if subject.keywords.get("notify"):
                seen = _untold(seen, own.final.shape[1])
            if text := difference(seen, own):
                raise Broken(f"step {number} of phase {phase}, {text} where the base has the last")
    for held in (stream, alone):
        held.close()
    back = ", and again when it came back" if schedule.phases > 2 else ""
    return f"{effort.base - 1} steps of 2 copies{back}"


def worlds(subject: Subject, effort: Effort) -> str:
    """Consecutive worlds differ in what is shown or paid; without shifts nothing does."""
    visited = subject.worlds()
    if not subject.shifts:
        one, other = (subject.frozen(world, 2, seed=1) for world in (0, 1))
        for a, b in zip(_sights(one, effort.base), _sights(other, effort.base), strict=True):
            if text := difference(a, b):
                raise Broken(f"nothing shifts, but {text} in world 1")
        return "nothing shifts, nothing changes"
    found = []
    pairs = dict.fromkeys(tuple(sorted(pair)) for pair in itertools.pairwise(visited))
    for before, after in pairs:
        if before == after:
            raise Broken(f"world {before} follows itself")
        found.append(f"{before} and {after}: {_first_difference(subject, before, after, effort)}")
    return "; ".join(found)


def _first_difference(subject: Subject, before: int, after: int, effort: Effort) -> str:
    """The part that differs first between two worlds, after the same seeds and actions."""
    for hold in (30, 1):  # actions held for a while get farther than independent ones
        one, other = (subject.frozen(world, 4, seed=1) for world in (before, after))
        steps = effort.search // 4
        sights = zip(_sights(one, steps, hold), _sights(other, steps, hold), strict=True)
        for number, (a, b) in enumerate(sights):
            if difference(a, b):
                part = "observations" if (a.observation != b.observation).any() else "rewards"
                one.close()
                other.close()
                return f"{part} from step {number}"
        one.close()
        other.close()
    raise Broken(
        f"worlds {before} and {after} show and pay the same in twice {steps} steps of 4 copies"
    )


def contents_digest(subject: Subject, phase: int) -> str:
    """A digest of everything that is seen in short phases."""
    schedule, digest = subject.short(2, phase), hashlib.sha256()
    stream = subject.stream(2, schedule, seed=5)
    for seen in play(stream, schedule.start(schedule.phases) // 2 + 5, seed=2, hold=2):
        for array in (seen.observation, seen.reward, seen.done, seen.truncated, seen.final):
            digest.update(array.tobytes())
    stream.close()
    return digest.hexdigest()


def _in_another_process(subject: Subject, phase: int) -> str:
    """The same digest, as a new process finds it."""
    code = (
        "import json, sys\n"
        "from rlplastic import registry\n"
        "from rlplastic.envs.check_contents import contents_digest\n"
        "from rlplastic.envs.tasks import Subject\n"
        "given = json.loads(sys.argv[1])\n"
        "for path in given['plugins']: registry.add_plugin(path)\n"
        "print(contents_digest(Subject(**given['subject']), given['phase']))"
    )
    given = {"subject": subject.as_json, "plugins": registry.plugins(), "phase": phase}
    done = subprocess.run(  # noqa: S603 (this same program)
        [sys.executable, "-c", code, json.dumps(given)],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Broken(f"another process fails: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout.strip()


# -- what they need --------------------------------------------------------------------------


class _Stack:
    """The last frames of base copies, stacked as the learner of an unshifted stream sees them."""

    def __init__(self, frames: Array, size: int) -> None:
        self.size = size
        self.shown = self._first(frames)

    def stacked(self, seen: Seen, stream: Stream) -> Seen:
        """The same sight of single frames, stacked, and paid as the stream pays the learner."""
        after = np.concatenate([self.shown, seen.final], axis=1) if self.size > 1 else seen.final
        final = after[:, -self.shown.shape[1] :] if self.size > 1 else after
        self.shown = final.copy()
        self.shown[seen.done] = self._first(seen.observation)[seen.done]
        reward = np.sign(seen.reward) if stream.clip_reward else seen.reward
        learned = (reward / stream.reward_scale).astype(np.float32)
        return Seen(self.shown, learned, seen.done, seen.truncated, final)

    def _first(self, frames: Array) -> Array:
        if self.size == 1:
            return frames
        return np.concatenate([np.zeros_like(frames)] * (self.size - 1) + [frames], axis=1)


def _untold(seen: Seen, size: int) -> Seen:
    """The same sight without what `notify` has added at its end."""
    shorter = {part: getattr(seen, part)[:, :size] for part in ("observation", "final")}
    return replace(seen, **{part: array.copy() for part, array in shorter.items()})


def _visit(subject: Subject, copies: int, steps: int = 2**40) -> Schedule:
    """World 0, the task's next world, and world 0 again."""
    other = next((world for world in subject.worlds() if world), 1)
    return Listed(period=copies * steps, worlds=(0, other, 0))


def _sights(stream: Stream, steps: int, hold: int = 3) -> Iterator[Seen]:
    return play(stream, steps, seed=8, hold=hold)


def _outside(one: Array, low: Array | None, high: Array | None) -> str:
    if low is None or high is None:
        return f"{one!r} is outside the declared space"
    where = np.flatnonzero(~((one >= low) & (one <= high)))
    at = int(where[0])
    return (
        f"is outside the declared space in {len(where)} of {one.size} numbers; number {at} is "
        f"{one.reshape(-1)[at].item()!r}, declared "
        f"[{low.reshape(-1)[at].item()!r}, {high.reshape(-1)[at].item()!r}]"
    )


@contextmanager
def _global_generators(seed: int) -> Iterator[None]:
    """The global generators, which nothing here may use, in a known state; then as they were."""
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)
