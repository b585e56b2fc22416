"""Probes against closed forms, on networks that are broken on purpose, and as mere onlookers."""

from __future__ import annotations

import copy
import math

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3.common.env_util import make_vec_env
from test_agents import DQN_SETTINGS, PPO_SETTINGS, Stacked, parameter_bytes, train

from rlplastic import registry
from rlplastic.agents.dqn import DQN
from rlplastic.agents.ppo import PPO
from rlplastic.interventions import Interventions
from rlplastic.interventions.crelu import CReLU
from rlplastic.interventions.layernorm import LayerNorm
from rlplastic.probes import curvature, measure, names, norms, seen_of, units
from rlplastic.probes.look import looking

torch.set_num_threads(1)
PROBES = sorted(registry.entries("probe"))


def dqn(*members, steps=300, **settings):
    return train(DQN, steps=steps, **DQN_SETTINGS, interventions=Interventions(members), **settings)


def ppo(*members, steps=128, **settings):
    given = {**PPO_SETTINGS, **settings}
    return train(PPO, steps=steps, **given, interventions=Interventions(members))


def value(name, model):
    return registry.load("probe", name)(model, model.last_batch)


def measured(found):
    """Names of the probes that said something, whatever the parts."""
    return {name.split("/")[0] for name in found}


def with_features(model, matrix):
    """Make the last hidden layer say this, whatever it sees: ``[batch, units]``."""
    layer = model.layers("critic")[-1]
    layer.activation.register_forward_hook(lambda *_: torch.as_tensor(matrix).float())
    return model


def diagonal(*values):
    return np.diag(np.array(values, dtype=float))


@pytest.mark.parametrize(
    ("values", "srank", "effective", "stable"),
    [
        ((1, 1, 1, 1), 4, 4.0, 4.0),  # E9
        ((99, 1, 0, 0), 1, 1.057599, 1 + 1 / 99**2),
        (
            (3, 4, 0, 0),
            2,
            math.exp(-(3 / 7) * math.log(3 / 7) - (4 / 7) * math.log(4 / 7)),
            25 / 16,
        ),
        ((0, 0, 0, 0), 0, 0.0, 0.0),
    ],
)
def test_e9_ranks_of_known_singular_values(values, srank, effective, stable):
    model = dqn(policy_kwargs={"net_arch": [4, 4]})
    with_features(model, diagonal(*values))
    assert value("srank", model) == srank
    assert value("effective_rank", model) == pytest.approx(effective, abs=1e-6)
    assert value("stable_rank", model) == pytest.approx(stable, rel=1e-9)
    assert value("feature_norm", model) == pytest.approx(sum(values) / 4)


def test_a_matrix_of_rank_k_has_srank_at_most_k():
    model = dqn()
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(32, 3, generator=generator), torch.randn(3, 64, generator=generator)
    with_features(model, left @ right)
    assert value("srank", model) == 3
    assert 1 <= value("stable_rank", model) <= 3 + 1e-6
    assert 1 <= value("effective_rank", model) <= 3.01


def biased(model, unit, bias):
    layer = model.layers("critic")[0]
    with torch.no_grad():
        layer.weights.weight[unit] = 0
        layer.weights.bias[unit] = bias


def test_known_dead_and_linearised_units_are_counted():
    model = dqn(steps=300)
    layers = model.layers("critic")
    with torch.no_grad():  # every unit takes both signs: then only what is set below counts
        for layer in layers:
            layer.weights.weight.normal_()
            layer.weights.bias.zero_()
    model.last_batch = model.last_batch._replace(
        observations=torch.randn(512, 4, generator=torch.Generator().manual_seed(0))
    )
    # the second layer of random units over positive inputs may still be one-sided
    before = {name: value(name, model) for name in ("dead_fraction", "linearised_fraction")}
    total = sum(layer.units for layer in layers)
    for unit in (0, 1, 2):
        biased(model, unit, -1.0)
    biased(model, 3, 1.0)
    second = layers[1].weights
    with torch.no_grad():  # the units that are gone may not change the layer above
        second.weight[:, :4] = 0
    after = {name: value(name, model) for name in before}
    first_dead = (units.seen(model, model.last_batch)[0].after == 0).all(dim=0)
    assert first_dead.nonzero().flatten().tolist() == [0, 1, 2]
    assert after["dead_fraction"] >= 3 / total
    first_linear = (units.seen(model, model.last_batch)[0].before > 0).all(dim=0)
    assert first_linear.nonzero().flatten().tolist() == [3]
    assert after["linearised_fraction"] >= 1 / total


