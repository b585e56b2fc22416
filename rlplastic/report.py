"""The report of a results folder: report.html, report.md and results.csv.

A view of records and nothing more: the same folder gives the same bytes, on any day and machine
with the same packages. The HTML is one file without script, network or outside style, so it can be
mailed; all text from the folder is escaped.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from rlplastic import plots, store
from rlplastic.aggregate import Estimate, performance_profile
from rlplastic.metrics import tables
from rlplastic.metrics.curve import Curve
from rlplastic.metrics.recovery import kaplan_meier, recovery_times
from rlplastic.metrics.study import NEWBORN, REFERENCE, Study
from rlplastic.metrics.summary import SEED, Arm, Score, Summary, show, summarise
from rlplastic.record import FloatArray, read

COLUMNS = ("task", "agent", "arm", "seed", "phase", "metric", "value", "status")
POINTS = 100  # of an aligned curve
FORMULA = ("=", "+", "-", "@", "\t", "\r")
TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A panel and the words below it."""

    svg: str
    caption: str = ""


def write_report(folder: Path) -> Path:
    """Write report.html, report.md and results.csv into a results folder.

    Args:
        folder: A folder with a plan.json; its cells may be unfinished.

    Returns:
        The path of report.html.

    Raises:
        UsageError: The folder has no plan, or two configurations meet in it.
    """
    study = Study(read(folder))
    context = _context(study)
    store.write_text(folder / "results.csv", _csv(tables.tidy(study)))
    store.write_text(folder / "report.md", _template("report.md", escape=False).render(context))
    html = _template("report.html", escape=True).render(context)
    return store.write_text(folder / "report.html", html)


def _context(study: Study) -> dict[str, Any]:
    plan = study.results.plan
    headers = [record.header for record in study.records.values() if record.header]
    return {
        "name": str(plan.get("name", study.results.folder.name)),
        "plan": plan,
        "protocol": study.protocol,
        "num_phases": study.num_phases,
        "agents": [_agent(study, agent) for agent in study.results.agents],
        "definitions": tables.definitions(study),
        "provenance": _provenance(headers),
    }


def _agent(study: Study, agent: str) -> dict[str, Any]:
    """Everything that the templates show of one agent."""
    summary = summarise(study, agent)
    oracles = [arm.reg for arm in summary.arms if arm.oracle]
    looks = plots.styles([arm.reg for arm in summary.arms], oracles)
    return {
        "summary": summary,
        "period": study.protocol.get("period", {}).get(agent),
        "colors": {reg: style.color.lstrip("#") for reg, style in looks.items()},
        "scores": _scores(summary),
        "phase_zero": _phase_zero(summary),
        "intervals": _intervals(summary, looks),
        "curves": _panels(study, summary, looks, _recovery_panel),
        "profiles": _panels(study, summary, looks, _phase_panel),
        "distributions": _distributions(study, summary, looks),
        "plasticity_by_task": tables.by_task(study, summary, "S"),
        "performance_by_task": tables.by_task(study, summary, "P"),
        "recovery": tables.recovery(study, summary),
        "secondary": tables.secondary(study, summary),
        "probes": tables.probes(study, summary),
        "cost": tables.cost(study, summary),
        "tasks": tables.tasks(study, summary),
        "completeness": tables.completeness(study, summary),
        "incidents": tables.incidents(study, summary),
    }


# -- tables ------------------------------------------------------------------------------------


def _scores(summary: Summary) -> tables.Table:
    head = ["arm", "S, IQM", "P, IQM", "S, mean", "P, mean", "collapsed"]
    head += ["S − none", "P − none", "p (S)", "p (P)"]
    rows = [
        [
            arm.reg + (" (oracle)" if arm.oracle else ""),
            *[_score(arm, score, "iqm") for score in (arm.plasticity, arm.performance)],
            *[_score(arm, score, "mean") for score in (arm.plasticity, arm.performance)],
            "n/a: no complete seed" if arm.collapsed is None else f"{arm.collapsed:.0%}",
            *[_difference(arm, score) for score in (arm.plasticity, arm.performance)],
            *[_p_value(score) for score in (arm.plasticity, arm.performance)],
        ]
        for arm in summary.arms
    ]
    return tables.Table(head=head, rows=rows)


