"""Measure what a suite's TOML file has to state before any verdict is given on its tasks.

::

    python -m rlplastic.benchmarks.pilot Control-Shifted --agents dqn,ppo

For each task and agent: newborns of ``none`` in world 1 (world 0 where nothing shifts), over one
period of the budget ``small``, with five seeds that no bench uses; and random play in every world.
It then rewrites the part of the suite's file below the line that says so: random levels, newborn
curves, end levels, time to 80 %, the scale C_m (end level minus random) and whether the task is
measurable (at least 4 of 5 newborns close half the gap from random to the stated reference).
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from rlplastic import pool, progress, store
from rlplastic.metrics.curve import Curve, return_curve
from rlplastic.metrics.recovery import time_to
from rlplastic.metrics.study import Study
from rlplastic.plan import Plan, Request, make_plan
from rlplastic.planfile import write_plan
from rlplastic.reading import read
from rlplastic.suite import Suite, Task, load_suite, suite_files

SEEDS = (1000, 1001, 1002, 1003, 1004)
MARK = "# --- measured by `python -m rlplastic.benchmarks.pilot`; the rest is rewritten by it ---\n"


def pilot_plan(suite: Suite, agents: list[str], pattern: str) -> Plan:
    """One newborn life in phase 1 for each task, agent and seed, and the random reference."""
    request = Request(
        agents=agents or ["dqn"],
        regs=["none"],
        env=f"{suite.name}/{pattern}",
        seeds=SEEDS,
    )
    plan = make_plan(request)
    cells = []
    for cell in plan.cells:
        if cell.agent == "random":
            cells.append(cell)
        elif cell.fresh and cell.agent in agents:
            schedule = {**cell.stream["schedule"], "phases": 2}
            cells.append(replace(cell, stream={**cell.stream, "schedule": schedule}))
    return replace(plan, cells=cells)


def newborn_curves(study: Study, task: str, agent: str) -> list[Curve]:
    """The return curve of each pilot newborn."""
    found = []
    for seed in SEEDS:
        record = study.records[(task, agent, "none+fresh", seed)]
        curve = return_curve(record.episodes, record.phases[1], study.longest(task, agent))
        if curve is not None:
            found.append(curve)
    return found


def table_of(task: Task, agent: str, curves: list[Curve], random: float) -> str:
    """The TOML table of one task and agent."""
    ends = [curve.end_level for curve in curves]
    gained = float(np.mean(ends)) - random
    goal = task.reference if task.reference is not None else float(np.mean(ends))
    halfway = random + 0.5 * (goal - random)
    reached = sum(end >= halfway for end in ends)
    times = [time_to(curve, random + 0.8 * (curve.end_level - random))[0] for curve in curves]
    measurable = reached >= 4
    scale, source = gained, "pilot newborns' end level minus random"
    if not measurable:
        scale, source = goal - random, "reference minus random, since its newborns do not learn it"
    lines = [
        f"scale = {scale:.4g}",
        f'scale_source = "{source}"',
        f"measurable = {str(measurable).lower()}",
        f"newborn_end = [{', '.join(f'{end:.4g}' for end in ends)}]",
        *([f"newborn_t80 = {np.median(times) * curves[0].steps:.0f}"] if measurable else []),
        f"newborn_curve = [{', '.join(f'{value:.4g}' for value in _tenths(curves))}]",
        f'note = "{reached} of {len(ends)} newborns close half the gap from random ({random:.4g}) '
        f'to {goal:g} within {curves[0].steps:,} steps"',
    ]
    return f"[tasks.{{name}}.agents.{agent}]\n" + "\n".join(lines) + "\n"


def _tenths(curves: list[Curve]) -> list[float]:
    return [float(np.mean([c.at((i + 0.5) / 10 * c.steps) for c in curves])) for i in range(10)]


def main() -> int:
    """See the head of this file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("suite")
    parser.add_argument("--agents", default="dqn,ppo", help="empty: random play alone")
    parser.add_argument("--tasks", default="*")
    parser.add_argument("--workers", type=int, default=pool.usable_cores())
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    agents = [agent for agent in options.agents.split(",") if agent]
    suite = load_suite(options.suite)
    folder = options.out or Path("results") / f"pilot-{suite.name}"
    plan = pilot_plan(suite, agents, options.tasks)
    with store.lock(folder):
        write_plan(plan, folder)
        left = pool.unfinished(plan.cells, folder)
        with progress.display_for(left, sys.stdout) as display:
            pool.run_cells(plan.cells, folder, options.workers, display)
    results = read(folder)
    study = Study(results)
    path = suite_files()[suite.name]
    kept = path.read_text(encoding="utf-8").partition(MARK)[0]
    blocks = []
    for name, task in suite.select([options.tasks]).items():
        worlds = sorted(
            {int(w) for w in results.records[(name, "random", "none", 0)].episodes.world}
        )
        levels = {world: study.random_level(name, SEEDS[0], world).value for world in worlds}
        inside = ", ".join(f'"{world}" = {level:.4g}' for world, level in levels.items())
        blocks.append(f"[tasks.{name}.random]\n{inside.replace(', ', chr(10))}\n")
        for agent in agents:
            curves = newborn_curves(study, name, agent)
            blocks.append(
                table_of(task, agent, curves, levels.get(1, levels[0])).replace("{name}", name)
            )
    store.write_text(path, kept + MARK + "\n" + "\n".join(blocks))
    print(f"measured {len(plan.cells)} cells; wrote {path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
