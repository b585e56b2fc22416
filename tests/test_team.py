"""Cells whose agents take their turns together: each ends in the bytes that it has alone."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
import running
import short_cells
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from short_cells import PROVENANCE, Killed, outcome
from stable_baselines3.common.callbacks import BaseCallback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_pool import Told, process_of
from test_supervised import learner, stream_of, weights

from rlplastic import pool, registry, runner, store, teams
from rlplastic.agents import team as team_module
from rlplastic.agents.stacked import StackedLinear
from rlplastic.agents.team import Stack, Team
from rlplastic.envs import datasets
from rlplastic.errors import Diverged
from rlplastic.interventions import Interventions, ascent
from rlplastic.life import LifeCallback

torch.set_num_threads(1)
ENV = "MNIST-Permuted/MNIST-observation"
STACKING = sorted(e.name for e in registry.entries("intervention").values() if e.load().stacks)
VARIANTS = ["sam:rho=0.3:every=3:warmup=9", "sam:normalised=false", "sam:scope=head", "gnp:cycle=7"]


@pytest.fixture(autouse=True)
def embedded(monkeypatch):
    monkeypatch.delenv(datasets.VARIABLE, raising=False)


@pytest.fixture
def stacked(monkeypatch):
    """How many learners each update of a stack was of."""
    sizes = []
    update = Stack.update
    monkeypatch.setattr(
        Stack, "update", lambda self, there: sizes.append(len(self.learners)) or update(self, there)
    )
    return sizes


def in_turn(agents, steps):
    """Each learns so many steps, all of them together."""
    team, runs = Team(), [agent.turns(steps) for agent in agents]
    while turns := [turn for run in runs if (turn := next(run, None)) is not None]:
        assert team.take(turns) == [None] * len(turns)


# -- learners ------------------------------------------------------------------------------------


@pytest.mark.parametrize("reg", [*STACKING, *VARIANTS])
@pytest.mark.parametrize("settings", [{}, {"hidden": (16,), "activation": "tanh", "num_envs": 8}])
def test_learners_end_in_the_same_bytes_together_and_alone(reg, settings, stacked):
    def born():
        return [
            learner(
                stream_of([{"name": "pixels"}], period=800, copies=settings.get("num_envs", 16)),
                reg=reg,
                seed=seed,
                max_grad_norm=0.5,  # some gradients are clipped
                **settings,
            )
            for seed in range(3)
        ]

    together, alone = born(), born()
    in_turn(together, 1200)
    assert set(stacked) == {3}
    for mine, other in zip(together, alone, strict=True):
        other.learn(1200)
        assert weights(mine) == weights(other)
        assert mine.interventions.state_dict().keys() == other.interventions.state_dict().keys()
        assert mine._last_loss() == other._last_loss()
        assert mine.num_updates == other.num_updates
        for kept, expected in zip(mine.last_batch, other.last_batch, strict=True):
            assert torch.equal(kept, expected)
    assert len({tuple(weights(agent)) for agent in together}) == 3


@pytest.mark.parametrize("batch", [1, 5, 16])
@pytest.mark.parametrize("hidden", [(), (3,), (9, 7)])
def test_shapes_for_which_the_kernels_give_other_bits_change_nothing(batch, hidden):
    def born():
        streams = [stream_of(period=80 * batch, copies=batch) for _ in "abcde"]
        return [learner(s, seed=i, hidden=hidden, num_envs=batch) for i, s in enumerate(streams)]

    together, alone = born(), born()
    in_turn(together, 60 * batch)
    for mine, other in zip(together, alone, strict=True):
        other.learn(60 * batch)
        assert weights(mine) == weights(other)


@pytest.mark.parametrize(
    ("name", "settings", "reg"),
    [
        ("mlp", {"optimizer": "adam"}, "none"),
        ("mlp", {"momentum": 0.9}, "none"),
        ("mlp", {}, "layernorm"),
        ("mlp", {}, "asam"),
        ("cnn", {}, "none"),
    ],
)
def test_who_cannot_be_stacked_takes_turns_alone(name, settings, reg, stacked):
    agents = [learner(stream_of(), name, reg, seed=0, **settings) for _ in range(2)]
    in_turn(agents[:1], 320)
    assert not stacked
    agents[1].learn(320)
    assert weights(agents[0]) == weights(agents[1])
    pair = [learner(stream_of(), name, reg, seed=seed, **settings) for seed in (0, 1)]
    in_turn(pair, 320)
    assert weights(pair[0]) == weights(agents[0])
    assert not stacked


def test_dropout_is_no_stack_and_no_team(stacked):
    """Masks are drawn from the global generator, which a cell has for itself."""
    in_turn([learner(stream_of(), seed=seed, dropout=0.5) for seed in (0, 1)], 320)
    assert not stacked
    cells = [
        replace(short_cells.cell_of("mlp", "none", env=ENV, dropout=0.5), seed=s) for s in "ab"
    ]
    assert teams.teams_of(cells, 1) == [(cell,) for cell in cells]


def test_a_hook_that_a_stack_does_not_have_is_called(stacked):
    class After(registry.load("intervention", "none")):
        def after_update(self, agent):
            with torch.no_grad():
                agent.policy.net[0].bias.fill_(3.0)

    assert After.stacks
    agents = [learner(stream_of(), interventions=Interventions([After()])) for _ in "ab"]
    in_turn(agents, 320)
    assert not stacked
    assert all((agent.policy.net[0].bias == 3.0).all() for agent in agents)


def test_numbers_as_answers_are_not_stacked(stacked):
    agents = [learner(stream_of(base={"name": "Bits"}), seed=seed) for seed in (0, 1)]
    in_turn(agents, 320)
    assert not stacked


def test_kernels_that_give_other_bits_are_not_used(stacked, monkeypatch):
    outputs = StackedLinear.outputs
    monkeypatch.setattr(  # of several seeds they do
        StackedLinear, "outputs", lambda self, x: outputs(self, x) * (1 + 2e-7 * (len(x) > 1))
    )
    together = [learner(stream_of(), seed=seed) for seed in range(3)]
    in_turn(together, 320)
    assert set(stacked) == {1}
    alone = learner(stream_of(), seed=2)
    alone.learn(320)
    assert weights(together[2]) == weights(alone)


def test_weights_that_somebody_has_replaced_are_stacked_anew(stacked):
    def born():
        return [learner(stream_of(), seed=seed) for seed in range(2)]

    def moved(agent):
        with torch.no_grad():
            agent.policy.net[0].weight.data = agent.policy.net[0].weight.data * 0.5

    together, alone = born(), born()
    team, runs = Team(), [agent.turns(640) for agent in together]
    for number in range(2 * 40):
        turns = [next(run) for run in runs]
        if number == 2 * 20:
            moved(together[1])
        assert team.take(turns) == [None, None]
    assert set(stacked) == {2}
    for agent in alone:
        team, run = Team(), agent.turns(640)
        for number in range(2 * 40):
            turn = next(run)
            if number == 2 * 20 and agent is alone[1]:
                moved(agent)
            assert team.take([turn]) == [None]
    assert [weights(a) for a in together] == [weights(a) for a in alone]


# -- cells ---------------------------------------------------------------------------------------


def cells_of(reg="none", seeds=3, **changes):
    made = [
        short_cells.cell_of("mlp", reg, env=ENV, period=800, fresh=fresh, **changes)
        for fresh in (False, True)
    ]
    return [replace(cell, seed=seed) for seed in range(seeds) for cell in made]


def jobs_of(cells, folder):
    return [
        runner.Job(
            cell=cell,
            folder=store.CellFolder(folder / cell.id),
            header={**PROVENANCE, "oracle": False},
        )
        for cell in cells
    ]


def alone(cells, folder):
    return [short_cells.run(cell, folder / cell.id) for cell in cells]


def scalars(path):
    events = EventAccumulator(str(path / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
        if not tag.startswith("time/")
    }


@pytest.mark.parametrize("reg", ["none", "sam", "gnp"])
def test_cells_are_recorded_as_if_each_were_alone(reg, tmp_path, stacked):
    cells = [replace(cell, probes="full", evaluate=2) for cell in cells_of(reg)]
    assert runner.run_together(jobs_of(cells, tmp_path / "team")) == ["done"] * 6
    assert max(stacked) >= 3
    expected = alone(cells, tmp_path / "alone")
    assert [outcome(tmp_path / "team" / cell.id) for cell in cells] == expected
    for cell in cells:
        found, other = (scalars(tmp_path / where / cell.id) for where in ("team", "alone"))
        assert found == other
        assert {"train/loss", "plasticity/sharpness_sam", "shift/phase"} & set(found)


@pytest.mark.parametrize("reg", ["none", "sam"])
def test_who_diverges_leaves_the_others_as_they_are(reg, tmp_path, stacked):
    cells = cells_of(reg, seeds=6, learning_rate=3e4 if reg == "none" else 1e4)
    ended = runner.run_together(jobs_of(cells, tmp_path / "team"))
    expected = alone(cells, tmp_path / "alone")
    assert set(ended) == {"done", "diverged"}
    assert ended == [one.status for one in expected]
    for cell, other in zip(cells, expected, strict=True):
        assert outcome(tmp_path / "team" / cell.id) == other
        mine, theirs = (
            json.loads((tmp_path / where / cell.id / "done.json").read_text())
            for where in ("team", "alone")
        )
        assert [mine[k] for k in ("reason", "step", "phase")] == [
            theirs[k] for k in ("reason", "step", "phase")
        ]


@pytest.mark.parametrize("reg", ["none", "sam:every=3:warmup=60"])
def test_interrupted_cells_go_on_together_or_alone(reg, tmp_path):
    cells = cells_of(reg)
    expected = alone(cells, tmp_path / "alone")
    step = LifeCallback._on_step

    def step_and_die(self):
        if self.watch.cell is cells[2] and self.watch.clock == 2 * 800 + 160:
            raise Killed
        return step(self)

    jobs = jobs_of(cells, tmp_path / "team")
    with patch.object(LifeCallback, "_on_step", step_and_die), pytest.raises(Killed):
        runner.run_together(jobs)
    for job in jobs:
        job.folder._rows.close()
        job.folder._timing.close()
    alone(cells[:1], tmp_path / "team")  # one of them meanwhile; the rest is joined by a new one
    new = replace(cells[0], seed=7)
    rest = [new, *(c for c in cells if not (tmp_path / "team" / c.id / "done.json").exists())]
    assert len(rest) == 3
    assert set(runner.run_together(jobs_of(rest, tmp_path / "team"))) == {"done"}
    assert [outcome(tmp_path / "team" / cell.id) for cell in cells] == expected
    assert outcome(tmp_path / "team" / new.id) == alone([new], tmp_path / "alone")[0]


def test_the_time_of_a_cell_is_its_share(tmp_path):
    cells = cells_of(seeds=2)
    runner.run_together(jobs_of(cells, tmp_path))
    whole = [json.loads((tmp_path / c.id / "done.json").read_text())["seconds"] for c in cells]
    clock = runner.Clock(1)
    began = clock()
    assert clock() >= began
    with patch.object(runner.time, "monotonic", iter([0.0, 6.0, 8.0, 9.0]).__next__):
        clock = runner.Clock(3)
        assert clock() == 2.0
        clock.sharers = 2
        assert clock() == 3.0
        clock.sharers = 0
        assert clock() == 4.0
    assert all(seconds > 0 for seconds in whole)


# -- teams ---------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(
    seeds=st.integers(0, 14),
    others=st.integers(0, 5),
    workers=st.integers(1, 12),
    order=st.randoms(use_true_random=False),
)
def test_every_cell_is_in_one_team_with_its_kind(seeds, others, workers, order):
    first = MADE["none"], MADE["sam"]
    cells = [replace(cell, seed=seed) for cell in first for seed in range(seeds)]
    cells += [replace(MADE["adam"], seed=seed) for seed in range(others)]
    order.shuffle(cells)
    found = teams.teams_of(cells, workers)
    assert sorted(c.id for team in found for c in team) == sorted(c.id for c in cells)
    place = {cell.id: i for i, cell in enumerate(cells)}
    assert [place[team[0].id] for team in found] == sorted(place[team[0].id] for team in found)
    for team in found:
        assert len(team) <= teams.LARGEST
        assert len({(cell.reg, cell.hyperparameters["optimizer"]) for cell in team}) == 1
        assert len(team) == 1 or team[0].hyperparameters["optimizer"] == "sgd"


@pytest.mark.parametrize(
    ("seeds", "regs", "workers", "expected"),
    [
        (5, ["none"], 1, [5]),
        (10, ["none"], 2, [5, 5]),
        (10, ["none", "sam", "adam"], 2, [10, 10] + [1] * 10),
        (10, ["none", "sam"], 4, [5, 5, 5, 5]),
        (3, ["none"], 8, [1, 1, 1]),
        (10, ["none"], 8, [2, 2, 2, 2, 2]),
        (31, ["none"], 1, [7, 8, 8, 8]),
    ],
)
def test_teams_are_those_that_end_soonest(seeds, regs, workers, expected):
    cells = [replace(MADE[reg], seed=seed) for reg in regs for seed in range(seeds)]
    assert [len(team) for team in teams.teams_of(cells, workers)] == expected


MADE = {
    "none": short_cells.cell_of("mlp", "none", env=ENV),
    "sam": short_cells.cell_of("mlp", "sam", env=ENV),
    "adam": short_cells.cell_of("mlp", "none", env=ENV, optimizer="adam"),
}


def test_other_agents_and_interventions_are_alone():
    dqn = short_cells.cell_of("dqn", "none")
    l2 = short_cells.cell_of("mlp", "l2", env=ENV)
    cells = [replace(cell, seed=seed) for cell in (dqn, l2) for seed in range(3)]
    assert teams.teams_of(cells, 1) == [(cell,) for cell in cells]
    on_a_gpu = [replace(MADE["none"], seed=seed, device="cuda") for seed in range(3)]
    assert teams.teams_of(on_a_gpu, 1) == [(cell,) for cell in on_a_gpu]


# -- benches -------------------------------------------------------------------------------------

BENCH = ("bench", "--env", ENV, "--agent", "mlp", "--reg", "sam", "--budget", "smoke")


def test_a_bench_in_teams_has_the_bytes_of_one_without(tmp_path):
    for folder, more in (("teams", ()), ("alone", ("--cell-timeout", "1000"))):
        done = running.rlplastic(*BENCH, "--workers", 1, "--out", tmp_path / folder, *more)
        assert done.returncode == 0, done.stderr
    assert running.rows(tmp_path / "teams") == running.rows(tmp_path / "alone")


def test_a_killed_team_falls_apart_and_loses_nothing(tmp_path):
    cells = [
        replace(
            cell, stream={**cell.stream, "schedule": {**cell.stream["schedule"], "period": 24_000}}
        )
        for cell in cells_of(seeds=2)
    ]
    pool.run_cells(cells, tmp_path / "whole", 2, Told())

    class Killer(Told):
        """Kills once, when both lives have a checkpoint."""

        def moved(self, cell, *, phase, step, speed):
            if not self.notes and len(list(tmp_path.glob("cut/*/*/none/*/checkpoint/1.json"))) == 2:
                os.kill(process_of(cells[0].id), signal.SIGKILL)

    told = Killer()
    assert set(pool.run_cells(cells, tmp_path / "cut", 1, told).values()) == {"done"}
    apart = [
        name for name, text in told.notes if text.startswith("goes on alone: the process that")
    ]
    assert sorted(apart) == sorted(cell.id for cell in cells)
    assert "killed by signal 9 (SIGKILL)" in told.notes[0][1]
    assert [text for _, text in told.notes if text.startswith("goes on at phase")]
    assert set(told.ends) == set(apart), "each is told of once"
    assert running.rows(tmp_path / "cut") == running.rows(tmp_path / "whole")


def test_a_cell_of_a_team_that_raises_fails_alone(tmp_path):
    plugin = running.write_plugin(
        tmp_path,
        """
        from typing import ClassVar

        @registry.intervention("raises-for-some")
        @dataclass(frozen=True, kw_only=True)
        class RaisesForSome(Intervention):
            "Raise in every other life."

            stacks: ClassVar[bool] = True

            def begin(self, agent):
                if agent.seed is not None and agent.seed % 2 and agent.env.num_envs == 16:
                    raise RuntimeError("an odd seed")
        """,
    )
    done = running.rlplastic(
        *("bench", "--env", ENV, "--agent", "mlp", "--reg", "raises-for-some"),
        *("--plugin", plugin, "--budget", "smoke", "--seeds", 6, "--out", tmp_path / "results"),
        *("--workers", 1),
    )
    assert done.returncode == 1, done.stdout
    statuses = {
        path.parent.name: path.stem
        for path in (tmp_path / "results").glob("*/mlp/raises-for-some/*/*.json")
        if path.stem in ("done", "failed")
    }
    assert len(statuses) == 6
    assert set(statuses.values()) == {"done", "failed"}
    assert "RuntimeError: an odd seed" in done.stdout


def test_a_stack_is_what_interventions_see():
    agents = [learner(stream_of(), reg="sam", seed=seed) for seed in range(2)]
    for agent in agents:
        agent._last_obs = agent.get_env().reset()
    stack = Stack(agents)
    assert stack.is_exact()
    coordinates, hidden, head = stack.parameters
    assert stack.scope("critic") == stack.scope("all") == [coordinates, hidden, head]
    assert stack.scope("backbone") == [coordinates, hidden]
    assert stack.scope("head") == [head]
    for own in agents[1].scope("all"):
        mine = own.detach().numpy()
        assert any(np.shares_memory(mine, part.values.numpy()) for part in stack.network.parts)
    assert team_module.kind_of(agents[0]) == team_module.kind_of(agents[1])


class OfOurs(registry.load("intervention", "none")):
    """An intervention of somebody's own, with a gradient."""

    stacks = True

    def __init__(self, gradient):
        object.__setattr__(self, "of", gradient)

    def gradient(self, agent, losses):
        return self.of(agent, losses)