def _score(arm: Arm, score: Score | None, aggregate: str) -> str:
    if score is not None:
        value: Estimate = getattr(score, aggregate)
        return show(value)
    return "n/a: newborns diverged" if arm.broken_newborns else "n/a: no complete seed"


def _difference(arm: Arm, score: Score | None) -> str:
    if score is not None and score.difference is not None:
        return show(score.difference, signed=True)
    return "reference" if arm.reg == REFERENCE else "n/a: no paired seed"


def _p_value(score: Score | None) -> str:
    return f"{score.p:.3f}" if score is not None and score.p is not None else "–"


def _phase_zero(summary: Summary) -> tables.Table:
    rows = [
        [arm.reg, "n/a: no closed phase 0" if arm.phase_zero is None else show(arm.phase_zero)]
        for arm in summary.arms
    ]
    return tables.Table(head=["arm", "Phase-0 return, IQM [95 % interval]"], rows=rows)


# -- figures -----------------------------------------------------------------------------------


def _intervals(summary: Summary, looks: dict[str, plots.Style]) -> list[Figure]:
    found = []
    for name, x_label, at in (("S", "plasticity S, IQM", 1.0), ("P", "performance P, IQM", 0.0)):
        scores = {a.reg: a.plasticity if name == "S" else a.performance for a in summary.arms}
        rows = {reg: (s.iqm, looks[reg]) for reg, s in scores.items() if s is not None}
        gains = {
            reg: (s.difference, looks[reg])
            for reg, s in scores.items()
            if s is not None and s.difference is not None
        }
        prefix = f"{_identifier(summary.agent)}-{name}"
        if rows:
            svg = plots.intervals(f"{prefix}-iqm", name, rows, x_label=x_label, at=at)
            found.append(Figure(svg=svg))
        if gains:
            title = f"{name}, difference to none"
            svg = plots.intervals(f"{prefix}-gain", title, gains, x_label="paired, IQM", at=0.0)
            found.append(Figure(svg=svg))
    return found


def _panels(study: Study, summary: Summary, looks: dict[str, plots.Style], draw: Any) -> list[Figure]:
    """One panel for each task and intervention, with ``none`` beside it."""
    others = [arm.reg for arm in summary.arms if arm.reg != REFERENCE] or [REFERENCE]
    found = []
    for number, (task, reg) in enumerate(itertools.product(summary.all_tasks, others)):
        regs = [arm.reg for arm in summary.arms if arm.reg in (REFERENCE, reg)]
        name = f"{_identifier(summary.agent)}-{draw.__name__.strip('_')}-{number}"
        svg = draw(study, summary, task, {one: looks[one] for one in regs}, name)
        found += [Figure(svg=svg)] if svg else []
    return found


def _recovery_panel(
    study: Study, summary: Summary, task: str, looks: dict[str, plots.Style], name: str
) -> str:
    """Returns over the steps since the shift: mean over shifts, then over seeds."""
    cases = _together(study, summary, task, looks)
    if not cases:
        return ""
    shortest = min(c.steps for case in cases for curves in case.values() for c in curves)
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
    return plots.lines(
        name,
        _title(task, looks),
        series,
        x_label="steps since the shift",
        y_label="return",
        random=float(np.mean(known)) if known else None,
    )


def _phase_panel(
    study: Study, summary: Summary, task: str, looks: dict[str, plots.Style], name: str
) -> str:
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
        return ""
    title = _title(task, looks)
    return plots.lines(
        name, title, series, x_label="phase", y_label="return, mean of the phase", marked=True
    )


