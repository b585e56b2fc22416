"""What is lost in each phase, and whether it grows: end gap, regret, trend, retention."""

from __future__ import annotations

import numpy as np
from scipy import stats

from rlplastic.metrics.curve import Case, end_levels, levels, start_levels
from rlplastic.metrics.score import gap
from rlplastic.record import FloatArray
from rlplastic.registry import metric


@metric("end_gap", better="lower", unit="C", against="newborn")
def end_gap(case: Case) -> FloatArray:
    """(end level of the newborn - end level of the arm) / C, for each shift.

    Plasticity loss in the sense of the survey (Klein et al., 2411.04832): fresh minus continual
    after an equal budget, whatever the speed on the way.
    """
    return (end_levels(case.newborn) - end_levels(case.life))[1:] / case.scale


@metric("regret", better="lower", unit="C", against="reference")
def regret(case: Case) -> FloatArray:
    """(end level of the newborn of ``none`` - L(arm, k)) / C: the area lost while recovering.

    The arm's distance, averaged over the phase, to an agent that plays from the first step as the
    newborn of ``none`` plays at the end. The same yardstick for all arms; negative where an arm
    does better than that over the whole phase.
    """
    return (end_levels(case.reference) - levels(case.life))[1:] / case.scale


@metric("gap_slope", better="lower", unit="C a shift")
def gap_slope(case: Case) -> float:
    """Theil-Sen slope of G_k over the shifts: positive while plasticity is being lost.

    A trend, not the headline: a collapse at the first shift has none.
    """
    return theil_sen(gap(case))


@metric("retention", better="higher", unit="1 = nothing forgotten")
def retention(case: Case) -> FloatArray:
    """1 - (end level when the world was last left - level when it returns) / C.

    Isolated forgetting of CORA (Powers et al., 2022) on the returns of the learning agent. Defined
    only for phases whose world was there before.
    """
    start, end = start_levels(case.life), end_levels(case.life)
    worlds = [None if curve is None else curve.world for curve in case.life]
    kept = np.full(len(worlds), np.nan)
    for phase, world in enumerate(worlds):
        if world is not None and world in worlds[:phase]:
            last = phase - 1 - worlds[:phase][::-1].index(world)
            kept[phase] = 1.0 - (end[last] - start[phase]) / case.scale
    return kept[1:]


def theil_sen(values: FloatArray) -> float:
    """Median of the slopes between all pairs (Theil, 1950; Sen, 1968); NaN below two values."""
    if values.size < 2 or np.isnan(values).any():
        return float("nan")
    return float(stats.theilslopes(values).slope)
