"""Which records make which figure of a report. Each function returns figures by name.

A figure is a call that draws it, so that another process can: `rlplastic.canvas.Drawing`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial

import numpy as np

from rlplastic import plots
from rlplastic.aggregate import performance_profile, share_band
from rlplastic.canvas import Drawing
from rlplastic.metrics.curve import Curve
from rlplastic.metrics.evaluated import kept
from rlplastic.metrics.recovery import Times, kaplan_meier, recovery_times
from rlplastic.metrics.study import NEWBORN, REFERENCE, Study
from rlplastic.metrics.summary import SEED, Summary
from rlplastic.record import FloatArray

POINTS = 100  # of an aligned curve, at most
Looks = dict[str, plots.Style]
Figures = dict[str, Drawing]  # by name, which is unique in a report and could name a file
Draw = Callable[[Study, Summary, str, Looks, str], Drawing | None]


def intervals(summary: Summary, looks: Looks) -> Figures:
    """S and P of each arm, and their differences to ``none``."""
    scores = {
        "S": {arm.reg: arm.plasticity for arm in summary.arms if arm.plasticity},
        "P": {arm.reg: arm.performance for arm in summary.arms if arm.performance},
    }
    prefix = identifier(summary.agent)
    found: Figures = {}
    for name, x_label, at in (("S", "plasticity S, IQM", 1.0), ("P", "performance P, IQM", 0.0)):
        rows = {reg: (score.iqm, looks[reg]) for reg, score in scores[name].items()}
        if rows:
            title, key = f"{name} of each arm", f"{prefix}-{name}"
            found[key] = partial(plots.intervals, key, title, rows, x_label=x_label, at=at)
    for name, x_label in (("S", "S − S of none, IQM"), ("P", "P − P of none, IQM")):  # noqa: RUF001
        gains = {
            reg: (score.difference, looks[reg])
            for reg, score in scores[name].items()
            if score.difference is not None
        }
        if gains:
            title, key = f"{name} against none, paired", f"{prefix}-{name}-gain"
            found[key] = partial(plots.intervals, key, title, gains, x_label=x_label, at=0.0)
    return found


def panels(study: Study, summary: Summary, looks: Looks, draw: Draw) -> Figures:
    """One panel for each task and intervention, with ``none`` beside it."""
    others = [arm.reg for arm in summary.arms if arm.reg != REFERENCE] or [REFERENCE]
    kind = draw.__name__.removesuffix("_panel")
    found: Figures = {}
    run = {(r.slot[0], r.reg) for r in study.results.of(agent=summary.agent)}
    for number, (task, reg) in enumerate(itertools.product(summary.all_tasks, others)):
        if (task, reg) not in run:
            continue
        regs = [arm.reg for arm in summary.arms if arm.reg in (REFERENCE, reg)]
        name = identifier(f"{summary.agent}-{kind}-{task}-{reg}-{number}")
        drawing = draw(study, summary, task, {one: looks[one] for one in regs}, name)
        if drawing:
            found[name] = drawing
    return found


def recovery_panel(
    study: Study, summary: Summary, task: str, looks: Looks, name: str
) -> Drawing | None:
    """Returns over the steps since the shift: mean over shifts, then over seeds.

    Where phases differ in length, over the longer half of each seed's, as far as these all go.
    """
    cases = _together(study, summary, task, looks)
    if not cases:
        return None
    steps = [[c.steps for c in case[next(iter(case))]] for case in cases]
    shortest = min(float(np.median(lengths)) for lengths in steps)
    cases = [
        {arm: [c for c in curves if c.steps >= shortest] for arm, curves in case.items()}
        for case in cases
    ]
    bins = max(len(c.values) for case in cases for curves in case.values() for c in curves)
    points = min(POINTS, bins)
    x = (np.arange(points) + 0.5) * shortest / points
    series = []
    for arm in cases[0]:
        rows = [np.mean([[c.at(t) for t in x] for c in case[arm]], axis=0) for case in cases]
        series.append(_series(arm, looks, x, np.array(rows)))
    chance = [
        study.random_level(task, seed, curve.world).value
        for seed in summary.planned
        for curve in study.curves(task, summary.agent, next(iter(looks)), seed)[1:]
        if curve is not None
    ]
    known = [level for level in chance if np.isfinite(level)]
    return partial(
        plots.lines,
        name,
        _title(task, looks),
        series,
        x_label="steps since the shift",
        y_label="return",
        random=float(np.mean(known)) if known else None,
    )


def phase_panel(
    study: Study, summary: Summary, task: str, looks: Looks, name: str
) -> Drawing | None:
    """Level of each phase, over the phases."""
    series = []
    for reg in looks:
        for arm in (reg, reg + NEWBORN):
            rows = []
            for seed in summary.planned:
                curves = study.case(task, summary.agent, arm, seed).life
                levels = [np.nan if c is None else c.level for c in curves]
                rows.append(levels[1:] if arm != reg else levels)
            values = np.array([row for row in rows if np.isfinite(row).all()])
            if values.size:
                x = np.arange(study.num_phases, dtype=np.float64)[-values.shape[1] :]
                series.append(_series(arm, looks, x, values))
    if not series:
        return None
    title = _title(task, looks)
    return partial(
        plots.lines,
        name,
        title,
        series,
        x_label="phase",
        y_label="return, mean of the phase",
        marked=True,
    )


def kept_panel(
    study: Study, summary: Summary, task: str, looks: Looks, name: str
) -> Drawing | None:
    """What evaluations say of a world over the phases since it was left."""
    series = []
    for reg in looks:
        rows = [kept(study.case(task, summary.agent, reg, seed)) for seed in summary.planned]
        values = np.array([row for row in rows if np.isfinite(row[:2]).all()])
        if values.size:
            values = values[:, np.isfinite(values).all(axis=0)]
            x = np.arange(values.shape[1], dtype=np.float64)
            series.append(_series(reg, looks, x, values))
    if not series:
        return None
    return partial(
        plots.lines,
        name,
        _title(task, looks),
        series,
        x_label="phases since the world was left",
        y_label="change of its return, in C",
        marked=True,
    )


def distributions(study: Study, summary: Summary, looks: Looks) -> Figures:
    """Recovered shifts over time (Kaplan-Meier), and the performance profiles of S and P."""
    prefix = identifier(summary.agent)
    recovered: dict[str, tuple[FloatArray, FloatArray, FloatArray, FloatArray, plots.Style]] = {}
    found: Figures = {}
    for arm in summary.arms:
        times = [
            [
                recovery_times(study.case(task, summary.agent, arm.reg, seed), 0.80)
                for task in summary.tasks
            ]
            for seed in summary.seeds
        ]
        curve = survival(times)
        if curve is not None:
            recovered[arm.reg] = (*curve, looks[arm.reg])
    if recovered:
        key = f"{prefix}-recovered"
        found[key] = partial(
            plots.steps,
            key,
            "Recovered to 80 %",
            recovered,
            x_label="share of the phase",
            y_label="share of shifts",
        )
    for name in ("S", "P"):
        scores = {a.reg: a.plasticity if name == "S" else a.performance for a in summary.arms}
        known = {reg: score for reg, score in scores.items() if score is not None}
        if not known:
            continue
        every = np.concatenate([score.matrix.ravel() for score in known.values()])
        x = np.linspace(min(0.0, every.min()), max(1.0, every.max()) * 1.02, 201)
        profiles = {
            reg: (x, *performance_profile(s.matrix, x, SEED), looks[reg])
            for reg, s in known.items()
        }
        title, key = f"Performance profile of {name}", f"{prefix}-profile-{name}"
        found[key] = partial(
            plots.steps, key, title, profiles, x_label=name, y_label="share of runs above"
        )
    return found


def survival(
    times: list[list[Times]],
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray] | None:
    """Share of shifts recovered from (1 - Kaplan-Meier) with a band over seeds.

    Times are censored at the end of the phase and nowhere else, so that the Kaplan-Meier estimate
    is the share of all shifts that have recovered by then: this is what each resample computes.

    Args:
        times: One entry for each [seed][task].

    Returns:
        Times from 0 to 1, the shares, and both ends of their 95 % intervals; None without a time.
    """
    every = [one for row in times for one in row]
    if not every:
        return None
    x, alive = kaplan_meier(
        np.concatenate([t.time for t in every]), np.concatenate([t.recovered for t in every])
    )
    if not x.size:
        return None
    x, share = np.array([0.0, *x, 1.0]), 1 - np.array([1.0, *alive, alive[-1]])
    share[0] = share[1] if x[1] == 0 else 0.0
    hits = [[(t.recovered[:, None] & (t.time[:, None] <= x)).sum(axis=0) for t in r] for r in times]
    known = [[np.isfinite(t.time).sum() for t in row] for row in times]
    low, high = share_band(
        np.array(hits, dtype=np.float64),
        np.array(known, dtype=np.float64),
        SEED,
    )
    return x, share, low, high


def _together(
    study: Study, summary: Summary, task: str, looks: Looks
) -> list[dict[str, list[Curve]]]:
    """Per seed, the curves of each arm in the shifts that all arms of the panel have closed."""
    arms = [arm for reg in looks for arm in (reg, reg + NEWBORN)]
    lives = {
        (arm, seed): study.case(task, summary.agent, arm, seed).life[1:]
        for arm in arms
        for seed in summary.planned
    }
    arms = [arm for arm in arms if any(any(lives[arm, seed]) for seed in summary.planned)]
    found = []
    for seed in summary.planned:
        shifts = range(max(0, study.num_phases - 1))
        shared = [k for k in shifts if all(lives[arm, seed][k] is not None for arm in arms)]
        if arms and shared:
            case = {arm: [c for k in shared if (c := lives[arm, seed][k])] for arm in arms}
            found.append(case)
    return found


def _series(arm: str, looks: Looks, x: FloatArray, values: FloatArray) -> plots.Series:
    reg = arm.removesuffix(NEWBORN)
    return plots.Series(label=arm, style=looks[reg], x=x, values=values, newborn=arm != reg)


def _title(task: str, looks: Looks) -> str:
    other = [reg for reg in looks if reg != REFERENCE]
    return f"{task} · {other[0]}" if other else task


def identifier(name: str) -> str:
    """A name that can be an id inside the page, and a file's."""
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in name)