def test_exact_shares_of_a_network_whose_layers_are_known():
    model = dqn(policy_kwargs={"net_arch": [4, 4]})
    layers = model.layers("critic")
    with torch.no_grad():
        for layer in layers:
            layer.weights.weight.zero_()
        layers[0].weights.bias.copy_(torch.tensor([-1.0, 1.0, 2.0, 0.001]))
        layers[1].weights.bias.copy_(torch.tensor([-1.0, -1.0, -1.0, 4.0]))
    assert value("dead_fraction", model) == 4 / 8
    assert value("linearised_fraction", model) == 4 / 8
    assert value("active_fraction", model) == 4 / 8
    assert value("dormant_fraction", model) == 5 / 8  # 0.001 is below 0.025 of its layer's mean
    assert value("feature_norm", model) == 4.0


def test_a_unit_with_two_outputs_counts_once_and_is_never_dead():
    model = dqn(CReLU(), policy_kwargs={"net_arch": [8, 8]})
    with torch.no_grad():
        for layer in model.layers("critic"):
            layer.weights.bias.fill_(0.5)
    assert value("dead_fraction", model) == 0
    with torch.no_grad():
        layer = model.layers("critic")[0]
        layer.weights.weight.zero_()
        layer.weights.bias.copy_(torch.tensor([0.0, 1.0, -1.0, 2.0]))
    assert value("dead_fraction", model) == 1 / 8
    assert value("dormant_fraction", model) >= 1 / 8


def test_all_dead_is_finite_everywhere():
    model = dqn()
    with torch.no_grad():
        for layer in model.layers("critic"):
            layer.weights.weight.zero_()
            layer.weights.bias.fill_(-1.0)
    found = measure(model, "full")
    assert measured(found) == set(PROBES) - {"policy_entropy"}
    assert all(math.isfinite(x) for x in found.values())
    assert found["dead_fraction"] == found["dormant_fraction"] == 1
    assert found["srank"] == found["effective_rank"] == found["stable_rank"] == 0


def test_gradient_norms_are_those_of_autograd():
    model = ppo()
    losses = model.losses(model.last_batch)
    g = torch.autograd.grad(losses("critic")["critic"], model.scope("critic"), allow_unused=True)
    flat = torch.cat([x.flatten() for x in g if x is not None])
    assert value("grad_norm", model) == pytest.approx(flat.norm().item(), rel=1e-5)
    assert value("grad_norm_l1", model) == pytest.approx(flat.abs().mean().item(), rel=1e-5)
    weights = torch.cat([p.detach().flatten() for p in model.scope("critic")])
    assert value("weight_norm", model) == pytest.approx(weights.norm().item(), rel=1e-5)
    assert norms.global_norm([torch.tensor([3.0]), torch.tensor([4.0])]).item() == 5


