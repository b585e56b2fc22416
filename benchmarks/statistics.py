"""How fast the statistics of a report are, beside rliable's.

    python -m rlplastic.benchmarks.statistics --write benchmarks/STATISTICS.md

On one core: the IQM of 26 tasks x 10 seeds x 10 arms with 50,000 shared resamples; the probability
of improvement of two arms and a sample-efficiency curve, beside rliable, which is timed on fewer
resamples, as its time is proportional to them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rliable import library
from rliable import metrics as rliable

from rlplastic import aggregate
from rlplastic.benchmarks.pages import made_by, verdict, write

SEEDS, TASKS, ARMS, POINTS = 10, 26, 10, 20
RESAMPLES = 50_000
THEIRS = 100  # resamples of rliable
LONGEST, TIMES = 5.0, 50.0  # targets: seconds of the IQM, times as fast as rliable


def main() -> None:
    """Print each time, and how many times faster than rliable."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", type=Path, help="a page of Markdown")
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    arms = rng.normal(size=(ARMS, SEEDS, TASKS))
    curves = rng.normal(size=(SEEDS, TASKS, POINTS))
    pair = {"pair": (arms[0], arms[1])}
    page = ["# Speed of a report's statistics", "", *made_by("rlplastic.benchmarks.statistics")]
    page += [f"{RESAMPLES:,} resamples; rliable's time is scaled from {THEIRS} of them.", ""]
    page += ["| what | seconds | rliable | ratio | target |", "|---|--:|--:|--:|---|"]
    ours = timed(lambda: aggregate.estimates(arms, "iqm", rng, RESAMPLES))
    what = f"IQM, {TASKS} tasks x {SEEDS} seeds x {ARMS} arms"
    page.append(f"| {what} | {ours:.2f} | | | {verdict(ours, LONGEST, least=False)} |")
    page.append(
        compare(
            f"probability of improvement, {TASKS} tasks x {SEEDS} seeds",
            lambda: aggregate.probability_of_improvement(arms[0], arms[1], rng, RESAMPLES),
            lambda: library.get_interval_estimates(
                pair, rliable.probability_of_improvement, reps=THEIRS
            ),
        )
    )
    page.append(
        compare(
            f"sample efficiency, {TASKS} tasks x {SEEDS} seeds, {POINTS} points",
            lambda: aggregate.sample_efficiency(curves, "iqm", rng, RESAMPLES),
            lambda: library.get_interval_estimates(
                {"curve": curves},
                lambda x: np.array([rliable.aggregate_iqm(x[..., i]) for i in range(POINTS)]),
                reps=THEIRS,
            ),
        )
    )
    print("\n".join(page))
    if given.write:
        write(given.write, page)


def compare(what: str, ours: Callable[[], object], theirs: Callable[[], object]) -> str:
    """A row of the table: the time of both, and the ratio."""
    mine, other = timed(ours), timed(theirs) * RESAMPLES / THEIRS
    ratio = other / mine
    told = verdict(ratio, TIMES, least=True)
    return f"| {what} | {mine:.2f} | {other:,.0f} | {ratio:,.0f} | {told} |"


def timed(work: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
