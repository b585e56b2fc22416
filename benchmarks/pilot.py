"""Measure what a suite's TOML file has to state before any verdict is given on its tasks.

::

    python -m rlplastic.benchmarks.pilot Control-Shifted --agents dqn,ppo
    python -m rlplastic.benchmarks.pilot path/to/Mine.toml --plugin my_shift.py

For each task and agent: newborns of ``none`` in world 1 (world 0 where nothing shifts), over one
period of the budget ``small`` (or of ``--budget``, for a task that only a longer one has), with
five seeds that no bench uses; and random play in every world.
It then rewrites the part of the suite's file below the line that says so: random levels, newborn
curves, end levels, time to 80 %, the scale C_m (end level minus random) and whether the task is
measurable (at least 4 of 5 newborns close half the gap from random to the stated reference). Tasks
and agents that were not asked for keep what was measured of them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rlplastic import locks, pool, progress, registry, store
from rlplastic.cell import Cell
from rlplastic.envs.schedules import Drawn, bound
from rlplastic.errors import UsageError
from rlplastic.metrics.curve import Curve, return_curve
from rlplastic.metrics.recovery import time_to
from rlplastic.metrics.study import Study
from rlplastic.options import build
from rlplastic.plan import Plan, make_plan
from rlplastic.planfile import write_plan
from rlplastic.reading import read
from rlplastic.request import Request
from rlplastic.suite import Task
from rlplastic.suitefile import load_suite, stream_digest, suite_files

SEEDS = (1000, 1001, 1002, 1003, 1004)
MARK = "# --- measured by `python -m rlplastic.benchmarks.pilot`; the rest is rewritten by it ---\n"


def pilot_plan(suite: str, agents: list[str], pattern: str, budget: str = "small") -> Plan:
    """One newborn life in phase 1 for each task, agent and seed, and the random reference."""
    learners = [name for name in load_suite(suite).budgets["small"].period if name != "random"]
    request = Request(
        agents=agents or learners[:1],
        regs=["none"],
        env=f"{suite}/{pattern}",
        budget=budget,
        seeds=SEEDS,
    )
    plan = make_plan(request)
    cells = []
    for cell in plan.cells:
        if cell.agent == "random":
            if cell.seed in (0, SEEDS[0]):  # one stands for all, or each seed has its own worlds
                cells.append(cell)
        elif cell.fresh and cell.agent in agents:
            cells.append(replace(cell, stream={**cell.stream, "schedule": _two_phases(cell)}))
    return replace(plan, cells=cells)


def _two_phases(cell: Cell) -> dict[str, Any]:
    """The first two phases of a cell's schedule, of one period each, whatever it draws or lists."""
    spec = cell.stream["schedule"]
    schedule = build("schedule", spec, f"task {cell.task!r}")
    if "phases" not in spec or isinstance(schedule, Drawn):
        worlds = [bound(schedule, 0).world(phase) for phase in (0, 1)]
        return {"name": "list", "period": cell.period, "worlds": worlds}
    return {**spec, "phases": 2}


def newborn_curves(study: Study, task: str, agent: str) -> list[Curve]:
    """The return curve of each pilot newborn."""
    found = []
    for seed in SEEDS:
        record = study.records[(task, agent, "none+fresh", seed)]
        curve = return_curve(record.episodes, record.phases[1], study.longest(task, agent))
        if curve is not None:
            found.append(curve)
    return found


def measured(task: Task, curves: list[Curve], random: float) -> dict[str, Any]:
    """What is stated of one agent on a task: the fields of `rlplastic.suite.Pilot`."""
    ends = [curve.end_level for curve in curves]
    gained = float(np.mean(ends)) - random
    goal = task.reference if task.reference is not None else float(np.mean(ends))
    reached = sum(end >= random + 0.5 * (goal - random) for end in ends)
    times = [time_to(curve, random + 0.8 * (curve.end_level - random)) for curve in curves]
    time, period = float(np.median([time for time, _ in times])), curves[0].steps
    measurable = reached >= 4
    scale, source = gained, "pilot newborns' end level minus random"
    if not measurable:
        scale, source = goal - random, "reference minus random, since its newborns do not learn it"
    note = (
        f"{reached} of {len(ends)} newborns close half the gap from random ({random:.4g}) "
        f"to {goal:g} within {period:,} steps"
    )
    censored = time == 1.0  # the median newborn does not hold that level: there is no time to state
    return {
        "scale": scale,
        "scale_source": source,
        "measurable": measurable,
        "newborn_end": ends,
        **({"newborn_t80": round(time * period)} if measurable and not censored else {}),
        "newborn_curve": _tenths(curves),
        "note": note,
        "stream": stream_digest(task),
    }


