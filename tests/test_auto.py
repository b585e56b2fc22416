"""Automatic soft resets: the drift, its derivative, and the step against a loop in torch."""

from __future__ import annotations

import pytest
import torch
from test_supervised import learner, stream_of
from torch import nn

from rlplastic.errors import UsageError

torch.set_num_threads(1)


def made(reg="auto-soft-reset", updates=10, seed=0, **settings):
    agent = learner(stream_of(), reg=reg, seed=seed, **{"hidden": (9,), **settings})
    if updates:
        agent.learn(16 * updates)
    return agent, next(iter(agent.interventions.members), None)


def test_a_sample_has_the_mean_and_the_variance_of_the_drift():
    agent, member = made("auto-soft-reset:spread=0.3", learning_rate=0.5)
    everything = agent.scope("all")
    gamma, start = 0.6, member.state["initial"][0]
    drawn = torch.stack([member.sampled(everything, [gamma] * 4)[0][0] for _ in range(4000)])
    mean = gamma * everything[0].detach() + (1 - gamma) * start
    variance = (gamma**2 * 0.09 + 1 - gamma**2) * start.var(correction=0)
    assert (drawn.mean(0) - mean).abs().max() < 5.5 * (variance / 4000) ** 0.5
    assert float(drawn.var(0).mean() / variance) == pytest.approx(1, abs=0.01)
    same = member.sampled(everything, [1.0] * 4)  # nothing drifts, but weights are uncertain
    assert float((same[0][0] - everything[0].detach()).std() / start.std()) == pytest.approx(
        0.3, rel=0.1
    )


def test_the_derivative_by_gamma_is_that_of_finite_differences():
    agent, member = made(learning_rate=0.5)
    everything = agent.scope("all")
    state = member.generator.get_state()

    def at(gamma):
        member.generator.set_state(state)
        return member.sampled(everything, [gamma] * 4)

    for gamma in (0.3, 0.9):
        above, below = at(gamma + 1e-3)[0], at(gamma - 1e-3)[0]
        for a, b, slope in zip(above, below, at(gamma)[1], strict=True):
            torch.testing.assert_close((a - b) / 2e-3, slope, rtol=1e-2, atol=1e-3)


def test_the_step_grows_with_what_is_not_known_any_more():
    _, member = made("auto-soft-reset:spread=0.5", updates=0)
    assert [member.scale(g) for g in (1.0, 0.0)] == [1.0, 4.0]
    assert member.scale(0.5) == pytest.approx(0.25 + 0.75 * 4)


def test_an_update_is_the_step_written_out():
    agent, member = made("auto-soft-reset:rate=0.5:steps=2:samples=3:spread=0.4", learning_rate=0.3)
    agent.last_batch = agent._shown()
    (x, y), start = agent.last_batch, [s.clone() for s in member.state["initial"]]
    now = [p.detach().clone() for p in agent.policy.parameters()]
    drawn = torch.Generator()
    drawn.set_state(member.generator.get_state())
    sizes = [s.std(correction=0) for s in start]

    def loss(w):
        hidden = torch.relu(nn.functional.linear(x.flatten(1).float() / 255.0, w[0], w[1]))
        return nn.functional.cross_entropy(nn.functional.linear(hidden, w[2], w[3]), y)

    gammas = torch.ones(4)
    for _ in range(2):
        g = gammas.clone().requires_grad_()
        total = 0.0
        for _ in range(3):
            total = total + loss(
                [
                    g[i] * now[i]
                    + (1 - g[i]) * start[i]
                    + torch.randn(now[i].shape, generator=drawn)
                    * sizes[i]
                    * (g[i] ** 2 * 0.16 + 1 - g[i] ** 2).sqrt()
                    for i in range(4)
                ]
            )
        (slope,) = torch.autograd.grad(total / 3, g)
        gammas = (gammas - 0.5 * slope).clamp(0, 1)
    assert 0 < float(gammas.min()) < 1
    back = [
        (c * a + (1 - c) * b).requires_grad_() for c, a, b in zip(gammas, now, start, strict=True)
    ]
    found = torch.autograd.grad(loss(back), back)
    for parameter in agent.policy.parameters():
        parameter.grad = None
    member.gradient(agent, agent.losses(agent.last_batch))
    torch.testing.assert_close(member.state["gammas"], gammas, rtol=1e-4, atol=1e-5)
    for p, w, g, c in zip(agent.policy.parameters(), back, found, gammas, strict=True):
        torch.testing.assert_close(p, w, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(p.grad, g * (c**2 + (1 - c**2) / 0.16), rtol=1e-3, atol=1e-5)


def test_without_a_rate_it_is_none():
    still, plain = (made(reg)[0].policy.parameters() for reg in ("auto-soft-reset:rate=0", "none"))
    for mine, other in zip(still, plain, strict=True):  # which a stack of one has rounded
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)


def test_another_optimizer_is_refused():
    with pytest.raises(
        UsageError, match=r"auto-soft-reset: needs SGD.*Adam divides.*optimizer=sgd"
    ):
        made(optimizer="adam", updates=0)


def test_it_draws_back_where_the_labels_change_and_nowhere_else():
    stream = stream_of([{"name": "labels"}], period=8000, seed=1)
    agent = learner(stream, reg="auto-soft-reset", learning_rate=0.1)
    found = []
    state = agent.interventions.members[0].state
    agent.learn(8320, lambda *_: found.append(float(state["gammas"].min())) or True)
    # a callback comes before the update of its step
    assert min(found[:501]) > 0.9
    assert min(found[501:503]) < 0.6
    assert min(found[505:]) > 0.9
