"""Into which of torch's operators does the time of training go, beside stable-baselines3's?

::

    python -m rlplastic.benchmarks.operators --case dqn-minatar --write benchmarks/OPERATORS.md

For a case of `rlplastic.benchmarks.speed`, our agent without its record and stable-baselines3's
class learn in turn on one thread, each in a process of its own: for a while undisturbed, which
gives the time of an environment step, and then under torch's profiler, which gives the time inside
each operator (that of the operators it calls not counted twice). What is left of the step is
Python, the environment, NumPy, autograd's own nodes and the way to the operators: it is given as
*everything else*, and is too low by what the profiler adds to each call, about a microsecond.
Numbers are medians over the repeats, each on its own; the ratio is taken within each repeat.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from rlplastic.benchmarks.pages import made_by, spread, write
from rlplastic.benchmarks.speed_cases import CASES, Case, cell_of
from rlplastic.benchmarks.speed_run import BARE, SB3, STARTS, Job, configured, ours, stock

LARGEST = 14  # operators that are shown
PREFIX = "aten::"  # of torch's operators, among all that its profiler sees


class Profile(NamedTuple):
    """One agent's; seconds of processor time for an environment step.

    Attributes:
        step: All of it, undisturbed.
        operators: Name -> seconds inside it, and its calls.
    """

    step: float
    operators: dict[str, tuple[float, float]]


def profile(job: Job) -> Profile:
    """Train for a while, and for as long again under the profiler."""
    import torch

    torch.set_num_threads(1)
    config = configured(job.cell)
    warm = config.rollout
    if job.cell.agent == "dqn":
        warm = STARTS + 64 + job.updates * config.rollout // config.gradient_steps
    horizon = getattr(config, "buffer_size", warm + 3 * job.steps)
    with tempfile.TemporaryDirectory() as folder:
        agent: Any = stock(job, horizon) if job.kind == SB3 else ours(job, horizon, Path(folder))[0]
        agent.learn(warm, log_interval=None)
        before, start = agent.num_timesteps, time.process_time()
        agent.learn(job.steps, log_interval=None, reset_num_timesteps=False)
        step = (time.process_time() - start) / (agent.num_timesteps - before)
        before = agent.num_timesteps
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
            agent.learn(job.steps, log_interval=None, reset_num_timesteps=False)
        taken = agent.num_timesteps - before
    found = {
        event.key.removeprefix(PREFIX): (
            event.self_cpu_time_total / 1e6 / taken,
            event.count / taken,
        )
        for event in seen.key_averages()
        if event.key.startswith(PREFIX)
    }
    return Profile(step, found)


def table(mine: Profile, theirs: Profile) -> list[str]:
    """Lines of Markdown: the operators that take most of our step, and the rest of it."""
    lines = ["| operator | us | share | calls | us of stable-baselines3 | calls |"]
    lines += ["|---|--:|--:|--:|--:|--:|"]
    by_time = sorted(mine.operators, key=lambda name: -mine.operators[name][0])
    shown, others = by_time[:LARGEST], by_time[LARGEST:]
    rest = [name for name in theirs.operators if name not in shown]
    for name in shown:
        lines.append(_row(f"`{name}`", mine.step, _sum(mine, [name]), _sum(theirs, [name])))
    lines.append(_row("other operators", mine.step, _sum(mine, others), _sum(theirs, rest)))
    outside = [(p.step - _sum(p, list(p.operators))[0], 0.0) for p in (mine, theirs)]
    lines.append(_row("everything else", mine.step, *outside))
    lines.append(_row("an environment step", mine.step, (mine.step, 0.0), (theirs.step, 0.0)))
    return lines


def _sum(of: Profile, names: list[str]) -> tuple[float, float]:
    found = [of.operators.get(name, (0.0, 0.0)) for name in names]
    return sum(seconds for seconds, _ in found), sum(calls for _, calls in found)


def _row(what: str, whole: float, mine: tuple[float, float], theirs: tuple[float, float]) -> str:
    calls = [f"{count:.2f}" if count else "" for _, count in (mine, theirs)]
    ours, other = (f"{1e6 * seconds:,.1f}" for seconds, _ in (mine, theirs))
    return f"| {what} | {ours} | {mine[0] / whole:.1%} | {calls[0]} | {other} | {calls[1]} |"


def middle(found: Sequence[Profile]) -> Profile:
    """The median of each number; an operator that a repeat has not seen took no time there."""
    names = {name: None for one in found for name in one.operators}  # a set that keeps its order
    operators = {
        name: (
            median(one.operators.get(name, (0.0, 0.0))[0] for one in found),
            median(one.operators.get(name, (0.0, 0.0))[1] for one in found),
        )
        for name in names
    }
    return Profile(median(one.step for one in found), operators)


def page_of(case: Case, steps: int, repeats: int) -> list[str]:
    """Lines of Markdown on one case, which is run."""
    cell = cell_of(case, "none")
    jobs = [Job(cell, kind, steps, updates=case.updates) for kind in (BARE, SB3)]
    with get_context("spawn").Pool(1, maxtasksperchild=1) as alone:
        found = alone.map(profile, jobs * repeats, chunksize=1)
    mine, theirs = found[::2], found[1::2]
    ratio = [other.step / own.step for own, other in zip(mine, theirs, strict=True)]
    head = [f"## {case.name}", ""]
    head += [f"{cell.task}; {repeats} runs of {steps:,} steps, and as many profiled.", ""]
    told = f"Steps a processor second, ours to stable-baselines3's: {spread(ratio)}."
    return [*head, *table(middle(mine), middle(theirs)), "", told, ""]


def main() -> None:
    """See the head of this file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--case", action="append", choices=CASES, help="default: all")
    parser.add_argument("--steps", type=int, help="timed, and profiled")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--write", type=Path, help="a page of Markdown")
    given = parser.parse_args()
    if given.repeats < 1:
        parser.error("no repeats")
    page = ["# Time inside torch's operators", "", *made_by("rlplastic.benchmarks.operators")]
    for case in [CASES[name] for name in given.case or CASES]:
        page += page_of(case, given.steps or case.steps, given.repeats)
    print("\n".join(page))
    if given.write:
        write(given.write, page[:-1])


if __name__ == "__main__":
    main()
