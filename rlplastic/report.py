"""The report of a results folder: report.html, report.md, results.csv and TensorBoard's files.

A view of records and nothing more: the same folder gives the same bytes, on any day and machine
with the same packages. The HTML is one file without script, network or outside style, so it can be
mailed; all text from the folder is escaped.
"""

from __future__ import annotations

import csv
import io
import json
import re
import signal
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import jinja2

from rlplastic import canvas, export, plots, pool, store, tensorboard
from rlplastic.metrics import (
    against,
    interaction,
    inventory,
    lives,
    panels,
    parquet,
    predict,
    tables,
    tidy,
)
from rlplastic.metrics.digits import Cell, Shown, fit_columns
from rlplastic.metrics.study import REFERENCE, Study
from rlplastic.metrics.summary import Arm, Score, Summary, summarise
from rlplastic.metrics.verdict import judge
from rlplastic.reading import read

TEMPLATES = Path(__file__).parent / "templates"
FIGURES = ("intervals", "curves", "efficiency", "lives", "profiles", "kept", "distributions")
MANY = 30  # figures that are worth other processes
Drawn = tuple[str, dict[str, bytes]]  # as `canvas.drawn` returns it


def write_report(
    folder: Path,
    figures: Path | None = None,
    tables_to: Path | None = None,
    parquet_to: Path | None = None,
) -> Path:
    """Write report.html, report.md, results.csv and tensorboard/ into a results folder.

    Much is shared with processes of its own, so that a script calls it where it is run and not
    imported: below ``if __name__ == "__main__":``.

    Args:
        folder: A folder with a plan.json; its cells may be unfinished.
        figures: Another folder, where each figure is written as SVG, PDF and PNG.
        tables_to: Another folder, where each table is written as CSV, Markdown and LaTeX.
        parquet_to: A file for the rows of results.csv as Parquet; needs pyarrow.

    Returns:
        The path of report.html.

    Raises:
        UsageError: The folder has no plan, two configurations meet in it, or pyarrow is missing.
    """
    with _helpers() as helpers:
        study = Study(read(folder, helpers))
        if parquet_to is not None:
            store.write_bytes(parquet_to, parquet.to_parquet(tidy.rows(study)))
        context = _context(study, helpers, printed=figures is not None)
        store.write_text(folder / "results.csv", _csv(tidy.rows(study)))
        summaries = [agent["summary"] for agent in context["agents"]]
        store.write_events(folder / "tensorboard", tensorboard.event_files(study, summaries))
        printed = _finish(context)
    store.write_text(folder / "report.md", _template("report.md", escape=False).render(context))
    html = _template("report.html", escape=True).render(context)
    if figures is not None:
        for name, svg in _figures(context).items():
            store.write_text(figures / f"{name}.svg", svg)
        for name, content in printed.items():
            store.write_bytes(figures / name, content)
    if tables_to is not None:
        for name, text in _tables(context).items():
            store.write_text(tables_to / name, text)
    return store.write_text(folder / "report.html", html)


def _context(study: Study, helpers: Executor, *, printed: bool) -> dict[str, Any]:
    plan = study.results.plan
    headers = [record.header for record in study.records.values() if record.header]
    looks = _looks(study)
    return {
        "name": str(plan.get("name", study.results.folder.name)),
        "plan": plan,
        "protocol": study.protocol,
        "num_phases": study.num_phases,
        "agents": [_agent(study, agent, looks, helpers, printed) for agent in study.results.agents],
        "definitions": tables.definitions(study),
        "provenance": _provenance(headers),
    }


def _looks(study: Study) -> dict[str, plots.Style]:
    """One style an intervention, whichever agents it was run with."""
    learners = study.results.learners
    oracles = {record.reg for record in learners if record.oracle}
    return plots.styles(sorted({record.reg for record in learners}), sorted(oracles))


