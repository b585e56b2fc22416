"""Resets by degrees: running means, shrinking along the gradient, and silences of units."""

from __future__ import annotations

import pytest
import torch
from test_agents import parameter_bytes
from test_resets import dqn, moments, ppo, small_cnn

from rlplastic.interventions import surgery
from rlplastic.interventions.dash import DASH
from rlplastic.interventions.hare import HareAndTortoise
from rlplastic.interventions.snp import SoftShrinkAndPerturb
from rlplastic.interventions.snr import SelfNormalisedResets

torch.set_num_threads(1)


def set_all(model, value):
    with torch.no_grad():
        for p in model.scope("all"):
            p.fill_(value)


@pytest.mark.parametrize("make", [dqn, ppo])
def test_the_tortoise_is_the_running_mean_and_the_hare_returns_to_it(make):
    hare = HareAndTortoise(every=10**9, momentum=0.9)
    model = make(hare, steps=0)
    set_all(model, 1.0)
    hare.begin(model)
    expected = 1.0
    for value in (2.0, -1.0, 4.0):
        set_all(model, value)
        model.num_updates += 1
        hare.after_update(model)
        expected = 0.9 * expected + 0.1 * value
        assert all((p == value).all() for p in model.scope("all"))
    object.__setattr__(hare, "every", 4)
    model.num_updates = 4
    hare.after_update(model)
    expected = 0.9 * expected + 0.1 * 4.0
    for p in model.scope("all"):
        torch.testing.assert_close(p.detach(), torch.full_like(p, expected))
        twin = model.targets().get(p)
        assert twin is None or torch.equal(p, twin)
    assert hare.state["resets"] == 1


def test_the_hare_forgets_the_moments_of_its_scope_alone():
    hare = HareAndTortoise(every=10**9, scope="head")
    model = dqn(hare)
    assert hare.state.get("resets") is None
    object.__setattr__(hare, "every", model.num_updates)
    hare.after_update(model)
    head = {id(p) for p in model.scope("head")}
    for p in model.scope("all"):
        assert (moments(model, p) is None) is (id(p) in head)
    model.learn(20, reset_num_timesteps=False)


def test_dash_shrinks_rows_by_their_cosine_with_the_descent_direction():
    dash = DASH(every=10**9, alpha=0.5, smallest=0.3)
    model = dqn(dash, steps=0)
    layer = surgery.weight_layers(model, "all")[0]
    weight, bias = layer.weight, layer.bias
    for p in model.scope("all"):
        p.grad = torch.zeros_like(p)
    with torch.no_grad():
        weight[:4] = torch.tensor([3.0, 4.0, 0.0, 0.0])
        bias.fill_(2.0)
    weight.grad[0] = torch.tensor([-3.0, -4.0, 0.0, 0.0])  # descent along w: cosine 1
    weight.grad[1] = torch.tensor([-1.0, 0.0, 0.0, 0.0])  # cosine 0.6
    weight.grad[2] = torch.tensor([3.0, 4.0, 0.0, 0.0])  # against w
    weight.grad[3] = torch.tensor([-3.0, -4.0, 5.0 * 3**0.5, 0.0])  # cosine 0.5
    bias.grad.fill_(-7.0)
    model.num_updates = 1
    dash.after_update(model)
    torch.testing.assert_close(dash.state["gradient"][0][1], torch.tensor([-0.5, 0, 0, 0]))
    before = weight.detach().clone()
    object.__setattr__(dash, "every", 1)
    dash.after_update(model)
    torch.testing.assert_close(dash.state["gradient"][0][1], torch.tensor([-0.75, 0, 0, 0]))
    factors = torch.tensor([1.0, 0.6, 0.3, 0.5])
    torch.testing.assert_close(weight.detach()[:4], before[:4] * factors[:, None])
    torch.testing.assert_close(bias.detach(), torch.full_like(bias, 2.0))
    assert torch.equal(model.targets()[weight], weight)
    # where there is no gradient there is no direction to keep
    torch.testing.assert_close(weight.detach()[4:], before[4:] * 0.3)


