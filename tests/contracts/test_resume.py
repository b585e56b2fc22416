"""An interrupted cell ends in the bytes of one that was not: every intervention, every agent."""

from __future__ import annotations

import dataclasses

import pytest
import short_cells
from short_cells import PROVENANCE, Killed, cell_of

from rlplastic import registry, runner, store
from rlplastic.checkpoint import Checkpoints
from rlplastic.life import LifeCallback

EAGER = {  # so that what acts now and then has acted, and is about to act, at the boundary
    "every": 30,
    "maturity": 5,
    "rate": 0.01,
    "warmup": 150,
    "cycle": 40,
    "after": 40,
    "threshold": 3,
    "least": 2,
    "refresh": 40,
    "gap": 1.0,
}


def eager(entry):
    """The intervention's spec with options that make it act within a few hundred updates."""
    names = {field.name for field in entry.fields}
    options = ":".join(f"{key}={value}" for key, value in EAGER.items() if key in names)
    return f"{entry.name}:{options}" if options else entry.name


def notes_of(cell, path):
    """Run it to its end; what was said, and how it ended."""
    said = []
    ended = short_cells.run(cell, path, told=said.append)
    return [word["note"] for word in said if "note" in word], ended


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

    folder = store.CellFolder(path)
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "write", write_and_die)
        with pytest.raises(Killed):
            runner.run_cell(cell, folder, PROVENANCE)
    folder._rows.close()  # what is still in its buffer reaches the file, as it might


def same_after(cell, tmp_path, monkeypatch, deaths=(2,)):
    whole = short_cells.run(cell, tmp_path / "whole")
    assert whole.updates > 0
    for after in deaths:
        interrupted(cell, tmp_path / "cut", monkeypatch, after)
    notes, again = notes_of(cell, tmp_path / "cut")
    assert again == whole
    assert not (tmp_path / "cut" / "checkpoint").exists()
    return notes


CASES = [
    pytest.param(entry, agent, id=f"{entry.name}-{agent}")
    for entry in registry.entries("intervention").values()
    for agent in ("dqn", "ppo")
    if agent in (entry.traits.get("agents") or (agent,))
    and "vectors" in (entry.traits.get("observations") or ("vectors",))
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


@pytest.mark.parametrize(
    ("replay", "buffer", "n_steps"), [("clear", 400, 1), ("keep", 100, 3), ("keep", 400, 1)]
)
def test_frames_in_a_replay_memory(replay, buffer, n_steps, tmp_path, monkeypatch):
    cell = cell_of(
        "dqn",
        "redo:every=10",
        env="Atari-Shifted/SpaceInvaders-observation",
        period=128,
        replay=replay,
        buffer_size=buffer,
        n_steps=n_steps,
        target_update_interval=50,
    )
    same_after(cell, tmp_path, monkeypatch)


def test_shifted_frames(tmp_path, monkeypatch):
    env = "Atari-Shifted/SpaceInvaders-reward"
    same_after(cell_of("dqn", "random-shift", env=env, period=128), tmp_path, monkeypatch)


def test_ppo_on_frames(tmp_path, monkeypatch):
    env = "Atari-Shifted/SpaceInvaders-reward"
    same_after(cell_of("ppo", "sam", env=env, period=128), tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("agent", "env"),
    [
        ("dqn", "MinAtar-Shifted/MinAtarBreakout-observation"),
        ("ppo", "MinAtar-Shifted/MinAtarSpaceInvaders-reward"),
        ("dqn", "Control-Shifted/CartPole-reward"),
        ("ppo", "Control-Shifted/Acrobot-observation"),
        ("ppo", "Gather-Shifted/Gather-window"),
        ("dqn", "Forage-Swap/Forage-reward"),
        ("mlp", "MNIST-Permuted/MNIST-observation"),
        ("cnn", "MNIST-Labels/*-reward"),
    ],
)
def test_every_kind_of_world(agent, env, tmp_path, monkeypatch):
    same_after(cell_of(agent, "sam", env=env, period=640), tmp_path, monkeypatch, deaths=(1,))


@pytest.mark.parametrize("reg", ["fs-dgpm:memory=50", "unhinged", "esam", "auto-soft-reset"])
def test_interventions_of_classifiers_go_on_where_they_were(reg, tmp_path, monkeypatch):
    cell = cell_of("mlp", reg, env="MNIST-Permuted/MNIST-observation", period=640)
    assert same_after(cell, tmp_path, monkeypatch) == ["goes on at phase 2"]


@pytest.mark.parametrize("boundary", ["episode", "step"])
def test_streams_whose_copies_change_worlds_in_their_own_time_start_again(
    boundary, tmp_path, monkeypatch
):
    """There is no moment at which all copies are reset, so nothing is saved."""
    cell = cell_of("dqn", "none")
    cell = dataclasses.replace(cell, stream={**cell.stream, "boundary": boundary})
    whole = short_cells.run(cell, tmp_path / "whole")
    folder = store.CellFolder(tmp_path / "cut")
    step = LifeCallback._on_step

    def step_and_die(self):
        if self.watch.clock > 600:
            raise Killed
        return step(self)

    with monkeypatch.context() as patch:
        patch.setattr(LifeCallback, "_on_step", step_and_die)
        with pytest.raises(Killed):
            runner.run_cell(cell, folder, PROVENANCE)
    folder._rows.close()
    assert not (tmp_path / "cut" / "checkpoint").exists()
    assert notes_of(cell, tmp_path / "cut") == ([], whole)
