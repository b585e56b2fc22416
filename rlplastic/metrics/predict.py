"""Does a probe, measured just before a shift, say how well the agent will learn after it?

No probe is known to do so reliably (arXiv 2303.01486, 2509.19698), so a report shows the rank
correlation of each with the plasticity gap that follows, and never calls it a cause.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from rlplastic.aggregate import TAILS, Estimate
from rlplastic.metrics.digits import Shown, fit_columns
from rlplastic.metrics.study import Study
from rlplastic.metrics.summary import SEED, Summary
from rlplastic.metrics.tables import Table
from rlplastic.record import FloatArray, IntArray

FEWEST_SEEDS = 3
RESAMPLES = 2_000
NOTHING = "n/a: no change"


def rank_correlation(left: FloatArray, right: FloatArray) -> FloatArray:
    """Spearman's ρ over the last axis: Pearson's of the ranks, ties at their mean rank.

    0 where one side is constant: it says nothing of the other.
    """
    ranks = [stats.rankdata(values, axis=-1) for values in (left, right)]
    x, y = (r - r.mean(axis=-1, keepdims=True) for r in ranks)
    size = np.sqrt((x**2).sum(axis=-1) * (y**2).sum(axis=-1))
    return np.asarray((x * y).sum(axis=-1) / np.where(size > 0, size, 1.0))


def resampled_correlation(left: FloatArray, right: FloatArray, counts: IntArray) -> FloatArray:
    """`rank_correlation` of resamples of whole seeds, without sorting any of them.

    In a resample, the rank of a value is half a place behind the values below it and half of those
    that are equal to it; of each seed these are counted once.

    Args:
        left: ``[seeds, shifts]``.
        right: The same.
        counts: How often a resample has each seed: ``[resamples, seeds]``.

    Returns:
        ``[resamples]``.
    """
    middle = left.size / 2 + 0.5
    sides = []
    for values in (left, right):
        flat = values.reshape(-1, 1, 1)
        before = (values < flat).sum(axis=2) + (values == flat).sum(axis=2) / 2
        sides.append(counts @ before.T + 0.5 - middle)  # [resamples, values]
    weights = np.repeat(counts, left.shape[1], axis=1)
    x, y = sides
    size = np.sqrt((weights * x**2).sum(axis=1) * (weights * y**2).sum(axis=1))
    return np.asarray((weights * x * y).sum(axis=1) / np.where(size > 0, size, 1.0))


def association(
    pairs: Sequence[tuple[FloatArray, FloatArray]],
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
) -> Estimate | None:
    """Mean over tasks of the rank correlation over seeds and shifts, with a 95 % interval.

    The shifts of one seed are not independent, so whole seeds are resampled, for each task on its
    own. Within a task and not across them: tasks differ in both quantities.

    Args:
        pairs: For each task, the probe and the gap after it, each ``[seeds, shifts]``.
        rng: Where the resamples come from.
        resamples: Number of bootstrap resamples.

    Returns:
        None where no task has `FEWEST_SEEDS` seeds and a probe that varies.
    """
    usable = [(x, y) for x, y in pairs if len(x) >= FEWEST_SEEDS and np.ptp(x) > 0]
    if not usable:
        return None
    points, draws = [], []
    for x, y in usable:
        points.append(float(rank_correlation(x.ravel(), y.ravel())))
        drawn = rng.integers(len(x), size=(resamples, len(x)))
        counts = (drawn[..., None] == np.arange(len(x))).sum(axis=1)
        draws.append(resampled_correlation(x, y, counts))
    low, high = np.percentile(np.mean(draws, axis=0), TAILS)
    return Estimate(point=float(np.mean(points)), low=float(low), high=float(high))


def predictors(study: Study, summary: Summary) -> Table:
    """For each probe and arm, its rank correlation with the gap of the phase that follows.

    Without rows where no task has `FEWEST_SEEDS` seeds.
    """
    names = sorted({p.name for r in study.results.of(agent=summary.agent) for p in r.probes})
    arms = [arm.reg for arm in summary.arms]
    rng = np.random.default_rng(SEED)
    rows = []
    for name in names:
        found = [association(_pairs(study, summary, name, arm), rng) for arm in arms]
        if any(found):
            cells = [NOTHING if one is None else Shown(value=one, signed=True) for one in found]
            rows.append([name, *cells])
    return Table(head=["probe", *arms], rows=fit_columns(rows))


def _pairs(
    study: Study, summary: Summary, name: str, arm: str
) -> list[tuple[FloatArray, FloatArray]]:
    """For each task that counts, the probe at the end of phase k - 1 and the gap of phase k."""
    pairs = []
    for task in study.results.tasks:
        if not study.in_headline(task, summary.agent):
            continue
        probes, gaps = [], []
        for seed in study.complete(task, summary.agent):
            record = study.records[(task, summary.agent, arm, seed)]
            ends = {
                p.phase: p.value for p in record.probes if (p.name, p.moment) == (name, "before")
            }
            before = np.array([ends.get(k, np.nan) for k in range(study.num_phases - 1)])
            gap = study.score("gap", task, summary.agent, arm, seed)
            if np.isfinite(before).all() and np.isfinite(gap).all():
                probes.append(before)
                gaps.append(gap)
        if probes:
            pairs.append((np.array(probes), np.array(gaps)))
    return pairs
