"""Plasticity injection: nothing changes at the moment, and only the new head learns after it."""

from __future__ import annotations

import pytest
import torch
from test_agents import DQN_SETTINGS, PPO_SETTINGS, train
from test_resets import small_cnn

from rlplastic.agents.dqn import DQN
from rlplastic.agents.ppo import PPO
from rlplastic.errors import UsageError
from rlplastic.interventions import Interventions
from rlplastic.interventions.crelu import CReLU
from rlplastic.interventions.inject import PlasticityInjection, PlasticityInjectionAtShift
from rlplastic.interventions.layernorm import LayerNorm
from rlplastic.interventions.sam import SAM
from rlplastic.interventions.unitnorm import UnitNorm

torch.set_num_threads(1)


def agent_with(algorithm, *members, steps=None):
    settings, enough = (DQN_SETTINGS, 300) if algorithm is DQN else (PPO_SETTINGS, 128)
    return train(
        algorithm,
        steps=enough if steps is None else steps,
        **settings,
        interventions=Interventions(members),
    )


def outputs(model):
    """All outputs of all networks on the last minibatch, as ``[batch, outputs]``."""
    observations = model.last_batch.observations
    with torch.no_grad():
        found = [model.values(observations)]
        if isinstance(model, PPO):
            found.append(model.policy.get_distribution(observations).distribution.logits)
        else:
            found.append(model.q_net_target(observations))
    return found


def head_of(model, path="critic"):
    layer = model.layers(path)[-1]
    modules = [layer.weights, *layer.between, *layer.readers]
    return [p for module in modules for p in module.parameters()]


@pytest.mark.parametrize("extra", [(), (LayerNorm(),), (CReLU(), UnitNorm())], ids=len)
@pytest.mark.parametrize("algorithm", [DQN, PPO])
def test_e11_the_outputs_keep_their_bits_and_the_head_is_another(algorithm, extra):
    injection = PlasticityInjection(after=10**9)
    model = agent_with(algorithm, injection, *extra)
    before, heads = outputs(model), [p.detach().clone() for p in head_of(model)]
    kept = {p: p.detach().clone() for p in model.scope("all")}
    injection.inject(model)
    for a, b in zip(before, outputs(model), strict=True):
        assert torch.equal(a, b)
    head = {
        id(p) for path in ("critic", "actor") if model.layers(path) for p in head_of(model, path)
    }
    state = model.policy.optimizer.state
    for parameter, old in zip(head_of(model), heads, strict=True):
        if parameter.ndim > 1:
            assert not torch.equal(parameter, old)
    for parameter, old in kept.items():
        assert (id(parameter) in head) is (parameter not in state)
        assert id(parameter) in head or torch.equal(parameter, old)
    # the new head is drawn from the initial distribution, in the target network too
    for parameter in head_of(model):
        twin = model.targets().get(parameter)
        assert twin is None or torch.equal(parameter, twin)


@pytest.mark.parametrize("algorithm", [DQN, PPO])
def test_e11_only_the_new_head_and_what_is_below_it_get_gradient(algorithm):
    injection = PlasticityInjection(after=10**9)
    model = agent_with(algorithm, injection)
    injection.inject(model)
    frozen = [x.clone() for x in injection.state["head0_old"] + injection.state["head0_new"]]
    assert not any(x.requires_grad for x in frozen)
    model.learn(128, reset_num_timesteps=False)
    now = injection.state["head0_old"] + injection.state["head0_new"]
    assert all(torch.equal(a, b) for a, b in zip(frozen, now, strict=True))
    for p, new in zip(head_of(model), injection.state["head0_new"], strict=False):
        assert not torch.equal(p, new)  # it learns


def test_the_output_after_learning_is_the_formula_written_out():
    injection = PlasticityInjection(after=30)
    model = agent_with(DQN, injection)
    assert injection.state["injected_after"] == 30 < model.num_updates
    net, x = model.q_net.q_net, model.last_batch.observations

    def head(weights):
        w, b, top, c = weights
        phi = torch.relu(x @ net[0].weight.T + net[0].bias)
        return torch.relu(phi @ w.T + b) @ top.T + c

    state = injection.state
    learnt = [net[2].weight, net[2].bias, net[4].weight, net[4].bias]
    expected = head(learnt) + head(state["head0_old"]) - head(state["head0_new"])
    torch.testing.assert_close(model.values(x), expected)
    # the layers below learn through all three heads
    ours = torch.autograd.grad(model.values(x).sum(), net[0].weight)[0]
    theirs = torch.autograd.grad(expected.sum(), net[0].weight)[0]
    torch.testing.assert_close(ours, theirs)
    assert not torch.allclose(ours, torch.autograd.grad(head(learnt).sum(), net[0].weight)[0])


def test_a_new_target_network_says_what_the_online_network_says():
    injection = PlasticityInjection(after=30)
    model = agent_with(DQN, injection)
    x = model.last_batch.observations
    assert not torch.equal(model.values(x), model.q_net_target(x))
    model._n_calls = model.target_update_interval - 1
    model._on_step()
    assert torch.equal(model.values(x), model.q_net_target(x))


def test_of_convolutions_the_encoder_stays():
    injection = PlasticityInjection(after=10**9)
    model = small_cnn(injection)
    before = outputs(model)
    encoder = [p.detach().clone() for p in model.q_net.features_extractor.cnn.parameters()]
    injection.inject(model)
    for a, b in zip(before, outputs(model), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(encoder, model.q_net.features_extractor.cnn.parameters(), strict=True):
        assert torch.equal(a, b)
    assert sorted(tuple(x.shape) for x in injection.state["head0_old"]) == [
        (3,),
        (3, 512),
        (512,),
        (512, 3136),
    ]


@pytest.mark.parametrize("algorithm", [DQN, PPO])
def test_a_loaded_state_gives_the_outputs_back(algorithm):
    model = agent_with(algorithm, PlasticityInjection(after=5), SAM())
    twin = agent_with(algorithm, PlasticityInjection(after=5), SAM(), steps=0)
    twin.policy.load_state_dict(model.policy.state_dict())
    twin.last_batch = model.last_batch
    assert not torch.allclose(outputs(twin)[0], outputs(model)[0])
    twin.interventions.load_state_dict(model.interventions.state_dict())
    for a, b in zip(outputs(model), outputs(twin), strict=True):
        assert torch.equal(a, b)


def test_it_is_injected_once_and_the_oracle_at_its_shift():
    injection = PlasticityInjectionAtShift(phase=2)
    model = agent_with(PPO, injection)
    model.interventions.at_shift(model, 1)
    assert not injection.state
    model.interventions.at_shift(model, 2)
    frozen = injection.state["head1_old"]
    injection.inject(model)
    assert injection.state["head1_old"] is frozen
    assert injection.state["injected_after"] == model.num_updates


def test_without_hidden_units_it_is_refused():
    members = Interventions([PlasticityInjection()])
    model = train(
        PPO, steps=0, **PPO_SETTINGS, policy_kwargs={"net_arch": []}, interventions=members
    )
    with pytest.raises(UsageError, match="no hidden units"):
        members.check(model)
