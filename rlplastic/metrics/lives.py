"""Figures of whole lives, with the shifts marked: of each task in returns, of all as a score."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from rlplastic import plots
from rlplastic.aggregate import sample_efficiency
from rlplastic.metrics.curve import Curve
from rlplastic.metrics.panels import Figures, Looks, identifier
from rlplastic.metrics.study import NEWBORN, REFERENCE, Study
from rlplastic.metrics.summary import SEED, Summary
from rlplastic.record import FloatArray

MOST_POINTS, MOST_EACH = 60, 10  # of a life, and of one phase of it
RESAMPLES = 1_000  # at each of these points


def lives(study: Study, summary: Summary, looks: Looks) -> Figures:
    """Returns of each arm over the whole life, mean over seeds: one panel for each task.

    Over steps where all phases are equally long, else over phases. Seeds count that have closed
    every phase.
    """
    each = _each(study)
    found: Figures = {}
    for number, task in enumerate(summary.all_tasks):
        length = _length(study, summary, task)
        series = []
        for arm in _arms(summary):
            cases = [study.case(task, summary.agent, arm, seed) for seed in summary.planned]
            rows = [along(case.life, each) for case in cases]
            values = np.array([row for row in rows if np.isfinite(row).all()])
            if values.size:
                reg = arm.removesuffix(NEWBORN)
                x = (np.arange(values.shape[1]) + 0.5) / each * (length or 1)
                series.append(
                    plots.Series(
                        label=arm, style=looks[reg], x=x, values=values, newborn=arm != reg
                    )
                )
        if series:
            name = identifier(f"{summary.agent}-life-{task}-{number}")
            found[name] = partial(
                plots.lines,
                name,
                task,
                series,
                x_label="steps" if length else "phases",
                y_label="return",
                shifts=_shifts(study, length),
            )
    return found


def efficiency(study: Study, summary: Summary, looks: Looks) -> Figures:
    """Score over the whole life, aggregated over seeds and tasks (sample-efficiency curves).

    Agarwal et al. (2021), figure 6, of (return - random) / C, with the shifts marked. Beside the
    arms the newborns of ``none``; their phase 0 is that of ``none`` itself. All share resamples.
    """
    each = _each(study)
    bands = []
    for arm in _arms(summary):
        scores = life_scores(study, summary, arm, each)
        if not scores.size or not np.isfinite(scores).all():
            continue
        center, low, high = sample_efficiency(scores, "iqm", SEED, RESAMPLES)
        reg = arm.removesuffix(NEWBORN)
        bands.append(
            plots.Band(
                label=arm,
                style=looks[reg],
                x=(np.arange(len(center)) + 0.5) / each,
                center=center,
                low=low,
                high=high,
                newborn=arm != reg,
            )
        )
    if not bands:
        return {}
    key = f"{identifier(summary.agent)}-efficiency"
    drawing = partial(
        plots.curves,
        key,
        f"Score over the whole life, {len(summary.tasks)} of {len(summary.all_tasks)} tasks"
        if len(summary.tasks) < len(summary.all_tasks)
        else "Score over the whole life, all tasks",
        bands,
        x_label="phases",
        y_label="score, IQM",
        random=0.0,
        shifts=_shifts(study, 0),
    )
    return {key: drawing}


def life_scores(study: Study, summary: Summary, arm: str, each: int) -> FloatArray:
    """(return - random) / C of an arm, [seeds x tasks x points], so many points a phase."""

    def score(task: str, seed: int) -> FloatArray:
        case = study.case(task, summary.agent, arm, seed)
        return (along(case.life, each) - np.repeat(case.random, each)) / case.scale

    return np.array([[score(task, n) for task in summary.tasks] for n in summary.seeds])


def along(life: Sequence[Curve | None], each: int) -> FloatArray:
    """Returns at so many points of each phase; NaN where a phase has no curve."""
    steps = (np.arange(each) + 0.5) / each
    return np.array(
        [np.nan if c is None else c.at(c.steps * step) for c in life for step in steps],
        dtype=np.float64,
    )


def _each(study: Study) -> int:
    return max(1, min(MOST_EACH, MOST_POINTS // max(1, study.num_phases)))


def _arms(summary: Summary) -> list[str]:
    """Every arm, and the newborns of ``none``."""
    arms = [arm.reg for arm in summary.arms]
    return [*arms, *([REFERENCE + NEWBORN] if REFERENCE in arms else [])]


def _shifts(study: Study, length: int) -> list[float]:
    return [float(k * (length or 1)) for k in range(1, study.num_phases)]


def _length(study: Study, summary: Summary, task: str) -> int:
    """Steps of a phase, where all phases of all seeds have as many; else 0."""
    layouts = [study.layout(task, summary.agent, seed) for seed in summary.planned]
    lengths = {phase.end - phase.begin for layout in layouts for phase in layout.values()}
    return lengths.pop() if len(lengths) == 1 else 0
