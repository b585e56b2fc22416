"""SAM against exact values, alone and through the agents' own updates."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_agents import DQN_SETTINGS, PPO_SETTINGS, parameter_bytes, shared_ppo, train
from torch import nn

from rlplastic import options
from rlplastic.agents.dqn import DQN
from rlplastic.agents.learner import Minibatch, update
from rlplastic.agents.ppo import PPO
from rlplastic.errors import UsageError
from rlplastic.interventions import Intervention, Interventions
from rlplastic.interventions.sam import SAM

torch.set_num_threads(1)


class Quadratic(nn.Module):
    """L = ½ wᵀ diag(1, 10) w, as a learner with one scope and SGD."""

    def __init__(self, intervention, w=(1.0, 1.0), lr=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(w, dtype=torch.float64))
        self.optimizer = torch.optim.SGD([self.weight], lr=lr)
        self.interventions = Interventions([intervention])
        self.max_grad_norm, self.num_updates = 1e9, 0
        self.curvature = torch.tensor([1.0, 10.0], dtype=torch.float64)

    @property
    def policy(self):
        return self

    def scope(self, name):
        return [self.weight]

    def losses(self):
        return Minibatch(self, lambda _: {"critic": 0.5 * (self.curvature * self.weight**2).sum()})


def test_e1_the_gradient_on_a_quadratic_is_the_one_computed_by_hand():
    learner = Quadratic(SAM(rho=0.05))
    update(learner, learner.losses())
    expected = torch.tensor([1.0049751860, 10.4975185951], dtype=torch.float64)
    torch.testing.assert_close(learner.weight.grad, expected, rtol=0, atol=1e-9)


@given(
    rho=st.floats(0, 1),
    w=st.tuples(st.floats(-3, 3), st.floats(-3, 3)),
)
@settings(max_examples=50, deadline=None)
def test_e5_with_a_learning_rate_of_zero_the_weights_keep_their_bits(rho, w):
    w = tuple(one + 0.0 for one in w)  # SGD itself makes 0 of -0
    learner = Quadratic(SAM(rho=rho), w=w, lr=0.0)
    before = learner.weight.detach().numpy().tobytes()
    update(learner, learner.losses())
    assert learner.weight.detach().numpy().tobytes() == before


@pytest.mark.parametrize(("algorithm", "given"), [(DQN, DQN_SETTINGS), (PPO, PPO_SETTINGS)])
def test_e5_through_an_agents_own_updates_the_weights_keep_their_bits(algorithm, given):
    model = train(algorithm, steps=0, **given, interventions=Interventions([SAM(rho=0.7)]))
    model.policy.optimizer = torch.optim.SGD(model.policy.parameters(), lr=0.0)
    model.lr_schedule = lambda _: 0.0
    before = parameter_bytes(model)
    model.learn(256)
    assert model.interventions.members[0].state["sam_updates"] == model.num_updates > 0
    assert parameter_bytes(model) == before


def by_hand(model, rho, scope="critic"):
    """SAM's gradient of every parameter of an agent, written out step by step."""
    batch = model.last_batch
    losses = model.losses(batch)
    weights = model.scope(scope)
    climb = torch.autograd.grad(losses()["critic"], weights)
    norm = torch.sqrt(sum((g**2).sum() for g in climb))
    terms = model.losses(batch)()
    others = [term for name, term in terms.items() if name != "critic"]
    everything = [p for p in model.policy.parameters() if p.requires_grad]
    total = [torch.zeros_like(p) for p in everything]

    def collect(loss):
        found = torch.autograd.grad(loss, everything, allow_unused=True)
        for i, gradient in enumerate(found):
            if gradient is not None:
                total[i] = total[i] + gradient

    if others:
        collect(sum(others))
    start = [w.detach().clone() for w in weights]
    with torch.no_grad():
        for w, g in zip(weights, climb, strict=True):
            w += rho * g / (norm + 1e-12)
    collect(model.losses(batch)()["critic"])
    with torch.no_grad():
        for w, before in zip(weights, start, strict=True):
            w.copy_(before)
    return batch, total


@pytest.mark.parametrize("scope", ["critic", "backbone", "head"])
@pytest.mark.parametrize(
    "make",
    [
        lambda **k: train(DQN, steps=300, **DQN_SETTINGS, **k),
        lambda **k: train(PPO, steps=128, **PPO_SETTINGS, **k),
        lambda **k: shared_ppo(**k).learn(128),
    ],
    ids=["dqn", "ppo", "ppo-shared"],
)
def test_the_gradient_inside_an_agent_is_the_one_written_out_by_hand(make, scope):
    sam = SAM(rho=0.3, scope=scope)
    model = make(interventions=Interventions([sam]))
    batch, expected = by_hand(model, 0.3, scope)
    model.policy.optimizer.zero_grad()
    model.interventions.gradient(model, model.losses(batch))
    everything = [p for p in model.policy.parameters() if p.requires_grad]
    for parameter, gradient in zip(everything, expected, strict=True):
        found = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-6)


def test_the_gradient_is_clipped_once_after_the_second_pass():
    learner = Quadratic(SAM(rho=0.05))
    learner.max_grad_norm = 1.0
    update(learner, learner.losses())
    assert learner.weight.grad.norm().item() == pytest.approx(1.0, abs=1e-5)
    expected = np.array([1.0049751860, 10.4975185951])
    np.testing.assert_allclose(
        learner.weight.grad.numpy(), expected / np.linalg.norm(expected), rtol=1e-5
    )


def test_the_radius_warms_up_linearly():
    sam = SAM(rho=0.2, warmup=4)
    assert [sam.radius(n) for n in (0, 1, 3, 100)] == pytest.approx([0.05, 0.1, 0.2, 0.2])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sam:rho=-1", ["rho", "-1", "greater than or equal to 0"]),
        ("sam:rho=big", ["rho", "big"]),
        ("sam:roh=0.1", ["roh", "'rho'"]),
        ("sam:scope=critics", ["scope", "critics", "'critic'"]),
        ("sam+sam", ["twice"]),
        ("sma", ["'sam'"]),
        ("fresh", ["newborn"]),
        ("sam:rho", ["sam:key=value"]),
    ],
)
def test_a_wrong_reg_is_refused_with_what_where_and_the_nearest(text, words):
    with pytest.raises(UsageError) as caught:
        options.parse_reg(text)
    for word in words:
        assert word in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 5


def test_two_interventions_that_make_the_gradient_are_refused_with_the_reason():
    class Other(Intervention):
        name = "other"

        def gradient(self, agent, losses):
            return losses()

    with pytest.raises(UsageError, match="exclude each other, since each decides"):
        Interventions([SAM(), Other()])
