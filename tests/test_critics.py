"""Critics that classify their targets into bins, against exact values."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from scipy.stats import norm
from test_agents import DQN_SETTINGS, PPO_SETTINGS, parameter_bytes, train

from rlplastic import options, registry
from rlplastic.agents.critics import Critic, cross_entropy
from rlplastic.agents.dqn import DQN
from rlplastic.agents.ppo import PPO
from rlplastic.errors import UsageError
from rlplastic.interventions import Interventions
from rlplastic.interventions.critics import C51, HLGauss, HuberLoss, SquaredError, TwoHot
from rlplastic.interventions.dynamical import DynamicalLoss
from rlplastic.interventions.inject import PlasticityInjection
from rlplastic.interventions.reset import ResetAtShift

torch.set_num_threads(1)
BOTH = pytest.mark.parametrize("algorithm", [DQN, PPO])


def agent_with(algorithm, *members, steps=None, **more):
    settings, enough = (DQN_SETTINGS, 300) if algorithm is DQN else (PPO_SETTINGS, 128)
    chosen = enough if steps is None else steps
    members = Interventions(members)
    return train(algorithm, steps=chosen, interventions=members, **{**settings, **more})


def test_e17_hl_gauss_sums_to_one_and_its_mean_is_the_target():
    critic = Critic(kind="hlgauss", bins=51, low=-10, high=10)
    assert critic.width == pytest.approx(20 / 51)
    targets = torch.linspace(-8, 8, 101, dtype=torch.float64)
    p = critic.probabilities(targets)
    torch.testing.assert_close(p.sum(dim=1), torch.ones(101, dtype=torch.float64))
    means = p @ critic.centres()
    assert (means - targets).abs().max() < 0.01 * critic.width
    # each probability is an integral of the normal density, of the part within the bins
    y, sigma = 1.3, 0.75 * 20 / 51
    edges = [-10 + 20 / 51 * k for k in range(52)]
    inside = norm.cdf(10, y, sigma) - norm.cdf(-10, y, sigma)
    exact = [(norm.cdf(b, y, sigma) - norm.cdf(a, y, sigma)) / inside for a, b in pairwise(edges)]
    found = critic.probabilities(torch.tensor([y], dtype=torch.float64))[0]
    assert found.tolist() == pytest.approx(exact, abs=1e-12)
    beyond = critic.probabilities(torch.tensor([-50.0, 50.0]))
    assert torch.isfinite(beyond).all()
    assert beyond.argmax(dim=1).tolist() == [0, 50]


def test_two_hot_splits_a_target_between_its_neighbours():
    critic = Critic(kind="twohot", bins=5, low=-2, high=2)
    assert critic.centres().tolist() == [-2, -1, 0, 1, 2]
    p = critic.probabilities(torch.tensor([0.25, -2.0, 2.0, 9.0, 1.0]))
    expected = [
        [0, 0, 0.75, 0.25, 0],
        [1, 0, 0, 0, 0],
        [0, 0, 0, 0, 1],
        [0, 0, 0, 0, 1],
        [0, 0, 0, 1, 0],
    ]
    torch.testing.assert_close(p, torch.tensor(expected))


def test_c51_moves_mass_as_the_algorithm_written_out():
    critic = Critic(kind="c51", bins=5, low=-2, high=2)
    p = torch.tensor([[0.1, 0.2, 0.3, 0.25, 0.15]])
    r, gamma = 0.4, 0.9
    expected = [0.0] * 5
    for mass, z in zip(p[0].tolist(), [-2, -1, 0, 1, 2], strict=True):
        b = (min(2.0, max(-2.0, r + gamma * z)) + 2) / 1.0
        low, high = math.floor(b), math.ceil(b)
        if low == high:
            expected[low] += mass
        else:
            expected[low] += mass * (high - b)
            expected[high] += mass * (b - low)
    found = critic.projected(p, r + gamma * critic.centres().unsqueeze(0))
    assert found[0].tolist() == pytest.approx(expected, abs=1e-6)
    # where the episode ends, all mass is at the reward
    end = critic.projected(p, torch.full((1, 5), 0.4))
    assert end[0].tolist() == pytest.approx([0, 0, 0.6, 0.4, 0], abs=1e-6)


def test_the_loss_of_dqn_is_the_cross_entropy_of_the_action_that_was_taken():
    for member in (HLGauss(bins=11, low=0, high=4), TwoHot(bins=11, low=0, high=4)):
        model = agent_with(DQN, member)
        batch, net = model.last_batch, model.q_net
        with torch.no_grad():
            future = model.q_net_target(batch.next_observations).max(dim=1).values
            target = batch.rewards[:, 0] + (1 - batch.dones[:, 0]) * 0.99 * future
        net(batch.observations)
        logits = net.q_net[-1].logits
        assert logits.shape == (32, 2, 11)
        wanted, expected = model.critic.probabilities(target), 0.0
        for i in range(32):
            taken = logits[i, int(batch.actions[i])]
            expected -= (wanted[i] * torch.log_softmax(taken, 0)).sum().item() / 32
        assert model.losses(batch)()["critic"].item() == pytest.approx(expected, rel=1e-5)
        values = (logits.softmax(dim=2) * model.critic.centres().float()).sum(dim=2)
        torch.testing.assert_close(model.values(batch.observations), values)


def test_the_loss_of_c51_is_of_the_distribution_of_the_best_next_action():
    model = agent_with(DQN, C51(bins=11, low=0, high=4))
    batch = model.last_batch
    with torch.no_grad():
        best = model.q_net_target(batch.next_observations).argmax(dim=1)
        p = model.q_net_target.q_net[-1].logits.softmax(dim=2)
    model.q_net(batch.observations)
    logits, expected = model.q_net.q_net[-1].logits, 0.0
    z = model.critic.centres().float()
    for i in range(32):
        moved = batch.rewards[i] + 0.99 * (1 - batch.dones[i]) * z
        wanted = model.critic.projected(p[i, best[i]].unsqueeze(0), moved.unsqueeze(0))[0]
        expected -= (
            wanted * torch.log_softmax(logits[i, int(batch.actions[i])], 0)
        ).sum().item() / 32
    assert model.losses(batch)()["critic"].item() == pytest.approx(expected, rel=1e-5)


def test_the_loss_of_ppo_is_the_cross_entropy_to_the_returns():
    model = agent_with(PPO, HLGauss(bins=21, low=-1, high=40))
    batch = model.last_batch
    terms = model.losses(batch)
    wanted = model.critic.probabilities(batch.returns)
    model.policy.predict_values(batch.observations)
    logits = model.policy.value_net.logits[:, 0]
    expected = 0.5 * cross_entropy(logits, wanted).item()
    assert terms()["critic"].item() == pytest.approx(expected, rel=1e-5)
    assert terms("critic")["critic"].item() == pytest.approx(expected, rel=1e-5)


@BOTH
def test_the_regressions_are_those_of_the_other_agent(algorithm):
    own, other = (HuberLoss(), SquaredError())[:: 1 if algorithm is DQN else -1]
    plain = agent_with(algorithm)
    assert parameter_bytes(agent_with(algorithm, own)) == parameter_bytes(plain)
    model = agent_with(algorithm, other)
    assert parameter_bytes(model) != parameter_bytes(plain)
    batch = model.last_batch
    if algorithm is PPO:
        values = model.policy.predict_values(batch.observations).flatten()
        expected = 0.5 * torch.nn.functional.smooth_l1_loss(values, batch.returns)
    else:
        values = model.q_net(batch.observations).gather(1, batch.actions)
        future = model.q_net_target(batch.next_observations).max(dim=1, keepdim=True).values
        target = batch.rewards + 0.99 * (1 - batch.dones) * future
        expected = (values - target).square().mean()
    assert model.losses(batch)("critic")["critic"].item() == pytest.approx(
        expected.item(), rel=1e-5
    )


@BOTH
def test_an_option_and_its_preset_are_the_same_agent(algorithm):
    given = {"kind": "hlgauss", "bins": 21, "low": 0.0, "high": 30.0}
    preset = agent_with(algorithm, HLGauss(bins=21, low=0, high=30))
    option = agent_with(algorithm, critic=given)
    assert parameter_bytes(preset) == parameter_bytes(option)
    name = algorithm.__name__.lower()
    config = options.make(registry.load("agent", name), {"critic": "hlgauss"}, name)
    spec = options.spec_of(config)
    assert spec["critic"] == "hlgauss"
    assert "bins" not in spec  # at its default: identities of cells that are older stay
    assert "critic" not in options.spec_of(options.make(registry.load("agent", name), {}, name))


@BOTH
def test_bins_learn_and_are_reset_and_injected_like_any_output(algorithm):
    reset, injection = ResetAtShift(scope="head"), PlasticityInjection(after=10**9)
    model = agent_with(algorithm, HLGauss(), reset, injection)
    top = model.q_net.q_net[-1] if algorithm is DQN else model.policy.value_net
    assert {id(p) for p in model.scope("head")} == {id(p) for p in top.linear.parameters()}
    start = top.linear.weight.detach().clone()
    model.interventions.at_shift(model, 1)
    assert not torch.equal(top.linear.weight, start)
    x = model.last_batch.observations
    before = model.values(x).detach()
    injection.inject(model)
    assert torch.equal(model.values(x), before)
    model.learn(128, reset_num_timesteps=False)
    assert not torch.equal(model.values(x), before)


def test_a_value_learns_to_be_a_constant_target():
    """Rewards of 1 until the end of long episodes: γ = 0.5 makes every value about 2."""
    model = agent_with(DQN, HLGauss(low=-1, high=4), gamma=0.5, learning_rate=3e-3, steps=1200)
    with torch.no_grad():
        values = model.values(model.last_batch.observations)
    assert values.median().item() == pytest.approx(2.0, abs=0.35)


def test_what_cannot_be_is_refused():
    with pytest.raises(UsageError, match="low = 3 is not below high = 1"):
        agent_with(DQN, HLGauss(low=3, high=1), steps=0)
    with pytest.raises(
        UsageError, match="exclude each other, since each decides the critic's loss"
    ):
        Interventions([HLGauss(), TwoHot()])
    with pytest.raises(UsageError, match="clip_range_vf"):
        agent_with(PPO, TwoHot(), clip_range_vf=0.2, steps=0)
    with pytest.raises(UsageError, match="does not fit agent 'ppo'"):
        Interventions([C51()], "ppo")


def test_the_weights_of_a_dynamical_loss_rise_and_fall_one_class_after_the_other():
    loss = DynamicalLoss(amplitude=5, period=4)
    found = [loss.gammas(t, 2) for t in range(9)]
    expected = [(1, 1), (3, 1), (5, 1), (3, 1), (1, 1), (1, 3), (1, 5), (1, 3), (1, 1)]
    for ours, (a, b) in zip(found, expected, strict=True):
        assert ours == pytest.approx([2 * a / (a + b), 2 * b / (a + b)])


@BOTH
@pytest.mark.parametrize("member", [(), (HLGauss(low=0, high=40),)], ids=["own", "bins"])
def test_transitions_count_by_the_weight_of_their_action(algorithm, member):
    weigh = DynamicalLoss(amplitude=9, period=10**6)
    model = agent_with(algorithm, weigh, *member)
    model.num_updates = 500_000
    batch = model.last_batch
    singles = []
    for i in range(32):
        one = type(batch)(*(None if x is None else x[i : i + 1] for x in batch))
        singles.append(model.losses(one)("critic")["critic"].item())
    actions = batch.actions.flatten().long().tolist()
    assert {0, 1} <= set(actions)
    gamma = [2 * 9 / 10, 2 * 1 / 10]
    plain = agent_with(algorithm, *member, steps=0)
    plain.policy.load_state_dict(model.policy.state_dict())
    bare = []
    for i in range(32):
        one = type(batch)(*(None if x is None else x[i : i + 1] for x in batch))
        bare.append(plain.losses(one)("critic")["critic"].item())
    assert singles == pytest.approx([gamma[a] * b for a, b in zip(actions, bare, strict=True)])
    whole = model.losses(batch)("critic")["critic"].item()
    assert whole == pytest.approx(sum(singles) / 32, rel=1e-5)


@BOTH
def test_an_amplitude_of_one_is_none_and_actions_without_number_are_refused(algorithm):
    plain = agent_with(algorithm)
    assert parameter_bytes(agent_with(algorithm, DynamicalLoss(amplitude=1))) == parameter_bytes(
        plain
    )
    if algorithm is PPO:
        members = Interventions([DynamicalLoss()])
        pendulum = train(PPO, "Pendulum-v1", 0, interventions=members, **PPO_SETTINGS)
        with pytest.raises(UsageError, match="a finite number of actions"):
            members.check(pendulum)