def with_gradient(gradient, seed=0):
    stream = stream_of(period=1600)
    return learner(stream, interventions=Interventions([OfOurs(gradient)], "mlp"), seed=seed)


def test_what_an_intervention_raises_alone_is_the_learners_own(tmp_path, monkeypatch):
    sam = registry.load("intervention", "sam")
    gradient = sam.gradient

    def raises(self, agent, losses):
        if agent.num_updates == 30:
            raise Diverged("of its own")
        return gradient(self, agent, losses)

    monkeypatch.setattr(sam, "gradient", raises)
    cell = short_cells.cell_of("mlp", "sam", env=ENV, period=800)
    assert runner.run_together(jobs_of([cell], tmp_path)) == ["diverged"]
    assert "of its own" in (tmp_path / cell.id / "done.json").read_text()


def test_a_gradient_that_leaves_weights_moved_is_refused():
    def in_place(agent, losses):
        terms = ascent.plain(losses)
        parameters = agent.scope("all")
        with torch.no_grad():
            for parameter in parameters:
                parameter.add_(parameter.grad, alpha=0.1)
            for parameter in parameters:
                parameter.sub_(parameter.grad, alpha=0.1 + 1e-6)
        return terms

    def elsewhere(agent, losses):
        terms = ascent.plain(losses)
        for parameter in agent.scope("all"):
            parameter.data = parameter.data.clone()
        return terms

    for gradient in (in_place, elsewhere):
        with pytest.raises(RuntimeError, match="left weights moved"):
            with_gradient(gradient).learn(160)


