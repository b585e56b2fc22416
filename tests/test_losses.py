"""Losses of supervised agents: the unhinged one against closed forms; Efficient SAM on them."""

from __future__ import annotations

import math

import pytest
import torch
from test_supervised import BITS, learner, shown, stream_of, weights
from torch import nn

from rlplastic.agents.losses import loss_of, unhinged
from rlplastic.errors import UsageError

torch.set_num_threads(1)


def test_the_unhinged_loss_is_the_mean_logit_less_the_right_one():
    logits = torch.tensor([[3.0, 1.0, 2.0], [0.0, -6.0, 0.0]], requires_grad=True)
    classes = torch.tensor([0, 1])
    assert unhinged(logits, classes).tolist() == [2.0 - 3.0, -2.0 + 6.0]
    counts = torch.tensor([1.0, 3.0])
    assert loss_of("unhinged", logits, classes).item() == 1.5
    assert loss_of("unhinged", logits, classes, counts).item() == (-1 + 3 * 4) / 2
    (slope,) = torch.autograd.grad(loss_of("unhinged", logits, classes), logits)
    third = 1 / 3
    expected = [[third - 1, third, third], [third, third - 1, third]]
    torch.testing.assert_close(slope, torch.tensor(expected) / 2)


def test_free_features_and_weights_move_as_the_closed_form_says():
    """The layer-peeled model of arXiv 2312.07841, by steps of descent instead of a flow.

    With u = Wᵀ(e_y - 1/C) and κ = 1 - 1/C: h ← h + η u and u ← u + η κ h, so that
    h ± u / √κ grows by 1 ± η √κ a step.
    """
    drawn = torch.Generator().manual_seed(0)
    classes, width, rate, steps = 5, 7, 0.1, 30
    w = torch.randn(classes, width, generator=drawn, dtype=torch.float64).requires_grad_()
    h = torch.randn(1, width, generator=drawn, dtype=torch.float64).requires_grad_()
    side = torch.full((classes,), -1 / classes, dtype=torch.float64)
    side[2] += 1
    root = math.sqrt(1 - 1 / classes)
    start, u = h.detach()[0].clone(), w.detach().T @ side
    for _ in range(steps):
        loss = unhinged(h @ w.T, torch.tensor([2])).sum()
        by_h, by_w = torch.autograd.grad(loss, [h, w])
        with torch.no_grad():
            h -= rate * by_h
            w -= rate * by_w
    grown = (start + u / root) * (1 + rate * root) ** steps
    shrunk = (start - u / root) * (1 - rate * root) ** steps
    torch.testing.assert_close(h.detach()[0], (grown + shrunk) / 2, rtol=1e-12, atol=1e-12)


def test_a_classifier_with_the_unhinged_loss_is_a_plain_torch_loop_on_the_spheres():
    agent = learner(stream_of(), reg="unhinged", seed=3, hidden=(12,), learning_rate=0.5)
    images, answers = shown(stream_of(), 40)
    torch.manual_seed(3)
    below = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU())
    top = nn.Linear(12, 10).weight.detach()
    top = (top / top.norm(dim=1, keepdim=True)).requires_grad_()
    assert weights(agent)[2] == top.detach().numpy().tobytes()
    agent.learn(640)
    moved = [*below.parameters(), top]
    for x, y in zip(images, answers, strict=True):
        features = below(torch.as_tensor(x).float() / 255.0)
        cosines = features / (features.norm(dim=1, keepdim=True) + 1e-8) @ top.T
        chosen = torch.as_tensor(y)
        loss = (cosines.mean(dim=1) - cosines[range(16), chosen]).mean()
        for p, g in zip(moved, torch.autograd.grad(loss, moved), strict=True):
            with torch.no_grad():
                p -= 0.5 * g
        with torch.no_grad():
            top /= top.norm(dim=1, keepdim=True)
    *ours, bias = agent.policy.parameters()
    assert not bias.any()
    for a, b in zip(ours, moved, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_it_learns_to_tell_digits_apart():
    episodes = []
    stream = stream_of(period=4000, phases=1)
    stream.listener = episodes.append
    learner(stream, reg="unhinged", learning_rate=0.1).learn(4000)
    assert sum(e.task_return for e in episodes[-16:]) / 16 > 80


def test_numbers_have_no_unhinged_loss():
    with pytest.raises(UsageError, match="unhinged: needs classes"):
        learner(stream_of(base=BITS), reg="unhinged")


def gradients(agent):
    for parameter in agent.policy.parameters():
        parameter.grad = None
    agent.interventions.gradient(agent, agent.losses(agent.last_batch))
    return [p.grad.clone() for p in agent.policy.parameters()]


BASES = pytest.mark.parametrize(
    ("base", "name"), [(None, "mlp"), (None, "cnn"), (BITS, "mlp")], ids=["mlp", "cnn", "numbers"]
)


@BASES
def test_efficient_sam_with_all_weights_and_samples_is_sam(base, name):
    found = []
    for reg in ("esam:rho=0.3:beta=1:gamma=1", "sam:rho=0.3"):
        agent = learner(stream_of(base=base), name, reg, hidden=(9,))
        agent._last_obs = agent.get_env().reset()
        agent.last_batch = agent._shown()
        found.append(gradients(agent))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@BASES
def test_efficient_sam_learns_from_those_that_the_climb_hurts_most(base, name):
    agent = learner(stream_of(base=base), name, "esam:rho=0.5:beta=1:gamma=0.25", hidden=(9,))
    agent._last_obs = agent.get_env().reset()
    agent.last_batch = agent._shown()
    x, y = agent.last_batch
    found, everything = gradients(agent), list(agent.policy.parameters())
    error = nn.functional.mse_loss if base else nn.functional.cross_entropy

    def each():
        return torch.stack([error(agent.policy(x[i : i + 1]), y[i : i + 1]) for i in range(16)])

    before = each()
    g = torch.autograd.grad(before.mean(), everything)
    length = torch.sqrt(sum((part**2).sum() for part in g))
    with torch.no_grad():
        for p, part in zip(everything, g, strict=True):
            p += 0.5 * part / length
    after = each()
    hurt = (after - before).topk(4).indices
    expected = torch.autograd.grad(after[hurt].mean(), everything)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