def text_of(tasks: Mapping[str, Mapping[str, Any]]) -> str:
    """The TOML of what was measured, with four significant digits."""
    blocks = []
    for name, facts in tasks.items():
        tables = {f"tasks.{name}.random": facts["random"]}
        tables |= {f"tasks.{name}.agents.{a}": facts["agents"][a] for a in facts.get("agents", {})}
        for head, table in tables.items():
            keys = (json.dumps(key) if key.isdigit() else key for key in table)
            lines = [f"{k} = {_toml(v)}" for k, v in zip(keys, table.values(), strict=True)]
            blocks.append("\n".join([f"[{head}]", *lines]) + "\n")
    return "\n".join(blocks)


def _toml(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value)


def _tenths(curves: list[Curve]) -> list[float]:
    return [float(np.mean([c.at((i + 0.5) / 10 * c.steps) for c in curves])) for i in range(10)]


def refuse_stated(
    stated: Mapping[str, Any], asked: Collection[str], agents: Collection[str]
) -> None:
    """Refuse to measure what the file already says by hand: TOML knows no table twice.

    Args:
        stated: The file's contents above the line of what was measured.
        asked: Names of the tasks to measure.
        agents: Names of the agents to measure.

    Raises:
        UsageError: names the table to delete.
    """
    for name, task in stated.get("tasks", {}).items():
        taken = ["random"] if "random" in task else []
        taken += [f"agents.{agent}" for agent in task.get("agents", {}) if agent in agents]
        if name in asked and taken:
            raise UsageError(
                f"tasks.{name}.{taken[0]} is stated by hand above the line of what is measured; "
                "delete it there, or leave this task out"
            )


def main() -> int:
    """See the head of this file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("suite", help="name of a suite, or its TOML file, which is rewritten")
    parser.add_argument("--agents", default="dqn,ppo", help="empty: random play alone")
    parser.add_argument("--tasks", default="*", help="pattern of task names")
    parser.add_argument("--budget", default="small", help="whose period a newborn gets")
    parser.add_argument("--workers", type=int, default=pool.usable_cores(), help="cells at a time")
    parser.add_argument("--out", type=Path, default=None, help="default: results/pilot-SUITE")
    parser.add_argument("--plugin", action="append", default=[], help="as for bench; repeatable")
    try:
        return run(parser.parse_args())
    except UsageError as error:
        parser.exit(2, f"error: {error}\n")


def run(options: argparse.Namespace) -> int:
    """Measure, and rewrite the suite's file."""
    for plugin in options.plugin:
        registry.add_plugin(plugin)
    agents = [agent for agent in options.agents.split(",") if agent]
    suite = load_suite(options.suite)
    path = suite_files().get(options.suite) or Path(options.suite)
    stated, _, before = path.read_text(encoding="utf-8").partition(MARK)
    refuse_stated(tomllib.loads(stated), suite.select([options.tasks]), agents)
    folder = options.out or Path("results") / f"pilot-{suite.name}"
    plan = pilot_plan(options.suite, agents, options.tasks, options.budget)
    with locks.plan(folder):
        write_plan(plan, folder)
    left = pool.unfinished(plan.cells, folder)
    with progress.display_for(left, sys.stdout) as display:
        pool.run_cells(plan.cells, folder, options.workers, display)
    results = read(folder)
    study = Study(results)
    known = tomllib.loads(before).get("tasks", {})
    for name, task in suite.select([options.tasks]).items():
        worlds = results.of(agent="random", task=name)[0].episodes.world
        levels = {
            int(world): study.random_level(name, SEEDS[0], int(world)).value
            for world in np.unique(worlds)
        }
        facts = known.setdefault(name, {})
        facts["random"] = {str(world): level for world, level in levels.items()}
        for agent in agents:
            curves = newborn_curves(study, name, agent)
            found = measured(task, curves, levels.get(1, levels[0]))
            facts.setdefault("agents", {})[agent] = found
    order = {name: known[name] for name in suite.tasks if name in known}
    store.write_text(path, stated + MARK + "\n" + text_of(order))
    print(f"measured {len(plan.cells)} cells; wrote {path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
