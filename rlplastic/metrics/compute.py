"""Performance at equal compute: what an intervention that costs more gradients must beat.

SAM evaluates two gradients per update. Laid beside ``none`` after equal *steps* it has had twice
the compute. Here the budget of each phase is the number of gradient evaluations that ``none`` makes
in it. An arm of cost c has used it up after the first 1 / c of the phase, as updates are spread
evenly over the steps::

    P(g) of an arm of cost 2     |==========|            the first half of each phase counts
    P(g) of none                 |=====================| the whole of it

That is the return curve over gradient evaluations instead of steps, and the mean of it up to the
budget. It is strict with an expensive arm, which sees only 1 / c of the experience: its place is
where gradients, not steps of the environment, are what one pays for.
"""

from __future__ import annotations

import numpy as np

from rlplastic.metrics.curve import Case, Curve
from rlplastic.metrics.score import over_phases, over_shifts
from rlplastic.record import FloatArray
from rlplastic.registry import metric


@metric("P_equal_compute", better="higher", unit="C")
def performance_at_equal_compute(case: Case) -> float:
    """P over the first 1/cost of each phase: the gradient evaluations that none makes in it.

    Equal to P for arms of cost 1; not defined where the cost of an intervention is not known.
    """
    return over_shifts(((_early(case) - case.random) / case.scale)[1:])


@metric("whole_run_mean_equal_compute", better="higher", unit="return")
def whole_run_mean_at_equal_compute(case: Case) -> float:
    """whole_run_mean over the first 1/cost of each phase: per gradient evaluation, not per step."""
    return over_phases(case, _early(case))


def _early(case: Case) -> FloatArray:
    """The level of each phase until the gradient evaluations of ``none`` are used up."""
    return np.array([np.nan if c is None else level_until(c, 1 / case.cost) for c in case.life])


def level_until(curve: Curve, share: float) -> float:
    """Mean of the curve over the first `share` of its phase; a bin that is cut counts in part."""
    if not share > 0:
        return float("nan")
    bins = np.arange(len(curve.values))
    weights: FloatArray = np.clip(min(share, 1.0) * len(bins) - bins, 0, 1)
    return float(weights @ curve.values / weights.sum())