def _distributions(study: Study, summary: Summary, looks: dict[str, plots.Style]) -> list[Figure]:
    """Recovered shifts over time (Kaplan-Meier), and the performance profiles of S and P."""
    prefix = _identifier(summary.agent)
    recovered, found = {}, []
    for arm in summary.arms:
        cells = itertools.product(summary.tasks, summary.seeds)
        cases = [study.case(task, summary.agent, arm.reg, seed) for task, seed in cells]
        times = [recovery_times(case, 0.80) for case in cases]
        if not times:
            continue
        x, alive = kaplan_meier(
            np.concatenate([t.time for t in times]), np.concatenate([t.recovered for t in times])
        )
        if x.size:
            ends = (np.array([0.0, *x, 1.0]), 1 - np.array([1.0, *alive, alive[-1]]))
            recovered[arm.reg] = (*ends, looks[arm.reg])
    if recovered:
        svg = plots.steps(
            f"{prefix}-recovered",
            "Recovered to 80 %",
            recovered,
            x_label="share of the phase",
            y_label="share of shifts",
        )
        found.append(Figure(svg=svg))
    for name in ("S", "P"):
        scores = {a.reg: a.plasticity if name == "S" else a.performance for a in summary.arms}
        known = {reg: score for reg, score in scores.items() if score is not None}
        if not known:
            continue
        every = np.concatenate([score.matrix.ravel() for score in known.values()])
        x = np.linspace(min(0.0, every.min()), max(1.0, every.max()) * 1.02, 201)
        profiles = {
            reg: (x, performance_profile(s.matrix, x, np.random.default_rng(SEED))[0], looks[reg])
            for reg, s in known.items()
        }
        title = f"Performance profile of {name}"
        svg = plots.steps(
            f"{prefix}-profile-{name}", title, profiles, x_label=name, y_label="share of runs above"
        )
        found.append(Figure(svg=svg))
    return found


def _together(
    study: Study, summary: Summary, task: str, looks: dict[str, plots.Style]
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


def _series(
    arm: str, looks: dict[str, plots.Style], x: FloatArray, values: FloatArray
) -> plots.Series:
    reg = arm.removesuffix(NEWBORN)
    return plots.Series(label=arm, style=looks[reg], x=x, values=values, newborn=arm != reg)


def _title(task: str, looks: dict[str, plots.Style]) -> str:
    other = [reg for reg in looks if reg != REFERENCE]
    return f"{task} · {other[0]}" if other else task


def _identifier(name: str) -> str:
    """A name that can be an id inside the page."""
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in name)


# -- files -------------------------------------------------------------------------------------


def _provenance(headers: Sequence[Any]) -> list[tuple[str, str]]:
    """What the cells say of where they come from; differing values side by side."""
    seen: dict[str, list[str]] = {}
    for header in headers:
        source = header.get("provenance", {})
        for key in ("command", "versions", "git", "machine"):
            value = source.get(key)
            items = value.items() if isinstance(value, dict) else [("", value)]
            text = ", ".join(f"{k} {v}".strip() for k, v in items if v not in (None, ""))
            if text and text not in seen.setdefault(key, []):
                seen[key].append(text)
    return [(key, " | ".join(sorted(values))) for key, values in seen.items() if values]


def _csv(rows: Iterable[Sequence[object]]) -> str:
    """Comma-separated text that no spreadsheet runs: names that look like formulas are quoted."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for *names, value, status in rows:
        safe = [f"'{n}" if str(n).startswith(FORMULA) else n for n in (*names, status)]
        writer.writerow([*safe[:-1], value, safe[-1]])
    return buffer.getvalue()


def _markdown(value: object) -> str:
    """Text that stays text inside a Markdown table."""
    text = " ".join(str(value).split())
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "&#124;")):
        text = text.replace(character, entity)
    return text.replace("`", "&#96;").replace("[", "\\[") if "](" in text else text


def _template(name: str, *, escape: bool) -> jinja2.Template:
    loader = jinja2.FileSystemLoader(TEMPLATES)
    environment = jinja2.Environment(
        loader=loader,
        autoescape=escape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["md"] = _markdown
    environment.filters["json"] = lambda value: json.dumps(value, sort_keys=True)
    return environment.get_template(name)
