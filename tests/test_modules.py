"""Modules that interventions put into networks: what they compute, and that they are trained."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from test_agents import parameter_bytes
from test_resets import dqn, ppo, small_cnn
from torch import nn

from rlplastic.agents.modules import Leaky, Rational, SeededDropout, SpectralLinear
from rlplastic.agents.networks import leaves
from rlplastic.errors import UsageError
from rlplastic.interventions import surgery
from rlplastic.interventions.activations import LeakyReLU, RationalActivations
from rlplastic.interventions.crelu import CReLU
from rlplastic.interventions.dropout import Dropout
from rlplastic.interventions.inject import PlasticityInjection
from rlplastic.interventions.layernorm import LayerNorm
from rlplastic.interventions.redo import renew
from rlplastic.interventions.sam import SAM
from rlplastic.interventions.simba import SimBa
from rlplastic.interventions.spectralnorm import SpectralNormalisation
from rlplastic.interventions.unitnorm import UnitNorm

torch.set_num_threads(1)
MAKES = pytest.mark.parametrize("make", [dqn, ppo])


def kinds(model, kind):
    return [m for m in model.policy.modules() if isinstance(m, kind)]


def test_a_rational_begins_near_a_leaky_relu_and_is_its_formula():
    rational = Rational().double()
    x = torch.linspace(-3, 3, 601, dtype=torch.float64)
    assert (rational(x) - F.leaky_relu(x, 0.01)).abs().max() < 0.05
    a, b = rational.top.detach(), rational.bottom.detach()
    top = sum(a[k] * x**k for k in range(6))
    bottom = 1 + sum(b[k] * x ** (k + 1) for k in range(4)).abs()
    torch.testing.assert_close(rational(x).detach(), top / bottom)
    with torch.no_grad():  # where Q < 0 too
        rational.bottom.neg_()
    torch.testing.assert_close(rational(x).detach(), top / bottom)
    assert torch.autograd.gradcheck(rational, (x[:20].clone().requires_grad_(),))


@MAKES
def test_rationals_are_in_every_hidden_layer_and_are_trained(make):
    model = make(RationalActivations())
    layers = model.layers("all")
    assert all(isinstance(layer.activation, Rational) for layer in layers)
    start = torch.tensor(Rational.TOP)
    for layer in layers:
        assert not torch.equal(layer.activation.top.detach(), start)
        assert any(p is layer.activation.bottom for p in model.scope("all"))
    assert not kinds(model, nn.ReLU)
    if make is dqn:
        assert model.q_net_target.q_net[1].top is model.targets()[layers[0].activation.top]


@MAKES
def test_leaky_relus_have_the_stated_slope_of_convolutions_too(make):
    model = make(LeakyReLU(slope=0.25), steps=0)
    assert {m.negative_slope for m in kinds(model, Leaky)} == {0.25}
    assert not kinds(model, nn.ReLU | nn.Tanh)
    assert len(model.layers("all")) == (2 if make is dqn else 4)
    assert not kinds(small_cnn(LeakyReLU()), nn.ReLU)


@pytest.mark.parametrize("pair", [(CReLU(), RationalActivations()), (LeakyReLU(), CReLU())])
def test_two_that_replace_the_activations_are_refused(pair):
    with pytest.raises(UsageError, match="choose one"):
        dqn(*pair, steps=0)


def test_a_dropout_drops_the_stated_share_and_keeps_the_mean():
    layer = SeededDropout(0.25, 0, owner := {"seed": 3})
    x = torch.ones(200, 500)
    once = layer(x)
    assert torch.equal(layer(x), once)
    assert (once == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)
    assert once.unique().tolist() == pytest.approx([0.0, 4 / 3])
    owner["seed"] = 4
    assert not torch.equal(layer(x), once)
    assert not torch.equal(SeededDropout(0.25, 1, owner)(x), layer(x))  # another layer
    maps = layer(torch.ones(8, 6, 3, 3)).flatten(2)
    assert (maps == maps[:, :, :1]).all()  # whole channels
    assert torch.equal(layer.eval()(x), x)


@MAKES
def test_all_passes_of_an_update_have_the_same_masks_and_the_next_has_others(make):
    model = make(Dropout(rate=0.5))
    model.policy.set_training_mode(True)
    losses = model.losses(model.last_batch)
    whole = losses()["critic"].item()
    assert losses("critic")["critic"].item() == whole
    assert model.losses(model.last_batch)()["critic"].item() == whole
    model.interventions.after_update(model)
    assert losses("critic")["critic"].item() != whole
    model.policy.set_training_mode(False)
    bare = make(steps=0)
    state = {k: v for k, v in model.policy.state_dict().items()}
    names = dict(zip(state, bare.policy.state_dict(), strict=True))
    bare.policy.load_state_dict({names[k]: v for k, v in state.items()})
    x = model.last_batch.observations
    assert torch.equal(model.values(x), bare.values(x))  # nothing is dropped while acting


@MAKES
def test_dropout_leaves_the_global_generator_and_rate_zero_is_none(make):
    assert parameter_bytes(make(Dropout(rate=0.0))) == parameter_bytes(make())
    model = make(Dropout(), SAM())
    state = torch.get_rng_state()
    model.policy.set_training_mode(True)
    model.losses(model.last_batch)()
    assert torch.equal(torch.get_rng_state(), state)


def test_the_seed_of_the_next_masks_is_in_the_state_and_found_by_the_layers():
    model = dqn(Dropout())
    model.policy.set_training_mode(True)
    state = model.interventions.state_dict()
    before = model.losses(model.last_batch)()["critic"].item()
    model.interventions.after_update(model)
    assert model.losses(model.last_batch)()["critic"].item() != before
    model.interventions.load_state_dict(state)
    assert model.losses(model.last_batch)()["critic"].item() == before


def test_a_spectral_layer_divides_by_the_largest_singular_value():
    torch.manual_seed(0)
    plain = nn.Linear(6, 9)
    state = torch.get_rng_state()
    layer = SpectralLinear.of(plain)
    assert torch.equal(torch.get_rng_state(), state)
    assert layer.weight is plain.weight
    layer.settle()
    top = torch.linalg.matrix_norm(plain.weight, 2)
    x = torch.randn(4, 6)
    expected = x @ (plain.weight / top).T + plain.bias
    torch.testing.assert_close(layer(x), expected)
    ours = torch.autograd.grad(layer(x).square().sum(), layer.weight)[0]
    theirs = torch.autograd.grad(expected.square().sum(), plain.weight)[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    kept = layer.left.clone()
    with torch.no_grad():
        layer.weight[0] *= 3
    layer.eval()(x)
    assert torch.equal(layer.left, kept)
    layer.train()(x)
    assert not torch.equal(layer.left, kept)


@MAKES
@pytest.mark.parametrize("extra", [(), (LayerNorm(),), (CReLU(),)], ids=["plain", "norm", "crelu"])
def test_the_last_hidden_layer_of_every_path_is_divided_and_its_singular_value_is_tracked(
    make, extra
):
    model = make(*extra, SpectralNormalisation())
    found = kinds(model, SpectralLinear)
    assert len(found) == 2
    paths = ("critic",) if make is dqn else ("critic", "actor")
    for path in paths:
        layer = model.layers(path)[-1].weights
        assert layer in found
        exact = torch.linalg.matrix_norm(layer.weight, 2).item()
        assert layer.sigma().item() == pytest.approx(exact, rel=0.1)  # it lags behind learning
        for _ in range(6):
            layer.settle()
        assert layer.sigma().item() == pytest.approx(exact, rel=5e-3)
        assert any(p is layer.weight for p in model.scope("all"))


def test_the_target_network_divides_by_its_own_singular_value():
    model = dqn(SpectralNormalisation())
    ours, theirs = kinds(model, SpectralLinear)
    assert not torch.equal(ours.left, theirs.left)
    model._n_calls = model.target_update_interval - 1
    model.policy.set_training_mode(False)
    model._on_step()
    assert torch.equal(ours.left, theirs.left)
    x = model.last_batch.observations
    assert torch.equal(model.values(x), model.q_net_target(x))


def test_of_nature_cnn_the_512_features_are_divided():
    model = small_cnn(SpectralNormalisation())
    assert [m.out_features for m in kinds(model, SpectralLinear)] == [512, 512]
    assert [type(m) for m in leaves(model.q_net)][-1] is nn.Linear


def simba_by_hand(modules, x):
    """The formula, from the parameters in their order: in, then the blocks, then the norm."""
    (w, b), *rest = [(m.weight, m.bias) for m in modules if hasattr(m, "weight")]

    def norm(x, gain, bias):
        spread = x.var(dim=1, unbiased=False, keepdim=True)
        return (x - x.mean(dim=1, keepdim=True)) / (spread + 1e-5).sqrt() * gain + bias

    x = x @ w.T + b
    while len(rest) >= 3:
        (gain, bias), (up, up_bias), (down, down_bias), *rest = rest
        x = x + torch.relu(norm(x, gain, bias) @ up.T + up_bias) @ down.T + down_bias
    (gain, bias), *top = rest
    x = norm(x, gain, bias)
    return x @ top[0][0].T + top[0][1] if top else x


@MAKES
def test_simba_is_its_formula_as_wide_as_the_first_hidden_layer(make):
    model = make(SimBa(blocks=2, expansion=3), policy_kwargs={"net_arch": [24, 40, 8]})
    x = torch.randn(7, 4)
    policy = model.policy
    if make is dqn:
        nets = [policy.q_net.q_net, policy.q_net_target.q_net]
    else:
        nets = [policy.mlp_extractor.policy_net, policy.mlp_extractor.value_net]
    for net in nets:
        torch.testing.assert_close(net(x), simba_by_hand(leaves(net), x), rtol=1e-4, atol=1e-5)
        widths = [len(m.weight) for m in leaves(net) if isinstance(m, nn.Linear)]
        assert widths[:5] == [24, 72, 24, 72, 24]
    for layer in model.layers("critic"):
        for parameter in (layer.weights.weight, *(layer.norm.parameters() if layer.norm else ())):
            assert policy.optimizer.state[parameter]["exp_avg"].any(), "it gets no gradient"


def test_units_within_blocks_are_recycled_and_what_others_read_is_the_last_norm():
    model = dqn(SimBa())
    block = model.layers("critic")[3]
    x = model.last_batch.observations
    with torch.no_grad():  # a unit of the second block that is never positive
        block.weights.weight[5] = 0
        block.weights.bias[5] = -1.0
    before = model.q_net(x)
    units = torch.zeros(block.units, dtype=torch.bool)
    units[5] = True
    renew(model, [(block, units)], surgery.newborn_values(model, torch.Generator().manual_seed(1)))
    assert block.weights.weight[5].any()
    torch.testing.assert_close(model.q_net(x), before)
    torch.testing.assert_close(model.q_net.q_net[-1](surgery.features(model, x)), before)


@pytest.mark.parametrize("other", [LeakyReLU, LayerNorm, Dropout, UnitNorm, PlasticityInjection])
def test_blocks_and_what_needs_plain_hidden_layers_are_refused(other):
    for pair in ((SimBa(), other()), (other(), SimBa())):
        with pytest.raises(UsageError, match="choose one"):
            checked(*pair)


def checked(*members):
    model = dqn(*members, steps=0)
    model.interventions.check(model)


def test_blocks_need_hidden_layers():
    with pytest.raises(UsageError, match="no hidden layers"):
        dqn(SimBa(), policy_kwargs={"net_arch": []}, steps=0)
