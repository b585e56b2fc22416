"""Intervention x shift type: does an intervention help against one kind of change and not another?

An intervention that raises S on one track, and does not clearly on another, need not act
differently on the two: the difference between "significant" and "not significant" is itself often
not significant (Gelman & Stern, 2006). So the effects on two tracks are subtracted, and the
difference of the differences has an interval and a test of its own::

    effect(a, track)      = IQM of the scores of a - IQM of those of none    seeds are paired
    contrast(a, one, two) = effect(a, one) - effect(a, two)                  tasks are independent
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from rlplastic.aggregate import Estimate, contrast, estimate
from rlplastic.metrics.digits import Cell, Shown, fit_columns
from rlplastic.metrics.study import REFERENCE, Study
from rlplastic.metrics.summary import SEED, Summary
from rlplastic.metrics.tables import Table, fewer
from rlplastic.record import FloatArray
from rlplastic.significance import holm, sign_flip
from rlplastic.suite import CONTROL


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Scores of an arm and of ``none`` on the tasks of one track and the seeds of both.

    Attributes:
        arm: Scores [seeds x tasks].
        none: Those of ``none``.
        seeds: Seeds of their rows.
        complete: Seeds of which every arm has ended on these tasks.
    """

    arm: FloatArray
    none: FloatArray
    seeds: list[int]
    complete: list[int]

    @property
    def effect(self) -> Estimate:
        """IQM of the arm minus that of ``none``, with its interval."""
        return estimate(self.arm, "iqm", SEED, minus=self.none)


def effects(study: Study, summary: Summary) -> Table:
    """S and P of each arm minus those of ``none``, track by track."""
    tracks = _tracks(study, summary)
    head = ["arm", "score", *tracks]
    rows: list[list[Cell]] = []
    for reg, score in _questions(summary):
        pairs = [_pair(study, summary, score, reg, tasks) for tasks in tracks.values()]
        shown = [
            Shown(value=p.effect, signed=True, after=fewer(p.seeds, p.complete))
            if p.seeds
            else "n/a: no paired seed"
            for p in pairs
        ]
        rows.append([reg, score, *shown])
    return Table(head=head, rows=fit_columns(rows))


def contrasts(study: Study, summary: Summary) -> Table:
    """How much more an arm helps on one track than on another, for each pair of tracks.

    p is that of the sign-flip test on each seed's difference of differences; in parentheses,
    adjusted for all rows of the same score (Holm).
    """
    tracks = {name: t for name, t in _tracks(study, summary).items() if name != CONTROL}
    rows: list[list[Cell]] = []
    values: dict[str, list[float]] = {"S": [], "P": []}
    for reg, score in _questions(summary):
        pairs = {t: _pair(study, summary, score, reg, tasks) for t, tasks in tracks.items()}
        for one, two in itertools.combinations(pairs, 2):
            shown, p = _contrast(pairs[one], pairs[two])
            rows.append([reg, score, f"{one} - {two}", shown])
            values[score].append(p)
    adjusted = {score: iter(zip(p, holm(p), strict=True)) for score, p in values.items()}
    for row in rows:
        p, corrected = next(adjusted[str(row[1])])
        several = f" ({corrected:.3f})" if corrected != p else ""
        row.append("n/a: one seed or none" if np.isnan(p) else f"{p:.3f}{several}")
    head = ["arm", "score", "tracks", "difference of the differences", "p"]
    return Table(head=head, rows=fit_columns(rows))


def _contrast(one: Pair, two: Pair) -> tuple[Cell, float]:
    """The difference of two effects, and its p-value; NaN where seeds do not allow one."""
    if not (one.seeds and two.seeds):
        return "n/a: no paired seed on both tracks", float("nan")
    value = contrast((one.arm, one.none), (two.arm, two.none), "iqm", SEED)
    both = [seed for seed in one.seeds if seed in two.seeds]
    if len(both) < 2:
        return Shown(value=value, signed=True), float("nan")
    gains = [
        (pair.arm - pair.none)[[pair.seeds.index(seed) for seed in both]].mean(axis=1)
        for pair in (one, two)
    ]
    flipped = sign_flip((gains[0] - gains[1])[:, None], np.random.default_rng(SEED))
    return Shown(value=value, signed=True), flipped


def _tracks(study: Study, summary: Summary) -> dict[str, list[str]]:
    """Measurable tasks of each track."""
    found: dict[str, list[str]] = {}
    for task in summary.all_tasks:
        if study.measurable(task, summary.agent):
            found.setdefault(study.track(task) or "no track", []).append(task)
    return found


def _questions(summary: Summary) -> list[tuple[str, str]]:
    regs = [arm.reg for arm in summary.arms if arm.reg != REFERENCE]
    return list(itertools.product(regs, ("S", "P")))


def _pair(study: Study, summary: Summary, score: str, reg: str, tasks: list[str]) -> Pair:
    ended = [study.complete(task, summary.agent) for task in tasks]
    seeds = [seed for seed in summary.planned if all(seed in kept for kept in ended)]
    mine, ours = study.matrix(score, summary.agent, reg, tasks, seeds)
    none, theirs = study.matrix(score, summary.agent, REFERENCE, tasks, seeds)
    both = [seed for seed in ours if seed in theirs]
    return Pair(
        arm=mine[[ours.index(seed) for seed in both]],
        none=none[[theirs.index(seed) for seed in both]],
        seeds=both,
        complete=seeds,
    )
