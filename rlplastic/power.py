"""How many seeds it would take to see the differences that a results folder shows.

The question is asked of the test that a report uses, the paired sign-flip test over seeds. With d_i
the difference of seed i to ``none`` (mean over tasks), studies of n seeds are simulated: each draws
n of the observed differences with replacement, and its power is the share of studies with p < 0.05
(simulated power on the empirical distribution: Efron & Tibshirani, 1993, section 25.3). Drawn as
they are, k differences would spread too little, by (k - 1) / k in variance, so they are moved away
from their mean before:

    d*_i = mean(d) + (d_i - mean(d)) * sqrt(k / (k - 1))

The answer takes the observed effect for the true one. After few seeds it is not: an effect that
was lucky to look large asks for too few seeds (Gelman & Carlin, 2014), so this plans the next
study and judges none that was run.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rlplastic.listing import table
from rlplastic.metrics.digits import Cell, Shown, fit_columns
from rlplastic.metrics.study import Study
from rlplastic.metrics.summary import SEED, Score, Summary, summarise
from rlplastic.metrics.tables import Table
from rlplastic.metrics.verdict import SEEDS_NEEDED, SIGNIFICANT
from rlplastic.progress import plain
from rlplastic.reading import read
from rlplastic.record import FloatArray
from rlplastic.significance import effect_size, sign_flips

POWER = 0.80
MOST_SEEDS = 100
STUDIES = 1000  # standard error of a power of 0.8: 0.013
FLIPS = 1023  # drawn where there are more; with the observed signs, 1,024
EXACT_FLIPS = 10  # seeds up to which all 2^n sign flips are enumerated


def power(differences: FloatArray, seeds: int, rng: np.random.Generator) -> float:
    """Share of simulated studies of so many seeds in which the sign-flip test has p < 0.05.

    Args:
        differences: Observed differences, one a seed; at least two.
        seeds: Seeds of a simulated study.
        rng: Where studies and, above ten seeds, sign flips come from.
    """
    known = len(differences)
    center = differences.mean()
    spread = center + (differences - center) * np.sqrt(known / (known - 1))
    studies = spread[rng.integers(known, size=(seeds, STUDIES))]
    p = sign_flips(studies, rng, EXACT_FLIPS, FLIPS)
    return float((p < SIGNIFICANT).mean())


def seeds_needed(
    differences: FloatArray, rng: np.random.Generator, most: int = MOST_SEEDS
) -> int | None:
    """Smallest number of seeds with 80 % power, or None if `most` are too few.

    The search begins at six, below which the test cannot reach p < 0.05. Differences without any
    spread need just these six.
    """
    for seeds in range(SEEDS_NEEDED, most + 1):
        if power(differences, seeds, rng) >= POWER:
            return seeds
    return None


def power_table(summary: Summary, most: int = MOST_SEEDS) -> Table:
    """For each arm and score: the difference, its size, its power, and the seeds it asks for."""
    head = [
        "arm",
        "score",
        "difference to none",
        "effect size",
        "seeds",
        "power now",
        f"seeds for {POWER:.0%}",
    ]
    rows = []
    for arm in summary.arms:
        for name, score in (("S", arm.plasticity), ("P", arm.performance)):
            if score is not None and score.difference is not None:
                rows.append([arm.reg, name, *_row(score, most)])
    return Table(head=head, rows=fit_columns(rows))


def _row(score: Score, most: int) -> list[Cell]:
    assert score.difference is not None
    assert score.differences is not None
    observed = score.differences.mean(axis=1)
    size = effect_size(score.differences)
    shown = "n/a" if np.isnan(size) else f"{size:+.2f}"
    cells: list[Cell] = [Shown(value=score.difference, signed=True), shown, str(len(observed))]
    if len(observed) < 2:
        return [*cells, "n/a: one seed", "n/a: one seed does not show how seeds differ"]
    now = power(observed, len(observed), np.random.default_rng(SEED))
    if not observed.any():
        return [*cells, f"{now:.0%}", "n/a: no difference was seen"]
    needed = seeds_needed(observed, np.random.default_rng(SEED), most)
    return [*cells, f"{now:.0%}", f"more than {most}" if needed is None else str(needed)]


def show_power(folder: Path, most: int = MOST_SEEDS) -> str:
    """The power of each comparison of a results folder, as text.

    Raises:
        UsageError: The folder has no plan, or two configurations meet in it.
    """
    study = Study(read(folder))
    parts = []
    for agent in study.results.agents:
        found = power_table(summarise(study, agent), most)
        rows = [[plain(cell) for cell in row] for row in (found.head, *found.rows)]
        shown = table(rows) if found.rows else "No intervention has a seed paired with none."
        parts.append(f"{plain(agent)}\n{shown}")
    parts.append(
        f"Paired sign-flip test over seeds at {SIGNIFICANT}; {STUDIES:,} studies simulated from "
        "the observed\ndifferences, which are taken for the true ones: a lucky difference asks for "
        "too few seeds."
    )
    return "\n\n".join(parts)
