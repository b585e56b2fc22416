"""What a report says of one agent: scores over seeds and tasks, and the sentence they allow.

A sentence is printed only where it could have come out otherwise: with at least six paired
complete seeds (a sign-flip test with five cannot reach p < 0.05), nothing missing, and periods
that are long enough for a newborn to learn. Otherwise the reason stands in its place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rlplastic.aggregate import (
    Estimate,
    estimate,
    holm,
    optimality_gap,
    probability_of_improvement,
    sign_flip,
)
from rlplastic.metrics.study import REFERENCE, Study
from rlplastic.record import FloatArray

SEEDS_NEEDED = 6
SIGNIFICANT = 0.05
SEED = 0  # of every resampling: the same folder gives the same bytes


@dataclass(frozen=True, kw_only=True)
class Score:
    """S or P of one arm. Differences are paired with ``none``; None where there is nothing.

    Attributes:
        matrix: Scores [seeds x tasks].
        seeds: Seeds of its rows.
        iqm: Interquartile mean.
        mean: Mean.
        median: Median over tasks.
        optimality_gap: How far it falls short of 1.
        difference: IQM minus that of ``none`` on the same seeds.
        improvement: Probability that a run is better than one of ``none``.
        p: Sign-flip p-value of the difference, adjusted for the number of arms.
    """

    matrix: FloatArray
    seeds: list[int]
    iqm: Estimate
    mean: Estimate
    median: Estimate
    optimality_gap: float
    difference: Estimate | None = None
    improvement: Estimate | None = None
    p: float | None = None


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One row of the table of results."""

    reg: str
    plasticity: Score | None
    performance: Score | None
    collapsed: float | None
    phase_zero: Estimate | None
    broken_newborns: int
    oracle: bool


@dataclass(frozen=True, kw_only=True)
class Summary:
    """All that is said of one agent.

    Attributes:
        agent: Its name.
        arms: One entry an intervention, ``none`` first.
        tasks: Tasks in the aggregates: measurable ones with a complete seed.
        all_tasks: Tasks on which the agent was run.
        seeds: Seeds that are complete on all of `tasks`.
        planned: Seeds that were planned.
        phase_zero_tasks: Tasks in the phase-0 column.
        phase_zero_seeds: Seeds in the phase-0 column.
        obstacles: Why there is no verdict; empty if there is one.
        sentence: The verdict, or the obstacles.
    """

    agent: str
    arms: list[Arm]
    tasks: list[str]
    all_tasks: list[str]
    seeds: list[int]
    planned: list[int]
    phase_zero_tasks: list[str]
    phase_zero_seeds: list[int]
    obstacles: list[str]
    sentence: str


def summarise(study: Study, agent: str) -> Summary:
    """Scores, differences and verdict of one agent."""
    regs = study.results.regs(agent)
    planned = study.results.seeds(agent)
    all_tasks = [t for t in study.results.tasks if study.results.of(agent=agent, task=t)]
    headline = [task for task in all_tasks if study.measurable(task, agent)]
    ended = {task: study.complete(task, agent) for task in headline}
    tasks = [task for task in headline if ended[task]]
    seeds = [seed for seed in planned if tasks and all(seed in ended[task] for task in tasks)]
    first_tasks, first_seeds = _phase_zero_frame(study, agent, regs, all_tasks, planned)
    scores = {name: _scores(study, name, agent, regs, tasks, seeds) for name in ("S", "P")}
    arms = []
    for reg in regs:
        hit, _ = study.matrix("collapsed", agent, reg, tasks, seeds)
        first, _ = study.matrix("phase_0", agent, reg, first_tasks, first_seeds)
        records = study.results.of(agent=agent)
        broken = [r for r in records if r.reg == reg and r.fresh and r.status == "diverged"]
        arm = Arm(
            reg=reg,
            plasticity=scores["S"].get(reg),
            performance=scores["P"].get(reg),
            collapsed=float(hit.mean()) if hit.size else None,
            phase_zero=estimate(first, "iqm", _rng()) if first.size else None,
            broken_newborns=len(broken),
            oracle=any(r.oracle for r in records if r.reg == reg),
        )
        arms.append(arm)
    obstacles = _obstacles(study, agent, headline, seeds, arms)
    return Summary(
        agent=agent,
        arms=arms,
        tasks=tasks,
        all_tasks=all_tasks,
        seeds=seeds,
        planned=planned,
        phase_zero_tasks=first_tasks,
        phase_zero_seeds=first_seeds,
        obstacles=obstacles,
        sentence="; ".join(obstacles) + "." if obstacles else _verdict(arms),
    )


def show(value: Estimate, *, signed: bool = False) -> str:
    """A number with its interval, rounded to what the interval leaves of it.

    >>> show(Estimate(point=0.87321, low=0.81, high=0.93))
    '0.87 [0.81, 0.93]'
    >>> show(Estimate(point=0.5, low=float("nan"), high=float("nan")))
    '0.50 (one seed)'
    """
    sign = "+" if signed else ""
    if np.isnan(value.low):
        return f"{value.point:{sign}.2f} (one seed)"
    digits = decimals((value.high - value.low) / 2)
    low, high = (_zero(end, digits) for end in (value.low, value.high))
    return f"{_zero(value.point, digits):{sign}.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def decimals(uncertainty: float) -> int:
    """Decimal places that an uncertainty leaves: two figures of it below 3, else one.

    >>> [decimals(u) for u in (0.06, 0.015, 4.0, 0.0)]
    [2, 3, 0, 2]
    """
    if not uncertainty > 0:
        return 2
    power = int(np.floor(np.log10(uncertainty)))
    return min(6, max(0, -power + int(uncertainty / 10.0**power < 3)))


