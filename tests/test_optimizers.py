"""Optimizers that interventions bring, and step sizes that they change."""

from __future__ import annotations

import pytest
import torch
from test_agents import parameter_bytes
from test_resets import dqn, ppo

from rlplastic.interventions.lrdecay import LearningRateDecay
from rlplastic.interventions.redo import ReDo
from rlplastic.interventions.upgd import UPGD

torch.set_num_threads(1)


@pytest.mark.parametrize("make", [dqn, ppo])
def test_upgd_is_the_algorithm_written_out(make):
    upgd = UPGD(sigma=0.1, weight_decay=0.2, beta_utility=0.9)
    model = make(upgd, steps=0)
    optimizer = model.policy.optimizer
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    for group in optimizer.param_groups:
        group["lr"] = 0.01
    theta = [p.detach().double() for p in weights]
    u, m, v = ([torch.zeros_like(t) for t in theta] for _ in range(3))
    noise = torch.Generator().manual_seed(5)
    upgd.generator.manual_seed(5)
    drawn = torch.Generator().manual_seed(0)
    for t in range(1, 8):
        gradients = [torch.randn(p.shape, generator=drawn) for p in weights]
        for p, g in zip(weights, gradients, strict=True):
            p.grad = g.clone()
        optimizer.step()
        for i, g in enumerate(x.double() for x in gradients):
            u[i] = 0.9 * u[i] - 0.1 * g * theta[i]
            m[i] = 0.9 * m[i] + 0.1 * g
            v[i] = 0.999 * v[i] + 0.001 * g * g
        top = max(x.max().item() for x in u) / (1 - 0.9**t)
        for i, p in enumerate(weights):
            s = 1 / (1 + torch.exp(-u[i] / (1 - 0.9**t) / top))
            xi = torch.randn(p.shape, generator=noise).double()
            adam = m[i] / (1 - 0.9**t) / ((v[i] / (1 - 0.999**t)).sqrt() + 1e-5)
            theta[i] = theta[i] * (1 - 0.01 * 0.2) - 2 * 0.01 * (1 - s) * (adam + 0.1 * xi)
            torch.testing.assert_close(p.detach().double(), theta[i], rtol=1e-4, atol=1e-5)
            assert s.max() <= 1 / (1 + torch.exp(torch.tensor(-1.0))) + 1e-9


def test_upgd_without_positive_utility_is_a_step_of_adam():
    upgd = UPGD(sigma=0.0, weight_decay=0.0)
    model, plain = dqn(upgd, steps=0), dqn(steps=0)
    adam = torch.optim.Adam(plain.scope("all"), lr=0.01, eps=1e-5)
    model.policy.optimizer.param_groups[0]["lr"] = 0.01
    for p, q in zip(model.scope("all"), plain.scope("all"), strict=True):
        p.grad, q.grad = p.detach().clone(), q.detach().clone()  # uphill: -g θ < 0 everywhere
    model.policy.optimizer.step()
    adam.step()
    for p, q in zip(model.scope("all"), plain.scope("all"), strict=True):
        torch.testing.assert_close(p, q)


@pytest.mark.parametrize("make", [dqn, ppo])
def test_upgd_takes_the_agents_step_size_and_its_utilities_are_forgotten_with_a_unit(make):
    redo = ReDo(every=10**9, tau=0.0)
    model = make(UPGD(), redo)
    rates = {group["lr"] for group in model.policy.optimizer.param_groups}
    assert rates == {model.lr_schedule(1)}
    layer = model.layers("critic")[0]
    kept = model.policy.optimizer.state[layer.weights.weight]
    with torch.no_grad():  # silent, whatever its activation
        layer.weights.weight[3] = 0
        layer.weights.bias[3] = -1e9 if make is dqn else 0.0
    redo.recycle(model)
    for name in ("utility", "exp_avg", "exp_avg_sq"):
        assert not kept[name][3].any()
        assert kept[name].any()


@pytest.mark.parametrize("make", [dqn, ppo])
def test_the_step_size_falls_by_the_factor_at_each_shift(make):
    decay = LearningRateDecay(factor=0.5)
    model = make(decay)
    first = model.lr_schedule(1)
    assert parameter_bytes(model) == parameter_bytes(make())  # nothing before the first shift
    for shift in (1, 2, 3):
        model.interventions.at_shift(model, shift)
        model.learn(128, reset_num_timesteps=False)
        rates = {group["lr"] for group in model.policy.optimizer.param_groups}
        assert rates == {first * 0.5**shift}
    state = model.interventions.state_dict()
    model.interventions.at_shift(model, 4)
    model.interventions.load_state_dict(state)
    assert model.lr_schedule(1) == pytest.approx(first * 0.125)
