"""What earlier worlds are worth in a new one: the ratios and transfers that other suites report.

None of them is in the headline. Ratios of returns jump where a newborn learns little, and a
transfer mixes plasticity with what was learned before. They are here so that results can be laid
beside those of the papers that use them.
"""

from __future__ import annotations

import numpy as np

from rlplastic.metrics.curve import Case, Curve, levels, start_levels
from rlplastic.metrics.recovery import gained, time_to, worth
from rlplastic.record import FloatArray
from rlplastic.registry import metric

SAVED_TO = 0.80  # of the gain of the newborn of ``none``, as in the recovery times


@metric("resilience", better="higher", unit="C")
def resilience(case: Case) -> FloatArray:
    """(start level of phase k - random_k) / C: what still works just after the shift.

    Resilience of NovGrid (Balloch et al., 2203.12117): the policy that has not adapted yet,
    relative to a random one. 0 = as a random policy. Where `drop` looks back at the old world, this
    looks at the new one, and is comparable across worlds of other difficulty.
    """
    return (start_levels(case.life) - case.random)[1:] / case.scale


@metric("auc_ratio", better="higher", unit="1 = as a newborn", against="newborn")
def auc_ratio(case: Case) -> float:
    """sum_k (L(arm, k) - random_k) / sum_k (L(newborn, k) - random_k): a ratio of areas.

    Relative performance of L2Metrics (New et al., 2201.08278) with the newborn as the single-task
    expert and random subtracted from both. A ratio of sums, not a mean of ratios, which one shift
    with a poor newborn would rule. Not defined where the newborns gained nothing over random.
    """
    gained = (levels(case.life) - case.random)[1:].sum()
    newborn = (levels(case.newborn) - case.random)[1:].sum()
    return float(gained / newborn) if newborn > 0 else float("nan")


@metric("forward_transfer", better="higher", unit="1 = perfect at once", against="reference")
def forward_transfer(case: Case) -> FloatArray:
    """(A(arm, k) - A(ref, k)) / (1 - A(ref, k)) with A = (L - random_k) / C, for each shift.

    Forward transfer of Continual World (Wolczyk et al., 2105.10919, section 4), their area under
    the success curve replaced by the area above random in units of C; ref is the newborn of
    ``none``. Not defined where that leaves nothing to gain, A >= 1.
    """
    area = (levels(case.life) - case.random)[1:] / case.scale
    alone = (levels(case.reference) - case.random)[1:] / case.scale
    room = np.where(alone < 1, 1 - alone, np.nan)
    return np.asarray((area - alone) / room)


@metric("savings", better="higher", unit="share of the phase", against="reference")
def savings(case: Case) -> FloatArray:
    """Time to 80 % when a world is first met - time to 80 % when it returns, for each shift.

    Savings of Ebbinghaus (1885) as a difference, not a share, because the first time may be 0. To
    the same level both times: that of the newborn of ``none`` at the first meeting. Times without
    recovery count as the whole phase. Defined only where the world was there before (schedule
    ``cyclic``). Where phases differ in length, the share is of the phase in which it returns.
    """
    gain, learnt = gained(case), worth(case)
    saved = np.full(len(case.life), np.nan)
    for phase, curve in enumerate(case.life):
        first = _first_meeting(case, curve)
        if first is None or first == phase or not learnt[first]:
            continue
        level = case.random[first] + SAVED_TO * gain[first]
        met = case.life[first]
        if met is not None and curve is not None:
            before = time_to(met, level)[0] * (met.steps / curve.steps)
            saved[phase] = before - time_to(curve, level)[0]
    return saved[1:]


def _first_meeting(case: Case, curve: Curve | None) -> int | None:
    """The phase in which the world of a curve was met first."""
    worlds = [None if one is None else one.world for one in case.life]
    return None if curve is None else worlds.index(curve.world)