def test_a_gradient_of_ones_own_moves_every_seed(stacked):
    """The weights go twice as far as by the plain one at half the rate: sums are as of any."""

    def doubled(agent, losses):
        terms = ascent.plain(losses)
        for parameter in agent.scope("all"):
            parameter.grad.mul_(2)
        return terms

    twice = [with_gradient(doubled, seed=seed) for seed in range(2)]
    plain = [learner(stream_of(period=1600), seed=seed, learning_rate=0.02) for seed in range(2)]
    for agents in (twice, plain):
        in_turn(agents, 480)
    for mine, other in zip(twice, plain, strict=True):
        for a, b in zip(mine.policy.parameters(), other.policy.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


class At(BaseCallback):
    """Does something to the agent at one step."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def _on_step(self):
        if self.num_timesteps == 160:
            self.change(self.model)
        return True


def test_who_is_changed_on_the_way_is_no_longer_in_its_old_stack(stacked):
    calls = []

    def stop(agent):
        agent.policy.optimizer.param_groups[0]["lr"] = 0.0

    def watch(agent):
        agent.policy.net[0].register_forward_hook(lambda *_: calls.append(1))

    def renew(agent):
        old = agent.policy.net[-1]
        agent.policy.net[-1] = torch.nn.Linear(old.in_features, old.out_features)
        agent.policy.optimizer.param_groups[0]["params"] = list(agent.policy.parameters())

    still, watched, renewed, plain = (learner(stream_of(), seed=1) for _ in range(4))
    still.learn(320, At(stop))
    before = learner(stream_of(), seed=1)
    before.learn(144)
    assert weights(still) == weights(before)
    watched.learn(320, At(watch))
    assert len(calls) == 10
    renewed.learn(320, At(renew))
    born = [p.detach().clone() for p in renewed.policy.net[-1].parameters()]
    plain.learn(320)
    renewed.learn(160)
    assert not any(map(torch.equal, born, renewed.policy.net[-1].parameters()))
