"""An interrupted cell ends in the bytes of one that was not: every intervention, every agent."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from rlplastic import registry, runner, store
from rlplastic.checkpoint import Checkpoints
from rlplastic.plan import Request, make_plan

EAGER = {  # so that what acts now and then has acted, and is about to act, at the boundary
    "every": 30,
    "maturity": 5,
    "rate": 0.01,
    "warmup": 150,
    "cycle": 40,
}
PROVENANCE = {"provenance": {"versions": {"a": "1"}, "code": "abc"}}


class Killed(BaseException):
    """The end of an attempt."""


def eager(entry):
    """The intervention's spec with options that make it act within a few hundred updates."""
    names = {field.name for field in entry.fields}
    options = ":".join(f"{key}={value}" for key, value in EAGER.items() if key in names)
    return f"{entry.name}:{options}" if options else entry.name


def cell_of(agent, reg, *, fresh=False, env="Toy-Shifted/Corridor-observation", **changes):
    """A cell of three phases, of 256 steps on toys."""
    plan = make_plan(Request(agents=[agent], regs=[reg], env=env, budget="smoke", seeds=[0]))
    cells = [c for c in plan.cells if c.agent == agent and c.fresh == fresh]
    cell = next(c for c in cells if c.reg != "none" or reg == "none")
    period = changes.pop("period", 256)
    schedule = {**cell.stream["schedule"], "period": period, "phases": 3}
    replay = changes.pop("replay", "clear")
    small = {"learning_starts": 20, "batch_size": 16} if agent == "dqn" else {"n_steps": 16}
    if agent == "ppo":
        small |= {"batch_size": 16, "n_epochs": 2}
    parameters = {**cell.hyperparameters, **small, **changes}
    stream = {**cell.stream, "schedule": schedule}
    return replace(cell, stream=stream, hyperparameters=parameters, replay=replay)


def run(cell, path, header=PROVENANCE):
    said = []
    folder = store.CellFolder(path)
    try:
        status = runner.run_cell(cell, folder, header, said.append)
    except Killed:
        folder._rows.close()  # what is still in its buffer reaches the file, as it might
        return "killed", [word["note"] for word in said if "note" in word]
    done = json.loads((path / "done.json").read_text())
    rows = (path / "rows.jsonl").read_bytes()
    notes = [word["note"] for word in said if "note" in word]
    return status, rows, done["digest"], done["updates"], done["interventions"], notes


def interrupted(cell, path, monkeypatch, after):
    """Run it up to just behind its so-many-eth checkpoint."""
    write, count = Checkpoints.write, 0

    def write_and_die(self, *args):
        nonlocal count
        written = write(self, *args)
        count += 1
        if count == after:
            raise Killed
        return written

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "write", write_and_die)
        status, notes = run(cell, path)
    assert status == "killed"
    return notes


def same_after(cell, tmp_path, monkeypatch, deaths=(2,)):
    whole = run(cell, tmp_path / "whole")
    assert whole[3] > 0
    for after in deaths:
        interrupted(cell, tmp_path / "cut", monkeypatch, after)
    again = run(cell, tmp_path / "cut")
    assert again[:-1] == whole[:-1]
    assert not (tmp_path / "cut" / "checkpoint").exists()
    return again[-1]


CASES = [
    pytest.param(entry, agent, id=f"{entry.name}-{agent}")
    for entry in registry.entries("intervention").values()
    for agent in ("dqn", "ppo")
    if agent in entry.traits.get("agents", (agent,))
]


@pytest.mark.parametrize(("entry", "agent"), CASES)
def test_every_intervention_goes_on_where_it_was(entry, agent, tmp_path, monkeypatch):
    notes = same_after(cell_of(agent, eager(entry)), tmp_path, monkeypatch)
    assert notes == ["goes on at phase 2"]


@pytest.mark.parametrize("agent", ["dqn", "ppo"])
def test_newborn_arms_go_on_between_lives(agent, tmp_path, monkeypatch):
    notes = same_after(cell_of(agent, "redo", fresh=True), tmp_path, monkeypatch, deaths=(1,))
    assert notes == ["goes on at phase 2"]


@pytest.mark.parametrize("agent", ["dqn", "ppo"])
def test_a_cell_that_dies_again_and_again(agent, tmp_path, monkeypatch):
    """Behind its first checkpoint, then behind the next: it never falls back."""
    assert same_after(cell_of(agent, "sam"), tmp_path, monkeypatch, deaths=(1, 1)) == [
        "goes on at phase 2"
    ]


@pytest.mark.parametrize("buffer", [100, 400, 10_000])
@pytest.mark.parametrize("n_steps", [1, 3])
def test_a_replay_memory_that_is_kept(buffer, n_steps, tmp_path, monkeypatch):
    cell = cell_of("dqn", "none", replay="keep", buffer_size=buffer, n_steps=n_steps)
    same_after(cell, tmp_path, monkeypatch)


@pytest.mark.parametrize("n_steps", [1, 3])
@pytest.mark.parametrize(("replay", "buffer"), [("clear", 400), ("keep", 100), ("keep", 400)])
def test_frames_in_a_replay_memory(replay, buffer, n_steps, tmp_path, monkeypatch):
    cell = cell_of(
        "dqn",
        "redo:every=10",
        env="Atari-Shifted/SpaceInvaders-observation",
        period=192,
        replay=replay,
        buffer_size=buffer,
        n_steps=n_steps,
        target_update_interval=50,
    )
    same_after(cell, tmp_path, monkeypatch)


def test_ppo_on_frames(tmp_path, monkeypatch):
    env = "Atari-Shifted/SpaceInvaders-reward"
    same_after(cell_of("ppo", "sam", env=env, period=128), tmp_path, monkeypatch)
