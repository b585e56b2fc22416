"""A cell's identity and seeds."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlplastic.cell import Cell

STREAM = {"base": {"name": "Cue"}, "schedule": {"name": "periodic", "period": 100, "phases": 4}}


def cell(**changes: Any) -> Cell:
    values: dict[str, Any] = {
        "suite": "Toy",
        "task": "Cue-reward",
        "agent": "dqn",
        "reg": "sam:rho=0.1",
        "seed": 3,
        "stream": STREAM,
        "hyperparameters": {"num_envs": 1, "rate": 0.1},
        "intervention": [{"name": "sam", "rho": 0.1}],
    }
    return Cell(**{**values, **changes})


def test_every_field_is_classified_once() -> None:
    fields = [field.name for field in dataclasses.fields(Cell)]
    assert sorted(Cell.IDENTITY + Cell.RUNTIME) == sorted(fields)
    assert list(cell().identity) == list(Cell.IDENTITY)
    assert list(cell().runtime) == list(Cell.RUNTIME)


@pytest.mark.parametrize(
    "change",
    [
        {"suite": "Other"},
        {"task": "Cue-other"},
        {"agent": "ppo"},
        {"reg": "sam:rho=0.2"},
        {"fresh": True},
        {"seed": 4},
        {"stream": {**STREAM, "clip_reward": True}},
        {"hyperparameters": {"num_envs": 1, "rate": 0.2}},
        {"intervention": [{"name": "sam", "rho": 0.2}]},
        {"replay": "keep"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_can_change_results_changes_the_hash(change: dict[str, Any]) -> None:
    assert next(iter(change)) in Cell.IDENTITY
    assert cell(**change).id.rpartition("-")[2] != cell().id.rpartition("-")[2]


def test_what_cannot_change_results_does_not() -> None:
    assert cell(device="cuda", plugins=["x.py"]).id == cell().id
    reordered = {"schedule": STREAM["schedule"], "base": STREAM["base"]}
    assert cell(stream=reordered).id == cell().id


def test_an_id_that_has_been_published_stays() -> None:
    """Changing how identities are hashed orphans every result on every disk."""
    assert cell().id == "Cue-reward/dqn/sam_rho=0.1/3-163aab1b"


def test_the_identity_survives_json() -> None:
    identity = cell().identity
    assert json.loads(json.dumps(identity)) == identity
    assert Cell(**identity).id == cell().id


@given(st.text(max_size=300))
def test_a_label_never_leaves_its_folder(reg: str) -> None:
    one = cell(reg=reg)
    task, agent, arm, name = one.id.split("/")
    assert (task, agent) == ("Cue-reward", "dqn")
    assert re.fullmatch(r"[A-Za-z0-9=.+_-]{0,120}", arm)
    assert re.fullmatch(r"3-[0-9a-f]{8}", name)


def test_arms_that_share_a_folder_differ_in_the_hash() -> None:
    long = "x" * 200
    one, other = cell(reg=long + "a"), cell(reg=long + "b")
    assert one.slot == other.slot
    assert one.id != other.id


def test_steps_and_phases() -> None:
    assert (cell().num_phases, cell().period, cell().num_steps) == (4, 100, 400)
    assert cell(fresh=True).num_steps == 300
    listed = {"schedule": {"name": "list", "period": 10, "worlds": [0, 2, 1]}}
    assert (cell(stream=listed).num_phases, cell(stream=listed).num_steps) == (3, 30)


def test_arms_share_their_seeds_and_nothing_else_does() -> None:
    purposes, lives, tasks, seeds = ("stream", "agent"), range(4), ("Cue-reward", "x"), range(40)
    drawn = {
        (purpose, life, task, seed): cell(task=task, seed=seed).random_seed(purpose, life)
        for purpose in purposes
        for life in lives
        for task in tasks
        for seed in seeds
    }
    assert len(set(drawn.values())) == len(drawn)
    assert all(0 <= value < 2**31 for value in drawn.values())
    assert not any(value + 1 in set(drawn.values()) for value in drawn.values())
    for change in ({"reg": "none"}, {"fresh": True}, {"agent": "ppo"}, {"suite": "Other"}):
        assert cell(**change).random_seed("stream") == cell().random_seed("stream")
    assert cell().random_seed("stream") == 1947279360
