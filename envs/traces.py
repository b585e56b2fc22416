"""What a stream or an environment shows under given actions, and where two of them differ."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces

from rlplastic.envs.copies import Array, Copies
from rlplastic.envs.scalar import ShiftedEnv
from rlplastic.envs.stream import Stream


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much is played.

    Attributes:
        phase: Steps of each copy in a phase.
        copies: Numbers of copies that boundaries are timed with.
        histories: Pasts that a reset has to forget.
        base: Steps that are compared with the base environment's.
        search: Steps in which two worlds have to show a difference.
        cycles: How often a stream is opened and closed.
        processes: Whether another process is asked whether it sees the same.
    """

    phase: int
    copies: tuple[int, ...]
    histories: int
    base: int
    search: int
    cycles: int
    processes: bool


QUICK = Effort(
    phase=16, copies=(1, 3), histories=4, base=120, search=1500, cycles=2, processes=False
)
FULL = Effort(
    phase=60, copies=(1, 8), histories=20, base=600, search=6000, cycles=5, processes=True
)


@dataclass(frozen=True, slots=True)
class Seen:
    """What one step of all copies has shown; leading dimension: copy. A reset pays nothing.

    Attributes:
        observation: What the learner acts on next.
        reward: What it was paid.
        done: Whether its episode ended here.
        truncated: Whether that was not a termination.
        final: What the step led to: equals `observation` except in copies that ended.
    """

    observation: Array
    reward: Array
    done: Array
    truncated: Array
    final: Array


def actions(space: spaces.Space[Any], copies: int, seed: int, hold: int = 1) -> Iterator[Array]:
    """Uniformly random actions ``[copies, ...]`` without end, each kept for `hold` steps."""
    space = copy.deepcopy(space)  # its generator is the environment's
    space.seed(seed)
    while True:
        drawn = np.stack([space.sample() for _ in range(copies)])
        yield from (drawn.copy() for _ in range(hold))


def opened(observation: Array) -> Seen:
    """What a reset has shown."""
    none = np.zeros(len(observation), dtype=bool)
    nothing = np.zeros(len(observation), dtype=np.float32)
    return Seen(observation.copy(), nothing, none, none, observation.copy())


def step(stream: Stream, action: Array) -> Seen:
    """One step of a stream."""
    observation, reward, done, infos = stream.step(action)
    assert isinstance(observation, np.ndarray)
    final, truncated = observation.copy(), np.zeros(len(done), dtype=bool)
    for i in np.flatnonzero(done):
        final[i] = infos[i]["terminal_observation"]
        truncated[i] = infos[i]["TimeLimit.truncated"]
    return Seen(observation.copy(), reward.copy(), done.copy(), truncated, final)


def step_scalars(envs: list[ShiftedEnv], action: Array) -> Seen:
    """One step of each environment, which is reset where its episode ends."""
    results = [env.step(one)[:4] for env, one in zip(envs, action, strict=True)]
    final, reward, terminated, truncated = zip(*results, strict=True)
    done = np.array(terminated) | np.array(truncated)
    now = [
        env.reset()[0] if ended else seen
        for env, ended, seen in zip(envs, done, final, strict=True)
    ]
    paid = np.array(reward, dtype=np.float32)
    return Seen(np.stack(now), paid, done, np.array(truncated), np.stack(final))


def step_base(base: Copies, action: Array) -> Seen:
    """One step of the base environment alone; rewards are what it pays, float64."""
    out = base.step(action)
    done = out.terminated | out.truncated
    return Seen(out.observation.copy(), out.reward, done, done & ~out.terminated, out.final.copy())


def play(
    stream: Stream, steps: int, *, seed: int, seeds: list[int] | None = None, hold: int = 1
) -> Iterator[Seen]:
    """A reset with these seeds, then so many steps of random actions."""
    first = stream.reset(seeds)
    assert isinstance(first, np.ndarray)
    yield opened(first)
    draws = actions(stream.action_space, stream.num_envs, seed, hold)
    for _ in range(steps):
        yield step(stream, next(draws))


def difference(one: Seen, other: Seen) -> str:
    """Where two sights first differ in a byte, in words; empty if nowhere."""
    for part in ("observation", "reward", "done", "truncated", "final"):
        a, b = getattr(one, part), getattr(other, part)
        if a.shape != b.shape or a.dtype != b.dtype:
            return f"{part} is {a.dtype} {a.shape} and {b.dtype} {b.shape}"
        if a.tobytes() == b.tobytes():
            continue
        for i, (mine, yours) in enumerate(zip(a, b, strict=True)):
            if mine.tobytes() != yours.tobytes():
                return f"copy {i}: {_numbers(part, mine, yours)}"
    return ""


def _numbers(part: str, mine: Array, yours: Array) -> str:
    if mine.size == 1:
        return f"{part} is {mine.item()!r} and {yours.item()!r}"
    unequal = np.flatnonzero(mine.reshape(-1) != yours.reshape(-1))
    if len(unequal) == 0:
        return f"{part} differs in the sign of a zero or in NaN"
    where = int(unequal[0])
    return (
        f"{part} differs in {len(unequal)} of {mine.size} numbers; number {where} is "
        f"{mine.reshape(-1)[where].item()!r} and {yours.reshape(-1)[where].item()!r}"
    )
