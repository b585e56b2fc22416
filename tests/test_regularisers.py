"""Penalties, projections and decay against exact values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_agents import DQN_SETTINGS, PPO_SETTINGS, parameter_bytes, train
from torch import nn

from rlplastic.agents.dqn import DQN
from rlplastic.agents.networks import leaves
from rlplastic.agents.ppo import PPO
from rlplastic.errors import UsageError
from rlplastic.interventions import Interventions, surgery
from rlplastic.interventions.dr3 import DR3
from rlplastic.interventions.init import L2Init, W2Init
from rlplastic.interventions.l2 import L2, WeightDecay
from rlplastic.interventions.layernorm import LayerNorm, NormaliseAndProject
from rlplastic.interventions.moments import MatchedBetas
from rlplastic.interventions.parseval import Parseval
from rlplastic.interventions.pfo import ProximalFeatures
from rlplastic.interventions.spectral import SpectralRegularisation
from rlplastic.interventions.swr import SoftWeightRescaling
from rlplastic.interventions.unitnorm import UnitNorm
from rlplastic.interventions.wclip import WeightClipping

torch.set_num_threads(1)


def dqn(*members, steps=0, **settings):
    return train(DQN, steps=steps, **DQN_SETTINGS, interventions=Interventions(members), **settings)


def ppo(*members, steps=0, **settings):
    given = {**PPO_SETTINGS, **settings}
    return train(PPO, steps=steps, **given, interventions=Interventions(members))


def penalised(model):
    """The penalty and its gradient by parameter."""
    (penalty,) = model.interventions._penalties
    value = penalty(model)
    gradients = torch.autograd.grad(value, model.scope("all"), allow_unused=True)
    return value.item(), gradients


def shake(model):
    with torch.no_grad():
        for parameter in model.scope("all"):
            parameter.add_(torch.randn_like(parameter) * 0.1)


@pytest.mark.parametrize(
    "member",
    [
        L2(strength=0.3),
        L2Init(strength=0.3),
        W2Init(strength=0.3),
        Parseval(strength=0.3),
        SpectralRegularisation(strength=0.3),
    ],
    ids=lambda m: m.name,
)
@pytest.mark.parametrize("make", [dqn, ppo])
def test_the_gradient_of_a_penalty_is_its_finite_difference(member, make):
    model = make(member)
    shake(model)
    model.policy.double()
    for key in ("initial", "left"):
        if key in member.state:
            member.state[key] = [value.double() for value in member.state[key]]
    if "left" in member.state:  # the power iteration has settled
        layers = surgery.weight_layers(model, "all")
        member.state["left"] = [torch.linalg.svd(la.weight)[0][:, 0].detach() for la in layers]
    _, gradients = penalised(model)
    parameters = model.scope("all")
    generator = torch.Generator().manual_seed(0)
    directions = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            for p, d in zip(parameters, directions, strict=True):
                p.add_(d, alpha=sign * 1e-7)
        values.append(penalised(model)[0])
        with torch.no_grad():
            for p, d in zip(parameters, directions, strict=True):
                p.sub_(d, alpha=sign * 1e-7)
    slope = (values[0] - values[1]) / 2e-7
    pairs = zip(gradients, directions, strict=True)
    along = sum(float((g * d).sum()) for g, d in pairs if g is not None)
    assert along == pytest.approx(slope, rel=1e-4)


def test_e13_l2init_alone_shrinks_the_distance_by_a_known_factor():
    model = dqn(L2Init(strength=1e-2))
    initial = [p.detach().clone() for p in model.scope("all")]
    shake(model)
    model.policy.double()
    start = [(p.detach() - i.double()) for p, i in zip(model.scope("all"), initial, strict=True)]
    optimizer = torch.optim.SGD(model.scope("all"), lr=0.01)
    for _ in range(1000):
        optimizer.zero_grad()
        model.interventions._penalties[0](model).backward()
        optimizer.step()
    for p, i, s in zip(model.scope("all"), initial, start, strict=True):
        ratio = (p.detach() - i.double()).norm() / s.norm()
        assert ratio.item() == pytest.approx(0.904833, abs=1e-6)


def test_e14_w2init_does_not_see_a_permutation_and_l2init_does():
    wasserstein, euclid = dqn(W2Init()), dqn(L2Init())
    for model in (wasserstein, euclid):
        with torch.no_grad():
            for p in model.scope("all"):
                p.copy_(p.flatten()[torch.randperm(p.numel())].view(p.shape))
    assert penalised(wasserstein)[0] == 0
    assert penalised(euclid)[0] > 0


def test_w2init_of_a_shift_is_the_squared_shift():
    model = dqn(W2Init(strength=0.5))
    with torch.no_grad():
        for p in model.scope("all"):
            p.add_(0.1)
    count = sum(p.numel() for p in model.scope("all"))
    assert penalised(model)[0] == pytest.approx(0.5 * 0.01 * count, rel=1e-4)


def test_e15_parseval_is_zero_where_rows_are_orthonormal_and_grows_with_a_double_row():
    model = dqn(Parseval(strength=1.0), policy_kwargs={"net_arch": [4, 4]})
    for layer in model.layers("all"):
        nn.init.orthogonal_(layer.weights.weight)
    assert penalised(model)[0] == pytest.approx(0, abs=1e-10)
    with torch.no_grad():
        weight = model.layers("all")[1].weights.weight
        weight[1] = weight[0]
    assert penalised(model)[0] == pytest.approx(2.0, abs=1e-5)  # two entries of one
    model = dqn(Parseval(strength=1.0, scale=4.0), policy_kwargs={"net_arch": [4, 4]})
    for layer in model.layers("all"):
        nn.init.orthogonal_(layer.weights.weight, gain=2.0)
    assert penalised(model)[0] == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize("make", [dqn, ppo])
@pytest.mark.parametrize("kappa", [0.5, 2.0])
def test_e16_weights_stay_within_the_bound_of_their_layer(make, kappa):
    model = make(WeightClipping(kappa=kappa), steps=256)
    for layer in leaves(model.q_net if make is dqn else model.policy):
        if isinstance(layer, nn.Linear):
            bound = kappa / layer.in_features**0.5 + 1e-7
            assert all(p.abs().max() <= bound for p in layer.parameters())
    tight = max(p.abs().max().item() for p in model.scope("all"))
    assert tight > 0


def test_spectral_regularisation_is_the_singular_value_decompositions():
    model = dqn(SpectralRegularisation(strength=2.0, power=3))
    shake(model)
    for _ in range(300):
        value, _ = penalised(model)
    expected = 0.0
    for layer in leaves(model.q_net):
        if isinstance(layer, nn.Linear):
            sigma = torch.linalg.matrix_norm(layer.weight, 2).item()
            expected += (sigma**3 - 1) ** 2 + layer.bias.square().sum().item() ** 3
    assert value == pytest.approx(2.0 * expected, rel=1e-4)


@pytest.mark.parametrize("algorithm", [DQN, PPO])
def test_decay_of_everything_is_adamw(algorithm):
    settings = DQN_SETTINGS if algorithm is DQN else PPO_SETTINGS
    theirs = train(
        algorithm,
        steps=512,
        **settings,
        policy_kwargs={
            "optimizer_class": torch.optim.AdamW,
            "optimizer_kwargs": {"weight_decay": 0.1, "eps": 1e-5},
        },
    )
    ours = train(
        algorithm,
        steps=512,
        **settings,
        policy_kwargs={"optimizer_kwargs": {"eps": 1e-5}},
        interventions=Interventions([WeightDecay(strength=0.1)]),
    )
    plain = train(
        algorithm, steps=512, **settings, policy_kwargs={"optimizer_kwargs": {"eps": 1e-5}}
    )
    assert parameter_bytes(ours) == parameter_bytes(theirs) != parameter_bytes(plain)


def test_decay_of_a_scope_leaves_the_others_alone():
    model = ppo(WeightDecay(strength=0.5, scope="critic"))
    decays = {
        id(p): group["weight_decay"]
        for group in model.policy.optimizer.param_groups
        for p in group["params"]
    }
    critic = {id(p) for p in model.scope("critic")}
    assert set(decays) == {id(p) for p in model.policy.parameters()}
    assert all((decays[key] == 0.5) is (key in critic) for key in decays)


def test_decay_without_adam_is_refused():
    model = train(
        DQN,
        steps=0,
        **DQN_SETTINGS,
        policy_kwargs={"optimizer_class": torch.optim.SGD},
        interventions=(members := Interventions([WeightDecay()])),
    )
    with pytest.raises(UsageError, match="needs Adam"):
        members.check(model)


def test_layer_norms_stand_before_every_hidden_activation_and_in_the_target():
    model = dqn(LayerNorm(), steps=300)
    names = [type(m).__name__ for m in leaves(model.q_net.q_net)]
    assert names == ["Linear", "LayerNorm", "ReLU", "Linear", "LayerNorm", "ReLU", "Linear"]
    assert [type(m).__name__ for m in leaves(model.q_net_target.q_net)] == names
    gains = [m.weight for m in leaves(model.q_net.q_net) if isinstance(m, nn.LayerNorm)]
    assert all((gain != 1).any() for gain in gains)  # they are trained
    assert model.targets()[gains[0]] is model.q_net_target.q_net[1].weight


def test_nap_keeps_the_norm_of_every_layers_weights():
    start, end = dqn(NormaliseAndProject()), dqn(NormaliseAndProject(), steps=400)
    assert end.num_updates > 50
    for a, b in zip(leaves(start.q_net), leaves(end.q_net), strict=True):
        if isinstance(a, nn.Linear):
            assert b.weight.norm().item() == pytest.approx(a.weight.norm().item(), rel=1e-5)
            assert not torch.equal(a.weight, b.weight)


@pytest.mark.parametrize("average", [True, False])
@pytest.mark.parametrize("scope", ["actor", "critic"])
def test_pfo_is_the_squared_change_of_the_last_hidden_pre_activations(scope, average):
    member = ProximalFeatures(strength=2.0, scope=scope, average=average)
    model = ppo(member, steps=64)
    model.interventions.new_objective(model)
    value, _ = penalised(model)
    assert value == 0
    net = model.policy.mlp_extractor.policy_net
    if scope == "critic":
        net = model.policy.mlp_extractor.value_net
    with torch.no_grad():
        net[2].bias.add_(0.1)
    times = 1 if average else net[2].out_features
    value, gradients = penalised(model)
    assert value == pytest.approx(2.0 * times * 0.01, rel=1e-4)
    touched = {
        id(p)
        for p, g in zip(model.scope("all"), gradients, strict=True)
        if g is not None and g.abs().sum() > 0
    }
    assert touched == {id(p) for p in net.parameters()}


def test_pfo_does_not_fit_dqn():
    with pytest.raises(UsageError, match="does not fit agent 'dqn'"):
        Interventions([ProximalFeatures()], "dqn")


def test_the_generator_of_an_intervention_depends_on_the_agents_seed_alone():
    draws = []
    for seed in (1, 1, 2):
        model = train(
            DQN, steps=0, seed=seed, **DQN_SETTINGS, interventions=Interventions([L2Init(), L2()])
        )
        members = model.interventions.members
        draws.append([torch.rand((), generator=m.generator).item() for m in members])
    assert draws[0] == draws[1] != draws[2]
    assert len(np.unique(draws[0])) == 2


def test_soft_rescaling_moves_the_norm_part_of_the_way():
    model = dqn(SoftWeightRescaling(strength=0.25))
    layers = surgery.weight_layers(model, "all")
    initial = [layer.weight.norm().item() for layer in layers]
    with torch.no_grad():
        for layer in layers:
            layer.weight.mul_(3.0)
    model.interventions.after_update(model)
    for layer, norm in zip(layers, initial, strict=True):
        assert layer.weight.norm().item() == pytest.approx((0.25 + 0.75 * 3) * norm, rel=1e-5)


def test_dr3_is_the_mean_inner_product_of_the_last_hidden_features():
    model = dqn(DR3(strength=0.5), steps=300)
    batch = model.last_batch
    with torch.no_grad():
        now, then = (
            model.q_net.q_net[:-1](x) for x in (batch.observations, batch.next_observations)
        )
    value, gradients = penalised(model)
    assert value == pytest.approx(0.5 * (now * then).sum(dim=1).mean().item(), rel=1e-5)
    last = {id(p) for p in model.scope("head")}
    for parameter, g in zip(model.scope("all"), gradients, strict=True):
        assert (g is None) is (id(parameter) in last)


@pytest.mark.parametrize("make", [dqn, ppo])
def test_unit_norm_gives_the_outputs_features_of_length_one(make):
    model = make(UnitNorm(), steps=300)
    outputs = [model.q_net.q_net[-1]] if make is dqn else [model.policy.value_net]
    outputs += [] if make is dqn else [model.policy.action_net]
    seen = []
    for output in outputs:
        output.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model.values(model.last_batch.observations)
    if make is ppo:
        model.policy.get_distribution(model.last_batch.observations)
    assert len(seen) == len(outputs)
    for features in seen:
        torch.testing.assert_close(features.norm(dim=1), torch.ones(len(features)))


def test_matched_betas_are_the_optimizers():
    model = dqn(MatchedBetas(beta2=0.9), steps=10)
    assert {group["betas"] for group in model.policy.optimizer.param_groups} == {(0.99, 0.9)}
