"""Tasks that a suite does not state but makes when they are asked for: any game of ALE."""

from __future__ import annotations

import re
import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from ale_py import roms
from gymnasium.error import NameNotFound

from rlplastic.envs.atari import Atari
from rlplastic.envs.tasks import PREFIX, find_subjects
from rlplastic.errors import UsageError
from rlplastic.metrics.study import Study
from rlplastic.plan import Plan, make_plan
from rlplastic.reading import read
from rlplastic.request import Request
from rlplastic.suite import FOLDER
from rlplastic.suitefile import load_suite


def plan(pattern: str, budget: str = "smoke") -> Plan:
    return make_plan(
        Request(agents=["dqn"], regs=["none"], env=f"Atari-Shifted/{pattern}", budget=budget)
    )


def test_any_game_has_an_observation_track_and_its_control() -> None:
    found = plan("MsPacman-*")
    assert list(found.tasks) == ["MsPacman-observation", "MsPacman-stationary"]
    for cell in found.cells:
        assert cell.stream["base"]["game"] == "ms_pacman"
        shifts = [shift["name"] for shift in cell.stream["shifts"]]
        assert shifts == (["tiles"] if cell.task == "MsPacman-observation" else [])
    for facts in found.tasks.values():
        assert facts["normalise"]["high"] == 6951.6
        assert facts["agents"]["dqn"]["scale"] == 6644.3  # 6951.6 - 307.3


def test_commas_separate_patterns_and_stated_tasks_come_first_and_as_they_are_stated() -> None:
    tasks = plan("Pong-observation,Gopher-*,Boxing-reward").tasks
    assert list(tasks) == [
        "Gopher-observation",
        "Gopher-reward",
        "Gopher-action",
        "Gopher-stationary",
        "Boxing-reward",
        "Pong-observation",
    ]
    assert tasks["Gopher-observation"]["random"]  # measured: the stated one
    assert set(plan("*-observation").tasks) == {
        "SpaceInvaders-observation",
        "Gopher-observation",
        "Boxing-observation",
    }


def test_a_made_task_is_made_as_the_stated_ones_are() -> None:
    suite = load_suite("Atari-Shifted")
    assert suite.others is not None
    made = suite.others.tasks()
    for name, task in suite.tasks.items():
        if task.track in suite.others.shifts:
            assert (made[name].base, made[name].shifts) == (task.base, task.shifts)
    assert len(made) == 2 * len({task.base["game"] for task in made.values()}) > 200
    assert all(FOLDER.fullmatch(name) for name in made)
    assert suite.others.scores.keys() <= {task.base["game"] for task in made.values()}


def test_a_game_that_nobody_has_scored_has_no_scale_and_the_plan_says_so(tmp_path) -> None:
    found = plan("Pooyan-observation")
    assert found.tasks["Pooyan-observation"]["normalise"] is None
    assert found.tasks["Pooyan-observation"]["agents"] == {}
    assert any("no scale and no score: Pooyan-observation" in note for note in found.notes)
    from rlplastic.planfile import write_plan

    write_plan(found, tmp_path)
    study = Study(read(tmp_path))
    assert not study.measurable("Pooyan-observation", "dqn")


IDS = {env_id: spec for env_id, spec in gymnasium.registry.items() if env_id.startswith(PREFIX)}


def test_every_game_of_ale_has_an_id() -> None:
    games = {
        spec.kwargs["base"] for spec in IDS.values() if spec.kwargs["suite"] == "Atari-Shifted"
    }
    names = {"".join(map(str.capitalize, game.split("_"))) for game in Atari.choices()}
    assert games == names
    assert len(names) > 100
    assert {f"rlplastic/{name}-Shifted-v0" for name in names} <= IDS.keys()


def test_ale_plays_every_game_that_has_a_name() -> None:
    # in a process of its own: ALE ends the process when it cannot play a ROM
    opened = (
        "from rlplastic.envs.atari import Atari\n[Atari(game=g).make(1) for g in Atari.choices()]"
    )
    subprocess.run([sys.executable, "-c", opened], check=True)


@pytest.mark.parametrize("game", ["combat", "joust", "maze_craze", "warlords"])
def test_a_game_for_two_players_only_is_refused(game: str) -> None:
    assert roms.get_rom_path(game) is not None  # ALE has it
    with pytest.raises(UsageError, match=f"unknown Atari game '{game}'"):
        Atari(game=game)


def test_an_id_has_a_base_and_a_kind_or_the_base_alone() -> None:
    assert [
        env_id for env_id in IDS if not re.fullmatch(r"rlplastic/\w+(-[\w.]+)?-v0", env_id)
    ] == []
    spirals = gymnasium.make("rlplastic/Spirals-v0", track="stationary", period=100)
    assert spirals.reset(seed=0)[0].shape == spirals.observation_space.shape
    assert "rlplastic/Spirals-v0" in {
        subject.env_id for subject in find_subjects("rlplastic/Spirals-v0")
    }


def test_a_game_that_no_suite_states_is_made_by_its_id() -> None:
    env = gymnasium.make("rlplastic/Pong-Shifted-v0", track="observation", period=8, phases=2)
    stream = env.unwrapped.stream
    assert [shift.name for shift in stream.shifts] == ["tiles"]
    alone = Atari(game="pong").make(1)
    shown, expected = env.reset(seed=3)[0], alone.reset([3])
    for step in range(8):
        np.testing.assert_array_equal(shown[-1], expected[0, -1])
        assert (step, env.unwrapped.phase) == (step, 0)
        shown, _, terminated, truncated, _ = env.step(step % 6)
        expected = alone.step(np.array([step % 6])).observation
        assert (terminated, truncated) == (False, step == 7)
    first = env.reset()[0]
    assert env.unwrapped.world == 1
    blank = alone.reset(stream._derived_seeds(1))
    assert not np.array_equal(first[-1], blank[0, -1])
    np.testing.assert_array_equal(np.sort(first[-1], axis=None), np.sort(blank[0, -1], axis=None))


@pytest.mark.parametrize(
    ("env_id", "keywords", "error", "words"),
    [
        ("rlplastic/Pung-Shifted-v0", {}, NameNotFound, "Did you mean: `Pong-Shifted`"),
        ("rlplastic/MsPackman-Shifted-v0", {}, NameNotFound, "`MsPacman-Shifted`"),
        (
            "rlplastic/Pong-Shifted-v0",
            {"track": "reward"},
            UsageError,
            "unknown track of Pong 'reward'",
        ),
        ("rlplastic/Pong-Shifted-v0", {"track": "observations"}, UsageError, "mean 'observation'"),
    ],
)
def test_an_unknown_id_or_track_is_refused_with_the_nearest(env_id, keywords, error, words) -> None:
    with pytest.raises(error, match=words):
        gymnasium.make(env_id, **keywords)
    if error is NameNotFound:
        with pytest.raises(UsageError, match=f"Did you mean 'rlplastic/{words.split('`')[1]}-v0'"):
            find_subjects(env_id)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("Pung-observation", "'Pung-observation'. Did you mean 'Pong-observation'"),
        ("Ms-Pacman-stationary", "Did you mean 'MsPacman-stationary'"),
        ("Pong-*,Boxing-rewards", "'Boxing-rewards'. Did you mean 'Boxing-reward'"),
    ],
)
def test_a_game_that_ale_does_not_have_is_refused_with_the_nearest(pattern, words) -> None:
    with pytest.raises(UsageError, match=words):
        plan(pattern)
