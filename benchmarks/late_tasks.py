"""Accuracy of the late tasks of supervised streams, its slope, and the curvature beside it.

::

    python -m rlplastic.benchmarks.late_tasks results/paper-2409.17300-small
    python -m rlplastic.benchmarks.late_tasks results/MNIST-Memorise-smoke --course dead_fraction

What papers on supervised plasticity show, from the records of a bench: the online accuracy of a
task is the mean return of its episodes; *late* is its mean over the last quarter of the tasks, the
*slope* is Theil and Sen's over the tasks after the first. Beside them the mean of the newborns of
these tasks, *their slope*, and that of what the life is ahead of them, task by task: accuracy that
falls where theirs does is of tasks that get harder. Then, for each probe at the start and at the
end of a task (on the new task's first minibatch before it is learned from, and on the last one),
the median over the tasks and, from the second on, the slope; most need ``--probes full``.
``--course`` prints instead, of the probes that it names, each task's value at its start, after its
first tenth, as the mean over all tenths within it, and at its end.
Each with its mean over seeds and a 95 % bootstrap interval; `difference` is paired, to ``none``.
Only seeds whose cell is done.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from rlplastic.aggregate import estimate
from rlplastic.metrics.trend import theil_sen
from rlplastic.reading import read
from rlplastic.record import FloatArray, Record

PROBES = ("hessian_top", "hessian_rank", "sharpness", "dead_fraction", "next_update_size")
MOMENTS = {"start": "after", "end": "before"}


def accuracies(record: Record) -> FloatArray:
    """Mean return of each phase, in its order."""
    episodes = record.episodes
    return np.array([episodes.returns[episodes.phase == k].mean() for k in sorted(record.phases)])


def measured(record: Record, newborn: Record | None = None) -> dict[str, float]:
    """What is printed of one life, given its newborns if they are done."""
    found = accuracies(record)
    late = -(-len(found) // 4)
    values = {"late": float(found[-late:].mean()), "slope": theil_sen(found[1:])}
    if newborn is not None:
        theirs = accuracies(newborn)
        values["newborns"] = float(theirs.mean())
        values["newborns' slope"] = theil_sen(theirs)
        values["slope of ahead"] = theil_sen(found[1:] - theirs)
    for name in PROBES:
        for when, moment in MOMENTS.items():
            seen = [p.value for p in record.probes if (p.name, p.moment) == (name, moment)]
            if seen:
                first = 1 if when == "end" else 0  # nothing starts the first task
                values[f"{name} at {when}"] = float(np.median(seen))
                values[f"{name} at {when}, slope"] = theil_sen(np.array(seen[first:]))
    return values


def course(record: Record, names: Sequence[str]) -> dict[str, float]:
    """Each task's values of some probes; the first task is number 1."""
    values = {}
    for name in names:
        for phase in sorted(record.phases):
            seen: dict[str, list[float]] = {"after": [], "during": [], "before": []}
            for p in record.probes:
                if (p.name, p.phase) == (name, phase):
                    seen[p.moment].append(p.value)
            task = f"{name}, task {phase + 1}"
            for where, found in (
                ("start", seen["after"][:1]),
                ("a tenth", seen["during"][:1]),
                ("within", seen["during"]),
                ("end", seen["before"][:1]),
            ):
                if found:
                    values[f"{task}, {where}"] = float(np.mean(found))
    return values


def lines(folder: Path, probes: Sequence[str] = ()) -> Iterator[str]:
    """One for each task, arm and measure; of some probes, one for each phase and moment."""
    found: dict[tuple[str, str, str], dict[int, dict[str, float]]] = {}
    records = {key: one for key, one in read(folder).records.items() if one.status == "done"}
    for (task, agent, arm, seed), record in records.items():
        if agent != "random" and not record.fresh:
            newborn = records.get((task, agent, f"{arm}+fresh", seed))
            values = course(record, probes) if probes else measured(record, newborn)
            found.setdefault((task, agent, arm), {})[seed] = values
    for (task, agent, arm), seeds in found.items():
        yield f"{task} {agent} {arm}: {len(seeds)} seeds"
        base = found.get((task, agent, "none"), {})
        for name in next(iter(seeds.values())):
            text = _interval([seeds[seed].get(name, np.nan) for seed in seeds])
            pairs = [seed for seed in seeds if seed in base and arm != "none"]
            if pairs:
                apart = [seeds[s].get(name, np.nan) - base[s].get(name, np.nan) for s in pairs]
                text += f"   difference {_interval(apart)}"
            yield f"  {name:38} {text}"


def _interval(values: list[float]) -> str:
    found = estimate(np.array(values)[:, None], "mean", np.random.default_rng(0))
    return f"{found.point:9.4g} [{found.low:.4g}, {found.high:.4g}]"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path, help="results folder of a bench")
    parser.add_argument("--course", metavar="PROBE,...", default="", help="probes, task by task")
    given = parser.parse_args()
    for line in lines(given.results, [name for name in given.course.split(",") if name]):
        print(line)


if __name__ == "__main__":
    main()