def _agent(
    study: Study, agent: str, looks: dict[str, plots.Style], helpers: Executor, printed: bool
) -> dict[str, Any]:
    """Everything that the templates show of one agent; its figures are still being drawn."""
    summary = summarise(study, agent)
    figures = _begin(_drawings(study, summary, looks), helpers, printed)
    return figures | {
        "summary": summary,
        "verdict": judge(study, summary),
        "period": study.protocol.get("period", {}).get(agent),
        "oracles": [arm.reg for arm in summary.arms if arm.oracle],
        "colors": {reg: style.color.lstrip("#") for reg, style in looks.items()},
        "published": tables.published(study, summary),
        "scores": _scores(summary),
        "phase_zero": _phase_zero(summary),
        "plasticity_by_track": tables.by_track(study, summary, "S"),
        "performance_by_track": tables.by_track(study, summary, "P"),
        "plasticity_by_task": tables.by_task(study, summary, "S"),
        "performance_by_task": tables.by_task(study, summary, "P"),
        "effects": interaction.effects(study, summary),
        "contrasts": interaction.contrasts(study, summary),
        "recovery": tables.recovery(study, summary),
        "against_none": against.against_none(study, summary),
        "evaluations": against.evaluations_against_none(study, summary),
        "aggregates": against.aggregates(summary),
        "secondary": tables.secondary(study, summary),
        "probes": tables.probes(study, summary),
        "predictors": predict.predictors(study, summary),
        "cost": tables.cost(study, summary),
        "tasks": inventory.tasks(study, summary),
        "completeness": inventory.completeness(study, summary),
        "incidents": inventory.incidents(study, summary),
    }


# -- figures -----------------------------------------------------------------------------------


@contextmanager
def _helpers() -> Iterator[Executor]:
    """Processes that read and draw where there is much to do; they begin when they are needed."""
    helpers = ProcessPoolExecutor(
        pool.usable_cores(),
        get_context("spawn"),
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),  # whoever interrupts means this process
    )
    try:
        yield helpers
    finally:
        helpers.shutdown(cancel_futures=True)


def _drawings(
    study: Study, summary: Summary, looks: dict[str, plots.Style]
) -> dict[str, panels.Figures]:
    """The figures of one agent, by the place in the report that they have."""
    return {
        "intervals": panels.intervals(summary, looks),
        "curves": panels.panels(study, summary, looks, panels.recovery_panel),
        "efficiency": lives.efficiency(study, summary, looks),
        "lives": lives.lives(study, summary, looks),
        "profiles": panels.panels(study, summary, looks, panels.phase_panel),
        "kept": panels.panels(study, summary, looks, panels.kept_panel),
        "distributions": panels.distributions(study, summary, looks),
    }


def _begin(
    kinds: dict[str, panels.Figures], helpers: Executor, printed: bool
) -> dict[str, dict[str, Future[Drawn]]]:
    """Have figures drawn, elsewhere where there are many, which `_finish` waits for."""
    many = sum(map(len, kinds.values())) >= MANY

    def begin(drawing: canvas.Drawing) -> Future[Drawn]:
        if many:
            return helpers.submit(canvas.drawn, drawing, printed=printed)
        done: Future[Drawn] = Future()
        done.set_result(canvas.drawn(drawing, printed=printed))
        return done

    return {
        kind: {name: begin(drawing) for name, drawing in figures.items()}
        for kind, figures in kinds.items()
    }


def _finish(context: dict[str, Any]) -> dict[str, bytes]:
    """Put every figure in the place where it was begun; returns what is printed of them."""
    printed: dict[str, bytes] = {}
    for agent in context["agents"]:
        for kind in FIGURES:
            drawn = {name: figure.result() for name, figure in agent[kind].items()}
            agent[kind] = {name: svg for name, (svg, _) in drawn.items()}
            for _, files in drawn.values():
                printed |= files
    return printed


def _figures(context: dict[str, Any]) -> dict[str, str]:
    """Every figure as a file that needs no page: with the palette and a ground of its own."""
    palette = (TEMPLATES / "palette.css").read_text(encoding="utf-8")
    own = "svg { color: var(--ink); background: var(--paper); font-family: sans-serif; }"
    style = f"<style>\n{palette}{own}\n</style>"
    return {
        name: re.sub(r"(<svg[^>]*>)", rf"\1{style}", svg, count=1) + "\n"
        for agent in context["agents"]
        for kind in FIGURES
        for name, svg in agent[kind].items()
    }


