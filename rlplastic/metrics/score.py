"""The score: does an agent that has lived still learn as well as a newborn one?

With L(x, k) the mean return of x in phase k, and C one constant a task (what a pilot newborn
gained over random), the *plasticity gap* of arm a is, over the shifts k = 1 .. K-1,

    G = mean_k ( L(newborn of a, k) - L(a, k) ) / C           S = 1 - G

and S = 1 says: as plastic as a newborn. Beside it, always,

    P = mean_k ( L(a, k) - random_k ) / C

because an intervention that ruins its own newborn shows no gap. Newborn and arm live in the same
worlds, start from the same emulator states and share hyper-parameters, so G is a paired difference;
it extends the reset yardstick of Dohare et al. (2024) and the survey of Klein et al. (2411.04832,
definition of plasticity loss: fresh minus continual after equal budget) from the end of a phase to
the whole of it. Reduce over shifts here; over seeds and tasks in `rlplastic.aggregate`.

Every shift counts the same, however long its phase is (schedules ``random``, ``list``, ``once``):
a shift is what is replicated, and L is a mean over its phase already. Weighed by length, a run
would be judged by its few longest phases, where the time that recovery takes counts least. In a
short phase G and P are noisier and nearer to what comes right after a shift, in arm and newborn
alike: the lengths are part of the task, the same for all arms of a seed.
"""

from __future__ import annotations

import numpy as np

from rlplastic.metrics.curve import Case, levels
from rlplastic.record import FloatArray
from rlplastic.registry import metric

COLLAPSED = 0.1  # of C above random: what an arm must keep to count as learning
LAST_SHIFTS = 3


@metric("gap", better="lower", unit="C", against="newborn")
def gap(case: Case) -> FloatArray:
    """G_k = (L(newborn, k) - L(arm, k)) / C: what having lived costs, for each shift."""
    return (levels(case.newborn) - levels(case.life))[1:] / case.scale


@metric("S", better="higher", unit="1 = as plastic as a newborn")
def plasticity(case: Case) -> float:
    """S = 1 - mean_k G_k: plasticity, 1 where the arm learns each world as its newborn does."""
    return 1.0 - over_shifts(gap(case))


@metric("gain", better="higher", unit="C")
def gain(case: Case) -> FloatArray:
    """P_k = (L(arm, k) - random_k) / C: what was gained over a random policy, for each shift."""
    return (levels(case.life) - case.random)[1:] / case.scale


@metric("P", better="higher", unit="C")
def performance(case: Case) -> float:
    """P = mean_k (L(arm, k) - random_k) / C: performance, 0 for a random policy."""
    return over_shifts(gain(case))


@metric("newborn_P", better="higher", unit="C", against="newborn")
def newborn_performance(case: Case) -> float:
    """P of the arm's newborns: what S is measured against, lower where an arm harms its own."""
    return over_shifts((levels(case.newborn) - case.random)[1:] / case.scale)


@metric("collapsed", better="lower", unit="share of runs")
def collapsed(case: Case) -> float:
    """1 where the arm diverged, or gained less than C / 10 over random in its last three shifts.

    The IQM trims collapses that hit less than a quarter of the runs; this share does not.
    """
    end = over_shifts(gain(case)[-LAST_SHIFTS:])
    return float("nan") if np.isnan(end) else float(case.broken or end < COLLAPSED)


@metric("phase_0", better="higher", unit="0 = random, 1 = reference")
def phase_zero(case: Case) -> float:
    """(end level of phase 0 - low) / (high - low): the unshifted task, with the suite's constants.

    The normalisation of Mnih et al. (2015) where high is human play: comparable with published
    scores of the stationary task, since nothing has shifted yet.
    """
    first = case.life[0]
    return float("nan") if first is None else (first.end_level - case.low) / (case.high - case.low)


@metric("whole_run_mean", better="higher", unit="return", averages=True)
def whole_run_mean(case: Case) -> float:
    """mean_k L(arm, k) with phase 0: the metric of TRAC and C-CHAIN, in raw returns.

    In their own protocol, `Control-Offset`, L is theirs too: the mean over iterations of the mean
    return of an iteration's episodes, the last of which is cut.

    Phases weigh as their lengths. It mixes first learning, speed of recovery and level, so it
    stays outside the headline.
    """
    return over_phases(case, levels(case.life))


def over_phases(case: Case, values: FloatArray) -> float:
    """Mean over all phases, which weigh as their lengths; NaN if one of them is not known."""
    if np.isnan(values).any():
        return float("nan")
    steps = np.array([0 if curve is None else curve.steps for curve in case.life])
    return float(np.average(values, weights=steps / steps.max()))


def over_shifts(values: FloatArray) -> float:
    """Mean over the shifts; NaN without any, or if one of them is not known."""
    return float(values.mean()) if values.size else float("nan")
