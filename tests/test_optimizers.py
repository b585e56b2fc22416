"""Optimizers that interventions bring, and step sizes that they change."""

from __future__ import annotations

import pytest
import torch
from test_agents import parameter_bytes
from test_resets import dqn, ppo

from rlplastic.errors import UsageError
from rlplastic.interventions import Interventions
from rlplastic.interventions.adaptive import AdaptiveReplayRatio
from rlplastic.interventions.batch import LargeBatch, SmallBatch
from rlplastic.interventions.l2 import WeightDecay
from rlplastic.interventions.lrdecay import LearningRateDecay
from rlplastic.interventions.optimizers import SGD, Adam, AdamW
from rlplastic.interventions.redo import ReDo
from rlplastic.interventions.upgd import UPGD

torch.set_num_threads(1)


@pytest.mark.parametrize("adaptive", [True, False])
@pytest.mark.parametrize("make", [dqn, ppo])
def test_upgd_is_the_algorithm_written_out(make, adaptive):
    upgd = UPGD(sigma=0.1, weight_decay=0.2, beta_utility=0.9, adaptive=adaptive)
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
            along = adam if adaptive else gradients[i].double()
            theta[i] = theta[i] * (1 - 0.01 * 0.2) - 2 * 0.01 * (1 - s) * (along + 0.1 * xi)
            torch.testing.assert_close(p.detach().double(), theta[i], rtol=1e-4, atol=1e-5)
            assert s.max() <= 1 / (1 + torch.exp(torch.tensor(-1.0))) + 1e-9


@pytest.mark.parametrize("adaptive", [True, False])
def test_upgd_without_positive_utility_is_a_plain_step(adaptive):
    upgd = UPGD(sigma=0.0, weight_decay=0.0, adaptive=adaptive)
    model, plain = dqn(upgd, steps=0), dqn(steps=0)
    optimizer = torch.optim.SGD(plain.scope("all"), lr=0.01)
    if adaptive:
        optimizer = torch.optim.Adam(plain.scope("all"), lr=0.01, eps=1e-5)
    model.policy.optimizer.param_groups[0]["lr"] = 0.01
    for p, q in zip(model.scope("all"), plain.scope("all"), strict=True):
        p.grad, q.grad = p.detach().clone(), q.detach().clone()  # uphill: -g θ < 0 everywhere
    model.policy.optimizer.step()
    optimizer.step()
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


@pytest.mark.parametrize("make", [dqn, ppo])
@pytest.mark.parametrize(
    ("member", "expected"),
    [
        (Adam(beta1=0.8, eps=1e-3), lambda p: torch.optim.Adam(p, betas=(0.8, 0.999), eps=1e-3)),
        (AdamW(weight_decay=0.3), lambda p: torch.optim.AdamW(p, weight_decay=0.3)),
        (SGD(momentum=0.5), lambda p: torch.optim.SGD(p, momentum=0.5)),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_preset_is_torchs_optimizer_with_the_agents_step_size(member, expected, make):
    with_it, without = make(member), make(steps=0)
    groups = with_it.policy.optimizer.param_groups
    assert [group["lr"] for group in groups] == [with_it.lr_schedule(1)]
    weights = without.scope("all")
    optimizer = expected(weights)
    for group in optimizer.param_groups:
        group["lr"] = 0.01
    for group in groups:
        group["lr"] = 0.01
    with_it.policy.optimizer.state.clear()
    ours = with_it.scope("all")
    with torch.no_grad():
        for a, b in zip(ours, weights, strict=True):
            b.copy_(a)
    for seed in range(3):
        torch.manual_seed(seed)
        for a, b in zip(ours, weights, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        with_it.policy.optimizer.step()
        optimizer.step()
    for a, b in zip(ours, weights, strict=True):
        torch.testing.assert_close(a, b)


def test_adam_is_what_dqn_has():
    fused = {"optimizer_kwargs": {"fused": True}}  # as the presets
    assert parameter_bytes(dqn(Adam())) == parameter_bytes(dqn(policy_kwargs=fused))


def test_two_decays_are_refused():
    with pytest.raises(UsageError, match="choose one"):
        dqn(AdamW(), WeightDecay(), steps=0)


def sizes(model):
    """The number of transitions in the last minibatch."""
    return len(model.last_batch.observations)


def test_presets_change_the_size_of_a_minibatch_and_keep_rollouts_whole():
    assert (sizes(dqn(SmallBatch())), sizes(dqn()), sizes(dqn(LargeBatch()))) == (8, 32, 128)
    assert sizes(dqn(LargeBatch(factor=1000.0))) == 800  # the replay memory
    assert (sizes(ppo(SmallBatch())), sizes(ppo()), sizes(ppo(LargeBatch()))) == (8, 32, 64)
    assert ppo(SmallBatch()).num_updates == 4 * ppo().num_updates
    odd = ppo(LargeBatch(factor=1.9), n_steps=48, batch_size=16)  # 30 does not divide 48
    assert sizes(odd) == odd.batch_size == 24
    assert parameter_bytes(ppo(LargeBatch(factor=1.0))) == parameter_bytes(ppo())


@pytest.mark.parametrize(("make", "steps", "updates"), [(dqn, 300, 100), (ppo, 256, 24)])
def test_updates_are_multiplied_once_the_share_of_active_units_has_settled(make, steps, updates):
    plain = make(steps=steps)
    assert plain.num_updates == updates
    never = make(AdaptiveReplayRatio(every=6, window=3, gap=0.0, factor=3), steps=steps)
    assert parameter_bytes(never) == parameter_bytes(plain)
    assert not never.interventions.members[0].state["switched"]
    at_six = make(AdaptiveReplayRatio(every=6, window=3, gap=1.0, factor=3), steps=steps)
    assert at_six.interventions.members[0].state["switched"]
    trainings = updates if make is dqn else updates // 6  # a training of PPO has six updates
    alone = 6 if make is dqn else 1
    each = 1 if make is dqn else 6
    assert at_six.num_updates == each * (alone + 3 * (trainings - alone))


def test_the_share_that_is_compared_is_the_mean_over_the_window(monkeypatch):
    shares = iter([0.5, 0.9, 0.5, 0.4, 0.42, 0.46])
    monkeypatch.setattr(AdaptiveReplayRatio, "active_share", staticmethod(lambda _: next(shares)))
    adaptive = AdaptiveReplayRatio(every=4, window=2, gap=0.011)
    model = dqn(steps=0)
    model.interventions = Interventions([adaptive])
    model.interventions.begin(model)
    for model.num_updates in range(1, 9):
        adaptive.after_update(model)
        if model.num_updates == 4:
            assert adaptive.state["before"] == pytest.approx(0.7)  # it was 0.5
            assert not adaptive.state["switched"]
            adaptive.state["before"] = 0.42
    assert adaptive.state["before"] == pytest.approx(0.41)
    assert adaptive.state["switched"]
    assert list(shares) == [0.46]


def test_the_share_of_active_units_is_the_probes():
    from rlplastic.probes.units import active_fraction

    model = dqn(steps=300)
    expected = active_fraction(model, model.last_batch)
    assert AdaptiveReplayRatio.active_share(model) == pytest.approx(expected)
    assert 0.1 < expected < 0.9
