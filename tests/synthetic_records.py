"""Writes results folders whose contents are known, in the format of the live half.

`write_cell` writes what it is told, for answers computed by hand. `write_results` writes a whole
suite of exponential learning curves, for reports.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rlplastic.cell import id_of, slot_name
from rlplastic.record import slot_of

Row = dict[str, Any]
Level = Callable[[str, bool, int, int], tuple[float, float]]
Ends = Callable[[int, int], Mapping[str, float]]


def cell(
    task: str = "Toy-observation",
    agent: str = "ppo",
    reg: str = "none",
    seed: int = 0,
    fresh: bool = False,
    **changes: Any,
) -> dict[str, Any]:
    """The identity of a cell; `changes` replaces whole entries."""
    schedule = {"name": "periodic", "period": 1000, "phases": 3}
    return {
        "suite": "Toy-Shifted",
        "task": task,
        "agent": agent,
        "reg": reg,
        "fresh": fresh,
        "seed": seed,
        "stream": {"base": "Toy", "schedule": schedule},
        "hyperparameters": {"learning_rate": 0.001},
        "intervention": [] if reg == "none" else [{"name": reg}],
        "replay": "clear",
    } | changes


def cell_id(identity: Mapping[str, Any]) -> str:
    """The folder of a cell, as the live half names it."""
    return id_of(slot_name(*slot_of(identity)), identity)


def episode(begin: int, end: int, value: float, **other: Any) -> Row:
    """One episode row; `phase`, `world`, `copy`, `length`, `cut` may be given."""
    row = {"kind": "episode", "phase": 0, "world": 0, "begin": begin, "end": end, "copy": 0}
    row |= {"length": end - begin, "return": value, "base_return": value, "cut": False}
    return row | other


def phase(number: int, begin: int, end: int, world: int | None = None) -> Row:
    """One row of a closed phase; the world is the phase's number unless given."""
    world = number if world is None else world
    return {
        "kind": "phase",
        "phase": number,
        "world": world,
        "begin": begin,
        "end": end,
        "updates": 4,
    }


def probe(number: int, step: int, moment: str, name: str, value: float) -> Row:
    """One measurement."""
    row = {"kind": "probe", "phase": number, "step": step, "moment": moment}
    return row | {"name": name, "value": value}


def layout(schedule: Mapping[str, Any] | None) -> list[Row]:
    """The phases that a schedule makes."""
    if schedule is None:
        return []
    period, number = schedule["period"], schedule["phases"]
    return [
        {"phase": k, "world": k, "begin": k * period, "end": (k + 1) * period}
        for k in range(number)
    ]


def write_cell(
    folder: Path,
    identity: Mapping[str, Any],
    rows: Iterable[Row],
    *,
    ending: Mapping[str, Any] | None = None,
    oracle: bool = False,
    unfinished: bool = False,
    seconds: float = 1.0,
) -> Path:
    """Write a cell folder. `ending` adds to or replaces the facts of done.json."""
    path = folder / cell_id(identity)
    path.mkdir(parents=True)
    header = {
        "schema": 1,
        "id": cell_id(identity),
        "cell": dict(identity),
        "layout": layout(identity["stream"].get("schedule")),
        "oracle": oracle,
        "provenance": {
            "command": "rlplastic bench Toy-Shifted",
            "versions": {"rlplastic": "0.1.0", "torch": "2.13.0", "python": "3.11.7"},
            "git": {"commit": "0123abc", "dirty": False},
            "machine": {"os": "Linux", "cpu": "test", "cores": 2},
            "started": "2026-11-22T10:00:00Z",
        },
        "runtime": {"device": "cpu"},
    }
    (path / "header.json").write_text(json.dumps(header))
    rows = list(rows)
    content = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)
    (path / "rows.jsonl").write_text(content)
    closed = [row for row in rows if row["kind"] == "phase"]
    timing = [
        {"phase": r["phase"], "seconds": seconds, "steps": r["end"] - r["begin"]} for r in closed
    ]
    (path / "timing.jsonl").write_text("".join(json.dumps(line) + "\n" for line in timing))
    facts: dict[str, Any] = {
        "status": "done",
        "reason": "",
        "rows": len(rows),
        "sha256": hashlib.sha256(content.encode()).hexdigest(),
    } | dict(ending or {})
    if not unfinished:
        name = "failed.json" if facts["status"] == "failed" else "done.json"
        (path / name).write_text(json.dumps(facts))
    return path