def _tables(context: dict[str, Any]) -> dict[str, str]:
    """Every table that has rows in every format, by the name of its file."""
    return {
        f"{panels.identifier(agent['summary'].agent)}-{name.replace('_', '-')}.{ending}": write(
            table
        )
        for agent in context["agents"]
        for name, table in agent.items()
        if isinstance(table, tables.Table) and table.rows
        for ending, write in export.FORMATS.items()
    }


# -- tables ------------------------------------------------------------------------------------


def _scores(summary: Summary) -> tables.Table:
    names = {"S": "plasticity", "P": "performance"}
    head = ["arm"]
    for name in names:
        head += [f"{name}, IQM", f"{name} against none", f"p of {name}", f"{name}, mean"]
    rows: list[list[Cell]] = []
    for arm in summary.arms:
        row: list[Cell] = [arm.reg + (" (oracle)" if arm.oracle else "")]
        for name in names.values():
            score: Score | None = getattr(arm, name)
            row += [
                _score(arm, score, len(summary.seeds)),
                _difference(arm, score),
                _p_value(score),
                "n/a" if score is None else Shown(value=score.mean, bare=True),
            ]
        rows.append([*row, "n/a" if arm.collapsed is None else f"{arm.collapsed:.0%}"])
    return tables.Table(head=[*head, "collapsed"], rows=fit_columns(rows))


def _score(arm: Arm, score: Score | None, complete: int) -> Cell:
    if score is not None:
        kept = len(score.seeds)
        few = (kept < complete) * f", {kept} of {complete} seeds"
        return Shown(value=score.iqm, after=few)
    if arm.broken_newborns:
        return "n/a: newborns diverged"
    return "n/a: not defined on these records" if complete else "n/a: no complete seed"


def _difference(arm: Arm, score: Score | None) -> Cell:
    if score is not None and score.difference is not None:
        return Shown(value=score.difference, signed=True)
    return "reference" if arm.reg == REFERENCE else "n/a: no paired seed"


def _p_value(score: Score | None) -> str:
    if score is None or score.p is None or score.adjusted_p is None:
        return "n/a"
    if score.differences is not None and len(score.differences) < 2:
        return "n/a: one seed"
    several = score.adjusted_p != score.p
    return f"{score.p:.3f}" + several * f" ({score.adjusted_p:.3f})"


def _phase_zero(summary: Summary) -> tables.Table:
    rows: list[list[Cell]] = [
        [
            arm.reg,
            "n/a: no closed phase 0, or no stated scale of it"
            if arm.phase_zero is None
            else Shown(value=arm.phase_zero),
        ]
        for arm in summary.arms
    ]
    head = ["arm", "Phase-0 return, IQM [95 % interval]"]
    return tables.Table(head=head, rows=fit_columns(rows))


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


def _csv(rows: Iterable[tidy.Row]) -> str:
    """Comma-separated text that no spreadsheet runs: names that look like formulas are quoted."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(tidy.Row._fields)
    safe = cache(export.quoted)  # there are as many rows as probes were taken, and few names
    for task, agent, arm, seed, phase, step, metric, value, status in rows:
        names = safe(task), safe(agent), safe(arm)
        writer.writerow((*names, seed, phase, step, safe(metric), value, safe(status)))
    return buffer.getvalue()


def _template(name: str, *, escape: bool) -> jinja2.Template:
    loader = jinja2.FileSystemLoader(TEMPLATES)
    environment = jinja2.Environment(
        loader=loader,
        autoescape=escape,  # noqa: S701 (Markdown cells pass through `markdown` instead)
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["md"] = export.markdown
    environment.filters["json"] = lambda value: json.dumps(value, sort_keys=True)
    return environment.get_template(name)
