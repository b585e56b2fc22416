"""Penalties on the critic's features against the formulas written out."""

from __future__ import annotations

import pytest
import torch
from test_regularisers import dqn, penalised, ppo, shake

from rlplastic.errors import UsageError
from rlplastic.interventions import Interventions, surgery
from rlplastic.interventions.beer import BEER
from rlplastic.interventions.infer import InitialFeatures
from rlplastic.interventions.reset import ResetAtShift
from rlplastic.interventions.sam import SAM
from rlplastic.interventions.svp import SingularValuePenalty

torch.set_num_threads(1)
MAKES = pytest.mark.parametrize(("make", "steps"), [(dqn, 300), (ppo, 128)])


def finite_difference(model, penalty):
    """A penalty's gradient along a direction, and its slope there (observations are float32)."""
    parameters = model.scope("critic")
    generator = torch.Generator().manual_seed(0)
    directions = [torch.randn(p.shape, generator=generator) for p in parameters]
    gradients = torch.autograd.grad(penalty(model), parameters, allow_unused=True)
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            for p, d in zip(parameters, directions, strict=True):
                p.add_(d, alpha=sign * 1e-3)
            values.append(penalty(model).item())
            for p, d in zip(parameters, directions, strict=True):
                p.sub_(d, alpha=sign * 1e-3)
    pairs = zip(gradients, directions, strict=True)
    along = sum(float((g * d).sum()) for g, d in pairs if g is not None)
    return along, (values[0] - values[1]) / 2e-3


@MAKES
def test_the_singular_value_penalty_is_that_of_the_feature_matrix(make, steps):
    model = make(SingularValuePenalty(strength=0.5), steps=steps)
    (member,) = model.interventions.members
    net = model.q_net.q_net[:-1] if make is dqn else model.policy.mlp_extractor.value_net
    with torch.no_grad():
        features = net(model.last_batch.observations)
    gram = torch.linalg.eigvalsh(features.double() @ features.double().T)  # 32 samples, 64 units
    value, _ = penalised(model)
    assert value == pytest.approx(0.5 * (gram[-1] - gram[0]).item(), rel=1e-4)
    along, slope = finite_difference(model, member.penalty)
    assert along == pytest.approx(slope, rel=2e-2)


def test_beer_is_the_excess_over_the_bound_written_out():
    model = dqn(BEER(strength=2.0), steps=300)
    batch = model.last_batch
    rewards = torch.linspace(0.0, 3.0, 32).reshape(-1, 1)
    dones = (torch.arange(32).reshape(-1, 1) % 5 == 0).float()
    model.last_batch = batch = batch._replace(rewards=rewards, dones=dones)
    with torch.no_grad():
        phi = model.q_net.q_net[:-1](batch.observations)
        nxt = model.q_net_target.q_net[:-1](batch.next_observations)
        w = model.q_net.q_net[-1].weight.norm().item()
    expected, active = 0.0, 0
    for i in range(32):
        a, b = phi[i].norm().item(), nxt[i].norm().item()
        cosine = (phi[i] @ nxt[i]).item() / (a * b)
        r = rewards[i].item()
        bound = (a**2 + 0.99**2 * b**2 - r**2 / w**2) / (2 * 0.99 * a * b)
        excess = max(0.0, cosine - bound) * (1 - dones[i].item())
        active += excess > 0
        expected += 2.0 * excess / 32
    assert 3 < active < 26  # some on each side of the bound
    value, gradients = penalised(model)
    assert value == pytest.approx(expected, rel=1e-3)
    last = {id(p) for p in model.scope("head")}
    for parameter, g in zip(model.scope("all"), gradients, strict=True):
        assert (g is None) is (id(parameter) in last)


def test_beer_and_features_of_the_target_do_not_fit_ppo():
    with pytest.raises(UsageError, match="does not fit agent 'ppo'"):
        Interventions([BEER()], "ppo")


@MAKES
def test_infer_is_the_formula_written_out(make, steps):
    infer = InitialFeatures(strength=0.5, outputs=3, scale=20.0)
    born = make(infer, steps=0)
    net = born.q_net.q_net[:-1] if make is dqn else born.policy.mlp_extractor.value_net
    top = born.q_net.auxiliary if make is dqn else born.policy.auxiliary
    assert top.weight.shape == (3, 64)
    assert top.weight.abs().max() <= 1 / 8
    model = make(InitialFeatures(strength=0.5, outputs=3, scale=20.0), steps=steps)
    x = model.last_batch.observations
    with torch.no_grad():
        then = top(net(x))
    learnt = model.q_net.q_net[:-1] if make is dqn else model.policy.mlp_extractor.value_net
    heads = model.q_net.auxiliary if make is dqn else model.policy.auxiliary
    assert not torch.equal(heads.weight, top.weight)  # they are trained
    before = [p.detach().clone() for p in model.scope("all")]
    value, gradients = penalised(model)
    expected = 0.5 * (heads(learnt(x)) - 20.0 * then).square().mean()
    assert value == pytest.approx(expected.item(), rel=1e-4)
    theirs = torch.autograd.grad(expected, model.scope("all"), allow_unused=True)
    for a, b in zip(gradients, theirs, strict=True):
        assert (a is None) is (b is None)
        assert a is None or torch.allclose(a, b, rtol=1e-3, atol=1e-5)
    assert all(torch.equal(a, b) for a, b in zip(before, model.scope("all"), strict=True))


@MAKES
def test_the_outputs_of_infer_are_the_critics_and_the_head_is_still_the_value_layer(make, steps):
    model = make(InitialFeatures(), SAM(), steps=steps)
    top = model.q_net.auxiliary if make is dqn else model.policy.auxiliary
    critic = {id(p) for p in model.scope("critic")}
    assert {id(p) for p in top.parameters()} <= critic
    head = model.q_net.q_net[-1] if make is dqn else model.policy.value_net
    assert {id(p) for p in model.scope("head")} == {id(p) for p in head.parameters()}
    state = model.policy.optimizer.state
    assert all(state[p]["exp_avg"].any() for p in top.parameters())


def test_outputs_of_infer_start_differently_for_each_seed_and_alike_for_one():
    tops = [dqn(InitialFeatures(), seed=seed).q_net.auxiliary.weight for seed in (1, 1, 2)]
    assert torch.equal(tops[0], tops[1])
    assert not torch.equal(tops[0], tops[2])


def test_a_graph_from_before_survives_an_exchange_of_values():
    model = dqn(steps=300)
    weights = model.scope("critic")
    loss = model.losses(model.last_batch)()["critic"]
    expected = torch.autograd.grad(loss, weights, retain_graph=True)
    bytes_before = [p.detach().numpy().tobytes() for p in weights]
    with torch.no_grad(), surgery.swapped(weights, [torch.ones_like(p) for p in weights]):
        assert model.values(model.last_batch.observations).mean() > 100
    found = torch.autograd.grad(loss, weights)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    assert [p.detach().numpy().tobytes() for p in weights] == bytes_before


def test_a_reset_agent_keeps_its_initial_predictions_as_targets():
    model = dqn(InitialFeatures(), ResetAtShift(), steps=300)
    infer = next(m for m in model.interventions.members if m.name == "infer")
    initial = [x.clone() for x in infer.state["initial"]]
    model.interventions.at_shift(model, 1)
    shake(model)
    model.learn(128, reset_num_timesteps=False)
    assert all(torch.equal(a, b) for a, b in zip(initial, infer.state["initial"], strict=True))
