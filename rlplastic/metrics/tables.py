"""The tables of a report below its scores, as plain text cells: one function a table.

A cell that holds no number says why: nothing in a report is NaN, blank or a silent zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rlplastic.aggregate import estimate
from rlplastic.metrics.digits import Cell, Shown, fit, fit_columns, shared
from rlplastic.metrics.study import NEWBORN, REFERENCE, Study
from rlplastic.metrics.summary import SEED, Summary
from rlplastic.record import FloatArray

SHARES = (50, 80, 95)
ELSEWHERE = {"S", "P", "collapsed", "phase_0", "gap", "gain"} | {
    f"{family}_{share}" for family in ("recovered", "recovery_time") for share in SHARES
}
RAW_UNITS = ("return", "episodes", "episodes a shift")


@dataclass(frozen=True, kw_only=True)
class Table:
    """A head and rows of text cells; the rows named in `faded` are incomplete."""

    head: list[str]
    rows: list[list[str]]
    faded: frozenset[int] = frozenset()


def recovery(study: Study, summary: Summary) -> Table:
    """Share of shifts recovered from, and restricted mean time, for 50, 80 and 95 %."""
    head = ["arm"]
    for share in SHARES:
        head += [f"recovered {share} %", f"time to {share} %"]
    arms = [arm.reg for arm in summary.arms]
    rows: list[list[Cell]] = []
    for arm in [*arms, *([REFERENCE + NEWBORN] if REFERENCE in arms else [])]:
        row: list[Cell] = [arm]
        for share in SHARES:
            row += [
                _mean(study, summary, f"recovered_{share}", arm),
                _mean(study, summary, f"recovery_time_{share}", arm),
            ]
        rows.append(row)
    return Table(head=head, rows=fit_columns(rows))


def secondary(study: Study, summary: Summary) -> Table:
    """Every other metric, those of plugins included: mean over tasks and seeds, with interval."""
    regs = [arm.reg for arm in summary.arms]
    rows = []
    for name, entry in study.metrics.items():
        if name in ELSEWHERE:
            continue
        arrow = "↑" if entry.traits.get("better") == "higher" else "↓"
        label = f"{name} {arrow} ({entry.traits.get('unit', '')})"
        if entry.traits.get("unit") in RAW_UNITS and len(summary.tasks) > 1:
            rows.append([label, *["by task in results.csv"] * len(regs)])
        else:
            rows.append(fit([label, *[_mean(study, summary, name, reg) for reg in regs]]))
    return Table(head=["metric", *regs], rows=rows)


def definitions(study: Study) -> Table:
    """What each metric is, from its docstring."""
    rows = [[name, entry.summary] for name, entry in study.metrics.items()]
    return Table(head=["metric", "definition"], rows=rows)


def published(study: Study, summary: Summary) -> Table:
    """The metric of a published protocol: mean over the seeds of each arm and of its newborns."""
    name, rows = study.published, list[list[Cell]]()
    for task in summary.all_tasks if name else ():
        seeds = study.complete(task, summary.agent)
        none, known = study.matrix(name, summary.agent, REFERENCE, [task], seeds)
        for arm in [reg + born for reg in (a.reg for a in summary.arms) for born in ("", NEWBORN)]:
            mine, kept = study.matrix(name, summary.agent, arm, [task], seeds)
            gain: Cell = "reference" if arm == REFERENCE else "n/a: no paired seed"
            if arm != REFERENCE and kept and kept == known:
                gain = Shown(value=estimate(mine, "mean", SEED, minus=none), signed=True)
            shown = _shown(mine) if kept else "n/a: no complete seed"
            rows.append([task, arm, shown, gain, str(len(kept))])
    head = ["task", "arm", f"{name}, mean", "against none", "seeds"]
    return Table(head=head, rows=fit_columns(rows))


def by_task(study: Study, summary: Summary, metric: str) -> Table:
    """S or P of each measurable task: mean over its complete seeds, with interval."""
    groups = {task: [task] for task in _measurable(study, summary)}
    return _grouped(study, summary, metric, "mean", "task", groups)


def by_track(study: Study, summary: Summary, metric: str) -> Table:
    """S or P of each track: IQM over its tasks and the seeds that are complete on all of them."""
    groups: dict[str, list[str]] = {}
    for task in _measurable(study, summary):
        groups.setdefault(study.track(task) or "n/a: no track", []).append(task)
    return _grouped(study, summary, metric, "iqm", "track", groups)


def _measurable(study: Study, summary: Summary) -> list[str]:
    return [task for task in summary.all_tasks if study.measurable(task, summary.agent)]


def _grouped(
    study: Study,
    summary: Summary,
    metric: str,
    aggregate: str,
    kind: str,
    groups: Mapping[str, list[str]],
) -> Table:
    regs = [arm.reg for arm in summary.arms]
    rows: list[list[Cell]] = []
    for label, members in groups.items():
        ended = [study.complete(task, summary.agent) for task in members]
        seeds = [seed for seed in summary.planned if all(seed in kept for kept in ended)]
        absent = "n/a: newborn diverged or absent" if seeds else "n/a: no seed has every arm"
        found = [study.matrix(metric, summary.agent, reg, members, seeds) for reg in regs]
        cells = [_shown(s, aggregate, fewer(kept, seeds)) if kept else absent for s, kept in found]
        rows.append([label, *cells])
    return Table(head=[kind, *regs], rows=fit_columns(rows))


def probes(study: Study, summary: Summary) -> Table:
    """Median of each measurement just before and just after the shifts, first and last."""
    found: dict[tuple[str, str, str], dict[int, list[float]]] = {}
    for record in study.results.of(agent=summary.agent):
        for probe in record.probes if not record.fresh else ():
            moments = found.setdefault((probe.name, record.reg, probe.moment), {})
            moments.setdefault(probe.phase, []).append(probe.value)
    rows = []
    for name, reg in dict.fromkeys((name, reg) for name, reg, _ in sorted(found)):
        before, after = found.get((name, reg, "before"), {}), found.get((name, reg, "after"), {})
        if not (before or after):
            continue
        every = [value for values in before.values() for value in values]
        later = [value for values in after.values() for value in values]
        first, last = (before[min(before)], before[max(before)]) if before else ([], [])
        rows.append([name, reg, *_middles(first, last, every, later)])
    head = [
        "probe",
        "arm",
        "before, first phase",
        "before, last phase",
        "before, all",
        "after, all",
    ]
    return Table(head=head, rows=rows)


def cost(study: Study, summary: Summary) -> Table:
    """Time and gradients of each arm, and as multiples of ``none`` on the same task and seed."""
    done = [r for r in study.results.of(agent=summary.agent) if r.status == "done" and not r.fresh]
    speed = {r.slot: r.steps / r.seconds for r in done if r.seconds > 0 and r.steps > 0}
    gradients = {
        r.slot: sum(p.updates for p in r.phases.values()) * study.cost(summary.agent, r.reg)
        for r in done
    }
    rows = []
    for arm in summary.arms:
        mine = [value for slot, value in speed.items() if slot[2] == arm.reg]
        steps = f"{np.median(mine):,.0f}" if mine else "n/a: no finished cell"
        slower = _ratio({slot: 1 / value for slot, value in speed.items()}, arm.reg)
        rows.append([arm.reg, steps, slower, _ratio(gradients, arm.reg)])
    return Table(
        head=[
            "arm",
            "steps a second, median",
            "time, none = 1, median [range]",
            "gradient evaluations, none = 1",
        ],
        rows=rows,
    )


def _ratio(values: Mapping[tuple[str, str, str, int], float], reg: str) -> str:
    """Median over tasks and seeds of an arm's value over that of ``none``, and its range."""
    mine = {slot: value for slot, value in values.items() if slot[2] == reg}
    if not np.isfinite(list(mine.values())).all():
        return "n/a: cost not known"
    pairs = [(v, values.get((*slot[:2], REFERENCE, slot[3]))) for slot, v in mine.items()]
    ratios = [value / none for value, none in pairs if none]
    if not ratios:
        return "n/a: no finished pair"
    middle, low, high = (f"{f(ratios):.2f}" for f in (np.median, min, max))
    return middle if low == high else f"{middle} [{low}..{high}]"


