"""What there is to choose from: agents, interventions, suites and the rest, read and not run."""

from __future__ import annotations

import ast
import inspect
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence

from rlplastic import registry
from rlplastic.errors import unknown
from rlplastic.registry import Entry, Field
from rlplastic.suite import Suite
from rlplastic.suitefile import load_suite, suite_files

KINDS = {
    "agents": "agent",
    "regs": "intervention",
    "envs": "environment",
    "shifts": "shift",
    "schedules": "schedule",
    "probes": "probe",
    "metrics": "metric",
}
SIGNS = {"Ge": "≥", "Gt": ">", "Le": "≤", "Lt": "<"}


def show(kind: str | None, name: str | None = None) -> str:
    """All names of a kind with one line each, or everything known of one name.

    Raises:
        UsageError: no such kind, or no such name.
    """
    if kind is None:
        return "\n\n".join(f"{plural}:\n{_names(plural)}" for plural in KINDS)
    if kind not in KINDS:
        raise unknown("kind", kind, KINDS)
    if name is None:
        return _names(kind)
    if kind == "envs" and (name in suite_files() or name.endswith(".toml")):
        return _suite(load_suite(name))
    if kind == "envs" and name not in registry.entries("environment"):
        raise unknown("env", name, [*suite_files(), *registry.entries("environment")])
    return _entry(registry.find(KINDS[kind], name))


def table(rows: Iterable[Sequence[str]]) -> str:
    """Rows as aligned columns; the last one is cut at the width of the terminal, if it is one."""
    rows = [tuple(row) for row in rows]
    if not rows:
        return ""
    *widths, _ = (max(map(len, column)) for column in zip(*rows, strict=True))
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 10_000
    lines = []
    for *cells, last in rows:
        start = "".join(f"{cell:<{size}}  " for cell, size in zip(cells, widths, strict=True))
        room = max(20, width - len(start))
        short = last if len(last) <= room else f"{last[: room - 3]}..."
        lines.append((start + short).rstrip())
    return "\n".join(lines)


def _interventions() -> str:
    """Name, gradients per update, what it needs, and one line of each."""
    rows = [("  reg", "gradients", "agents", "told of shifts", "")]
    for entry in registry.entries("intervention").values():
        told = "yes" if entry.traits.get("oracle") else ""
        rows.append((f"  {entry.name}", f"{entry.cost():g}", _fits(entry), told, entry.summary))
    return table(rows)


def _fits(entry: Entry) -> str:
    """The agents that an intervention fits, and what they must see if not anything."""
    agents = ", ".join(entry.traits.get("agents", ())) or "all"
    seen = " or ".join(entry.traits.get("observations", ()))
    return f"{agents}: {seen}" if seen else agents


def _traits(entry: Entry) -> list[str]:
    """What is known of a class beside its options, as lines."""
    if entry.kind != "intervention":
        return [f"{key}: {value}" for key, value in entry.traits.items() if key != "later"]
    told = "yes" if entry.traits.get("oracle") else "no"
    cost = f"{entry.cost():g} x the gradient evaluations of none"
    return [f"cost: {cost}", f"fits: {_fits(entry)}", f"told of shifts (oracle): {told}"]


def _names(kind: str) -> str:
    if kind == "regs":
        return _interventions()
    rows = [(f"  {e.name}", e.summary) for e in registry.entries(KINDS[kind]).values()]
    if kind == "probes":
        probes = registry.entries("probe").values()
        return table((f"  {e.name}", e.traits.get("cost", "default"), e.summary) for e in probes)
    if kind != "envs":
        return table(rows)
    suites = [load_suite(name) for name in suite_files()]
    lines = [table((f"  {s.name}", s.description) for s in suites)]
    return "\n".join([*lines, "base environments:", table(rows)])


def _entry(entry: Entry) -> str:
    """Docstring, options with defaults, and where it is."""
    parts = [f"{entry.name} ({entry.kind}, {entry.path})", inspect.cleandoc(entry.doc)]
    if traits := _traits(entry):
        parts.append("\n".join(traits))
    if entry.fields:
        rows = [(f"  {f.name}", f.default or "(needed)", _type(f)) for f in entry.fields]
        parts.append("Options:\n" + table(rows))
    return "\n\n".join(parts)


def _type(field: Field) -> str:
    """A type as people write it: ``float ≥ 0`` for ``Annotated[float, Ge(0)]``."""
    node = ast.parse(field.annotation, mode="eval").body
    if not (isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Tuple)):
        return field.annotation
    if ast.unparse(node.value) != "Annotated":
        return field.annotation
    kind, *limits = node.slice.elts
    words = [ast.unparse(kind)]
    for limit in limits:
        if isinstance(limit, ast.Call) and (sign := SIGNS.get(ast.unparse(limit.func))):
            words.append(f"{sign} {ast.unparse(limit.args[0])}")
        else:
            words.append(ast.unparse(limit))
    return ", ".join(words).replace(",", "", 1)


def _suite(suite: Suite) -> str:
    """Tasks with their tracks, and budgets with phases and periods."""
    tasks = [("task", "base", "track", "schedule", "shifts")]
    for name, task in suite.tasks.items():
        base = " ".join(str(value) for value in task.base.values())
        shifts = " + ".join(str(shift.get("name")) for shift in task.shifts) or "none"
        told = " + notify" * task.notify
        tasks.append((name, base, task.track, str(task.schedule["name"]) + told, shifts))
    budgets = [("budget", "seeds", "phases", "steps of a phase", "")]
    for name, budget in suite.budgets.items():
        period = ", ".join(f"{agent} {steps:,}" for agent, steps in budget.period.items())
        short = f"too short for a verdict: {budget.too_short}" if budget.too_short else ""
        budgets.append((name, str(budget.seeds), str(budget.phases), period, short))
    head = "\n".join(textwrap.wrap(f"{suite.name}: {suite.description}", 100))
    rules = f"replay {suite.replay}, boundary {suite.boundary}"
    origin = [f"{what}: {text}" for what in ("source", "licence") if (text := getattr(suite, what))]
    rules = "\n".join([*origin, rules])
    return "\n\n".join([head, rules, table(tasks), table(budgets)])
