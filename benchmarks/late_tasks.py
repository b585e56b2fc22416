"""Accuracy of the late tasks of supervised streams, its slope, and the curvature beside it.

::

    python -m rlplastic.benchmarks.late_tasks results/paper-2409.17300-small

What papers on supervised plasticity show, from the records of a bench: the online accuracy of a
task is the mean return of its episodes; *late* is its mean over the last quarter of the tasks, the
*slope* is Theil and Sen's over the tasks after the first. Then the medians over the tasks of the
Hessian's largest eigenvalue (with ``--probes full``) and of SAM's sharpness, at the start and at
the end of a task: on the new task's first minibatch before it is learned from, and on the last one.
Each with its mean over seeds and a 95 % bootstrap interval; `difference` is paired, to ``none``.
Only seeds whose cell is done.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
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


def measured(record: Record) -> dict[str, float]:
    """Late accuracy, slope, and the median of each probe at the start and the end of a task."""
    found = accuracies(record)
    late = -(-len(found) // 4)
    values = {"late": float(found[-late:].mean()), "slope": theil_sen(found[1:])}
    for name in PROBES:
        for when, moment in MOMENTS.items():
            seen = [p.value for p in record.probes if (p.name, p.moment) == (name, moment)]
            if seen:
                values[f"{name} at {when}"] = float(np.median(seen))
    return values


def lines(folder: Path) -> Iterator[str]:
    """One for each task, arm and measure."""
    found: dict[tuple[str, str, str], dict[int, dict[str, float]]] = {}
    for (task, agent, arm, seed), record in read(folder).records.items():
        if agent != "random" and not record.fresh and record.status == "done":
            found.setdefault((task, agent, arm), {})[seed] = measured(record)
    for (task, agent, arm), seeds in found.items():
        yield f"{task} {agent} {arm}: {len(seeds)} seeds"
        base = found.get((task, agent, "none"), {})
        for name in next(iter(seeds.values())):
            text = _interval([seeds[seed].get(name, np.nan) for seed in seeds])
            pairs = [seed for seed in seeds if seed in base and arm != "none"]
            if pairs:
                apart = [seeds[s].get(name, np.nan) - base[s].get(name, np.nan) for s in pairs]
                text += f"   difference {_interval(apart)}"
            yield f"  {name:24} {text}"


def _interval(values: list[float]) -> str:
    found = estimate(np.array(values)[:, None], "mean", np.random.default_rng(0))
    return f"{found.point:9.4g} [{found.low:.4g}, {found.high:.4g}]"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path, help="results folder of a bench")
    for line in lines(parser.parse_args().results):
        print(line)


if __name__ == "__main__":
    main()
