"""The tables of a report that say what its numbers rest on: tasks, cells, and what went wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from rlplastic.metrics.curve import Curve
from rlplastic.metrics.recovery import LEAST_GAIN, worth
from rlplastic.metrics.study import NEWBORN, REFERENCE, Study
from rlplastic.metrics.summary import Summary
from rlplastic.metrics.tables import Table


def tasks(study: Study, summary: Summary) -> Table:
    """What the suite states of each task, and what its newborns say of the period."""
    head = [
        "task",
        "random, phase 0",
        "reference",
        "C",
        "C from",
        "longest episode",
        "in the headline",
        "remarks",
    ]
    rows: list[list[str]] = []
    faded: set[int] = set()
    for task in summary.all_tasks:
        agent = summary.agent
        known: Mapping[str, Any] = study.results.plan.get("tasks", {}).get(task, {})
        facts = study.facts(task, agent)
        normalise = known.get("normalise") or {}
        inside, measurable = study.in_headline(task, agent), study.measurable(task, agent)
        remarks = [f"data: {known['data']}"] if known.get("data") else []
        remarks += [str(facts.get("note") or ""), study.too_short(task, agent)]
        remarks += _flags(study, task, agent)
        reference = f"{_plain(normalise.get('high'))} {normalise.get('high_name', '')}"
        if not inside:
            faded.add(len(rows))
        rows.append(
            [
                task,
                _plain(normalise.get("random")),
                reference.strip(),
                _plain(facts.get("scale")),
                str(facts.get("scale_source") or "n/a"),
                f"{study.longest(task, agent):,.0f} steps",
                "yes" if inside else "negative control" if measurable else "not measurable",
                "; ".join(filter(None, remarks)) or "none",
            ]
        )
    return Table(head=head, rows=rows, faded=frozenset(faded))


def completeness(study: Study, summary: Summary) -> Table:
    """Finished cells of each task and arm, as k of n."""
    records = study.results.of(agent=summary.agent)
    arms = sorted({r.slot[2] for r in records}, key=lambda arm: (not arm.startswith("none"), arm))
    rows: list[list[str]] = []
    faded: set[int] = set()
    for task in summary.all_tasks:
        cells = [[r for r in records if r.slot[::2] == (task, arm)] for arm in arms]
        cells.append(study.results.of(agent="random", task=task))
        if not all(r.finished for cell in cells for r in cell):
            faded.add(len(rows))
        row = [task]
        for cell in cells:
            states = Counter(r.status for r in cell)
            ended = states.pop("done", 0) + states["diverged"]
            others = [f"{n} {status}" for status, n in sorted(states.items()) if n]
            row.append(", ".join([f"{ended} of {len(cell)}", *others]) if cell else "not planned")
        rows.append(row)
    return Table(head=["task", *arms, "random"], rows=rows, faded=frozenset(faded))


def incidents(study: Study, summary: Summary) -> Table:
    """Cells that diverged, failed or are damaged, and why."""
    bad = ("diverged", "failed", "damaged")
    records = [r for r in study.results.of(agent=summary.agent) if r.status in bad]
    records += [r for r in study.results.of(agent="random") if r.status in bad]
    rows = [[r.id, r.status, r.reason or "no reason was recorded"] for r in records]
    return Table(head=["cell", "status", "reason"], rows=rows)


def _flags(study: Study, task: str, agent: str) -> list[str]:
    """What the numbers of a task rest on besides finished episodes."""
    cut, chance, told = 0, False, False
    lengths: set[int] = set()
    for record in study.results.of(agent=agent, task=task):
        curves: tuple[Curve | None, ...] = study.curves(*record.slot)
        cut += sum(curve.partial for curve in curves if curve is not None)
        for phase in record.phases.values():
            chance |= study.random_level(task, record.slot[3], phase.world).partial
        lengths |= {phase.end - phase.begin for phase in record.layout.values()}
        told |= bool(record.cell["stream"].get("notify"))
    unequal, vain = len(lengths) > 1, _vain(study, task, agent)
    return [
        f"phases of {min(lengths):,} to {max(lengths):,} steps" if unequal else "",
        "the agent is told which world it is in" if told else "",
        f"{cut} cut episodes count with their partial returns" if cut else "",
        "random level from cut episodes" if chance else "",
        f"after {vain} shifts the newborn of none ended within {LEAST_GAIN:g} C of random: of "
        "these there is no recovery time"
        if vain
        else "",
    ]


def _vain(study: Study, task: str, agent: str) -> int:
    """Shifts after which the newborn of ``none`` learned nothing that could be recovered."""
    cases = [
        study.case(task, agent, REFERENCE + NEWBORN, seed) for seed in study.results.seeds(agent)
    ]
    return sum(
        int(curve is not None and not learnt)
        for case in cases
        for curve, learnt in zip(case.reference[1:], worth(case)[1:], strict=True)
    )


def _plain(value: Any) -> str:
    return "n/a" if value is None else f"{float(value):,.6g}"
