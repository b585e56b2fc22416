"""What does a shift cost? A stream beside its base vector environment, for every shift that fits.

::

    python -m rlplastic.benchmarks.streams --base atari --repeats 7 --steps 200

The base is what one would use instead: for ``atari`` ALE's own vector environment with its own
stack of four frames, for ``control`` the copies of CartPole stepped in turn, for ``continuous``
those of Pendulum. In each repeat the base, the stream without shifts and the stream with one, in
a world where it acts, take the same number of steps one after the other, on one thread, from the
same reset and with the same actions. Times are of the processor, not of the wall clock. Printed
are medians over the repeats of the microseconds that a step of all copies takes and of the ratio
to the base within each repeat, with its lowest and highest, and the ratio to the unshifted
stream. Asked for: at most 1.05 of the base for shifts of reward and action, 1.15 for those of
observations, on Atari frames.

Then the memory that permutations of pixels hold after 2, 10 and 200 phases, without the base
environment's own: a shift keeps the contents of its last four worlds.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
from gymnasium import spaces

from rlplastic import options, registry
from rlplastic.envs.copies import Array, Copies, Transition
from rlplastic.envs.schedules import Listed, Periodic
from rlplastic.envs.stream import Stream
from rlplastic.errors import UsageError

COPIES = 8
BASES: dict[str, dict[str, Any]] = {
    "atari": {"name": "Atari", "game": "pong"},
    "control": {"name": "CartPole"},
    "continuous": {"name": "Pendulum"},
}
NEEDED: dict[str, dict[str, Any]] = {  # options without a default, or that frames need
    "values": {"increments": [1.0, -1.0], "to": [-1.0, 1.0]},
    "tiles": {"tiles": 6},
}
PHASES = (2, 10, 200)
ASKED = {"observation": 1.15}
ASKED_ELSE = 1.05
Run = Callable[[Array], float]


class Still(Copies):
    """Copies that show nothing but black frames: what is held is then the stream's own."""

    def __init__(self, copies: int) -> None:
        self.num_copies = copies
        self.observation_space = spaces.Box(0, 255, (1, 84, 84), np.uint8)
        self.action_space = spaces.Discrete(2)

    def reset(self, seeds: Any = None) -> Array:
        """See `Copies.reset`."""
        return np.zeros((self.num_copies, 1, 84, 84), np.uint8)

    def step(self, actions: Array) -> Transition:
        """See `Copies.step`."""
        frames, never = self.reset(), np.zeros(self.num_copies, dtype=bool)
        return Transition(frames, np.zeros(self.num_copies), never, never, frames)


def base_run(base: str) -> Run:
    """Steps of the base vector environment alone."""
    copies: Copies = options.build("environment", BASES[base], "streams").make(COPIES)
    if base != "atari":
        return lambda actions: _timed(
            lambda: copies.reset(list(range(COPIES))), copies.step, actions
        )
    from ale_py.vector_env import AtariVectorEnv
    from gymnasium.vector import AutoresetMode

    env = AtariVectorEnv(
        BASES[base]["game"],
        COPIES,
        num_threads=1,
        stack_num=4,
        repeat_action_probability=0.25,
        reward_clipping=False,
        autoreset_mode=AutoresetMode.SAME_STEP,
    )
    seeds = np.arange(COPIES, dtype=np.int32)
    return lambda actions: _timed(lambda: env.reset(seed=seeds), env.step, actions)


def stream_run(base: str, shifts: list[dict[str, Any]]) -> Run:
    """Steps of a stream whose copies stay in world 1."""
    stream = Stream(
        options.build("environment", BASES[base], "streams").make(COPIES),
        [options.build("shift", shift, "streams") for shift in shifts],
        Listed(period=COPIES * 10**9, worlds=(1,)),
    )
    return lambda actions: _timed(lambda: stream.reset(range(COPIES)), stream.step, actions)


def _timed(reset: Callable[[], Any], step: Callable[[Array], Any], actions: Array) -> float:
    """Processor seconds of a step of all copies."""
    reset()
    start = time.process_time()
    for action in actions:
        step(action)
    return (time.process_time() - start) / len(actions)


def compare(base: str, names: list[str], repeats: int, steps: int) -> None:
    """Print a line for each shift that fits the base."""
    space = options.build("environment", BASES[base], "streams").make(1).action_space
    space.seed(0)
    actions = np.array([[space.sample() for _ in range(COPIES)] for _ in range(steps)])
    runs = {"base": base_run(base), "unshifted": stream_run(base, [])}
    print(f"{base}: {COPIES} copies, {repeats} x {steps} steps each, processor time")
    print("  shift               on           us/step  of the base [lowest..highest]  of unshifted")
    for name in names:
        spec = {"name": name, **NEEDED.get(name, {})}
        try:
            shifted = [spec] if name != "unshifted" else []
            runs["shifted"] = stream_run(base, shifted)
        except UsageError:
            continue
        on = registry.find("shift", name).traits["on"] if shifted else ""
        taken: dict[str, list[float]] = {kind: [] for kind in runs}
        for _ in range(repeats):
            for kind, run in runs.items():
                taken[kind].append(run(actions))
        to_base, to_plain = (
            [ours / theirs for ours, theirs in zip(taken["shifted"], taken[kind], strict=True)]
            for kind in ("base", "unshifted")
        )
        most = ASKED.get(on, ASKED_ELSE) if base == "atari" and shifted else np.inf
        over = " above" if median(to_base) > most else ""
        print(
            f"  {name:19} {on:12} {1e6 * median(taken['shifted']):7.0f}  {median(to_base):5.3f} "
            f"[{min(to_base):.3f}..{max(to_base):.3f}]            {median(to_plain):.3f}{over}",
            flush=True,
        )


def held(phases: int) -> float:
    """Kilobytes that a stream with permuted pixels holds after so many phases."""
    tracemalloc.start()
    shift = options.build("shift", {"name": "pixels"}, "streams")
    stream = Stream(Still(1), [shift], Periodic(period=2, phases=phases))
    stream.reset()
    for _ in range(2 * phases - 1):
        stream.step(np.zeros(1, dtype=int))
    assert stream.phase == phases - 1
    kilobytes = tracemalloc.get_traced_memory()[0] / 1024
    tracemalloc.stop()
    return kilobytes


def main() -> int:
    """See the head of this file."""
    known = ["unshifted", *registry.entries("shift")]
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--base", action="append", choices=BASES, help="default: all")
    parser.add_argument("--shift", action="append", choices=known, help="default: all that fit")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--steps", type=int, default=200)
    given = parser.parse_args()
    for base in given.base or BASES:
        compare(base, given.shift or known, given.repeats, given.steps)
    held(2)  # what is made once
    sizes = ", ".join(f"{held(phases):,.0f} kB after {phases} phases" for phases in PHASES)
    print(f"permuted pixels hold {sizes}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