def write_plan(
    folder: Path, cells: Iterable[Mapping[str, Any]], *, phases: int = 3, **changes: Any
) -> None:
    """Write plan.json for these cells; `changes` goes into the entries of each task."""
    cells = list(cells)
    learners = sorted({c["agent"] for c in cells} - {"random"})
    scale = {"scale": 100.0, "scale_source": "pilot", "measurable": True, "note": ""}
    tasks = {
        task: {
            "base": task.partition("-")[0],
            "track": task.partition("-")[2],
            "time_limit": 10,
            "normalise": {"random": 0.0, "high": 100.0, "high_name": "time limit"},
            "agents": {agent: dict(scale) for agent in learners},
        }
        | changes
        for task in sorted({c["task"] for c in cells})
    }
    plan = {
        "schema": 1,
        "created": "2026-11-22T10:00:00Z",
        "commands": ["rlplastic bench Toy-Shifted --reg sam"],
        "name": "Toy-Shifted",
        "protocol": {
            "suite": "Toy-Shifted",
            "budget": "small",
            "replay": "clear",
            "boundary": "truncate",
            "phases": phases,
            "period": dict.fromkeys(learners, 1000),
            "frame_skip": 1,
            "too_short": "",
        },
        "tasks": tasks,
        "cells": [{"id": cell_id(c), "cell": dict(c)} for c in cells],
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plan.json").write_text(json.dumps(plan))


def learning_phase(
    number: int, period: int, start: float, end: float, rng: np.random.Generator, copies: int = 4
) -> list[Row]:
    """Rows of one phase: an exponential approach from one level to another, with noise."""
    begin = number * period
    rows: list[Row] = []
    length = 10 * copies  # of the clock
    for copy in range(copies):
        for at in range(0, period, length):
            mean = end + (start - end) * np.exp(-6 * at / period)
            value = round(float(mean + rng.normal(0, 3)), 2)
            last = at + length > period
            rows.append(
                episode(
                    begin + at,
                    begin + min(at + length, period),
                    value,
                    phase=number,
                    world=number,
                    copy=copy,
                    length=(min(length, period - at)) // copies,
                    cut=last,
                )
            )
    rows.append(phase(number, begin, begin + period))
    return rows


def learned(reg: str, fresh: bool, number: int, seed: int) -> tuple[float, float]:
    """(start, end) level of a phase: ``none`` loses 4 points a shift, all others 1."""
    loss = 0.0 if fresh else (4.0 if reg == "none" else 1.0) * number
    luck = np.random.default_rng([seed, number, len(reg), fresh]).normal(0, 3)
    return 5.0, 85.0 - loss + float(luck)


def grown(number: int, seed: int) -> dict[str, float]:
    """The probes at the end of a phase: a norm that grows with every phase."""
    return {"weight_norm": 10.0 + number}


def write_results(
    folder: Path,
    *,
    tasks: Iterable[str] = ("Cart-observation", "Cart-reward", "Acro-observation"),
    agents: Iterable[str] = ("ppo",),
    regs: Iterable[str] = ("none", "sam"),
    seeds: int = 6,
    phases: int = 10,
    period: int = 4000,
    level: Level = learned,
    ends: Ends = grown,
    oracle: Iterable[str] = (),
) -> Path:
    """Write a finished suite and return its folder."""
    schedule = {"name": "periodic", "period": period, "phases": phases}
    stream = {"base": "Toy", "schedule": schedule}
    cells: list[dict[str, Any]] = []
    for task in tasks:
        for seed in range(seeds):
            rng = np.random.default_rng([seed, *task.encode()])
            chance = cell(task, "random", "none", seed, stream=stream)
            rows = [r for k in range(phases) for r in learning_phase(k, 400, 5, 5, rng)]
            write_cell(folder, chance, rows)
            cells.append(chance)
            for agent in agents:
                for reg in regs:
                    for fresh in (False, True):
                        one = cell(task, agent, reg, seed, fresh, stream=stream)
                        rows = _life(reg, fresh, seed, phases, period, level, ends, rng)
                        cost = 2.0 if reg == "sam" else 1.0
                        write_cell(folder, one, rows, oracle=reg in oracle, seconds=cost)
                        cells.append(one)
    write_plan(folder, cells, phases=phases)
    return folder


def _life(
    reg: str,
    fresh: bool,
    seed: int,
    phases: int,
    period: int,
    level: Level,
    ends: Ends,
    rng: np.random.Generator,
) -> list[Row]:
    rows: list[Row] = []
    for number in range(int(fresh), phases):
        rows += learning_phase(number, period, *level(reg, fresh, number, seed), rng)
        step = (number + 1) * period
        for name, value in ends(number, seed).items():
            rows.append(probe(number, step, "before", name, value))
            if number + 1 < phases:
                rows.append(probe(number + 1, step, "after", name, value))
    return rows
