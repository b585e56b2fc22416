"""Forgetting and transfer of frozen policies in worlds that are not being trained on.

With ``--evaluate`` the policy plays every world of its life before the first phase and at the end
of each. R[j, i] is its mean return in the world of phase i when j phases are over, T their number::

                    world of phase 0   of phase 1   of phase 2
    j = 0  newborn        R[0, 0]        R[0, 1]      R[0, 2]
    j = 1                 R[1, 0]        R[1, 1]      R[1, 2]      phase 0 has been trained on
    j = 2                 R[2, 0]        R[2, 1]      R[2, 2]      phase 1 as well
    j = 3 = T             R[3, 0]        R[3, 1]      R[3, 2]

Each value is one mean over the episodes asked for, where Continual World takes the mean of its last
five evaluations. All are in units of C, which is ours: Continual World has rates of success, and
CORA divides by the largest absolute return. Without evaluations none of them is defined.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rlplastic.metrics.curve import Case, Evaluated
from rlplastic.record import FloatArray
from rlplastic.registry import metric


@metric("forgetting", better="lower", unit="C")
def forgetting(case: Case) -> FloatArray:
    """(R[k, k-1] - R[T, k-1]) / C: what is gone in the end of the world that shift k left.

    Forgetting of Continual World (Wolczyk et al., 2105.10919, section 4): at the end of a world's
    own phase minus at the end of the life. Of a world that returns its last phase counts; the one
    in which the life ends has forgotten nothing and is left out. Where no world returns, minus
    their mean is the backward transfer of supervised continual learning (GEM, 1706.08840).
    """
    left = _since_left(case)
    return _per_shift(case, [-after[-1] if stays else np.nan for after, stays in left])


@metric("forgetting_from_best", better="lower", unit="C")
def forgetting_from_best(case: Case) -> FloatArray:
    """(max_j R[j, k-1] - R[T, k-1]) / C with 1 <= j < T: what is gone of a world's best.

    Forgetting of supervised continual learning (Mirzadeh et al., 2006.06958, section 5): as
    `forgetting`, but from wherever the world went best, so that it is at least 0 but for what the
    last phase adds.
    """
    seen = _evaluated(case).returns
    lost = [
        seen[1:-1, world].max() - seen[-1, world] if stays else np.nan
        for world, (_, stays) in enumerate(_since_left(case))
    ]
    return _per_shift(case, lost)


@metric("isolated_forgetting", better="lower", unit="C")
def isolated_forgetting(case: Case) -> FloatArray:
    """Mean over earlier worlds i of (R[k, i] - R[k+1, i]) / C: what phase k itself destroys.

    Isolated forgetting of CORA (Powers et al., 2110.10067), F_ij with j = k: of all worlds that
    were met before phase k and are not its own, each of them once.
    """
    return -_change(case, lambda worlds, k: set(worlds[:k]) - {worlds[k]}, over=0)


@metric("zero_shot_transfer", better="higher", unit="C")
def zero_shot_transfer(case: Case) -> FloatArray:
    """Mean over worlds i not met yet of (R[k, i] - R[k-1, i]) / C: what phase k-1 lends to them.

    Zero-shot forward transfer of CORA (Powers et al., 2110.10067), Z_ij with j = k-1, the phase
    that shift k ends: of all worlds that have not been trained on by then, each of them once.
    """
    return _change(case, lambda worlds, k: set(worlds[k:]) - set(worlds[:k]), over=-1)


@metric("performance_maintenance", better="higher", unit="C")
def performance_maintenance(case: Case) -> FloatArray:
    """Mean over j > k of (R[j, k-1] - R[k, k-1]) / C: how the world that shift k left fares later.

    Performance maintenance of L2Metrics (New et al., 2201.08278): later evaluations minus the one
    at the end of learning, until the world is trained on again. Theirs is on a scale of 1 to 101.
    """
    left = _since_left(case)
    return _per_shift(case, [after[1:].mean() if len(after) > 1 else np.nan for after, _ in left])


@metric("average_performance", better="higher", unit="C")
def average_performance(case: Case) -> float:
    """Mean over the worlds i of the life of (R[T, i] - random_i) / C, each of them once.

    Average performance of Continual World (Wolczyk et al., 2105.10919, section 4), or average
    accuracy of supervised continual learning, above random play.
    """
    found = _evaluated(case)
    places = [found.worlds.index(world) for world in dict.fromkeys(found.worlds)]
    return float((found.returns[-1] - case.random)[places].mean() / case.scale)


def kept(case: Case) -> FloatArray:
    """(R[k+n, k-1] - R[k, k-1]) / C for n = 0, 1, ...: what a world is worth n phases later.

    Mean over the worlds that were left so long ago and not trained on since; NaN where there are
    none. ``[phases]``
    """
    left = [after for after, _ in _since_left(case)]
    ages = range(len(case.life))
    alive = [[after[n] for after in left if len(after) > n] for n in ages]
    return np.array([np.mean(values) if values else np.nan for values in alive]) / case.scale


def _since_left(case: Case) -> list[tuple[FloatArray, bool]]:
    """R[k+n, k-1] - R[k, k-1] for n = 0, 1, ... of the world that each shift k left.

    As far as it is not trained on again, and whether it never is.
    """
    found = _evaluated(case)
    seen, worlds = found.returns, found.worlds
    left = []
    for k in range(1, len(worlds)):
        later = list(worlds[k:])
        back = later.index(worlds[k - 1]) if worlds[k - 1] in later else len(later)
        left.append((seen[k : k + back + 1, k - 1] - seen[k, k - 1], back == len(later)))
    return left


def _per_shift(case: Case, values: Sequence[float]) -> FloatArray:
    """In units of C."""
    return np.array(values, dtype=np.float64) / case.scale


def _evaluated(case: Case) -> Evaluated:
    """What was measured; NaN throughout where nothing was, or where the life diverged.

    Means over the phases before it did would be means over the good ones.
    """
    if case.evaluated is not None and not case.broken:
        return case.evaluated
    phases = len(case.life)
    return Evaluated(worlds=range(phases), returns=np.full((phases + 1, phases), np.nan))


def _change(case: Case, chosen: Callable[[Sequence[int], int], set[int]], over: int) -> FloatArray:
    """Mean change of R over phase k + `over`, in the worlds chosen for shift k; NaN for none."""
    found = _evaluated(case)
    seen, worlds = found.returns, found.worlds
    changes = []
    for k in range(1, len(worlds)):
        places = [worlds.index(world) for world in sorted(chosen(worlds, k))]
        before = k + over
        changes.append(np.mean((seen[before + 1] - seen[before])[places]) if places else np.nan)
    return _per_shift(case, changes)
