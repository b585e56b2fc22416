"""Accuracy from records, against a loop that knows nothing of agents, runner or metrics."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
import short_cells
import torch
from stable_baselines3.common.logger import Logger
from test_agents import DQN_SETTINGS, parameter_bytes, train
from test_supervised import learner, shown, stream_of, weights
from torch import nn

from rlplastic import options, registry
from rlplastic.agents.dqn import DQN
from rlplastic.benchmarks import late_tasks, regimes
from rlplastic.envs import datasets
from rlplastic.interventions import Interventions
from rlplastic.plan import make_plan
from rlplastic.planfile import write_plan
from rlplastic.request import Request
from rlplastic.runner import build_interventions, build_stream
from rlplastic.suitefile import load_suite, suite_files

torch.set_num_threads(1)
PERIOD = 800
ENV = "MNIST-Permuted/MNIST-observation"


@pytest.fixture(autouse=True)
def embedded(monkeypatch):
    monkeypatch.delenv(datasets.VARIABLE, raising=False)


def accuracy_of(cell, first, phases):
    """Share of right answers in each phase, in %: given first, then learned from; plain torch."""
    stream = build_stream(cell)
    stream.begin(first)
    images, answers = shown(stream, phases * PERIOD // 16)
    torch.manual_seed(cell.random_seed("agent", first))
    net = nn.Sequential(
        *(nn.Flatten(), nn.Linear(64, 100), nn.ReLU()),
        *(nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 10)),
    )
    step = torch.optim.SGD(net.parameters(), lr=cell.hyperparameters["learning_rate"], fused=True)
    right = []
    for x, y in zip(images, answers, strict=True):
        logits = net(torch.as_tensor(x).float() / 255.0)
        right.append((logits.argmax(dim=1).numpy() == y).mean())
        step.zero_grad()
        nn.functional.cross_entropy(logits, torch.as_tensor(y)).backward()
        step.step()
    return (100 * np.array(right).reshape(phases, -1).mean(axis=1)).tolist()


def recorded(path):
    """Mean return of the episodes of each phase, as the file has them."""
    rows = [json.loads(line) for line in (path / "rows.jsonl").read_text().splitlines()]
    returns = {}
    for row in rows:
        if row["kind"] == "episode":
            assert row["length"] == 25
            returns.setdefault(row["phase"], []).append(row["return"])
    assert {len(found) for found in returns.values()} == {PERIOD // 25}
    return {phase: sum(found) / len(found) for phase, found in returns.items()}


def whole(folder, *finished):
    """A results folder of some finished cells, and the lines that are printed of it."""
    plan = make_plan(Request(agents=["mlp"], regs=["none"], env=ENV, budget="smoke", seeds=[0]))
    write_plan(replace(plan, cells=[cell for cell, _ in finished]), folder)
    for cell, path in finished:
        shutil.copytree(path, folder / cell.id)
    return said(late_tasks.lines(folder))


def said(lines):
    first, *lines = lines
    assert first == "MNIST-observation mlp none: 1 seeds"
    return {line[2:40].strip(): line[40:].split()[0] for line in lines}


def test_the_accuracy_in_the_records_is_that_of_a_plain_loop(tmp_path):
    life = short_cells.cell_of("mlp", "none", env=ENV, period=PERIOD)
    short_cells.run(life, tmp_path / "life")
    found = recorded(tmp_path / "life")
    assert list(found.values()) == pytest.approx(accuracy_of(life, 0, 3), abs=1e-9)
    assert found[0] > 15  # it has begun to learn, or there would be nothing to compare

    printed = whole(tmp_path / "results", (life, tmp_path / "life"))
    assert printed["late"] == f"{found[2]:.4g}"
    assert printed["slope"] == f"{found[2] - found[1]:.4g}"
    assert {"sharpness at start", "sharpness at end"} <= printed.keys()
    assert not {"newborns", "slope of ahead"} & printed.keys()
    rows = [json.loads(line) for line in (tmp_path / "life/rows.jsonl").read_text().splitlines()]
    norms = [r for r in rows if r.get("name") == "weight_norm" and r["phase"] == 1]
    course = said(late_tasks.lines(tmp_path / "results", ["weight_norm"]))
    within = [r["value"] for r in norms if r["moment"] == "during"]
    for where, value in {
        "start": next(r["value"] for r in norms if r["moment"] == "after"),
        "a tenth": within[0],
        "within": sum(within) / len(within),
        "end": next(r["value"] for r in norms if r["moment"] == "before"),
    }.items():
        assert course[f"weight_norm, task 2, {where}"] == f"{value:.4g}"
    assert "weight_norm, task 1, start" not in course

    fresh = short_cells.cell_of("mlp", "none", fresh=True, env=ENV, period=PERIOD)
    short_cells.run(fresh, tmp_path / "fresh")
    newborns = recorded(tmp_path / "fresh")
    assert sorted(newborns) == [1, 2]
    for phase, accuracy in newborns.items():
        assert [accuracy] == pytest.approx(accuracy_of(fresh, phase, 1), abs=1e-9)

    cells = (life, tmp_path / "life"), (fresh, tmp_path / "fresh")
    printed = whole(tmp_path / "both", *cells)
    rise, theirs = found[2] - found[1], newborns[2] - newborns[1]
    assert printed["newborns"] == f"{(newborns[1] + newborns[2]) / 2:.4g}"
    assert printed["newborns' slope"] == f"{theirs:.4g}"
    assert printed["slope of ahead"] == f"{rise - theirs:.4g}"


@pytest.mark.parametrize("reg", ["sam", "l2init:strength=0.1", "redo:every=10", "layernorm"])
def test_one_object_of_interventions_trains_a_dqn_and_a_classifier(reg):
    def members():
        return [options.build("intervention", s, "test") for s in options.parse_reg(reg)]

    def classifier(interventions):
        agent = learner(stream_of(), seed=4, hidden=(16, 16), interventions=interventions)
        agent.learn(800)
        return agent

    shared = Interventions(members())
    alone = train(DQN, steps=300, interventions=Interventions(members()), **DQN_SETTINGS)
    dqn = train(DQN, steps=300, interventions=shared, **DQN_SETTINGS)
    assert dqn.interventions is shared
    assert parameter_bytes(dqn) == parameter_bytes(alone)
    agent = classifier(shared)
    assert agent.interventions is shared
    assert weights(agent) == weights(classifier(Interventions(members())))
    assert weights(agent) != weights(classifier(Interventions()))
    assert agent.num_updates == 50


def test_regimes_are_asked_about_all_images_and_train_as_if_they_were_not():
    env = "Training-Regimes/MNIST-observation"
    cell = short_cells.cell_of("mlp", "dropout:rate=0.25", env=env, period=PERIOD)
    schedule = {**cell.stream["schedule"], "worlds": 2}
    cell = replace(cell, stream={**cell.stream, "schedule": schedule})
    looks = []

    class Look(regimes.Look):
        def __init__(self, *given):
            super().__init__(*given)
            looks.append(self)

    with patch.object(regimes, "Look", Look):
        found = regimes.life(cell)
    (look,) = looks
    plain = options.make(registry.load("agent", "mlp"), cell.hyperparameters, "test").build(
        *(build_stream(cell),),
        seed=cell.random_seed("agent", 0),
        interventions=build_interventions(cell),
        device="cpu",
        horizon=PERIOD,
    )
    plain.set_logger(Logger(None, []))
    plain.learn(3 * PERIOD)
    assert parameter_bytes(look.model) == parameter_bytes(plain)

    data = datasets.load("digits")
    plain.policy.set_training_mode(False)
    answers = plain.policy(torch.as_tensor(data.images)).argmax(dim=1).numpy()
    last = 100 * (answers == data.labels).mean()  # phase 2 is in world 0, the images as they are
    assert look.found["accuracy"][2] == pytest.approx(last)
    assert len(look.found["forgetting"]) == 1
    assert look.found["accuracy"][0] - look.found["forgetting"][0] > 5  # kept better than nothing
    assert found["accuracy"] == pytest.approx(np.mean(look.found["accuracy"]))
    assert min(look.found["hessian_top"]) > 0


SUITES = [name for name in suite_files() if load_suite(name).family == "supervised"]


@pytest.mark.parametrize("suite", SUITES)
def test_the_arms_of_a_suite_train_on_its_tasks(suite):
    plan = make_plan(Request(agents=[], regs=[], env=suite, budget="smoke", seeds=[0]))
    lives = [cell for cell in plan.cells if cell.agent != "random" and not cell.fresh]
    assert len(lives) > len(plan.tasks)  # an arm beside none
    for cell in lives:
        stream = build_stream(cell)
        config = options.make(registry.load("agent", cell.agent), cell.hyperparameters, "test")
        agent = config.build(
            *(stream,), seed=0, interventions=build_interventions(cell), device="cpu", horizon=1
        )
        agent.interventions.check(agent)
        agent.set_logger(Logger(None, []))
        agent.learn(3 * stream.num_envs)
        agent.at_shift(1, "clear")
        agent.learn(3 * stream.num_envs)
        assert agent.num_updates == 6, cell.id
        assert all(torch.isfinite(p).all() for p in agent.policy.parameters()), cell.id