def _zero(value: float, digits: int) -> float:
    """The value, or 0 where rounding would print -0.00."""
    return 0.0 if round(value, digits) == 0 else value


def _rng() -> np.random.Generator:
    return np.random.default_rng(SEED)


def _phase_zero_frame(
    study: Study, agent: str, regs: list[str], tasks: list[str], seeds: list[int]
) -> tuple[list[str], list[int]]:
    """Tasks and seeds on which every arm has closed its phase 0."""

    def known(task: str, seed: int) -> bool:
        values = [study.reduced("phase_0", task, agent, reg, seed) for reg in regs]
        return bool(np.isfinite(values).all())

    frame = {task: [seed for seed in seeds if known(task, seed)] for task in tasks}
    frame = {task: kept for task, kept in frame.items() if kept}
    shared = [seed for seed in seeds if frame and all(seed in kept for kept in frame.values())]
    return list(frame), shared


def _scores(
    study: Study, metric: str, agent: str, regs: list[str], tasks: list[str], seeds: list[int]
) -> dict[str, Score]:
    """S or P of each arm that has any; differences use the seeds that both arms have."""
    matrices = {reg: study.matrix(metric, agent, reg, tasks, seeds) for reg in regs}
    paired: dict[str, tuple[Estimate, Estimate, float]] = {}
    for reg, (mine, kept) in matrices.items():
        theirs, known = matrices.get(REFERENCE, (np.empty((0, 0)), []))
        both = [seed for seed in kept if seed in known]
        if reg == REFERENCE or not both:
            continue
        ours = mine[[kept.index(seed) for seed in both]]
        none = theirs[[known.index(seed) for seed in both]]
        paired[reg] = (
            estimate(ours, "iqm", _rng(), minus=none),
            probability_of_improvement(ours, none, _rng()),
            sign_flip(ours - none, _rng()),
        )
    adjusted = dict(zip(paired, holm([p for _, _, p in paired.values()]), strict=True))
    found = {}
    for reg, (matrix, kept) in matrices.items():
        if not kept:
            continue
        difference, improvement, _ = paired.get(reg, (None, None, None))
        found[reg] = Score(
            matrix=matrix,
            seeds=kept,
            iqm=estimate(matrix, "iqm", _rng()),
            mean=estimate(matrix, "mean", _rng()),
            median=estimate(matrix, "median", _rng()),
            optimality_gap=float(optimality_gap(matrix)),
            difference=difference,
            improvement=improvement,
            p=adjusted.get(reg),
        )
    return found


def _obstacles(
    study: Study, agent: str, headline: list[str], seeds: list[int], arms: list[Arm]
) -> list[str]:
    """Everything that stands against a verdict, the most basic first."""
    found = []
    cells = [r for r in study.results.of(agent=agent)]
    cells += [r for task in headline for r in study.results.of(agent="random", task=task)]
    open_cells = Counter(record.status for record in cells if not record.finished)
    if open_cells:
        parts = ", ".join(f"{n} {status}" for status, n in sorted(open_cells.items()))
        found.append(f"unfinished: of {len(cells)} cells, {parts}")
    too_short = {task: study.too_short(task, agent) for task in headline}
    reasons = [f"{task}: {why}" for task, why in too_short.items() if why]
    if study.protocol.get("too_short"):
        reasons.insert(0, str(study.protocol["too_short"]).rstrip(". "))
    if study.num_phases < 2:
        reasons.insert(0, "there is no shift")
    if reasons:
        more = f" (and {len(reasons) - 3} more)" if len(reasons) > 3 else ""
        found.append(f"too short to judge plasticity: {'; '.join(reasons[:3])}{more}")
    if not headline:
        found.append("no verdict: no task is measurable for this agent")
    elif len(seeds) < SEEDS_NEEDED:
        found.append(f"too few seeds for a verdict: {len(seeds)} complete, {SEEDS_NEEDED} needed")
    elif all(arm.plasticity is None for arm in arms):
        found.append("no verdict: there are no newborn arms to compare with")
    return found


def _verdict(arms: list[Arm]) -> str:
    by_reg = {arm.reg: arm for arm in arms}
    parts = []
    none = by_reg.pop(REFERENCE, None)
    if none is not None and none.plasticity is not None and none.performance is not None:
        scores = f"(S = {show(none.plasticity.iqm)}, P = {show(none.performance.iqm)})"
        if none.plasticity.iqm.high < 1:
            parts.append(f"none loses plasticity {scores}")
        elif none.plasticity.iqm.low > 1:
            parts.append(f"none learns faster than its newborns {scores}")
        else:
            parts.append(f"none is not told apart from its newborns {scores}")
    parts += [_comparison(arm) for arm in by_reg.values()]
    return "; ".join(parts) + "."


def _comparison(arm: Arm) -> str:
    if arm.broken_newborns:
        return f"{arm.reg} is not judged, since {arm.broken_newborns} newborn cell(s) diverged"
    scores: Mapping[str, Score | None] = {"S": arm.plasticity, "P": arm.performance}
    words = []
    for name, score in scores.items():
        if score is None or score.difference is None or len(score.seeds) < SEEDS_NEEDED:
            return f"{arm.reg} is not judged, since it has too few complete seeds"
        gain, sure = score.difference, score.p is not None and score.p < SIGNIFICANT
        verb = "does not clearly change"
        if sure and gain.low > 0:
            verb = "raises"
        elif sure and gain.high < 0:
            verb = "lowers"
        words.append(f"{verb} {name} ({show(gain, signed=True)})")
    return f"{arm.reg} {words[0]} and {words[1]} against none"
