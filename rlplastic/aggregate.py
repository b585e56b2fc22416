"""Over seeds and tasks: rliable's aggregates, with intervals that keep their seed.

Scores are a matrix [seeds x tasks], one number a run, already reduced over the shifts (the shifts
of one seed are not independent of each other). The aggregates are rliable's functions as they are
(Agarwal et al., 2021). Its resampler is not used: it draws from numpy's global generator whatever
seed it is given, in a Python loop. The one here draws, for each task on its own, seeds with
replacement; a comparison of two arms draws once for both, because their seeds are paired.

Intervals are percentile intervals of 95 %. Nothing here touches numpy's global generator. Wherever
resamples come from a generator, a number stands for a new one with that seed: a report estimates
many hundred means of matrices of one shape from one seed, and draws for them once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from rliable import metrics as rliable

from rlplastic.record import FloatArray, IntArray

RESAMPLES = 10_000
TAILS = (2.5, 97.5)
KEPT = 8  # shapes whose resamples are kept: 4 MB for 10 seeds x 5 tasks
CHUNK = 2**18  # scores resampled at a time: 2 MB, which stay in a core's cache
Draws = np.random.Generator | int


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number and its 95 % interval; the ends are NaN where there are fewer than two seeds."""

    point: float
    low: float
    high: float


def iqm(scores: FloatArray) -> FloatArray:
    """Mean of the middle half of all runs, over the last two axes."""
    # As scipy's trim_mean, which partitions: numpy's sort uses vector instructions and is faster.
    flat = np.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)
    cut = flat.shape[-1] // 4
    return np.asarray(flat[..., cut : flat.shape[-1] - cut].mean(axis=-1))


def mean(scores: FloatArray) -> FloatArray:
    """Mean over tasks of the mean over seeds: of all runs, as every task has as many."""
    return np.asarray(scores.mean(axis=(-2, -1)))


def median(scores: FloatArray) -> FloatArray:
    """Median over tasks of the mean over seeds."""
    return np.asarray(np.median(scores.mean(axis=-2), axis=-1))


def optimality_gap(scores: FloatArray) -> FloatArray:
    """How far runs fall short of 1 on average; runs above 1 count as 1."""
    return np.asarray(1.0 - np.minimum(scores, 1.0).mean(axis=(-2, -1)))


AGGREGATES: dict[str, tuple[Callable[[FloatArray], Any], Callable[[FloatArray], FloatArray]]] = {
    "iqm": (rliable.aggregate_iqm, iqm),
    "mean": (rliable.aggregate_mean, mean),
    "median": (rliable.aggregate_median, median),
    "optimality_gap": (rliable.aggregate_optimality_gap, optimality_gap),
}
"""Name -> (rliable's function of one matrix, the same over many matrices at a time)."""


def draw(shape: tuple[int, ...], rng: np.random.Generator, resamples: int) -> IntArray:
    """Indices [resamples x seeds x tasks]: for each task on its own, seeds with replacement."""
    return rng.integers(shape[0], size=(resamples, *shape))


def estimate(
    scores: FloatArray,
    aggregate: str,
    rng: Draws,
    *,
    minus: FloatArray | None = None,
    resamples: int = RESAMPLES,
) -> Estimate:
    """An aggregate of a matrix, or of the difference of two, with its interval.

    Args:
        scores: Scores [seeds x tasks].
        aggregate: A key of `AGGREGATES`.
        rng: Where the resamples come from.
        minus: Scores of another arm on the same seeds, resampled alike and subtracted.
        resamples: Number of bootstrap resamples.
    """
    point = _point(scores, minus, aggregate)
    if len(scores) < 2:
        return Estimate(point=point, low=float("nan"), high=float("nan"))
    return _percentiles(point, _gains(scores, minus, aggregate, rng, resamples))


