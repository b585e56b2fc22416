"""Each arm against ``none``, and the aggregates of rliable: what a reviewer looks for first.

A difference is paired: the same seeds, tasks and shifts on both sides. It is reduced over the
shifts first, as everywhere, so that its interval and its sign-flip test are over seeds, which are
what was replicated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlplastic.aggregate import Estimate, estimate
from rlplastic.metrics.digits import Cell, Shown, fit_columns
from rlplastic.metrics.study import REFERENCE, Study
from rlplastic.metrics.summary import SEED, Summary
from rlplastic.metrics.tables import Table, fewer
from rlplastic.record import FloatArray
from rlplastic.significance import effect_size, holm, sign_flip

RECOVERY = (
    "recovery_time_50",
    "recovery_time_80",
    "recovery_time_95",
    "recovered_80",
    "gap",
    "end_gap",
    "drop",
    "resilience",
    "regret",
)
KEPT = (
    "forgetting",
    "forgetting_from_best",
    "isolated_forgetting",
    "performance_maintenance",
    "zero_shot_transfer",
    "average_performance",
)
NO_PAIR = "n/a: no paired seed"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A metric of an arm and of ``none``, [seeds x tasks], on what both have."""

    arm: FloatArray
    none: FloatArray


def evaluations_against_none(study: Study, summary: Summary) -> Table:
    """As `against_none`, of forgetting and transfer; no rows where nothing was evaluated."""
    evaluated = any(record.evaluations for record in study.results.of(agent=summary.agent))
    return against_none(study, summary, KEPT if evaluated else ())


def against_none(study: Study, summary: Summary, questions: Sequence[str] = RECOVERY) -> Table:
    """Paired differences of metrics: mean over tasks and seeds, with interval, p and size.

    p is that of the paired sign-flip test over seeds; in parentheses, adjusted for all rows (Holm,
    1979), as it was not said beforehand which of them is the question.
    """
    regs = [arm.reg for arm in summary.arms if arm.reg != REFERENCE]
    asked = [(name, reg) for name in questions if name in study.metrics for reg in regs]
    pairs = [pair_of(study, summary, name, reg) for name, reg in asked]
    p = [
        sign_flip(pair.arm - pair.none, np.random.default_rng(SEED))
        if len(pair.arm) > 1
        else float("nan")
        for pair in pairs
    ]
    rows: list[list[Cell]] = []
    for (name, reg), pair, one, adjusted in zip(asked, pairs, p, holm(p), strict=True):
        traits = study.metrics[name].traits
        arrow = "↑" if traits.get("better") == "higher" else "↓"
        rows.append(
            [
                f"{name} {arrow} ({traits.get('unit', '')})",
                reg,
                *_difference(pair),
                "n/a: one seed or none" if np.isnan(one) else f"{one:.3f} ({adjusted:.3f})",
                _size(pair.arm - pair.none),
                "{} x {}".format(*pair.arm.shape),
            ]
        )
    head = ["metric", "arm", "mean of none", "of the arm", "difference"]
    head += ["p (Holm)", "effect size", "seeds x tasks"]
    return Table(head=head, rows=fit_columns(rows))


def pair_of(study: Study, summary: Summary, metric: str, reg: str) -> Pair:
    """A metric of both sides, on the tasks and seeds on which both have it."""

    def known(arm: str, tasks: list[str]) -> tuple[FloatArray, list[int]]:
        return study.matrix(metric, summary.agent, arm, tasks, summary.seeds)

    tasks = [t for t in summary.tasks if known(reg, [t])[1] and known(REFERENCE, [t])[1]]
    (mine, ours), (none, theirs) = known(reg, tasks), known(REFERENCE, tasks)
    both = [seed for seed in ours if seed in theirs]
    return Pair(
        arm=mine[[ours.index(seed) for seed in both]],
        none=none[[theirs.index(seed) for seed in both]],
    )


def aggregates(summary: Summary) -> Table:
    """The aggregates of rliable for S and P, each with its interval (Agarwal et al., 2021).

    The effect size is that of the paired differences to ``none`` (`effect_size`); the probability
    of improvement compares all pairs of runs, and needs no pairing.
    """
    head = [
        "arm",
        "score",
        "median",
        "IQM",
        "mean",
        "optimality gap",
        "P(better than none)",
        "effect size",
    ]
    rows: list[list[Cell]] = []
    for name in ("S", "P"):
        for arm in summary.arms:
            score = arm.plasticity if name == "S" else arm.performance
            if score is None:
                continue
            reference = "reference" if arm.reg == REFERENCE else NO_PAIR
            better, gains = score.improvement, score.differences
            rows.append(
                [
                    arm.reg,
                    name,
                    _shown(score.median, fewer(score.seeds, summary.seeds)),
                    *map(_shown, (score.iqm, score.mean, score.optimality_gap)),
                    reference if better is None else _shown(better),
                    reference if gains is None else _size(gains),
                ]
            )
    return Table(head=head, rows=fit_columns(rows))


def _difference(pair: Pair) -> list[Cell]:
    """Means of both sides and their difference; of the sides no interval, as seeds are shared."""
    if not pair.arm.size:
        return [NO_PAIR] * 3
    sides = [estimate(side, "mean", SEED) for side in (pair.none, pair.arm)]
    gain = estimate(pair.arm, "mean", SEED, minus=pair.none)
    return [*(Shown(value=side, bare=True) for side in sides), Shown(value=gain, signed=True)]


def _size(differences: FloatArray) -> str:
    if not differences.size:
        return NO_PAIR
    size = effect_size(differences)
    return "n/a: too few or equal seeds" if np.isnan(size) else f"{size:+.2f}"


def _shown(value: Estimate, after: str = "") -> Shown:
    return Shown(value=value, after=after)
