"""Mixtures of experts: their sum written out, their gradients, and what resets see of them."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from test_agents import DQN_SETTINGS, train

from rlplastic.agents.dqn import DQN
from rlplastic.agents.mixture import MixtureOfExperts as Mixture
from rlplastic.agents.ppo import PPO
from rlplastic.errors import UsageError
from rlplastic.interventions import Interventions
from rlplastic.interventions.inject import PlasticityInjection
from rlplastic.interventions.moe import MixtureOfExperts

torch.set_num_threads(1)


def mixed(algorithm=DQN, experts=3, steps=0, **settings):
    given = DQN_SETTINGS if algorithm is DQN else {"n_steps": 64, "batch_size": 32}
    arms = Interventions([MixtureOfExperts(experts=experts)])
    return train(algorithm, steps=steps, interventions=arms, **{**given, **settings})


def test_outputs_are_the_sum_of_the_experts_by_their_shares():
    model = mixed(policy_kwargs={"net_arch": [6, 5]})
    first, act, mixture, top = model.q_net.q_net
    assert isinstance(mixture, Mixture)
    with torch.no_grad():
        mixture.gate.normal_()
    x = torch.randn(7, 4)
    hidden = act(first(x))
    shares = torch.softmax(hidden @ mixture.gate.T, dim=1)
    assert shares.std() > 0.05
    expected = top.bias.expand(7, 2)
    for i in range(3):
        block = slice(5 * i, 5 * i + 5)
        inner = mixture.inner[0]
        expert = torch.relu(hidden @ inner.weight[block].T + inner.bias[block])
        expected = expected + shares[:, i : i + 1] * (expert @ top.weight[:, block].T)
    torch.testing.assert_close(model.q_net(x), expected)


def test_one_expert_among_equals_is_the_plain_network():
    """Where all experts are the same one, their shares do not matter."""
    plain = train(DQN, steps=0, policy_kwargs={"net_arch": [6, 5]}, **DQN_SETTINGS)
    model = mixed(policy_kwargs={"net_arch": [6, 5]})
    theirs, ours = plain.q_net.q_net, model.q_net.q_net
    with torch.no_grad():
        ours[0].load_state_dict(theirs[0].state_dict())
        ours[2].inner[0].weight.copy_(theirs[2].weight.repeat(3, 1))
        ours[2].inner[0].bias.copy_(theirs[2].bias.repeat(3))
        ours[2].gate.normal_()
        ours[3].weight.copy_(theirs[4].weight.repeat(1, 3))
        ours[3].bias.copy_(theirs[4].bias)
    x = torch.randn(9, 4)
    torch.testing.assert_close(model.q_net(x), plain.q_net(x))


@pytest.mark.parametrize("algorithm", [DQN, PPO])
def test_the_gradient_of_the_gates_is_that_of_finite_differences(algorithm):
    model = mixed(algorithm, steps=200)
    model.policy.double()
    gates = [m.gate for m in model.policy.modules() if isinstance(m, Mixture)]
    assert len(gates) == 2  # online and target, or actor and critic
    gate = gates[0] if algorithm is DQN else gates[1]
    assert gate.abs().max() > 0  # learnt, from zero
    x = torch.randn(8, 4, dtype=torch.float64)

    def loss():
        values = model.q_net.q_net if algorithm is DQN else _critic(model)
        return values(x).square().mean()

    (slope,) = torch.autograd.grad(loss(), gate)
    for place in [(0, 0), (1, 3), (2, 7)]:
        with torch.no_grad():
            gate[place] += 1e-5
            above = loss()
            gate[place] -= 2e-5
            below = loss()
            gate[place] += 1e-5
        assert float((above - below) / 2e-5) == pytest.approx(float(slope[place]), rel=1e-4)


def _critic(model):
    policy = model.policy
    return lambda x: policy.value_net(policy.mlp_extractor.value_net(x))


@pytest.mark.parametrize("algorithm", [DQN, PPO])
def test_units_are_those_of_all_experts_and_readers_read_them(algorithm):
    model = mixed(algorithm, policy_kwargs={"net_arch": [6, 5]})
    top = model.layers("critic")[-1]
    assert top.units == 15
    assert top.activation is not None
    chosen = torch.zeros(15, dtype=torch.bool)
    chosen[7] = True  # the third unit of the second expert
    x = torch.randn(5, 4)
    before = model.values(x).clone()
    with torch.no_grad():
        for parameter, mask in top.outgoing(chosen):
            parameter.masked_fill_(mask, 0.0)
        silent = model.values(x).clone()
        for parameter, mask in top.incoming(chosen):
            parameter.masked_fill_(mask, 9.0)
    torch.testing.assert_close(model.values(x), silent)
    if algorithm is DQN:
        assert not torch.equal(before, silent)


def test_weights_are_as_wide_as_one_experts_would_have_been_drawn():
    model = mixed(experts=4, policy_kwargs={"net_arch": [50]})
    top = model.q_net.q_net[-1]
    bound = 1 / math.sqrt(50)
    assert top.in_features == 200
    assert 0.9 * bound < top.weight.detach().abs().max().item() <= bound
    assert model.q_net.q_net[0].inner[0].out_features == 200
    assert torch.equal(top.weight, model.q_net_target.q_net[-1].weight)


def test_a_network_with_a_mixture_can_be_copied_in_the_middle_of_training():
    model = mixed(steps=200)
    twin = copy.deepcopy(model.q_net)
    x = torch.randn(5, 4)
    assert torch.equal(twin(x), model.q_net(x))


def test_injection_is_refused():
    arms = Interventions([MixtureOfExperts(), PlasticityInjection()])
    model = train(DQN, steps=0, interventions=arms, **DQN_SETTINGS)
    with pytest.raises(UsageError, match="choose one"):
        arms.check(model)