def estimates(
    matrices: FloatArray,
    aggregate: str,
    rng: Draws,
    resamples: int = RESAMPLES,
) -> list[Estimate]:
    """An aggregate of many matrices on the same resamples, each with its interval.

    Args:
        matrices: Scores [n x seeds x tasks]: n arms, or n points of a curve.
        aggregate: A key of `AGGREGATES`.
        rng: Where the resamples come from; the first matrix alone would have the same ones.
        resamples: Number of bootstrap resamples.
    """
    once, _ = AGGREGATES[aggregate]
    points = [float(once(scores)) for scores in matrices]
    if matrices.shape[1] < 2:
        return [Estimate(point=point, low=float("nan"), high=float("nan")) for point in points]
    draws = _resampled(matrices, aggregate, rng, resamples)
    return [_percentiles(*pair) for pair in zip(points, draws, strict=True)]


def sample_efficiency(
    curves: FloatArray, aggregate: str, rng: Draws, resamples: int = RESAMPLES
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """An aggregate at each point of learning curves, and the ends of its pointwise interval.

    Agarwal et al. (2021), figure 6. All points share their resamples, as a seed is drawn whole.

    Args:
        curves: Scores [seeds x tasks x points].
        aggregate: A key of `AGGREGATES`.
        rng: Where the resamples come from.
        resamples: Number of bootstrap resamples.
    """
    found = estimates(np.moveaxis(curves, -1, 0).copy(), aggregate, rng, resamples)
    center, low, high = np.array([(e.point, e.low, e.high) for e in found]).T
    return center, low, high


def contrast(
    one: tuple[FloatArray, FloatArray],
    two: tuple[FloatArray, FloatArray],
    aggregate: str,
    rng: Draws,
    resamples: int = RESAMPLES,
) -> Estimate:
    """The difference of two paired differences: (a - b of `one`) - (a - b of `two`).

    Within a pair both matrices are resampled alike. The pairs are resampled independently, since
    they are of different tasks, whose seeds have nothing to do with each other.
    """
    point = _point(*one, aggregate) - _point(*two, aggregate)
    if min(len(one[0]), len(two[0])) < 2:
        return Estimate(point=point, low=float("nan"), high=float("nan"))
    rng = np.random.default_rng(rng)
    draws = [_gains(*pair, aggregate, rng, resamples) for pair in (one, two)]
    return _percentiles(point, draws[0] - draws[1])


def mean_band(
    values: FloatArray, rng: Draws, resamples: int = RESAMPLES
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mean over seeds of curves [seeds x points], and the ends of its interval at each point."""
    center = values.mean(axis=0)
    if len(values) < 2:
        return center, center, center
    counts = _counts((len(values), 1), rng, resamples)[..., 0]
    low, high = np.percentile(counts @ values / len(values), TAILS, axis=0)
    return center, low, high


def performance_profile(
    scores: FloatArray, thresholds: FloatArray, rng: Draws, resamples: int = RESAMPLES
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Share of runs above each threshold, and the ends of its pointwise interval.

    Agarwal et al. (2021), section 4.2: the empirical tail distribution over all runs.
    """
    above = (scores[..., None] > thresholds).astype(np.float64)
    profile = above.mean(axis=(0, 1))
    if len(scores) < 2:
        return profile, profile, profile
    counts = _counts(scores.shape, rng, resamples)
    draws = np.einsum("rnm,nmt->rt", counts, above, optimize=True) / scores.size
    low, high = np.percentile(draws, TAILS, axis=0)
    return profile, low, high


def share_band(
    hits: FloatArray, of: FloatArray, rng: Draws, resamples: int = RESAMPLES
) -> tuple[FloatArray, FloatArray]:
    """Ends of the pointwise interval of sum(hits) / sum(of), with whole seeds resampled.

    For shares of events of which one seed has several, as shifts recovered from: they are not
    independent, so the seeds are drawn, for each task on its own, and never the events.

    Args:
        hits: Events [seeds x tasks x points].
        of: Chances for an event [seeds x tasks].
        rng: Where the resamples come from.
        resamples: Number of bootstrap resamples.
    """
    if len(of) < 2 or not of.any():
        share = hits.sum(axis=(0, 1)) / max(1.0, float(of.sum()))
        return share, share
    counts = _counts((of.shape[0], of.shape[1]), rng, resamples)
    found = np.einsum("rnm,nmt->rt", counts, hits, optimize=True)
    chances = np.einsum("rnm,nm->r", counts, of, optimize=True)
    drawn = found[chances > 0] / chances[chances > 0, None]
    low, high = np.percentile(drawn, TAILS, axis=0)
    return low, high


def probability_of_improvement(
    scores: FloatArray, reference: FloatArray, rng: Draws, resamples: int = RESAMPLES
) -> Estimate:
    """P(a run of one arm beats a run of the other) averaged over tasks; ties count half.

    The Mann-Whitney statistic of rliable, which compares all pairs of seeds. So the two arms are
    resampled independently, as rliable does: drawn together, a seed would meet its own partner
    too often and the interval would miss the estimate.
    """
    wins = scores[:, None, :] > reference[None, :, :]
    ties = scores[:, None, :] == reference[None, :, :]
    better = wins + 0.5 * ties
    point = float(better.mean())
    if min(len(scores), len(reference)) < 2:
        return Estimate(point=point, low=float("nan"), high=float("nan"))
    rng = np.random.default_rng(rng)
    ours = _counts(scores.shape, rng, resamples)
    theirs = _counts(reference.shape, rng, resamples)
    won = np.matmul(ours.transpose(2, 0, 1), better.transpose(2, 0, 1))  # [tasks x resamples x j]
    draws = np.einsum("mrj,rjm->r", won, theirs)
    return _percentiles(point, draws / better.size)


def _counts(shape: tuple[int, ...], rng: Draws, resamples: int) -> FloatArray:
    """How often each seed is drawn: the bootstrap as weights [resamples x seeds x tasks]."""
    if not isinstance(rng, np.random.Generator):
        return _kept_counts(shape, rng, resamples)
    rows = draw(shape, rng, resamples)
    seeds, tasks = shape
    places = (np.arange(resamples)[:, None, None] * seeds + rows) * tasks + np.arange(tasks)
    found = np.bincount(places.ravel(), minlength=rows.size).reshape(rows.shape)
    return found.astype(np.float64)


@lru_cache(KEPT)
def _kept_counts(shape: tuple[int, ...], seed: int, resamples: int) -> FloatArray:
    counts = _counts(shape, np.random.default_rng(seed), resamples)
    counts.flags.writeable = False
    return counts


def _point(scores: FloatArray, minus: FloatArray | None, aggregate: str) -> float:
    once, _ = AGGREGATES[aggregate]
    return float(once(scores)) - (0.0 if minus is None else float(once(minus)))


def _gains(
    scores: FloatArray,
    minus: FloatArray | None,
    aggregate: str,
    rng: Draws,
    resamples: int,
) -> FloatArray:
    """The aggregate of each resample, less that of `minus` on the same seeds."""
    matrices = [scores] if minus is None else [scores, minus]
    first, *other = _resampled(np.stack(matrices), aggregate, rng, resamples)
    return np.asarray(first - other[0] if other else first)


def _resampled(matrices: FloatArray, aggregate: str, rng: Draws, resamples: int) -> FloatArray:
    """The aggregates [n x resamples] of matrices [n x seeds x tasks], all resampled alike."""
    n, seeds, tasks = matrices.shape
    if aggregate == "mean":  # linear in the scores
        counts = _counts((seeds, tasks), rng, resamples).reshape(resamples, -1)
        return np.asarray(matrices.reshape(n, -1) @ counts.T / (seeds * tasks))
    rng = np.random.default_rng(rng)
    _, many = AGGREGATES[aggregate]
    found = np.empty((n, resamples))
    step = max(1, CHUNK // (seeds * tasks))
    for start in range(0, resamples, step):
        part = slice(start, min(start + step, resamples))
        places = draw((seeds, tasks), rng, part.stop - start) * tasks + np.arange(tasks)
        for row, scores in zip(found, matrices, strict=True):
            row[part] = many(scores.ravel()[places])
    return found


def _percentiles(point: float, draws: FloatArray) -> Estimate:
    low, high = np.percentile(draws, TAILS)
    return Estimate(point=point, low=float(low), high=float(high))
