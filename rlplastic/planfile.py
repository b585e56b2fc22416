"""``plan.json``: what a results folder is to hold, on disk before the first step.

A folder is one experiment. Agents, interventions, tasks and seeds may be added to it later;
another protocol or other settings of an agent that is there may not.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rlplastic import provenance, store
from rlplastic.errors import UsageError
from rlplastic.plan import Plan

BY_AGENT = ("period", "settings")  # what a protocol says of each agent


def write_plan(plan: Plan, folder: Path) -> None:
    """Write ``plan.json``, together with the cells that an earlier plan put there.

    Raises:
        UsageError: the folder holds the same slots with other settings; names what differs.
    """
    cells = {cell.id: {"id": cell.id, "cell": cell.identity} for cell in plan.cells}
    tasks = dict(plan.tasks)
    protocol = plan.protocol
    old = check_folder(plan, folder)
    commands = old.get("commands", []) if old is not None else []
    if old is not None:
        before = {cell["id"]: cell for cell in old["cells"]}
        if set(cells) <= set(before):
            return
        cells = {**before, **cells}
        tasks = {**old["tasks"], **tasks}
        both = {key: {**old["protocol"].get(key, {}), **protocol[key]} for key in BY_AGENT}
        protocol = {**protocol, **both}
    store.write_json(
        folder / "plan.json",
        {
            "schema": store.SCHEMA,
            "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "commands": list(dict.fromkeys([*commands, provenance.command()])),
            "name": plan.name,
            "protocol": protocol,
            "tasks": tasks,
            "cells": list(cells.values()),
        },
    )


def check_folder(plan: Plan, folder: Path) -> dict[str, Any] | None:
    """The plan that is in the folder already, if there is one.

    Raises:
        UsageError: it is of another kind, so that the two cannot be one experiment.
    """
    path = folder / "plan.json"
    try:
        old: dict[str, Any] = store.read_json(path)
    except FileNotFoundError:
        _refuse_foreign(folder)
        return None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from error
    try:
        _refuse_mixture(plan, old, folder)
    except (KeyError, TypeError, AttributeError):
        raise UsageError(
            f"{path}: is not the plan of a results folder; choose another --out"
        ) from None
    return old


def _refuse_foreign(folder: Path) -> None:
    """A folder without a plan must be empty: nobody's files are mixed with results."""
    others = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    litter = [name for name in others if name not in (".lock", ".locks")]
    if litter:
        raise UsageError(
            f"--out {folder}: holds other things ({litter[0]!r}) and no plan.json; "
            "choose another folder"
        )


def _refuse_mixture(plan: Plan, old: Mapping[str, Any], folder: Path) -> None:
    for key, value in plan.protocol.items():
        other = old["protocol"].get(key, {} if key in BY_AGENT else None)
        pairs = [(key, other, value)]
        if key in BY_AGENT:
            pairs = [(f"{key}.{a}", other[a], value[a]) for a in value if a in other]
        for name, there, here in pairs:
            if there != here:
                raise UsageError(
                    f"{folder} holds another experiment: {_difference(name, there, here)}.\n"
                    "Two configurations are never averaged together: choose another --out"
                )
    there = [entry["cell"] for entry in old["cells"]]
    for slot, keys in (
        (("task", "agent"), ("suite", "stream", "hyperparameters", "replay")),
        (("task", "agent", "reg"), ("intervention", "sources")),
    ):
        known = {tuple(cell[part] for part in slot): cell for cell in there}
        for cell in plan.cells:
            mine = cell.identity
            same = known.get(tuple(mine[part] for part in slot), mine)
            for key in keys:
                if mine[key] != same[key]:
                    raise UsageError(
                        f"{folder} holds {cell.task} with {cell.agent} under other settings: "
                        f"{_difference(key, same[key], mine[key])}.\n"
                        "Two configurations are never averaged together: choose another --out"
                    )


def _difference(key: str, old: Any, new: Any) -> str:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in sorted({*old, *new}):
            if old.get(name) != new.get(name):
                return _difference(f"{key}.{name}", old.get(name), new.get(name))
    return f"{key} is {old!r} there and {new!r} here"
