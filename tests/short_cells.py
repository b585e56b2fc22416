"""Cells of three phases that end within seconds, and runs of them that are cut off."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from rlplastic import runner, store
from rlplastic.cell import Cell
from rlplastic.life import LifeCallback
from rlplastic.plan import make_plan
from rlplastic.request import Request

PROVENANCE: dict[str, Any] = {"provenance": {"versions": {"a": "1"}, "code": "abc"}}


SMALL: dict[str, dict[str, Any]] = {
    "dqn": {"learning_starts": 20, "batch_size": 16},
    "ppo": {"n_steps": 16, "batch_size": 16, "n_epochs": 2},
}


class Killed(BaseException):
    """The end of an attempt."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What must be the same however often a cell was interrupted."""

    status: str
    rows: bytes
    digest: str
    updates: int
    interventions: dict[str, Any]


def cell_of(
    agent: str,
    reg: str,
    *,
    fresh: bool = False,
    env: str = "Toy-Shifted/Corridor-observation",
    period: int = 256,
    replay: str = "clear",
    small: bool = True,
    **changes: Any,
) -> Cell:
    """A cell of three phases of so many steps; changes are hyper-parameters."""
    plan = make_plan(Request(agents=[agent], regs=[reg], env=env, budget="smoke", seeds=[0]))
    cells = [c for c in plan.cells if c.agent == agent and c.fresh == fresh]
    cell = next(c for c in cells if c.reg != "none" or reg == "none")
    schedule = {**cell.stream["schedule"], "period": period, "phases": 3}
    parameters = {**cell.hyperparameters, **(SMALL.get(agent, {}) if small else {}), **changes}
    stream = {**cell.stream, "schedule": schedule}
    return replace(cell, stream=stream, hyperparameters=parameters, replay=replay)


def run(
    cell: Cell,
    path: Path,
    header: dict[str, Any] = PROVENANCE,
    told: Callable[[dict[str, Any]], None] = lambda _: None,
) -> Outcome:
    """Run a cell to its end, from wherever it was."""
    runner.run_cell(cell, store.CellFolder(path), header, told)
    return outcome(path)


def run_and_die(cell: Cell, path: Path) -> None:
    """Run a cell into its third phase, where it ends; two checkpoints are left."""
    step = LifeCallback._on_step

    def step_and_die(self: LifeCallback) -> bool:
        if self.watch.clock == 2 * cell.period + 100:
            raise Killed
        return step(self)

    folder = store.CellFolder(path)
    with patch.object(LifeCallback, "_on_step", step_and_die), suppress(Killed):
        runner.run_cell(cell, folder, PROVENANCE)
    folder._rows.close()
    folder._timing.close()
    names = sorted(file.name for file in (path / "checkpoint").iterdir())
    assert {"1.json", "1.state", "2.json", "2.state"} <= set(names)


def outcome(path: Path) -> Outcome:
    """How a cell ended."""
    done = json.loads((path / "done.json").read_text())
    return Outcome(
        status=done["status"],
        rows=(path / "rows.jsonl").read_bytes(),
        digest=done["digest"],
        updates=done["updates"],
        interventions=done["interventions"],
    )
