"""Tasks that a suite does not state but makes when they are asked for: any game of ALE."""

from __future__ import annotations

import pytest

from rlplastic.errors import UsageError
from rlplastic.metrics.study import Study
from rlplastic.plan import Plan, Request, make_plan
from rlplastic.reading import read
from rlplastic.suite import FOLDER, load_suite


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
