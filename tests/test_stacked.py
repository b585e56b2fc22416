"""Networks of several seeds in one: their numbers are those of float64, and of autograd."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_supervised import learner, stream_of
from torch import nn

from rlplastic.agents.direct import mean_loss, outputs, slopes
from rlplastic.agents.predictor import Predictor
from rlplastic.agents.stacked import Span, StackedNetwork
from rlplastic.agents.team import Stack
from rlplastic.envs import datasets
from rlplastic.interventions.ascent import moved_along, norms

torch.set_num_threads(1)
ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "leaky": lambda: nn.LeakyReLU(0.1)}


@pytest.fixture(autouse=True)
def embedded(monkeypatch):
    monkeypatch.delenv(datasets.VARIABLE, raising=False)


def chain_of(widths, activation):
    modules = []
    for inputs, units in pairwise(widths):
        modules += [nn.Linear(inputs, units), ACTIVATIONS[activation]()]
    return modules[:-1]


def reference(chain, x, answers, rho):
    """By autograd in float64: outputs and loss, gradient, its norm; the same at w + ρ g / ‖g‖."""
    net, found = nn.Sequential(*chain), []
    weights = list(net.parameters())
    here = [w.detach().clone() for w in weights]
    for _ in "ab":
        logits = net(x)
        loss = nn.functional.cross_entropy(logits, answers)
        gradient = torch.autograd.grad(loss, weights)
        length = torch.cat([g.flatten() for g in gradient]).norm()
        found.append((logits.detach(), loss.detach(), gradient, length))
        with torch.no_grad():
            for w, g in zip(weights, gradient, strict=True):
                w += rho / length * g
    with torch.no_grad():
        for w, before in zip(weights, here, strict=True):
            w.copy_(before)
    return found


@settings(deadline=None, max_examples=60)
@given(
    seeds=st.integers(1, 4),
    batch=st.integers(1, 9),
    widths=st.lists(st.integers(1, 40), min_size=1, max_size=3),
    classes=st.integers(2, 6),
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    rho=st.sampled_from([0.01, 0.5]),
    draw=st.integers(0, 2**31),
)
def test_every_number_is_that_of_float64(seeds, batch, widths, classes, activation, rho, draw):
    torch.manual_seed(draw)
    chains = [chain_of([*widths, classes], activation) for _ in range(seeds)]
    x, answers = torch.rand(seeds, batch, widths[0]), torch.randint(classes, (seeds, batch))
    network = StackedNetwork.of(chains, batch)
    assert isinstance(network.parts[0], Span) == (2 * batch <= widths[0])
    exact = [
        reference([m.double() for m in chain], x[s].double(), answers[s], rho)
        for s, chain in enumerate(chains)
    ]
    here = [p.data for p in network.parameters]
    before = [part.values.clone() for part in network.parts]
    with torch.no_grad():
        network.show(x)
        for place in (0, 1):
            passed = outputs(network.chain, x.transpose(1, 2))
            losses, slope = mean_loss(passed[-1], answers)
            known = network.gradients(slopes(network.chain, passed, slope))
            gradients = [known[p] for p in network.parameters]
            lengths = norms(network.parameters, gradients)
            for s in range(seeds):
                logits, loss, gradient, length = exact[s][place]
                size = float(length) + 1e-3
                close(passed[-1][s].t(), logits, 1e-5 * (1 + logits.abs().max()))
                close(losses[s], loss, 1e-5)
                assert abs(lengths[s] - length) < 1e-4 * size
                for mine, g in zip(dense(network, gradients, x, s), gradient, strict=True):
                    close(mine.view(g.shape), g, 1e-4 * size)
            factors = (rho / lengths).float()
            for p, data in zip(
                network.parameters, moved_along(here, gradients, factors), strict=True
            ):
                p.data = data
        for p, data in zip(network.parameters, here, strict=True):
            p.data = data
        network.check_home()
        for part, values in zip(network.parts, before, strict=True):
            assert torch.equal(part.values, values)  # nothing has moved so far
        network.descend(gradients, 0.3)
    for s, chain in enumerate(chains):
        for own, mine, g in zip(
            (p for m in chain for p in m.parameters()),
            (values[s] for _, values in network.weights),
            exact[s][1][2],
            strict=True,
        ):
            close(mine.view(own.shape), own - 0.3 * g, 1e-4 * (1 + float(exact[s][1][3])))


def close(mine, expected, room):
    assert float((mine.double() - expected.detach()).abs().max()) < float(room)


def dense(network, gradients, x, seed):
    """The gradient of each weight of a seed, written out."""
    found = []
    for part, g in zip(network.parts, gradients, strict=True):
        if isinstance(part, Span):
            found.append(g[seed] @ x[seed])
        else:
            found += [g[seed, begin : begin + h * w] for begin, h, w in part.slots]
    return found


def test_the_length_of_a_sum_that_cancels_is_as_good_as_a_dense_ones():
    """Two equal examples, as strong in opposite directions but for the last bit."""
    torch.manual_seed(0)
    span = Span(torch.randn(1, 5, 64), 2)
    x = torch.rand(1, 1, 64).repeat(1, 2, 1)
    x[0, 1, 3] += 1e-6
    span.show(x)
    g = torch.randn(1, 5, 1).repeat(1, 1, 2)
    g[:, :, 1] *= -1
    exact = torch.bmm(g.double(), x.double()).norm()
    assert 0 < exact < 1e-5
    found = norms([span.parameter], [g])
    assert found.shape == (1,)
    assert abs(float(found[0]) - exact) < 1e-3 * exact
    g[:, :, 1] = -g[:, :, 0]
    span.show(x[:, :1].repeat(1, 2, 1))
    assert norms([span.parameter], [g]).tolist() == [0.0]


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_what_is_not_finite_is_not_short(value):
    torch.manual_seed(0)
    network = StackedNetwork.of([chain_of([8, 3, 2], "relu")], 2)
    network.show(torch.rand(1, 2, 8))
    for number in range(len(network.parameters)):
        gradients = [torch.zeros_like(p) for p in network.parameters]
        assert network.at_most(gradients) == 0.0
        gradients[number].view(-1)[0] = value
        assert not network.at_most(gradients) < 1e6
        assert not norms(network.parameters, gradients)[0] < 1e6


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.integers(1, 3))
def test_no_gradient_is_longer_than_the_bound(draw, seeds):
    torch.manual_seed(draw)
    network = StackedNetwork.of([chain_of([12, 5, 3], "tanh") for _ in range(seeds)], 4)
    network.show(torch.rand(seeds, 4, 12))
    gradients = [torch.randn_like(p) for p in network.parameters]
    lengths = norms(network.parameters, gradients)
    assert lengths.max() <= network.at_most(gradients) * (1 + 1e-5)


# -- learners ------------------------------------------------------------------------------------

REGS = ["none", "sam", "gnp", "sam:scope=head", "sam:scope=backbone:rho=0.3", "gnp:scope=head"]


@pytest.mark.parametrize("reg", REGS)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"hidden": (9,), "activation": "tanh", "learning_rate": 0.1},
        {"hidden": (), "max_grad_norm": 0.3},
        {"num_envs": 64, "max_grad_norm": 0.05},  # as many examples as pixels
    ],
)
def test_a_learner_goes_where_autograd_goes(reg, settings, monkeypatch):
    if "backbone" in reg and settings.get("hidden") == ():
        pytest.skip("a network without hidden layers has no backbone")

    def trained():
        stream = stream_of([{"name": "pixels"}], period=6400, copies=settings.get("num_envs", 16))
        agent = learner(stream, reg=reg, **settings)
        episodes = []
        agent.get_env().listener = episodes.append
        agent.learn(100 * stream.num_envs)
        return agent, episodes

    made = []
    with monkeypatch.context() as patch:
        begin = Stack.__init__
        patch.setattr(Stack, "__init__", lambda self, them: made.append(1) or begin(self, them))
        agent, episodes = trained()
        assert made == [1]
        patch.setattr(Predictor, "chain", lambda self: None)
        other, expected = trained()
        assert made == [1]
    for mine, theirs in zip(agent.policy.parameters(), other.policy.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
    assert agent._last_loss() == pytest.approx(other._last_loss(), rel=1e-4)
    assert [e.task_return for e in episodes] == [e.task_return for e in expected]
    assert agent.interventions.state_dict().keys() == other.interventions.state_dict().keys()
