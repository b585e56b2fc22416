"""Recovery after a shift: how far it falls, when it is back, and how many never are.

The level to come back to is the same for every arm: with `end_k` the end level of the newborn of
``none`` and a share p,

    level_k(p) = random_k + p * (end_k - random_k)

An arm has *recovered* at the first of three bins in a row at or above that level with at least
five finished episodes between them. An arm that has not by the end of the phase is right-censored
there: its time is known to be longer, not known. So there are two numbers, the share that recovered
and the restricted mean (a censored time counts as the whole phase), and never a mean over those
that did recover, which would favour an arm that recovers rarely (Royston & Parmar, 2013).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from rlplastic.metrics.curve import Case, Curve, end_levels, start_levels
from rlplastic.record import BoolArray, FloatArray, IntArray
from rlplastic.registry import metric

BINS_IN_A_ROW = 3
LEAST_GAIN = 0.1  # of C: a newborn that ended with less has left nothing to recover
ROUNDING = 1e-9
EPISODES_BETWEEN = 5


@dataclass(frozen=True)
class Times:
    """Times to a level, one a shift, as shares of the phase; NaN where they are not defined."""

    time: FloatArray
    recovered: BoolArray


@metric("drop", better="lower", unit="C")
def drop(case: Case) -> FloatArray:
    """(end level of phase k-1 - start level of phase k) / C: how far the shift throws it back."""
    return (end_levels(case.life)[:-1] - start_levels(case.life)[1:]) / case.scale


@metric("recovered_50", better="higher", unit="share of shifts", against="reference")
def recovered_50(case: Case) -> FloatArray:
    """1 where half of the newborn's gain was reached within the phase, else 0."""
    return _recovered(recovery_times(case, 0.50))


@metric("recovered_80", better="higher", unit="share of shifts", against="reference")
def recovered_80(case: Case) -> FloatArray:
    """1 where 80 % of the newborn's gain was reached within the phase, else 0."""
    return _recovered(recovery_times(case, 0.80))


@metric("recovered_95", better="higher", unit="share of shifts", against="reference")
def recovered_95(case: Case) -> FloatArray:
    """1 where 95 % of the newborn's gain was reached within the phase, else 0."""
    return _recovered(recovery_times(case, 0.95))


@metric("recovery_time_50", better="lower", unit="share of the phase", against="reference")
def recovery_time_50(case: Case) -> FloatArray:
    """min(time to 50 %, phase) / phase: its mean is the restricted mean time to recover."""
    return recovery_times(case, 0.50).time


@metric("recovery_time_80", better="lower", unit="share of the phase", against="reference")
def recovery_time_80(case: Case) -> FloatArray:
    """min(time to 80 %, phase) / phase: its mean is the restricted mean time to recover."""
    return recovery_times(case, 0.80).time


@metric("recovery_time_95", better="lower", unit="share of the phase", against="reference")
def recovery_time_95(case: Case) -> FloatArray:
    """min(time to 95 %, phase) / phase: its mean is the restricted mean time to recover."""
    return recovery_times(case, 0.95).time


def recovery_times(case: Case, share: float) -> Times:
    """Time to `share` of the newborn's gain for each shift, 1 where it was not reached.

    Not defined where the arm or the reference has no curve, where the newborn of ``none`` ended
    within `LEAST_GAIN` of random (a report counts these shifts: there is nothing to recover, and
    any policy would have done so at once), and where a phase has fewer than three bins.
    """
    target = np.where(worth(case), case.random + share * gained(case), np.nan)
    pairs = [time_to(curve, level) for curve, level in zip(case.life, target, strict=True)][1:]
    return Times(
        time=np.array([time for time, _ in pairs], dtype=np.float64),
        recovered=np.array([recovered for _, recovered in pairs], dtype=np.bool_),
    )


def worth(case: Case) -> BoolArray:
    """Of each phase, whether the newborn of ``none`` ended clearly above random."""
    least = 0.0 if np.isnan(case.scale) else LEAST_GAIN * case.scale
    return np.asarray(gained(case) > least)


def gained(case: Case) -> FloatArray:
    """What the newborn of ``none`` ended above random, in each phase."""
    return np.asarray(end_levels(case.reference) - case.random)


def time_to(curve: Curve | None, level: float) -> tuple[float, bool]:
    """Begin of the first bin from which the curve holds the level, as a share of the phase.

    Returns:
        The time and True; 1.0 and False if it is censored; NaN and False if it is not defined.
    """
    if curve is None or np.isnan(level) or len(curve.values) < BINS_IN_A_ROW:
        return float("nan"), False
    tie = ROUNDING * max(1.0, abs(level))  # a curve that reaches it exactly does so in any unit
    held = _in_a_row(curve.values >= level - tie) == BINS_IN_A_ROW
    seen = _in_a_row(curve.finished) >= EPISODES_BETWEEN
    hits = np.flatnonzero(held & seen)
    return (float(hits[0]) / len(curve.values), True) if hits.size else (1.0, False)


def _in_a_row(counts: IntArray | BoolArray) -> IntArray:
    """The sums of each bin and those after it, `BINS_IN_A_ROW` together."""
    upto = np.concatenate([[0], np.cumsum(counts)])
    return np.asarray(upto[BINS_IN_A_ROW:] - upto[:-BINS_IN_A_ROW])


def kaplan_meier(times: FloatArray, recovered: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Share not yet recovered as a step function: at each time, the share from then on.

    Kaplan & Meier (1958), by scipy: ``prod_{t_i <= t} (1 - recovered_i / at risk_i)``.

    Args:
        times: Times to recover, or to the end of observation.
        recovered: False where the time is right-censored.
    """
    known = ~np.isnan(times)
    times, recovered = times[known], recovered[known]
    if not times.size:
        return np.empty(0), np.empty(0)
    sample = stats.CensoredData(uncensored=times[recovered], right=times[~recovered])
    survival = stats.ecdf(sample).sf
    return np.asarray(survival.quantiles), np.asarray(survival.probabilities)


def _recovered(times: Times) -> FloatArray:
    return np.where(np.isnan(times.time), np.nan, times.recovered.astype(np.float64))
