"""How fast are our DQN and PPO beside stable-baselines3's, with the same hyper-parameters?

::

    python -m rlplastic.benchmarks.speed --write benchmarks/SPEED.md
    python -m rlplastic.benchmarks.speed --cases 'dqn-*,sweep' --repeats 5

Each case is a suite's task with the agent's preset, unshifted. These kinds are run in turn, each in
a process of its own on one thread, started as a bench starts its workers, and timed after learning
has started; of small networks after `speed_cases.SETTLED` updates, when a step of Adam costs what
it costs from then on:

=============================  =================================================================
stable-baselines3              its class on our stream: the agent alone makes the difference
stable-baselines3, pages kept  the same after `rlplastic.agents.pages.keep_pages`, which our
                               agents call: what that alone is worth
stable-baselines3, own env     its class on its own wrappers (`make_atari_env`, `make_vec_env`):
                               what its users run. No sticky actions, an episode ends with a
                               life; of Atari, needs opencv-python
none                           our agent as a bench runs it: record, TensorBoard, probes included
none, unrecorded               our agent alone
sam                            as `none`, with SAM on the critic
=============================  =================================================================

Numbers are medians over the repeats. Ratios to stable-baselines3 are of processor time, within each
repeat: the ones to go by on a shared machine. *Limit* is the time of the bare matrix products of
the same updates and acts. ``sweep`` runs two processes of a kind at once and takes wall-clock time.
The package index's cleanrl (0.4.8) is of 2021 and needs gym, so it is not in the table.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from rlplastic import worker
from rlplastic.benchmarks.pages import made_by, spread, verdict, write
from rlplastic.benchmarks.speed_cases import CASES, Case, cell_of
from rlplastic.benchmarks.speed_limit import growth, limit
from rlplastic.benchmarks.speed_run import (
    BARE,
    KEPT,
    NONE,
    OWN_ENV,
    PARTS,
    SAM,
    SB3,
    Job,
    Timing,
    measure,
)

RECORD = 0.05  # of the time, at most
FRAME = 7_200  # bytes of an Atari transition, at most


SWEEP, MEMORY = "sweep", "memory"  # the two cases of another kind
SWEPT, SWEEP_TARGET = CASES["dqn-atari"], 1.5


def alone(function: Any, *args: Any) -> Any:
    """What a function returns in a process of its own.

    It is started as a bench starts its workers, whatever its kind: one fork server starts all.
    """
    with worker.context_of_workers().Pool(1) as process:
        return process.apply(function, args)


def together(jobs: Sequence[Job]) -> list[Timing]:
    """The timings of processes that run at the same time and begin to be timed together."""
    context = worker.context_of_workers()
    with context.Manager() as manager, context.Pool(len(jobs)) as processes:
        meet = manager.Barrier(len(jobs)).wait
        return processes.starmap(measure, [(job, meet) for job in jobs], chunksize=1)


def jobs_of(case: Case) -> dict[str, Job]:
    """One process of each kind."""
    none, sam = cell_of(case, "none"), cell_of(case, "sam")
    cells = {kind: sam if kind == SAM else none for kind in case.kinds}
    return {
        kind: Job(cell, kind, case.steps, case.own, case.updates) for kind, cell in cells.items()
    }


def besides(value: float, bound: float) -> str:
    """The verdict on a target that is not to be exceeded, within a sentence."""
    told = verdict(value, bound, least=False)
    return f" ({told})" if told else ""


def ratios(runs: dict[str, list[Timing]], over: str, under: str, what: str) -> list[float]:
    """Of a measurement of two kinds, within each repeat."""
    pairs = zip(runs[over], runs[under], strict=True)
    return [getattr(a, what) / getattr(b, what) for a, b in pairs]


def compare(case: Case, repeats: int) -> Iterator[str]:
    """Run one case; lines of Markdown."""
    jobs = jobs_of(case)
    runs: dict[str, list[Timing]] = {kind: [] for kind in jobs}
    limits = []
    for _ in range(repeats):
        for kind, job in jobs.items():
            runs[kind].append(alone(measure, job))
        limits.append(alone(limit, jobs[NONE]))
    changes = f" with {', '.join(case.settings)}" if case.settings else ""
    yield f"## {case.name}"
    yield ""
    yield f"{jobs[NONE].cell.task}{changes}; {repeats} runs of {case.steps:,} steps each."
    yield ""
    yield (
        "| kind | steps/s | a processor second | ratio to stable-baselines3 | target | peak MB | "
        + " | ".join(PARTS)
        + " |"
    )
    yield "|---|--:|--:|--:|---|--:|" + "--:|" * len(PARTS)
    for kind, found in runs.items():
        ratio = ratios(runs, SB3, kind, "busy")
        target = verdict(median(ratio), case.target, least=True) if kind == NONE else ""
        shares = [f"{median(run.parts[part] for run in found):.0%}" for part in PARTS]
        yield (
            f"| {kind} | {1 / median(r.wall for r in found):,.0f} "
            f"| {1 / median(r.busy for r in found):,.0f} | {spread(ratio)} | {target} "
            f"| {median(r.peak for r in found):,.0f} | {' | '.join(shares)} |"
        )
    yield ""
    yield from beside(case, runs, median(limits))


def beside(case: Case, runs: dict[str, list[Timing]], bare: float) -> Iterator[str]:
    """What is said below a case's table."""
    yield f"- none to stable-baselines3 with pages kept: {spread(ratios(runs, KEPT, NONE, 'busy'))}"
    if case.lacks:
        yield f"- left out: {OWN_ENV}, which needs {case.lacks} (pip install opencv-python)"
    elif case.own:
        own = ratios(runs, OWN_ENV, NONE, "busy")
        yield f"- none to stable-baselines3 on its own wrappers: {spread(own)}"
    theirs, ours = (bare / median(run.busy for run in runs[kind]) for kind in (SB3, NONE))
    yield (
        f"- limit (matrix products of the same acts and updates alone): {1 / bare:,.0f} steps a "
        f"processor second; none is at {ours:.0%} of it, stable-baselines3 at {theirs:.0%}"
    )
    for budget in ("small", "full"):
        yield recorded(case, runs, budget)
    update, whole = (ratios(runs, SAM, NONE, what) for what in ("update", "busy"))
    yield (
        f"- sam's updates take {spread(update)} of those of none{besides(median(update), case.sam)}"
        f", its whole run {spread(whole)}{besides(median(whole), case.sam_run)}"
    )
    yield ""


