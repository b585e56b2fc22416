r"""What does a shift cost? A stream beside its base vector environment, for every shift that fits.

::

    python -m rlplastic.benchmarks.streams --write benchmarks/STREAMS.md
    python -m rlplastic.benchmarks.streams --base atari --shift tiles --rounds 200

The base is what one would use instead: for ``atari`` ALE's own vector environment with the same
settings and its own stack of four frames, for ``control`` the copies of CartPole stepped in turn,
for ``continuous`` those of Pendulum. The base, a second one like it (whose ratio is what the
machine's noise comes to), the stream without shifts and the stream with one, in a world where it
acts, play the same game: the same seeds, and the actions that the shifted stream has its copies
carry out. That they did is checked at the end of each round, frame by frame, where no shift is in
the way. In each round they take their steps one after the other, on one thread, in an order that
turns from round to round. Times are of the processor, not of the wall clock. Shown are the median
over the rounds of the ratio to the base within a round, with its quartiles, and of the
microseconds that a step of all copies takes. Asked for: at most 1.05 of the base for shifts of
reward and action, 1.15 for those of observations, on Atari frames.

Then the memory that permutations of pixels hold after 2, 10 and 200 phases, without the base
environment's own: a shift keeps the contents of its last four worlds.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from rlplastic import options, provenance, registry, store
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
STEPS = 10  # of a round: so few that what else the machine does meets all alike
PHASES = (2, 10, 200)
ASKED = {"observation": 1.15}
ASKED_ELSE = 1.05
Step = Callable[[Array], Any]


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


def base_step(base: str) -> Step:
    """A step of the base vector environment alone, reset."""
    spec = options.build("environment", BASES[base], "streams")
    if base != "atari":
        copies: Copies = spec.make(COPIES)
        copies.reset(range(COPIES))
        return copies.step
    from ale_py.vector_env import AtariVectorEnv
    from gymnasium.vector import AutoresetMode

    env = AtariVectorEnv(
        spec.game,
        COPIES,
        num_threads=1,
        stack_num=4,
        frameskip=spec.frame_skip,
        repeat_action_probability=spec.sticky,
        max_num_frames_per_episode=spec.max_frames,
        noop_max=spec.noops,
        use_fire_reset=True,
        reward_clipping=False,
        episodic_life=False,
        autoreset_mode=AutoresetMode.SAME_STEP,
    )
    env.reset(seed=np.arange(COPIES, dtype=np.int32))
    return env.step


def stream_of(base: str, shifts: Sequence[dict[str, Any]]) -> Stream:
    """A stream whose copies stay in world 1, reset."""
    stream = Stream(
        options.build("environment", BASES[base], "streams").make(COPIES),
        [options.build("shift", shift, "streams") for shift in shifts],
        Listed(period=COPIES * 10**9, worlds=(1,)),
    )
    stream.reset(range(COPIES))
    return stream


def carried_out(base: str, shifts: Sequence[dict[str, Any]], chosen: Array) -> Array:
    """What the base environment of a stream is given for these actions ``[steps, copies]``."""
    stream, given = stream_of(base, shifts), []
    step = stream.base.step

    def noted(actions: Array) -> Transition:
        given.append(np.array(actions))
        return step(actions)

    stream.base.step = noted  # type: ignore[method-assign]
    for actions in chosen:
        stream.step(actions)
    stream.close()
    return np.array(given)


@dataclass(frozen=True, kw_only=True)
class Row:
    """What was measured of one shift on one base.

    Attributes:
        base: Name of the base.
        shift: Name of the shift, or ``none``.
        on: What it changes.
        micros: Median processor time of a step of all copies, in microseconds.
        ratio: Quartiles, over the rounds, of the time beside the base's.
        noise: Quartiles of a second base's beside the base's.
        most: The ratio asked for, if one is.
    """

    base: str
    shift: str
    on: str
    micros: float
    ratio: tuple[float, float, float]
    noise: tuple[float, float, float]
    most: float | None

    @property
    def cells(self) -> list[str]:
        """As shown."""
        low, middle, high = self.ratio
        verdict = "" if self.most is None else "above" if middle > self.most else "yes"
        return [
            self.base,
            self.shift,
            self.on,
            f"{self.micros:.0f}",
            f"{middle:.3f} [{low:.3f}, {high:.3f}]",
            f"{self.noise[1]:.3f} [{self.noise[0]:.3f}, {self.noise[2]:.3f}]",
            "" if self.most is None else f"{self.most:.2f}",
            verdict,
        ]


HEAD = ["base", "shift", "on", "us/step", "of the base", "base of the base", "asked", "met"]


def compare(base: str, names: Sequence[str], rounds: int) -> Iterator[Row]:
    """A row for each shift that fits the base."""
    space = options.build("environment", BASES[base], "streams").make(1).action_space
    space.seed(0)
    chosen = np.array([[space.sample() for _ in range(COPIES)] for _ in range(rounds * STEPS)])
    for name in names:
        shifts = [{"name": name, **NEEDED.get(name, {})}] if name != "none" else []
        try:
            shifted = stream_of(base, shifts)
        except UsageError:
            continue
        on = registry.find("shift", name).traits["on"] if shifts else ""
        given = carried_out(base, shifts, chosen) if on == "action" else chosen
        steps: dict[str, Step] = {
            "base": base_step(base),
            "again": base_step(base),
            "plain": stream_of(base, []).step,
            "shifted": shifted.step,
        }
        times = timed(steps, {**dict.fromkeys(steps, given), "shifted": chosen}, on)
        ratio, noise = (_quartiles(times[kind] / times["base"]) for kind in ("shifted", "again"))
        yield Row(
            base=base,
            shift=name,
            on=on,
            micros=1e6 * float(np.median(times["shifted"])) / STEPS,
            ratio=ratio,
            noise=noise,
            most=ASKED.get(on, ASKED_ELSE) if base == "atari" and on != "dynamics" else None,
        )


def timed(steps: dict[str, Step], actions: dict[str, Array], on: str) -> dict[str, Array]:
    """Processor seconds of each round ``[rounds]``, each kind in turn.

    Raises:
        RuntimeError: two of them do not show the same though nothing shifts what they show.
    """
    kinds = list(steps)
    alike = [kind for kind in kinds if kind != "shifted" or on not in ("observation", "dynamics")]
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number in range(len(actions["base"]) // STEPS):
        turn = number % len(kinds)
        shown: dict[str, Array] = {}
        for kind in kinds[turn:] + kinds[:turn]:
            now = actions[kind][number * STEPS : (number + 1) * STEPS]
            step, start = steps[kind], time.process_time()
            for action in now:
                seen = step(action)
            times[kind].append(time.process_time() - start)
            shown[kind] = seen.observation if isinstance(seen, Transition) else seen[0]
        for kind in alike:
            if not np.array_equal(shown[kind], shown["base"]):
                raise RuntimeError(f"round {number}: {kind} does not play the game of the base")
    return {kind: np.array(times[kind]) for kind in kinds}


def _quartiles(values: Array) -> tuple[float, float, float]:
    low, middle, high = np.percentile(values, [25, 50, 75])
    return float(low), float(middle), float(high)


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


def page(rows: Sequence[Row], memory: str, rounds: int, minutes: float) -> str:
    """The Markdown of `--write`."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    machine = provenance.machine()
    found = ", ".join(f"{name} {v}" for name, v in provenance.versions().items())
    lines = [
        "# The cost of a stream, measured",
        "",
        "Medians, with quartiles, of the processor time of a stream beside that of its base vector",
        "environment, and of a second base beside the first: what the noise comes to. The head of",
        "`benchmarks/streams.py` says how.",
        "",
        f"- when: {time.strftime('%Y-%m-%d')}, {minutes:.1f} minutes, load {load:.1f} at the end",
        f"- command: `{' '.join(['python -m rlplastic.benchmarks.streams', *sys.argv[1:]])}`",
        f"- machine: {machine['system']}, {machine['processor']}, {machine['cores']} cores",
        f"- versions: {found}",
        f"- {COPIES} copies, {rounds} rounds of {STEPS} steps each, one thread",
        f"- {memory}",
        "",
        f"| {' | '.join(HEAD)} |",
        "|---|---|---|--:|---|---|--:|---|",
        *(f"| {' | '.join(row.cells)} |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """See the head of this file."""
    known = ["none", *registry.entries("shift")]
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--base", action="append", choices=BASES, help="default: all")
    parser.add_argument("--shift", action="append", choices=known, help="default: all that fit")
    parser.add_argument("--rounds", type=int, default=60, help="of each shift")
    parser.add_argument("--write", type=Path, help="Markdown file for the table")
    given = parser.parse_args()
    rows, begin = [], time.monotonic()
    print(_line(HEAD))
    for base in given.base or BASES:
        for row in compare(base, given.shift or known, given.rounds):
            rows.append(row)
            print(_line(row.cells), flush=True)
    held(2)  # what is made once
    sizes = ", ".join(f"{held(phases):,.0f} kB after {phases} phases" for phases in PHASES)
    memory = f"permuted pixels hold {sizes}"
    print(memory)
    if given.write:
        minutes = (time.monotonic() - begin) / 60
        store.write_text(given.write, page(rows, memory, given.rounds, minutes))
    return 0


def _line(cells: Sequence[str]) -> str:
    widths = (11, 19, 12, 8, 22, 22, 6, 5)
    return " ".join(f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()


if __name__ == "__main__":
    raise SystemExit(main())
