"""One cell: lives, phases, boundaries and what is recorded of them."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from stable_baselines3.common.logger import Logger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rlplastic import life, probes, runner, store
from rlplastic.agents.dqn import DQN
from rlplastic.envs.schedules import phase_at
from rlplastic.errors import UsageError
from rlplastic.plan import make_plan
from rlplastic.request import Request


def cell_of(agent, reg="none", *, fresh=False, phases=3, task="Corridor-observation", seed=0):
    """A short cell of the toy suite: phases of 1,024 steps."""
    plan = make_plan(
        Request(agents=[agent], regs=[reg], env=f"Toy-Shifted/{task}", budget="smoke", seeds=[seed])
    )
    (cell,) = (c for c in plan.cells if (c.agent, c.reg, c.fresh) == (agent, reg, fresh))
    schedule = {**cell.stream["schedule"], "period": 1024, "phases": phases}
    return replace(cell, stream={**cell.stream, "schedule": schedule})


def run(cell, path):
    status = runner.run_cell(cell, store.CellFolder(path), {})
    rows = [json.loads(line) for line in (path / "rows.jsonl").read_text().splitlines()]
    return status, rows, json.loads((path / "done.json").read_text())


def of_phase(rows, phase, kinds=("episode", "phase")):
    return [row for row in rows if row["phase"] == phase and row["kind"] in kinds]


@pytest.mark.parametrize("agent", ["dqn", "ppo"])
@pytest.mark.parametrize("reg", ["none", "sam"])
def test_phase_0_of_an_arm_is_its_newborn_run_alone_byte_for_byte(agent, reg, tmp_path):
    _, life, _ = run(cell_of(agent, reg), tmp_path / "life")
    _, alone, _ = run(cell_of(agent, reg, phases=1), tmp_path / "alone")
    (phase,) = of_phase(alone, 0, ("phase",))
    assert phase["updates"] > 100
    assert of_phase(life, 0) == of_phase(alone, 0)
    # and the newborn of a later phase starts from other weights, in the same worlds
    _, fresh, _ = run(cell_of(agent, reg, fresh=True), tmp_path / "fresh")
    assert {row["phase"] for row in fresh} == {1, 2}
    assert of_phase(fresh, 1, ("phase",))[0]["digest"] != phase["digest"]


@pytest.mark.parametrize("agent", ["dqn", "ppo"])
def test_a_newborn_knows_nothing_of_the_lives_before_it(agent, tmp_path, monkeypatch):
    cell = cell_of(agent, "sam", fresh=True)
    _, both, _ = run(cell, tmp_path / "both")
    monkeypatch.setattr(runner, "lives_of", lambda cell: [(2, 3)])
    _, last, _ = run(cell, tmp_path / "last")
    assert of_phase(both, 2) == of_phase(last, 2) != []


@pytest.mark.parametrize("agent", ["dqn", "ppo"])
def test_the_same_cell_gives_the_same_bytes_and_probes_change_none_of_them(
    agent, tmp_path, monkeypatch
):
    cell = cell_of(agent, "sam", phases=2)
    _, rows, done = run(cell, tmp_path / "a")
    _, _, again = run(cell, tmp_path / "b")
    assert (done["sha256"], done["digest"]) == (again["sha256"], again["digest"])
    moments = {row["moment"] for row in rows if row["kind"] == "probe"}
    assert moments == {"before", "after", "during"}
    monkeypatch.setattr(life, "measure", lambda agent, which: {})
    _, without, plain = run(cell, tmp_path / "c")
    assert plain["digest"] == done["digest"]
    assert without == [row for row in rows if row["kind"] != "probe"]


@pytest.mark.parametrize("agent", ["dqn", "ppo"])
def test_full_probes_stand_at_the_boundaries_only_and_change_nothing_else(agent, tmp_path):
    cell = cell_of(agent, "sam", phases=2)
    full = replace(cell, probes="full")
    assert full.id == cell.id
    _, rows, done = run(cell, tmp_path / "default")
    _, more, same = run(full, tmp_path / "full")
    assert same["digest"] == done["digest"]
    costly = set(probes.names("full")) - set(probes.names())
    without = {"dqn": {"policy_entropy"}, "ppo": set()}[agent]  # what does not apply to it
    by_name = [(row.get("name", "").partition("/")[0], row) for row in more]
    assert [row for name, row in by_name if name not in costly] == rows
    found = {(name, row["moment"]) for name, row in by_name if name in costly}
    assert found == {(name, moment) for name in costly - without for moment in ("before", "after")}


def test_arms_of_one_seed_see_the_same_worlds_and_other_seeds_see_others():
    cells = [cell_of("dqn"), cell_of("dqn", "sam", fresh=True), cell_of("ppo", "sam")]
    other = cell_of("dqn", seed=1)
    contents = [
        runner.build_stream(cell).shifts[0].content(np.array([1, 2])) for cell in (*cells, other)
    ]
    np.testing.assert_array_equal(contents[0], contents[1])
    np.testing.assert_array_equal(contents[0], contents[2])
    assert not np.allclose(contents[0], contents[3])


def test_episodes_and_phases_tile_the_clock(tmp_path):
    cell = cell_of("ppo")
    status, rows, done = run(cell, tmp_path)
    assert status == done["status"] == "done"
    copies = cell.hyperparameters["num_envs"]
    episodes = [row for row in rows if row["kind"] == "episode"]
    for copy in range(copies):
        own = [row for row in episodes if row["copy"] == copy]
        assert own[0]["begin"] == 0
        assert own[-1]["end"] == 3 * 1024
        for one, two in itertools.pairwise(own):
            assert one["end"] == two["begin"]
        schedule = runner.build_stream(cell).schedule
        for row in own:
            assert row["end"] - row["begin"] == row["length"] * copies
            assert row["phase"] == phase_at(schedule, row["begin"])
            assert row["phase"] == phase_at(schedule, row["end"] - 1)
    phases = [row for row in rows if row["kind"] == "phase"]
    assert [(p["phase"], p["begin"], p["end"]) for p in phases] == [
        (k, 1024 * k, 1024 * (k + 1)) for k in range(3)
    ]
    assert sum(p["updates"] for p in phases) == done["updates"]
    assert done["rows"] == len(rows)


def test_the_replay_memory_is_cleared_at_every_shift_or_kept_as_the_protocol_says(
    tmp_path, monkeypatch
):
    sizes = []
    at_shift = DQN.at_shift

    def spy(self, phase, replay):
        before = self.replay_buffer.size()
        at_shift(self, phase, replay)
        sizes.append((phase, before, self.replay_buffer.size()))

    monkeypatch.setattr(DQN, "at_shift", spy)
    run(cell_of("dqn"), tmp_path / "clear")
    run(replace(cell_of("dqn"), replay="keep"), tmp_path / "keep")
    assert sizes == [(1, 1024, 0), (2, 1024, 0), (1, 1024, 1024), (2, 2048, 2048)]


def test_events_carry_stable_baselines3s_tags_and_ours_on_the_streams_clock(tmp_path):
    wanted = {
        "dqn": {"train/loss", "rollout/exploration_rate"},
        "ppo": {"train/value_loss", "train/policy_gradient_loss", "train/approx_kl"},
    }
    for agent, tags in wanted.items():
        run(cell_of(agent, fresh=True), tmp_path / agent)
        events = EventAccumulator(str(tmp_path / agent / "tensorboard"))
        events.Reload()
        found = set(events.Tags()["scalars"])
        assert tags | {"rollout/ep_rew_mean", "time/fps", "train/learning_rate"} <= found
        assert {"shift/phase", "shift/steps_since", "plasticity/sharpness"} <= found
        steps = [event.step for event in events.Scalars("shift/phase")]
        assert steps == sorted(steps)
        assert min(steps) >= 1024  # a newborn's age is not the clock
        assert max(steps) == 3 * 1024
        values = {e.step: e.value for e in events.Scalars("shift/phase")}
        assert values[max(s for s in steps if s <= 2048)] == 1
        assert values[3 * 1024] == 2


def test_sams_cells_have_made_sam_updates(tmp_path):
    _, _, done = run(cell_of("ppo", "sam", phases=1), tmp_path)
    assert done["interventions"]["sam"]["sam_updates"] == done["updates"] > 0


def test_a_cell_without_a_single_update_fails(tmp_path):
    cell = cell_of("dqn", phases=1)
    cell = replace(cell, hyperparameters={**cell.hyperparameters, "learning_starts": 2000})
    with pytest.raises(runner.NoUpdates, match="learning_starts"):
        run(cell, tmp_path)
    assert store.status_of(tmp_path) == "unfinished"


def test_a_broken_learner_is_recorded_as_diverged_with_what_it_did_before(tmp_path, monkeypatch):
    train = DQN.train

    def poisoned(self, gradient_steps, batch_size=100):
        if self.num_timesteps > 1500:
            self.q_net.q_net[0].weight.data[0, 0] = float("nan")
        train(self, gradient_steps, batch_size)

    monkeypatch.setattr(DQN, "train", poisoned)
    status, rows, done = run(cell_of("dqn"), tmp_path)
    assert status == done["status"] == "diverged"
    assert "gradient norm nan" in done["reason"]
    assert done["phase"] == 1
    assert 1500 < done["step"] <= 1600
    assert len(of_phase(rows, 0, ("phase",))) == 1


def test_weights_beyond_float32_are_a_divergence_even_where_torch_refuses_their_logits(tmp_path):
    cell = cell_of("ppo")
    cell = replace(cell, hyperparameters={**cell.hyperparameters, "learning_rate": 1e30})
    status, _, done = run(cell, tmp_path)
    assert status == "diverged"
    assert done["phase"] == 0


def test_a_finished_cell_is_not_touched_and_an_interrupted_one_starts_anew(tmp_path):
    cell = cell_of("dqn", phases=1)
    _, rows, done = run(cell, tmp_path / "a")
    with pytest.raises(UsageError, match="finished and is not touched"):
        run(cell, tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "rows.jsonl").write_text('{"kind":"epis')
    _, again, redone = run(cell, tmp_path / "b")
    assert again == rows
    assert redone["digest"] == done["digest"]


def test_every_probe_is_finite_on_both_agents_and_named(tmp_path):
    for agent in ("dqn", "ppo"):
        _, rows, _ = run(cell_of(agent, phases=1), tmp_path / agent)
        names = {row["name"] for row in rows if row["kind"] == "probe"}
        assert names == set(probes.names())


def test_random_play_is_recorded_like_an_agent(tmp_path):
    plan = make_plan(
        Request(agents=["dqn"], regs=["sam"], env="Toy-Shifted/Cue-reward", budget="smoke")
    )
    (cell,) = (c for c in plan.cells if c.agent == "random")
    _, rows, done = run(cell, tmp_path)
    assert done["updates"] == 0
    for world in (0, 1):
        returns = [r["return"] for r in rows if r["kind"] == "episode" and r["world"] == world]
        assert np.mean(returns) == pytest.approx(5.0, abs=0.4)  # by hand: 10 fair coins


def test_the_logger_of_a_cell_is_stable_baselines3s():
    assert issubclass(runner.StreamLogger, Logger)
