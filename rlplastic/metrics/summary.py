"""The scores of one agent over seeds and tasks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlplastic.aggregate import Estimate, estimate, probability_of_improvement
from rlplastic.metrics.study import REFERENCE, Study
from rlplastic.record import FloatArray
from rlplastic.significance import holm, sign_flip
from rlplastic.suite import CONTROL

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
        differences: Scores minus those of ``none``, [paired seeds x tasks].
        improvement: Probability that a run is better than one of ``none``.
        p: Sign-flip p-value of the mean difference.
        adjusted_p: The same, adjusted for the number of interventions (Holm).
    """

    matrix: FloatArray
    seeds: list[int]
    iqm: Estimate
    mean: Estimate
    median: Estimate
    optimality_gap: Estimate
    difference: Estimate | None = None
    differences: FloatArray | None = None
    improvement: Estimate | None = None
    p: float | None = None
    adjusted_p: float | None = None


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One row of the table of results.

    Attributes:
        reg: Label of the intervention.
        plasticity: S.
        performance: P.
        newborn_p: Sign-flip p-value of S = 1, where arm and newborn are exchangeable.
        collapsed: Share of runs that ended near random, or diverged.
        phase_zero: IQM of the normalised phase-0 returns.
        broken_newborns: Newborn cells that diverged.
        broken_lives: Lives that diverged.
        oracle: Whether the intervention is told when the world changes.
    """

    reg: str
    plasticity: Score | None
    performance: Score | None
    newborn_p: float | None
    collapsed: float | None
    phase_zero: Estimate | None
    broken_newborns: int
    broken_lives: int
    oracle: bool


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The scores of one agent, and what they rest on.

    Attributes:
        agent: Its name.
        arms: One entry an intervention, ``none`` first.
        tasks: Tasks in the aggregates: those of the headline with a complete seed. Where no scale
            is stated of any task there is no headline, and what needs no scale is shown of all.
        all_tasks: Tasks on which the agent was run.
        seeds: Seeds that are complete on all of `tasks`.
        planned: Seeds that were planned.
        phase_zero_tasks: Tasks in the phase-0 column.
        phase_zero_seeds: Seeds in the phase-0 column.
    """

    agent: str
    arms: list[Arm]
    tasks: list[str]
    all_tasks: list[str]
    seeds: list[int]
    planned: list[int]
    phase_zero_tasks: list[str]
    phase_zero_seeds: list[int]


def summarise(study: Study, agent: str) -> Summary:
    """Scores and differences of one agent."""
    regs = study.results.regs(agent)
    planned = study.results.seeds(agent)
    all_tasks = [t for t in study.results.tasks if study.results.of(agent=agent, task=t)]
    headline = [task for task in all_tasks if study.in_headline(task, agent)]
    if not any(study.facts(task, agent).get("scale") for task in all_tasks):
        headline = [task for task in all_tasks if study.track(task) != CONTROL]
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
        broken = [r for r in records if r.reg == reg and r.status == "diverged"]
        born = sum(record.fresh for record in broken)
        arm = Arm(
            reg=reg,
            plasticity=scores["S"].get(reg),
            newborn_p=sign_flip(scores["S"][reg].matrix - 1, _rng())
            if reg in scores["S"]
            else None,
            performance=scores["P"].get(reg),
            collapsed=float(hit.mean()) if hit.size else None,
            phase_zero=estimate(first, "iqm", SEED) if first.size else None,
            broken_newborns=born,
            broken_lives=len(broken) - born,
            oracle=any(r.oracle for r in records if r.reg == reg),
        )
        arms.append(arm)
    return Summary(
        agent=agent,
        arms=arms,
        tasks=tasks,
        all_tasks=all_tasks,
        seeds=seeds,
        planned=planned,
        phase_zero_tasks=first_tasks,
        phase_zero_seeds=first_seeds,
    )


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
    paired: dict[str, tuple[Estimate, FloatArray, Estimate, float]] = {}
    for reg, (mine, kept) in matrices.items():
        theirs, known = matrices.get(REFERENCE, (np.empty((0, 0)), []))
        both = [seed for seed in kept if seed in known]
        if reg == REFERENCE or not both:
            continue
        ours = mine[[kept.index(seed) for seed in both]]
        none = theirs[[known.index(seed) for seed in both]]
        paired[reg] = (
            estimate(ours, "iqm", SEED, minus=none),
            ours - none,
            probability_of_improvement(ours, none, SEED),
            sign_flip(ours - none, _rng()),
        )
    adjusted = dict(zip(paired, holm([p for *_, p in paired.values()]), strict=True))
    found = {}
    for reg, (matrix, kept) in matrices.items():
        if not kept:
            continue
        difference, differences, improvement, p = paired.get(reg, (None, None, None, None))
        found[reg] = Score(
            matrix=matrix,
            seeds=kept,
            iqm=estimate(matrix, "iqm", SEED),
            mean=estimate(matrix, "mean", SEED),
            median=estimate(matrix, "median", SEED),
            optimality_gap=estimate(matrix, "optimality_gap", SEED),
            difference=difference,
            differences=differences,
            improvement=improvement,
            p=p,
            adjusted_p=adjusted.get(reg),
        )
    return found