def test_dash_shrinks_kernels_of_convolutions_each_for_itself():
    dash = DASH(every=10**9, smallest=0.1)
    model = small_cnn(dash)
    layer = surgery.weight_layers(model, "all")[0]
    towards = torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(0))
    factor = dash.factor(layer.weight.detach(), towards)
    assert factor.shape == (*layer.weight.shape[:2], 1, 1)
    a, b = layer.weight.detach()[3, 2].flatten(), towards[3, 2].flatten()
    expected = max(0.1, (a @ b / (a.norm() * b.norm())).item())
    assert factor[3, 2].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("make", [dqn, ppo])
def test_soft_perturbing_goes_the_stated_part_of_the_way_and_keeps_the_moments(make):
    soft = SoftShrinkAndPerturb(strength=0.1, every=3)
    model = make(soft, steps=300 if make is dqn else 128)
    before = [p.detach().clone() for p in model.scope("all")]
    kept = [moments(model, p)["exp_avg"].clone() for p in model.scope("all")]
    state = soft.generator.get_state()
    model.num_updates = 3
    soft.after_update(model)
    soft.generator.set_state(state)
    fresh = surgery.newborn_values(model, soft.generator)
    for p, old, m in zip(model.scope("all"), before, kept, strict=True):
        torch.testing.assert_close(p.detach(), 0.729 * old + 0.271 * fresh[p])
        assert torch.equal(moments(model, p)["exp_avg"], m)
    now = parameter_bytes(model)
    model.num_updates = 4
    soft.after_update(model)
    assert parameter_bytes(model) == now


def silences(snr, pattern, number=0):
    """Feed one unit's silences (False) and firings; the updates at which it was to be renewed."""
    fired = []
    for step, fires in enumerate(pattern, start=1):
        if snr.silent_too_long(number, torch.tensor([fires])).item():
            fired.append(step)
    return fired


def test_a_unit_is_renewed_when_its_silence_reaches_the_threshold():
    snr = SelfNormalisedResets(threshold=3, most=10)
    assert silences(snr, [True, False, False, True, False, False, False, False, True]) == [7]
    # silences of 2, of 3 (which ended in the reset), and of 1
    assert snr.state["layer0"]["silences"][0].tolist()[:5] == [0, 1, 1, 1, 0]


def test_the_threshold_contracts_to_the_percentile_and_else_doubles():
    snr = SelfNormalisedResets(threshold=6, least=1, most=9, percentile=0.75)
    silences(snr, [False, True, False, True, False, True, False, False, False, True])
    snr.set_thresholds(0)  # silences 1, 1, 1, 3: three quarters are at most 1
    assert snr.state["layer0"]["threshold"].tolist() == [1]
    assert not snr.state["layer0"]["silences"].any()
    snr.set_thresholds(0)  # none since
    assert snr.state["layer0"]["threshold"].tolist() == [1]
    assert silences(snr, [True, False]) == [2]
    snr.set_thresholds(0)  # it took all that it was allowed: the silence of 1 says nothing of 2
    assert snr.state["layer0"]["threshold"].tolist() == [2]
    for expected in (4, 8, 9, 9):
        silences(snr, [False] * 9)
        snr.set_thresholds(0)
        assert snr.state["layer0"]["threshold"].tolist() == [expected]


def test_only_silent_units_are_renewed_in_an_agent():
    snr = SelfNormalisedResets(threshold=5)
    model = dqn(snr, steps=200)
    layer = model.layers("all")[0]
    with torch.no_grad():
        layer.weights.weight[3] = 0
        layer.weights.bias[3] = -1
    old = layer.weights.weight.detach().clone()
    for _ in range(5):
        model.num_updates += 1
        snr.after_update(model)
    changed = (layer.weights.weight.detach() != old).any(dim=1)
    ((_, output),) = surgery.outputs(model, [layer])
    assert changed[3]
    assert not (changed & (output > 0).any(dim=0).any(dim=0))[:3].any()
    assert not layer.readers[0].weight[:, 3].any()
    assert not moments(model, layer.weights.weight)["exp_avg"][3].any()
    assert snr.state["renewed"] >= 1