@pytest.mark.parametrize("make", [dqn, ppo], ids=["dqn", "ppo"])
def test_the_gradients_of_layers_are_the_parts_of_the_whole(make):
    model = make(LayerNorm())
    _, gradients, weights = norms.critic_gradient(model, model.last_batch)
    of = dict(zip(weights, gradients, strict=True))
    first = model.layers("critic")[0]
    mine = [of[p] for p in (*first.weights.parameters(), *first.norm.parameters())]
    entries = torch.cat([g.flatten() for g in mine])
    l2, l1 = measure(model, "full"), value("layer_grad_norm_l1", model)
    assert l2["layer_grad_norm/1"] == pytest.approx(entries.norm().item(), rel=1e-5)
    assert l1["1"] == pytest.approx(entries.abs().mean().item(), rel=1e-5)
    parts = value("layer_grad_norm", model)
    assert list(parts) == list(l1) == ["1", "2", "output"]
    whole = math.sqrt(sum(part**2 for part in parts.values()))
    assert whole == pytest.approx(value("grad_norm", model), rel=1e-5)
    with torch.no_grad():  # nothing flows back through outputs that read nothing
        for p in model.scope("head"):
            p.zero_()
    parts = value("layer_grad_norm", model)
    assert parts["1"] == parts["2"] == 0 < parts["output"]


@pytest.mark.parametrize("make", [dqn, ppo], ids=["dqn", "ppo"])
@pytest.mark.parametrize("members", [(), (LayerNorm(),), (CReLU(),)], ids=["none", "norm", "crelu"])
def test_every_probe_is_finite_and_changes_nothing(make, members):
    model = make(*members)
    model.policy.set_training_mode(True)
    optimizer = copy.deepcopy(model.policy.optimizer.state_dict())
    parameters, generator = parameter_bytes(model), torch.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()
    gradients = [None if p.grad is None else p.grad.clone() for p in model.policy.parameters()]
    found = measure(model, "full")
    assert measured(found) == {n for n in PROBES if n != "policy_entropy" or make is ppo}
    assert measure(model, "full") == found
    assert sorted(measure(model)) == names() != PROBES
    assert all(math.isfinite(x) for x in found.values()), found
    assert model.policy.training
    assert parameter_bytes(model) == parameters
    assert torch.equal(torch.get_rng_state(), generator)
    assert (np.random.get_state()[1] == numpy_state).all()
    torch.testing.assert_close(model.policy.optimizer.state_dict(), optimizer, rtol=0, atol=0)
    for p, before in zip(model.policy.parameters(), gradients, strict=True):
        assert (p.grad is None) is (before is None)
        assert before is None or torch.equal(p.grad, before)


@pytest.mark.parametrize("make", [dqn, ppo], ids=["dqn", "ppo"])
def test_probes_that_share_what_they_look_at_say_what_each_says_alone(make):
    model = make()
    together = measure(model)
    for name in together:
        model.policy.set_training_mode(False)
        assert together[name] == value(name, model), name
    with looking(model, model.last_batch):
        assert units.seen(model, model.last_batch) is units.seen(model, model.last_batch)
        other = model.last_batch._replace()
        assert units.seen(model, other) is not units.seen(model, model.last_batch)
    assert units.seen(model, model.last_batch) is not units.seen(model, model.last_batch)


def test_of_a_minibatch_of_images_as_many_are_looked_at_as_a_dqn_has():
    venv = make_vec_env(lambda: Stacked(gymnasium.make("CartPole-v1")), seed=0)
    model = PPO("CnnPolicy", venv, seed=0, device="cpu", **{**PPO_SETTINGS, "batch_size": 64})
    model.learn(64)
    whole = model.last_batch
    shown = seen_of(whole)
    assert len(whole.observations) == 64 > len(shown.observations) == 32
    for column, kept in zip(whole, shown, strict=True):
        torch.testing.assert_close(kept, column[:32], rtol=0, atol=0)
    model.policy.set_training_mode(False)
    expected = registry.load("probe", "grad_norm")(model, shown)
    assert measure(model)["grad_norm"] == expected != value("grad_norm", model)
    few = dqn().last_batch
    assert seen_of(few) is few


def explicit_hessian(model):
    """Of the critic's loss on the last batch, entry by entry, in double precision."""
    weights = model.scope("critic")
    loss = model.losses(model.last_batch)("critic")["critic"]
    first = torch.autograd.grad(loss, weights, create_graph=True)
    flat = torch.cat([g.reshape(-1) for g in first])
    rows = [
        torch.cat([h.reshape(-1) for h in torch.autograd.grad(g, weights, retain_graph=True)])
        for g in flat
    ]
    return torch.stack(rows)