def _mean(study: Study, summary: Summary, metric: str, arm: str) -> Cell:
    """Mean over seeds and the tasks on which the metric is defined, with interval."""
    defined = [
        task
        for task in summary.tasks
        if study.matrix(metric, summary.agent, arm, [task], summary.seeds)[0].size
    ]
    scores, kept = study.matrix(metric, summary.agent, arm, defined, summary.seeds)
    if not scores.size:
        return "n/a: not defined on these records" if summary.seeds else "n/a: no complete seed"
    few = f" on {len(defined)} of {len(summary.tasks)} tasks" if defined != summary.tasks else ""
    return _shown(scores, after=few + fewer(kept, summary.seeds))


def fewer(kept: list[int], seeds: list[int]) -> str:
    """Words for a number that does not rest on all seeds, as that of the arms beside it may."""
    return f", {len(kept)} of {len(seeds)} seeds" if len(kept) < len(seeds) else ""


def _shown(scores: FloatArray, aggregate: str = "mean", after: str = "") -> Shown:
    value = estimate(scores, aggregate, SEED)
    return Shown(value=value, after=after)


def _middles(*groups: list[float]) -> list[str]:
    """The median of each group, with the decimals that their spreads leave."""
    middles = [float(np.median(values)) if values else None for values in groups]
    digits = shared(
        float(np.subtract(*np.percentile(values, [75, 25]))) or abs(middle) * 0.01
        for values, middle in zip(groups, middles, strict=True)
        if middle is not None
    )
    return ["n/a: not measured" if m is None else f"{m:,.{digits}f}" for m in middles]
