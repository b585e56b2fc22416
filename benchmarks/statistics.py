"""How fast the statistics of a report are, beside rliable's.

    python -m rlplastic.benchmarks.statistics

On one core: the IQM of 26 tasks x 10 seeds x 10 arms with 50,000 shared resamples; the probability
of improvement of two arms and a sample-efficiency curve, beside rliable, which is timed on fewer
resamples, as its time is proportional to them.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from rliable import library
from rliable import metrics as rliable

from rlplastic import aggregate

SEEDS, TASKS, ARMS, POINTS = 10, 26, 10, 20
RESAMPLES = 50_000
THEIRS = 100  # resamples of rliable


def main() -> None:
    """Print each time, and how many times faster than rliable."""
    rng = np.random.default_rng(0)
    arms = rng.normal(size=(ARMS, SEEDS, TASKS))
    curves = rng.normal(size=(SEEDS, TASKS, POINTS))
    ours = timed(lambda: aggregate.estimates(arms, "iqm", rng, RESAMPLES))
    print(
        f"IQM, {TASKS} tasks x {SEEDS} seeds x {ARMS} arms, {RESAMPLES:,} resamples: {ours:.2f} s"
    )
    compare(
        "probability of improvement",
        lambda: aggregate.probability_of_improvement(arms[0], arms[1], rng, RESAMPLES),
        lambda: library.get_interval_estimates(
            {"pair": (arms[0], arms[1])}, rliable.probability_of_improvement, reps=THEIRS
        ),
    )
    compare(
        f"sample efficiency, {POINTS} points",
        lambda: aggregate.sample_efficiency(curves, "iqm", rng, RESAMPLES),
        lambda: library.get_interval_estimates(
            {"curve": curves},
            lambda x: np.array([rliable.aggregate_iqm(x[..., i]) for i in range(POINTS)]),
            reps=THEIRS,
        ),
    )


def compare(what: str, ours: Callable[[], object], theirs: Callable[[], object]) -> None:
    """Time both and print the ratio."""
    mine, other = timed(ours), timed(theirs) * RESAMPLES / THEIRS
    print(f"{what}: {mine:.2f} s, rliable {other:.0f} s (scaled), {other / mine:.0f} x")


def timed(work: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