def recorded(case: Case, runs: dict[str, list[Timing]], budget: str) -> str:
    """What share of the time the record takes in phases as long as a budget's."""
    here, there = cell_of(case, NONE).period, cell_of(case, NONE, budget).period
    pairs = list(zip(runs[NONE], runs[BARE], strict=True))
    whole = [ours.busy + ours.looks * (1 / there - 1 / here) for ours, _ in pairs]
    often = [1 - bare.busy / busy for (_, bare), busy in zip(pairs, whole, strict=True)]
    rare = median(ours.looks / there / busy for (ours, _), busy in zip(pairs, whole, strict=True))
    return (
        f"- record, TensorBoard and default probes in phases of {there:,} steps ({budget}): "
        f"{median(often):.1%} of the time [{min(often):.1%}..{max(often):.1%}] from runs with and "
        f"without; of it {rare:.1%} are a phase's probes and log entries, timed one by one"
        f"{besides(median(often), RECORD)}"
    )


def sweep(repeats: int) -> Iterator[str]:
    """Two processes of a kind at once; lines of Markdown."""
    jobs = jobs_of(SWEPT)
    runs: dict[str, list[float]] = {kind: [] for kind in (SB3, KEPT, OWN_ENV, NONE) if kind in jobs}
    for _ in range(repeats):
        for kind, rates in runs.items():
            rates.append(sum(1 / found.wall for found in together([jobs[kind]] * 2)))
    yield "## sweep"
    yield ""
    yield f"Two processes at once, each {SWEPT.name}; {repeats} runs. Steps/s of both, wall clock."
    yield ""
    yield "| kind | steps/s of both | ratio to stable-baselines3 | target |"
    yield "|---|--:|--:|---|"
    for kind, rates in runs.items():
        ratio = [ours / theirs for ours, theirs in zip(rates, runs[SB3], strict=True)]
        target = verdict(median(ratio), SWEEP_TARGET, least=True) if kind == NONE else ""
        yield f"| {kind} | {median(rates):,.0f} | {spread(ratio)} | {target} |"
    yield ""


def memory(repeats: int) -> Iterator[str]:
    """What a replay memory takes, by the operating system; lines of Markdown."""
    theirs, ours = (
        median(alone(growth, mine, many) for _ in range(min(repeats, 3)))
        for mine, many in ((False, 5_000), (True, 20_000))
    )
    yield "## memory"
    yield ""
    yield (
        f"Growth of the process for each Atari transition in the replay memory: {ours:,.0f} bytes"
        f"{besides(ours, FRAME)}, stable-baselines3 {theirs:,.0f}."
    )
    yield ""


def main() -> int:
    """See the head of this file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    names = [*CASES, SWEEP, MEMORY]
    parser.add_argument("--cases", default="*", help=f"patterns of {', '.join(names)}")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--write", type=Path, help="a page of Markdown")
    given = parser.parse_args()
    patterns = given.cases.split(",")
    chosen = [name for name in names if any(fnmatch(name, pattern) for pattern in patterns)]
    if not chosen or given.repeats < 1:
        parser.error(f"no case {given.cases!r} of {', '.join(names)}, or no repeats")
    os.environ.update(worker.ONE_THREAD)  # for the processes that are started from here on
    page = ["# Speed beside stable-baselines3", "", *made_by("rlplastic.benchmarks.speed")]
    page += ["What the kinds are is said at the head of `benchmarks/speed.py`.", ""]
    programs: dict[str, Callable[[int], Iterator[str]]] = {SWEEP: sweep, MEMORY: memory}
    programs |= {name: partial(compare, case) for name, case in CASES.items()}
    failed = False
    for name in chosen:
        try:
            lines = list(programs[name](given.repeats))
        except Exception as error:  # the other cases are worth having
            failed = True
            lines = [f"## {name}", "", f"Failed: {type(error).__name__}: {error}", ""]
        print("\n".join(lines), flush=True)
        page += lines
        if given.write:
            write(given.write, page)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
