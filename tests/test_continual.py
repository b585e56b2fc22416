"""The continual Gym Control protocol: its episodes, its shift, its metric."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

from rlplastic import registry, runner, store
from rlplastic.envs.continual import ContinualControl
from rlplastic.envs.schedules import Periodic
from rlplastic.envs.shifts_observation import Offset
from rlplastic.envs.stream import Stream
from rlplastic.errors import UsageError
from rlplastic.metrics.study import Study
from rlplastic.plan import make_plan
from rlplastic.planfile import write_plan
from rlplastic.reading import read
from rlplastic.report import write_report
from rlplastic.request import Request
from rlplastic.suitefile import load_suite, preset, suite_files


def lengths(base, actions, steps):
    """Lengths of the episodes of a single copy, and how each ended."""
    found, since = [], 0
    for number in range(steps):
        step = base.step(np.array([actions(number)]))
        since += 1
        if step.terminated[0] or step.truncated[0]:
            found.append((since, bool(step.terminated[0])))
            since = 0
    return found


def test_an_episode_ends_after_400_steps_whatever_gymnasiums_limit():
    base = ContinualControl(game="MountainCar").make(1)  # Gymnasium: 200
    base.reset([0])
    assert lengths(base, lambda _: 1, 1600) == [(400, False)] * 4


def test_an_iteration_cuts_the_episode_in_progress():
    base = ContinualControl(game="CartPole").make(1)
    base.reset([0])
    found = lengths(base, lambda _: 0, 4000)  # falls within some ten steps
    ends = np.cumsum([length for length, _ in found])
    assert {800, 1600, 2400, 3200, 4000} <= set(ends)
    cut = [end for end, (_, terminated) in zip(ends, found, strict=True) if not terminated]
    assert 1 <= len(cut) <= 5  # an episode may end by itself just there
    assert all(end % 800 == 0 for end in cut)


def test_iterations_are_counted_from_the_seeded_reset():
    base = ContinualControl(game="MountainCar").make(1)
    base.reset([0])
    lengths(base, lambda _: 1, 700)
    base.reset()
    assert lengths(base, lambda _: 1, 200) == [(100, False)]
    base.reset([0])
    assert lengths(base, lambda _: 1, 800) == [(400, False)] * 2


def test_within_an_episode_it_is_gymnasiums_own_environment():
    base, env = ContinualControl(game="CartPole").make(1), CartPoleEnv()
    np.testing.assert_array_equal(base.reset([7])[0], env.reset(seed=7)[0])
    rng = np.random.default_rng(0)
    for _ in range(700):
        action = int(rng.integers(2))
        step, theirs = base.step(np.array([action])), env.step(action)
        assert step.final[0].tobytes() == theirs[0].tobytes()
        assert (step.reward[0], step.terminated[0]) == theirs[1:3]
        if step.terminated[0]:
            env.reset()


def test_the_learner_is_paid_a_twentieth_and_the_record_is_not():
    seen = []
    stream = Stream(
        ContinualControl(game="CartPole").make(1),
        [Offset()],
        Periodic(period=800, phases=2),
        reward_scale=20.0,
        listener=seen.append,
    )
    stream.reset()
    paid = [float(stream.step(np.array([n % 2]))[1][0]) for n in range(1600)]
    assert set(paid) == {float(np.float32(1 / 20))}
    assert all(episode.task_return == episode.length for episode in seen)
    assert not any(episode.cut for episode in seen)  # the iteration ends where the phase does
    assert stream.at(1, ContinualControl(game="CartPole").make(1)).reward_scale == 20.0


@pytest.mark.parametrize("name", ["CartPole", "Acrobot", "MountainCar"])
def test_every_dimension_is_moved_by_the_same_sigma_and_the_first_task_by_none(name):
    task = load_suite("Control-Offset").tasks[f"{name}-observation"]
    (spec,) = task.shifts
    base = ContinualControl(game=name).make(1)
    moved = np.stack(
        [
            Offset(sigma=spec["sigma"]).bind(base, seed, 0).content(np.array([1]))[0]
            for seed in range(400)
        ]
    )
    assert spec["sigma"] == (0.02 if name == "MountainCar" else 2.0)
    np.testing.assert_allclose(moved.std(axis=0), spec["sigma"], rtol=0.15)
    stream = Stream(base, [Offset(sigma=spec["sigma"])], Periodic(period=800, phases=2), seed=3)
    first = stream.reset()
    np.testing.assert_array_equal(first, base.reset(stream._derived_seeds(0)))


def test_the_suite_is_the_published_protocol():
    suite = load_suite("Control-Offset")
    full = suite.budgets["full"]
    assert (full.phases, full.period["ppo"]) == (10, 200 * 800)
    assert (suite.reward_scale, suite.boundary) == (20.0, "truncate")
    settings = preset("ppo", suite.family, "ContinualControl")
    assert settings["num_envs"] * settings["n_steps"] == ContinualControl.iteration == 800
    assert (settings["hidden"], settings["batch_size"]) == ([256] * 3, 32)
    assert (settings["n_epochs"], settings["learning_rate"]) == (5, 1e-3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two tasks of two iterations each, lived through by a small agent and its newborns."""
    root = tmp_path_factory.mktemp("offset")
    text = suite_files()["Control-Offset"].read_text().replace("8_000", "1_600")
    (root / "Control-Offset.toml").write_text(text)
    request = Request(
        agents=["ppo"],
        regs=["none"],
        env=str(root / "Control-Offset.toml"),
        budget="smoke",
        settings=["ppo.hidden=[8]", "ppo.n_epochs=1"],
    )
    plan, results = make_plan(request), root / "results"
    write_plan(plan, results)
    for cell in plan.cells:
        runner.run_cell(cell, store.CellFolder(results / cell.id), {})
    return results