@pytest.mark.parametrize("make", [dqn, ppo], ids=["dqn", "ppo"])
def test_e8_the_top_eigenvalue_and_the_trace_are_those_of_the_explicit_hessian(make):
    model = make(policy_kwargs={"net_arch": [6, 6], "activation_fn": torch.nn.Tanh})
    hessian = explicit_hessian(model).double()
    torch.testing.assert_close(hessian, hessian.T, rtol=1e-3, atol=1e-4)
    top = torch.linalg.eigvalsh(hessian)[-1].item()
    assert top > 0
    assert value("hessian_top", model) == pytest.approx(top, rel=1e-3)
    # the deviation of Hutchinson's estimate: sqrt(2 / samples) times the norm off the diagonal
    off = (hessian - hessian.diag().diag()).norm().item()
    deviation = (2 / curvature.SAMPLES) ** 0.5 * off
    assert abs(value("hessian_trace", model) - hessian.trace().item()) < 4 * deviation


def test_the_largest_eigenvalue_is_not_the_one_of_largest_size_and_a_diagonal_trace_is_exact():
    weight = torch.nn.Parameter(torch.ones(3).double())
    loss = (weight**2 * torch.tensor([-5.0, 1.0, 0.5])).sum()
    product = curvature.hessian_product(loss, [weight])

    def draw():
        return torch.tensor([1.0, -1.0, 1.0]).double()

    assert curvature.top_eigenvalue(product, draw) == pytest.approx(2, rel=1e-6)
    assert curvature.trace(product, draw) == pytest.approx(-7)


def spectrum_rank(hessian):
    """exp of the entropy of the sizes of the eigenvalues."""
    sizes = torch.linalg.eigvalsh(hessian).abs()
    part = sizes / sizes.sum()
    return torch.exp(-(part * part.clamp(min=1e-300).log()).sum()).item()


@pytest.mark.parametrize("make", [dqn, ppo], ids=["dqn", "ppo"])
def test_the_rank_of_the_hessian_is_that_of_its_explicit_spectrum(make):
    model = make(policy_kwargs={"net_arch": [12, 12], "activation_fn": torch.nn.Tanh})
    hessian = explicit_hessian(model).double()
    assert value("hessian_rank", model) == pytest.approx(spectrum_rank(hessian), rel=0.25)


def test_the_ranks_of_diagonal_hessians_are_exact():
    generator = torch.Generator().manual_seed(0)

    def rank(*entries):
        diagonal = torch.tensor(entries)

        def draw():
            signs = torch.randint(0, 2, (len(entries),), generator=generator) * 2 - 1
            return signs.to(diagonal)

        return curvature.effective_rank(lambda v: diagonal * v, draw)

    assert rank(0.0, 0.0, 0.0) == 0
    assert rank(7.0) == pytest.approx(1)
    assert rank(*[2.0] * 5, *[0.0] * 95) == pytest.approx(5)
    assert rank(*[2.0] * 5, *[-2.0] * 5, *[0.0] * 90) == pytest.approx(10)
    expected = math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert rank(3.0, -1.0, 0.0, 0.0) == pytest.approx(expected)
    assert math.isnan(rank(math.inf, 1.0))


def test_of_a_large_hessian_the_rank_is_found_within_three_standard_errors():
    """Eigenvectors that lie across all parameters, where signs are random in each direction."""
    generator = torch.Generator().manual_seed(1)
    basis = torch.linalg.qr(torch.randn(2000, 45, generator=generator)).Q

    def draw():
        return torch.randint(0, 2, (2000,), generator=generator).float() * 2 - 1

    found = curvature.effective_rank(lambda v: basis @ (basis.T @ v), draw)
    assert found == pytest.approx(45, abs=3 * (45 / 5) ** 0.5)
