"""From a request to cells, and from there to plan.json."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import running

from rlplastic import registry, store
from rlplastic.cell import Cell
from rlplastic.errors import UsageError
from rlplastic.plan import Plan, make_plan
from rlplastic.planfile import check_folder, write_plan
from rlplastic.request import Request
from rlplastic.runner import build_stream
from rlplastic.suitefile import load_suite, suite_files


def plan(**changes: Any) -> Plan:
    values: dict[str, Any] = {
        "agents": ["dqn"],
        "regs": ["sam"],
        "env": running.TINY,
        "budget": "tiny",
    }
    return make_plan(Request(**{**values, **changes}))


def arms(cells: list[Cell]) -> Counter[tuple[str, str, str]]:
    return Counter((cell.task, cell.agent, cell.arm) for cell in cells)


def test_every_intervention_brings_none_and_the_newborns_on_the_same_seeds() -> None:
    cells = plan(env=f"{running.TINY}/Cue-observation", seeds=[4, 2]).cells
    learning = [cell for cell in cells if cell.agent == "dqn"]
    names = ("none", "none+fresh", "sam", "sam+fresh")
    assert arms(learning) == {("Cue-observation", "dqn", name): 2 for name in names}
    for name in names:
        assert [cell.seed for cell in learning if cell.arm == name] == [4, 2]
    assert len({cell.id for cell in cells}) == len(cells)
    assert len({cell.random_seed("stream") for cell in learning}) == 2


def test_nothing_is_planned_twice() -> None:
    once = plan(regs=["none", "sam"], seeds=[0, 1])
    twice = plan(
        agents=["dqn", "dqn"], regs=["sam", "none", "sam:rho=0.05", "none+sam"], seeds=[0, 1, 0]
    )
    assert [cell.id for cell in twice.cells] == [cell.id for cell in once.cells]


def test_the_random_reference_comes_first_and_visits_every_world_that_can_change_its_return() -> (
    None
):
    cells = plan().cells
    random = [cell for cell in cells if cell.agent == "random"]
    assert cells[: len(random)] == random
    worlds = {cell.task: cell.stream["schedule"]["worlds"] for cell in random}
    assert worlds == {"Cue-observation": [0], "Corridor-reward": [0, 1]}


def test_settings_reach_the_cells_in_their_types() -> None:
    changed = plan(settings=["dqn.learning_rate=3e-4", "dqn.hidden=[8,4]", "dqn.fused=false"])
    for cell in changed.cells[2:]:
        assert cell.hyperparameters["learning_rate"] == 3e-4
        assert cell.hyperparameters["hidden"] == [8, 4]
        assert cell.hyperparameters["fused"] is False
    same = plan(settings=["dqn.learning_rate=0.001"])  # what the preset says anyway
    assert [cell.id for cell in same.cells] == [cell.id for cell in plan().cells]


def test_a_plan_is_plain_json_and_the_same_every_time() -> None:
    cells = plan(agents=["dqn", "ppo"]).cells
    for cell in cells:
        assert json.loads(store.canonical(cell.identity)) == cell.identity
    assert [cell.id for cell in plan(agents=["dqn", "ppo"]).cells] == [cell.id for cell in cells]


@pytest.mark.parametrize("name", suite_files())
def test_every_suite_can_be_planned_in_every_budget(name: str) -> None:
    suite = load_suite(name)
    for budget, values in suite.budgets.items():
        agents = [agent for agent in values.period if agent != "random"]
        found = make_plan(Request(agents=agents, regs=["sam"], env=name, budget=budget))
        assert found.seconds(found.cells) > 0
        assert found.bytes(found.cells) > 0
        for cell in found.cells:
            assert cell.num_steps > 0
            assert set(Path(cell.id).parts).isdisjoint({"..", "/"})


def test_a_suite_file_can_be_anywhere_and_take_a_pattern(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "Mine.toml").write_text(Path(running.TINY).read_text())
    monkeypatch.chdir(tmp_path)
    assert len(plan(env="deep/Mine.toml").tasks) == 2
    assert list(plan(env="deep/Mine.toml/Corr*").tasks) == ["Corridor-reward"]
    assert plan(env="./deep/Mine.toml/Corr*").name == "Mine"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("[tasks.Cue-observation]", '[tasks."../../x"]', "'../../x' becomes the name of a folder"),
        ("[tasks.Cue-observation]", '[tasks."a/b"]', "becomes the name of a folder"),
        ("[tasks.Cue-observation]", '[tasks."a\\nb"]', "becomes the name of a folder"),
        ("[tasks.Cue-observation]", f'[tasks."{"x" * 300}"]', "becomes the name of a folder"),
        ("[budgets.tiny]", '[budgets.".."]', "becomes the name of a folder"),
        ('family = "toy"', "family = 7", "family = 7"),
        ('family = "toy"', "famly = 7", "Did you mean 'family'?"),
        ('family = "toy"', 'family = "tyo"', "Did you mean 'toy'?"),
        ('track = "reward"', 'trak = "reward"', "trak is no key here. Did you mean 'track'?"),
        ('track = "reward"', "", "tasks.Corridor-reward.track is missing"),
        ('track = "reward"', 'track = "rewad"', "Did you mean 'reward'?"),
        ('track = "reward"', 'track = "stationary"', "the track 'stationary' has none"),
        ('shifts = [{ name = "goal" }]', "", "every other at least one"),
        ("high = 10.0", "high = 5.0", "random and high are both 5"),
        ("worlds = 2", "worlds = 2, period = 9", "schedule.period = 9: belongs to the budget"),
        ('by hand: 10 - 5" }', 'by hand", stream = "0" }', "was measured on another base"),
        ('name = "inversion"', 'name = "inversoin"', "Did you mean 'inversion'?"),
        ("worlds = 2", "worlds = 1", "greater than or equal to 2"),
        ("phases = 2", "phases = 1", "phases = 1"),
        ("period = { dqn = 256", "period = { dqn = 255", "not a multiple of its rollout"),
        (", random = 256", "", "needs a period for 'random'"),
        ("seeds = 1", "seeds = [", "not valid TOML"),
    ],
)
def test_a_wrong_suite_is_refused(tmp_path: Path, old: str, new: str, expected: str) -> None:
    text = Path(running.TINY).read_text()
    assert old in text
    path = tmp_path / "Wrong.toml"
    path.write_text(text.replace(old, new))
    with pytest.raises(UsageError) as error:
        plan(env=str(path))
    assert expected in str(error.value)
    assert len(str(error.value).splitlines()) <= 5


def test_a_pilot_measures_any_suite_and_keeps_what_it_was_not_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "Mine.toml"
    tables = [line for line in Path(running.TINY).read_text().splitlines() if "agents." not in line]
    file.write_text("\n".join(tables).replace("[budgets.short]", "[budgets.small]") + "\n")

    def pilot(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "rlplastic.benchmarks.pilot", str(file), *words],
            env=running.environment(),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    done = pilot("--agents", "dqn", "--tasks", "Cue-*", "--workers", "1")
    assert done.returncode == 0, done.stderr
    measured = load_suite(str(file)).tasks["Cue-observation"].agents["dqn"]
    assert len(measured.newborn_end) == 5
    assert len(measured.newborn_curve) == 10
    assert measured.scale == pytest.approx(10 - 5 if not measured.measurable else measured.scale)
    before = file.read_text()
    done = pilot("--agents", "", "--tasks", "Corridor-*")
    assert done.returncode == 0, done.stderr
    assert file.read_text().startswith(before)
    assert set(load_suite(str(file)).tasks["Corridor-reward"].random) == {"0", "1"}
    file.write_text(before.replace('"inversion"', '"offset"'))
    refused = pilot()
    assert refused.returncode == 2
    assert "was measured on another base or other shifts" in refused.stderr
    assert len(refused.stderr.splitlines()) <= 5
    by_hand = "[tasks.Cue-observation.agents.ppo]\nscale = 5\nscale_source = 'me'\n"
    file.write_text("\n".join([*tables, by_hand]).replace("[budgets.short]", "[budgets.small]"))
    before = file.read_text()
    refused = pilot("--agents", "ppo")
    assert refused.returncode == 2
    assert "tasks.Cue-observation.agents.ppo is stated by hand" in refused.stderr
    assert file.read_text() == before


# -- plan.json -------------------------------------------------------------------------------


def test_what_is_written_is_everything_that_analysis_needs(tmp_path: Path) -> None:
    made = plan()
    write_plan(made, tmp_path)
    written = json.loads((tmp_path / "plan.json").read_text())
    assert written["schema"] == store.SCHEMA
    assert written["name"] == "Tiny"
    assert written["protocol"] == made.protocol
    assert written["protocol"]["period"] == {"dqn": 256}
    assert written["tasks"]["Cue-observation"]["agents"]["dqn"]["scale"] == 5.0
    assert [cell["id"] for cell in written["cells"]] == [cell.id for cell in made.cells]
    assert [Cell(**cell["cell"]).id for cell in written["cells"]] == [c.id for c in made.cells]


def test_the_same_plan_again_changes_nothing_and_a_part_of_it_neither(tmp_path: Path) -> None:
    write_plan(plan(), tmp_path)
    before = running.contents(tmp_path)
    write_plan(plan(), tmp_path)
    write_plan(plan(env=f"{running.TINY}/Cue-observation", regs=["none"]), tmp_path)
    assert running.contents(tmp_path) == before


def test_agents_regs_tasks_and_seeds_may_be_added(tmp_path: Path) -> None:
    changes: list[dict[str, Any]] = [
        {"env": f"{running.TINY}/Cue-observation"},
        {"regs": ["sam:rho=0.1"]},
        {"agents": ["ppo"], "settings": ["ppo.learning_rate=1e-4"]},
        {"seeds": [5]},
    ]
    expected: dict[str, None] = {}
    for change in changes:
        write_plan(plan(**change), tmp_path)
        expected |= dict.fromkeys(cell.id for cell in plan(**change).cells)
    written = json.loads((tmp_path / "plan.json").read_text())
    assert [cell["id"] for cell in written["cells"]] == list(expected)
    assert set(written["tasks"]) == {"Cue-observation", "Corridor-reward"}
    assert written["protocol"]["period"] == {"dqn": 256, "ppo": 256}
    assert written["protocol"]["settings"] == {"dqn": {}, "ppo": {"learning_rate": "1e-4"}}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"budget": "short"}, "protocol.budget is 'tiny' there and 'short' here"),
        ({"budget": "short", "agents": ["ppo"]}, "budget is 'tiny' there"),
        ({"env": "Toy-Shifted", "budget": "smoke"}, "suite is 'Tiny' there"),
        ({"settings": ["dqn.gamma=0.5"]}, "settings.dqn.gamma is None there and '0.5' here"),
    ],
)
def test_two_experiments_never_meet_in_one_folder(
    tmp_path: Path, change: dict[str, Any], expected: str
) -> None:
    write_plan(plan(env=f"{running.TINY}/Cue-observation"), tmp_path)
    before = running.contents(tmp_path)
    other = plan(**{"env": f"{running.TINY}/Corridor-reward", **change})
    for refuse in (check_folder, write_plan):
        with pytest.raises(UsageError) as error:
            refuse(other, tmp_path)
        assert expected.removeprefix("protocol.") in str(error.value)
        assert "choose another --out" in str(error.value)
    assert running.contents(tmp_path) == before


def test_an_edited_plugin_is_another_experiment(tmp_path: Path) -> None:
    source = """
        @registry.intervention("mine")
        @dataclass(frozen=True, kw_only=True)
        class Mine(Intervention):
            "Does {what}."
        """
    file = running.write_plugin(tmp_path, source.replace("{what}", "one thing"))
    ids = []
    for what in ("one thing", "another"):
        running.write_plugin(tmp_path, source.replace("{what}", what))
        with running.no_plugins():
            registry.add_plugin(file)
            mine = plan(regs=["mine"], env=f"{running.TINY}/Cue-observation")
            used = {cell.arm: cell.sources for cell in mine.cells if cell.agent == "dqn"}
            assert used["none"] == used["none+fresh"] == {}  # the arms that do not use it stay
            assert set(used["mine"]) == set(used["mine+fresh"]) == {"intervention mine"}
            ids.append({cell.id for cell in mine.cells if cell.reg == "mine"})
            if what == "one thing":
                write_plan(mine, tmp_path / "results")
                continue
            with pytest.raises(UsageError, match="sources.intervention mine") as error:
                write_plan(mine, tmp_path / "results")
            assert "choose another --out" in str(error.value)
    assert not ids[0] & ids[1]


def test_a_phase_that_does_not_begin_with_a_rollout_is_refused(tmp_path: Path) -> None:
    source = """
        @registry.schedule("uneven")
        @dataclass(frozen=True, kw_only=True)
        class Uneven:
            "Phases of uneven length."
            period: int
            phases: int
            def start(self, phase): return phase * self.period + 100 * (0 < phase < self.phases)
            def world(self, phase): return phase % 2
        """
    file = running.write_plugin(tmp_path, source)
    suite = Path(running.TINY).read_text().replace('"cyclic", worlds = 2', '"uneven"')
    (tmp_path / "Uneven.toml").write_text(suite)
    with running.no_plugins():
        registry.add_plugin(file)
        request = {"env": f"{tmp_path}/Uneven.toml/Cue-observation", "agents": ["ppo"]}
        with pytest.raises(
            UsageError, match="phase 1 of schedule 'uneven' begins at step 356"
        ) as e:
            plan(**request)
        assert "ppo" in str(e.value)
        assert "nearest that is: 384" in str(e.value)


SUPERVISED = {"env": "MNIST-Permuted/MNIST-observation", "budget": "smoke", "agents": ["mlp"]}


@pytest.mark.parametrize(("size", "near"), [(200, [160]), (100, [80, 160]), (50, [40, 80])])
def test_a_minibatch_that_would_cut_an_episode_is_refused(size: int, near: list[int]) -> None:
    with pytest.raises(UsageError) as error:
        plan(**SUPERVISED, settings=[f"mlp.num_envs={size}"])
    choices = [f"--set mlp.num_envs={n}" for n in near]
    assert str(error.value).endswith(
        f"with num_envs = {size} has {4000 // size} minibatches in phases of 4000 steps (period "
        "4000). An episode is 25 of them, so the boundary would cut one, whose return is no "
        f"accuracy. Nearest valid: {' or '.join(choices)} or phases of a multiple of {size * 25} "
        "steps"
    )
    for n in near:
        stream = build_stream(plan(**SUPERVISED, settings=[f"mlp.num_envs={n}"]).cells[-2])
        episodes: list[Any] = []
        stream.listener = episodes.append
        stream.reset()
        while stream.phase == 0:
            stream.step(np.zeros(n, dtype=int))
        assert {(e.length, e.cut) for e in episodes} == {(25, False)}
        assert sum(e.length for e in episodes) == 4000


def test_random_answers_may_be_cut_if_one_episode_is_whole(tmp_path: Path) -> None:
    text = suite_files()["MNIST-Permuted"].read_text()
    period = "period = { mlp = 4_000, cnn = 4_000, random = 4_000 }"
    assert period in text
    file = tmp_path / "Mine.toml"
    for length, fits in ((1_600, True), (800, False)):  # of 32 minibatches of 50, and of 16
        file.write_text(text.replace(period, period.replace("4_000", str(length)), 1))
        request = {**SUPERVISED, "env": f"{file}/MNIST-observation"}
        if fits:
            assert plan(**request).cells[0].agent == "random"
            continue
        with pytest.raises(UsageError, match=r"agent 'random' .* phases of a multiple of 1250"):
            plan(**request)


def test_an_edited_suite_is_another_experiment(tmp_path: Path) -> None:
    suite = tmp_path / "Tiny.toml"
    suite.write_text(Path(running.TINY).read_text())
    write_plan(plan(env=str(suite)), tmp_path / "results")
    suite.write_text(suite.read_text().replace('name = "inversion"', 'name = "offset"'))
    with pytest.raises(UsageError, match=r"Cue-observation .* other settings: stream.shifts"):
        check_folder(plan(env=str(suite)), tmp_path / "results")


@pytest.mark.parametrize("text", ["", "{", "\x00"])
def test_a_broken_plan_file_is_not_overwritten(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(UsageError, match="cannot be read"):
        write_plan(plan(), tmp_path)
    assert (tmp_path / "plan.json").read_text() == text
