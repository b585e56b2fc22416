"""Is a difference more than chance? Tests and sizes of paired differences over seeds.

The arms of one seed share worlds and first weights, so what is tested is the difference of each
seed, and the seeds are what varies: their number is what a p-value can come from. Nothing here
touches numpy's global generator.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlplastic.record import FloatArray

EXACT_FLIPS = 16  # seeds up to which all 2^n sign flips are enumerated
FLIPS = 100_000


def effect_size(differences: FloatArray) -> float:
    """Standardised mean of paired differences: mean over seeds / their spread, for few seeds.

    Cohen's d_z with the correction of Hedges (1981), J = 1 - 3 / (4 (n - 1) - 1), since the plain
    ratio is too large after few seeds. NaN below three seeds (J is not positive for two) and where
    the seeds do not differ, so that there is nothing to measure the mean by.

    Args:
        differences: Scores of the arm minus those of its reference, [seeds x tasks].
    """
    by_seed = differences.mean(axis=1)
    if len(by_seed) < 3 or np.ptp(by_seed) <= 1e-12 * np.abs(by_seed).max():
        return float("nan")
    correction = 1 - 3 / (4 * (len(by_seed) - 1) - 1)
    return float(correction * by_seed.mean() / by_seed.std(ddof=1))


def sign_flip(differences: FloatArray, rng: np.random.Generator) -> float:
    """Two-sided p-value of the paired sign-flip permutation test over seeds.

    If an arm and its reference were exchangeable, each seed's difference could as well have had
    the other sign. All 2^n assignments are enumerated up to 16 seeds, so that 6 seeds can reach
    2/64 = 0.03 and 5 cannot go below 2/32 = 0.06; above, 100,000 are drawn (Phipson & Smyth, 2010).

    Args:
        differences: Scores of the arm minus those of its reference, [seeds x tasks].
        rng: Used above 16 seeds only.
    """
    by_seed = differences.mean(axis=1)
    if not len(by_seed):
        return float("nan")
    return float(sign_flips(by_seed[:, None], rng)[0])


def sign_flips(
    studies: FloatArray, rng: np.random.Generator, exact: int | None = None, flips: int = FLIPS
) -> FloatArray:
    """The p-value of `sign_flip` for many studies at a time.

    Args:
        studies: Differences [seeds x studies], at least one seed.
        rng: Used above `exact` seeds only.
        exact: Seeds up to which all assignments are enumerated; `EXACT_FLIPS` unless given.
        flips: Assignments that are drawn above.
    """
    seeds = len(studies)
    every = seeds <= (EXACT_FLIPS if exact is None else exact)
    if every:
        bits = np.arange(2**seeds)[:, None] >> np.arange(seeds) & 1
    else:
        bits = rng.integers(2, size=(flips, seeds))
    flipped = np.abs((1.0 - 2.0 * bits) @ studies)
    tolerance = 1e-12 * np.abs(studies).sum(axis=0)  # equal sums may differ in their last bit
    extreme = (flipped >= np.abs(studies.sum(axis=0)) - tolerance).sum(axis=0)
    return np.asarray(extreme / len(bits) if every else (extreme + 1) / (flips + 1))


def holm(values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number (Holm, 1979); NaN stays NaN and is not counted."""
    order = sorted((p, i) for i, p in enumerate(values) if not np.isnan(p))
    adjusted = [float("nan")] * len(values)
    largest = 0.0
    for rank, (p, i) in enumerate(order):
        largest = max(largest, min(1.0, p * (len(order) - rank)))
        adjusted[i] = largest
    return adjusted
