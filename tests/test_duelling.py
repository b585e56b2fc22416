"""Double DQN and duelling networks, against values worked out by hand."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from test_agents import DQN_SETTINGS, parameter_bytes, train
from torch import nn

from rlplastic import options, registry, runner
from rlplastic.agents.critics import Critic
from rlplastic.agents.dqn import DQN
from rlplastic.agents.duelling import Duelling
from rlplastic.agents.features import SmallCNN
from rlplastic.errors import UsageError
from rlplastic.interventions import Interventions
from rlplastic.plan import make_plan
from rlplastic.request import Request

torch.set_num_threads(1)
REGS = [
    entry
    for entry in registry.entries("intervention").values()
    if "dqn" in (entry.traits.get("agents") or ("dqn",))
    and "vectors" in (entry.traits.get("observations") or ("vectors",))
]
C51 = {"kind": "c51", "bins": 11, "low": 0.0, "high": 4.0}


def write(linear, weight, bias):
    with torch.no_grad():
        linear.weight.copy_(torch.tensor(weight))
        linear.bias.copy_(torch.tensor(bias))


def test_the_target_of_double_dqn_is_the_target_networks_value_of_the_online_networks_choice():
    model = train(DQN, steps=0, double=True, policy_kwargs={"net_arch": []}, **DQN_SETTINGS)
    write(model.q_net.q_net[0], [[1.0, 0, 0, 0], [0, 1.0, 0, 0]], [0.0, 0.0])
    write(model.q_net_target.q_net[0], [[0, 0, 1.0, 0], [0, 0, 0, 1.0]], [0.5, 0.0])
    # online values are the first two numbers, the target's the last two, 0.5 added to the first
    now = torch.tensor([[0.2, 0.4, 0, 0], [0.6, 0.1, 0, 0], [0.3, 0.3, 0, 0]])
    later = torch.tensor([[1.0, 2.0, 7.0, 3.0], [5.0, 4.0, 1.0, 9.0], [1.0, 2.0, 8.0, 6.0]])
    batch = ReplayBufferSamples(
        observations=now,
        actions=torch.tensor([[1], [0], [1]]),
        next_observations=later,
        dones=torch.tensor([[0.0], [0.0], [1.0]]),
        rewards=torch.tensor([[0.1], [0.2], [0.3]]),
        discounts=torch.tensor([[0.9], [0.81], [0.9]]),
    )
    targets = [0.1 + 0.9 * 3.0, 0.2 + 0.81 * 1.5, 0.3]
    values = [0.4, 0.6, 0.3]
    errors = [abs(a - b) for a, b in zip(targets, values, strict=True)]
    huber = [e - 0.5 if e > 1 else e * e / 2 for e in errors]
    assert model.losses(batch)()["critic"].item() == pytest.approx(sum(huber) / 3, rel=1e-6)
    model.double = False  # the greatest value of the target network
    targets = [0.1 + 0.9 * 7.5, 0.2 + 0.81 * 9.0, 0.3]
    plain = sum(t - v - 0.5 for t, v in zip(targets[:2], values[:2], strict=True)) / 3
    assert model.losses(batch)()["critic"].item() == pytest.approx(plain, rel=1e-6)


def test_a_double_c51_projects_the_distribution_of_the_online_networks_choice():
    model = train(DQN, steps=300, double=True, critic=C51, **DQN_SETTINGS)
    batch = model.last_batch
    with torch.no_grad():
        for p in model.q_net.parameters():  # far from the target network, so that they disagree
            p += 0.5 * torch.randn_like(p)
        best = model.q_net(batch.next_observations).argmax(dim=1)
        other = model.q_net_target(batch.next_observations).argmax(dim=1)
        p = model.q_net_target.q_net[-1].logits.softmax(dim=2)
        model.q_net(batch.observations)
        logits, z = model.q_net.q_net[-1].logits, model.critic.centres().float()
    assert (best != other).any()
    expected = 0.0
    for i in range(32):
        moved = batch.rewards[i] + 0.99 * (1 - batch.dones[i]) * z
        wanted = model.critic.projected(p[i, best[i]].unsqueeze(0), moved.unsqueeze(0))[0]
        taken = logits[i, int(batch.actions[i])]
        expected -= (wanted * torch.log_softmax(taken, 0)).sum().item() / 32
    assert model.losses(batch)()["critic"].item() == pytest.approx(expected, rel=1e-5)


def test_a_duelling_value_is_the_states_value_and_the_advantage_beyond_the_mean():
    streams = [nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, n)) for n in (1, 3)]
    write(streams[0][0], [[1.0, 0], [0, 1.0]], [0.0, 0.0])
    write(streams[0][2], [[2.0, 1.0]], [0.5])
    write(streams[1][0], [[1.0, 1.0], [-1.0, 0]], [0.0, 0.0])
    write(streams[1][2], [[1.0, 0], [0, 1.0], [2.0, 3.0]], [0.0, 0.0, 1.0])
    net = Duelling(nn.Sequential(), *streams)
    # V = 2 * 1 + 3 + 0.5; hidden of A: relu(4), relu(-1); A = 4, 0, 9, mean 13 / 3
    found = net(torch.tensor([[1.0, 3.0]]))
    expected = [5.5 + a - 13 / 3 for a in (4, 0, 9)]
    assert found[0].tolist() == pytest.approx(expected, rel=1e-6)
    # logits likewise, bin by bin, where it says distributions
    critic = Critic(kind="c51", bins=2, low=0, high=10)
    net.say_bins(critic.centres())
    write(net.value[2], [[1.0, 0], [0, 1.0]], [0.0, 0.0])
    write(net.advantage[2], [[1.0, 0], [0, 0], [0, 0], [0.5, 0], [0, 0], [0, 0]], [0.0] * 6)
    found = net(torch.tensor([[1.0, 3.0]]))
    # V = 1, 3; A = (4, 0), (0, 2), (0, 0), of means 4 / 3 and 2 / 3
    logits = [[1 + a - 4 / 3, 3 + b - 2 / 3] for a, b in ((4, 0), (0, 2), (0, 0))]
    np.testing.assert_allclose(net.logits[0].tolist(), logits, rtol=1e-6)
    upper = [10 / (1 + np.exp(low - high)) for low, high in logits]
    assert found[0].tolist() == pytest.approx(upper, rel=1e-5)


def test_what_is_split_is_the_last_hidden_layer():
    model = train(DQN, steps=300, duelling=True, **DQN_SETTINGS)
    net = model.q_net.q_net
    assert [m.out_features for m in net.trunk if isinstance(m, nn.Linear)] == [64]
    assert [s[0].out_features for s in net.streams] == [64, 64]
    assert [s[2].out_features for s in net.streams] == [1, 2]
    assert not torch.equal(net.value[0].weight, net.advantage[0].weight)
    head = {id(p) for output in net.outputs for p in output.parameters()}
    assert {id(p) for p in model.scope("head")} == head
    shared, value, advantage = model.layers("critic")
    assert shared.readers == (value.weights, advantage.weights)
    assert [layer.readers for layer in (value, advantage)] == [(o,) for o in net.outputs]
    assert sum(p.numel() for p in model.scope("critic")) == sum(
        p.numel() for p in model.q_net.parameters()
    )
    with pytest.raises(UsageError, match="nothing to split"):
        train(DQN, steps=0, duelling=True, policy_kwargs={"net_arch": []}, **DQN_SETTINGS)


def test_behind_a_cnn_its_dense_layer_is_split():
    import gymnasium
    from test_agents import Stacked

    venv = make_vec_env(lambda: Stacked(gymnasium.make("CartPole-v1")), seed=0)
    model = DQN(
        "CnnPolicy",
        venv,
        seed=0,
        device="cpu",
        duelling=True,
        double=True,
        channels_last=True,
        policy_kwargs={"net_arch": []},
        **{**DQN_SETTINGS, "learning_starts": 20},
    )
    model.learn(40)
    net = model.q_net.q_net
    assert model.num_updates > 5
    assert [s[0].in_features for s in net.streams] == [64, 64]  # 36 x 36 pixels leave one place
    assert [s[0].out_features for s in net.streams] == [512, 512]
    assert len(model.layers("critic")) == 3 + 2
    assert isinstance(SmallCNN(spaces.Box(0, 1, (4, 10, 10))).linear, nn.Sequential)


@pytest.mark.parametrize("critic", [None, C51], ids=["values", "bins"])
def test_saved_and_resumed_it_goes_on_with_the_same_bytes(critic, tmp_path):
    model = train(DQN, steps=300, duelling=True, double=True, critic=critic, **DQN_SETTINGS)
    model.save(tmp_path / "model.zip")
    loaded = DQN.load(tmp_path / "model.zip", device="cpu")
    assert (loaded.double, loaded.duelling) == (True, True)
    assert parameter_bytes(loaded) == parameter_bytes(model)
    other = train(DQN, steps=0, duelling=True, double=True, critic=critic, **DQN_SETTINGS)
    other.restore(copy.deepcopy(model.snapshot()))
    assert parameter_bytes(other) == parameter_bytes(model)
    fresh = model.newborn(torch.Generator().manual_seed(0))
    assert [p.shape for p in fresh.parameters()] == [p.shape for p in model.policy.parameters()]


@pytest.mark.parametrize("entry", REGS, ids=lambda entry: entry.name)
def test_every_intervention_trains_a_duelling_network(entry):
    members = Interventions([entry.load()()], "dqn")
    settings = {**DQN_SETTINGS, "learning_starts": 40, "batch_size": 16}
    if entry.name == "simba":  # its blocks are a path to one output
        with pytest.raises(UsageError, match=r"dqn\.duelling.*choose one"):
            train(DQN, steps=0, duelling=True, interventions=members, **settings)
        return
    model = train(DQN, steps=0, duelling=True, interventions=members, **settings)
    members.check(model)
    model.learn(60)
    members.at_shift(model, 1)
    model.learn(8, reset_num_timesteps=False)
    assert model.num_updates > 5
    assert all(torch.isfinite(p).all() for p in model.policy.parameters())
    known = {id(p) for group in model.policy.optimizer.param_groups for p in group["params"]}
    assert {id(p) for p in model.scope("all")} <= known


def test_injection_and_features_are_of_both_streams():
    from rlplastic.interventions import surgery
    from rlplastic.interventions.inject import PlasticityInjection
    from rlplastic.probes import units

    injection = PlasticityInjection(after=10**9)
    members = Interventions([injection])
    model = train(DQN, steps=300, duelling=True, interventions=members, **DQN_SETTINGS)
    x, streams = model.last_batch.observations, model.q_net.q_net.streams
    before = model.values(x).detach()
    old = [s[0].weight.detach().clone() for s in streams]
    injection.inject(model)
    assert torch.equal(model.values(x), before)
    assert not any(torch.equal(w, s[0].weight) for w, s in zip(old, streams, strict=True))
    found = surgery.features(model, x)
    inner = model.q_net.q_net.trunk(x)
    both = torch.cat([s[1](s[0](inner)) for s in streams], dim=1)
    torch.testing.assert_close(found, both)
    torch.testing.assert_close(units.features(model, model.last_batch), both.double())


@pytest.mark.parametrize(
    "extra",
    [
        ("double=true",),
        ("duelling=true",),
        ("double=true", "duelling=true", "n_steps=3"),
        ("duelling=true", "critic=c51", "bins=21", "low=0", "high=10"),
    ],
    ids=" ".join,
)
def test_it_learns_the_toy(extra):
    """Ten cues an episode, one point each: chance is 5, all that can be had is 10."""
    settings = [f"dqn.{text}" for text in extra]
    request = Request(
        agents=["dqn"], regs=["none"], env="Toy-Shifted/Cue-stationary", settings=settings
    )
    cell = next(c for c in make_plan(request).cells if c.agent == "dqn" and not c.fresh)
    episodes = []
    config = options.make(registry.load("agent", "dqn"), cell.hyperparameters, "dqn")
    model = config.build(
        runner.build_stream(cell, episodes.append),
        seed=0,
        interventions=Interventions(),
        device="cpu",
        horizon=1_500,
    )
    model.learn(1_500)
    assert np.mean([e.task_return for e in episodes[-30:]]) > 8.8  # a tenth of actions is random


def test_the_options_leave_the_identity_of_older_cells_alone():
    config = registry.load("agent", "dqn")
    assert not {"double", "duelling"} & set(options.spec_of(options.make(config, {}, "dqn")))
    spec = options.spec_of(options.make(config, {"double": "true", "duelling": "true"}, "dqn"))
    assert (spec["double"], spec["duelling"]) == (True, True)
