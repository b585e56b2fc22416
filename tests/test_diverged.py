"""NaN and infinity, wherever they come from, end a cell as diverged within one rollout."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from short_cells import PROVENANCE, cell_of

from rlplastic import runner, store
from rlplastic.agents import learner
from rlplastic.envs.copies import GymCopies, Transition
from rlplastic.interventions import Interventions


class Once:
    """True the so-many-eth time that it is asked, and then remembers the clock."""

    def __init__(self, number: int) -> None:
        self.number, self.count, self.clock = number, 0, -1

    def __call__(self, clock: int) -> bool:
        self.count += 1
        if self.count == self.number:
            self.clock = clock
        return self.count == self.number


def in_the_world(place: str, bad: float, now: Once, patch: pytest.MonkeyPatch) -> None:
    """Observations or rewards of all copies."""
    step = GymCopies.step

    def bad_step(self: GymCopies, actions: Any) -> Transition:
        made = step(self, actions)
        values = {name: getattr(made, name) for name in Transition.__slots__}
        if now(now.count * self.num_copies):
            values[place] = np.full_like(values[place], bad)
            if place == "observation":
                values["final"] = values[place]
        return Transition(**values)

    patch.setattr(GymCopies, "step", bad_step)


def in_the_update(place: str, bad: float, now: Once, patch: pytest.MonkeyPatch) -> None:
    """The critic's loss or a part of its gradient."""
    gradient = Interventions.gradient

    def bad_gradient(self: Interventions, agent: Any, losses: Any) -> dict[str, Any]:
        terms = gradient(self, agent, losses)
        if now(agent.num_timesteps):
            if place == "loss":
                return {**terms, "critic": torch.full_like(terms["critic"], bad)}
            next(p for p in agent.scope("critic") if p.grad is not None).grad[0] = bad
        return terms

    patch.setattr(Interventions, "gradient", bad_gradient)


def in_the_weights(place: str, bad: float, now: Once, patch: pytest.MonkeyPatch) -> None:
    """The critic's first weights, after an update."""
    update = learner.update

    def bad_update(agent: Any, losses: Any) -> dict[str, Any]:
        terms = update(agent, losses)
        if now(agent.num_timesteps):
            with torch.no_grad():
                agent.scope("critic")[0].fill_(bad)
        return terms

    patch.setattr("rlplastic.agents.dqn.update", bad_update)
    patch.setattr("rlplastic.agents.ppo.update", bad_update)


PLACES = {
    "observation": in_the_world,
    "reward": in_the_world,
    "loss": in_the_update,
    "gradient": in_the_update,
    "weights": in_the_weights,
}


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("agent", ["dqn", "ppo"])
def test_a_bad_number_ends_the_cell_within_one_rollout(
    agent: str,
    place: str,
    bad: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    number = random.Random(f"{agent} {place} {bad}").randint(5, 60)  # noqa: S311
    once = Once(number)
    PLACES[place](place, bad, once, monkeypatch)
    cell = cell_of(agent, "none")
    folder = store.CellFolder(tmp_path / "cell")
    assert runner.run_cell(cell, folder, PROVENANCE) == "diverged"
    done = json.loads((tmp_path / "cell" / "done.json").read_text())
    copies = cell.hyperparameters["num_envs"]
    rollout = copies * cell.hyperparameters["n_steps" if agent == "ppo" else "train_freq"]
    assert once.clock >= 0
    assert 0 <= done["step"] - once.clock <= rollout + copies
    assert done["reason"]


@pytest.mark.parametrize("agent", ["dqn", "ppo"])
def test_weights_that_break_in_the_very_last_update_are_found(
    agent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = cell_of(agent, "none")
    folder = store.CellFolder(tmp_path / "whole")
    runner.run_cell(cell, folder, PROVENANCE)
    updates = json.loads((tmp_path / "whole" / "done.json").read_text())["updates"]
    in_the_weights("weights", float("nan"), Once(updates), monkeypatch)
    assert runner.run_cell(cell, store.CellFolder(tmp_path / "cut"), PROVENANCE) == "diverged"
    assert "weights" in json.loads((tmp_path / "cut" / "done.json").read_text())["reason"]