def by_hand(rows: Path, phases) -> float:
    """Mean over iterations of the mean return of an iteration's episodes, as C-CHAIN logs it."""
    episodes = [json.loads(line) for line in rows.read_text().splitlines()]
    episodes = [row for row in episodes if row["kind"] == "episode" and row["phase"] in phases]
    found: dict[int, list[float]] = {}
    for row in episodes:
        assert row["begin"] // 800 == (row["end"] - 1) // 800
        found.setdefault(row["begin"] // 800, []).append(row["return"])
    assert len(found) == 2 * len(phases)
    return float(np.mean([np.mean(returns) for returns in found.values()]))


def test_the_metric_is_the_protocols_to_the_letter(folder):
    study, task = Study(read(folder)), "CartPole-observation"
    for seed in (0, 1):
        (rows,) = folder.glob(f"{task}/ppo/none/{seed}-*/rows.jsonl")
        (born,) = folder.glob(f"{task}/ppo/none+fresh/{seed}-*/rows.jsonl")
        assert study.score("whole_run_mean", task, "ppo", "none", seed) == pytest.approx(
            by_hand(rows, (0, 1))
        )
        oracle = (by_hand(rows, (0,)) + by_hand(born, (1,))) / 2
        assert study.score("whole_run_mean", task, "ppo", "none+fresh", seed) == pytest.approx(
            oracle
        )


def test_the_report_shows_the_metric_and_gives_no_verdict(folder):
    study, task = Study(read(folder)), "CartPole-observation"
    write_report(folder)
    text = (folder / "report.md").read_text()
    assert "No verdict: a published protocol with a metric of its own, whole_run_mean." in text
    section = text.partition("## ppo")[2].partition("\n### ")[0]
    arms = {
        line.split(" | ")[1]: line.split(" | ")[2:] for line in section.splitlines() if task in line
    }
    assert list(arms) == ["none", "none+fresh"]
    mean = np.mean([study.score("whole_run_mean", task, "ppo", "none", seed) for seed in (0, 1)])
    assert float(arms["none"][0].split(" ")[0]) == pytest.approx(mean, abs=0.51)
    assert arms["none"][1] == "reference"
    assert arms["none+fresh"][1][0] in "+-0"
    assert "The metric of the published protocol" in (folder / "report.html").read_text()


def test_other_suites_keep_their_cells_and_their_curves():
    plan = make_plan(Request(agents=["ppo"], regs=["none"], env="Control-Shifted", budget="smoke"))
    assert not {"reward_scale", "metric"} & (set(plan.protocol) | set(plan.cells[0].stream))
    assert not any("iteration" in facts for facts in plan.tasks.values())
    assert "CartPole-observation/ppo/none/0-4cc3cfe0" in {cell.id for cell in plan.cells}


@pytest.mark.parametrize("budget", ["smoke", "small", "full"])
@pytest.mark.parametrize(
    ("name", "track", "tasks"),
    [
        ("Control-Shifted", "dynamics", 3),
        ("Control-Shifted", "action", 2),
        ("Atari-Shifted", "action", 3),
    ],
)
def test_other_tracks_are_run_by_name_alone(name, track, tasks, budget):
    suite = load_suite(name)
    chosen = suite.select(suite.budgets[budget].tasks)
    assert {task.track for task in chosen.values()} == {"observation", "reward", "stationary"}
    assert len(suite.select([f"*-{track}"])) == tasks


def test_exchanged_actions_are_to_newborns_and_random_play_what_nothing_shifted_is():
    for suite in (load_suite("Control-Shifted"), load_suite("Atari-Shifted")):
        for name, task in suite.select(["*-action"]).items():
            control = suite.tasks[name.replace("-action", "-stationary")]
            assert task.random == control.random
            for agent, pilot in task.agents.items():
                assert pilot.scale == control.agents[agent].scale
    request = Request(agents=["ppo"], regs=["none"], env="Control-Shifted/*-action")
    chance = [cell for cell in make_plan(request).cells if cell.agent == "random"]
    assert [cell.stream["schedule"]["worlds"] for cell in chance] == [[0], [0]]


def test_a_metric_that_does_not_exist_is_refused(tmp_path):
    text = suite_files()["Control-Offset"].read_text().replace("whole_run_mean", "whole_run_men")
    (tmp_path / "Mine.toml").write_text(text)
    with pytest.raises(
        UsageError, match="unknown metric 'whole_run_men'. Did you mean 'whole_run_"
    ):
        load_suite(str(tmp_path / "Mine.toml"))


def test_a_lander_without_box2d_is_refused_with_the_line_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "Box2D", None)
    for name in ("gymnasium.envs.box2d.lunar_lander", "rlplastic.envs.lander"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(UsageError, match=r"pip install 'rlplastic\[box2d\]'"):
        ContinualControl(game="LunarLander").make(1)
    assert registry.find("environment", "ContinualControl").summary
