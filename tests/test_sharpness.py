"""The sharpness family against exact values, and against each other where they must agree."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_agents import DQN_SETTINGS, PPO_SETTINGS, parameter_bytes, train
from test_sam import Quadratic
from torch import nn

from rlplastic.agents.dqn import DQN
from rlplastic.agents.learner import Minibatch, update
from rlplastic.agents.ppo import PPO
from rlplastic.interventions import Interventions
from rlplastic.interventions.asam import ASAM
from rlplastic.interventions.esam import EfficientSAM
from rlplastic.interventions.fsam import FriendlySAM
from rlplastic.interventions.gnp import GNP
from rlplastic.interventions.gsam import GSAM
from rlplastic.interventions.init import L2Init
from rlplastic.interventions.looksam import LookSAM
from rlplastic.interventions.msam import MomentumSAM
from rlplastic.interventions.none import Nothing
from rlplastic.interventions.sam import SAM

torch.set_num_threads(1)
FAMILY = [SAM, ASAM, GNP, GSAM, LookSAM, FriendlySAM, MomentumSAM]
MAKES = pytest.mark.parametrize(
    ("algorithm", "given", "steps"), [(DQN, DQN_SETTINGS, 300), (PPO, PPO_SETTINGS, 128)]
)
CURVATURE = torch.tensor([1.0, 10.0], dtype=torch.float64)


def gradient(intervention, w=(1.0, 1.0), updates=1):
    learner = Quadratic(intervention, w=w, lr=0.0)
    for _ in range(updates):
        update(learner, learner.losses())
    return learner.weight.grad.clone()


def vector(*values):
    return torch.tensor(values, dtype=torch.float64)


def close(found, expected, atol=1e-9):
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


def test_e2_gnp_on_a_quadratic_is_the_gradient_of_the_penalised_loss():
    found = gradient(GNP(r=0.1, alpha=0.8))
    close(found, vector(1.0079602975, 10.7960297522))
    w = vector(1.0, 1.0).requires_grad_()
    loss = 0.5 * (CURVATURE * w**2).sum()
    (g,) = torch.autograd.grad(loss, w, create_graph=True)
    (expected,) = torch.autograd.grad(loss + 0.08 * g.norm(), w)
    close(found, expected)


@given(r=st.floats(0.01, 1), w=st.tuples(st.floats(0.1, 3), st.floats(-3, -0.1)))
@settings(max_examples=25, deadline=None)
def test_e3_gnp_is_sam_at_alpha_one_and_none_at_alpha_zero(r, w):
    close(gradient(GNP(r=r, alpha=1), w), gradient(SAM(rho=r), w))
    close(gradient(GNP(r=r, alpha=0), w), gradient(Nothing(), w))


def test_e4_asam_scales_the_radius_by_the_weights():
    found = gradient(ASAM(rho=0.5, eta=0), w=(2.0, 1.0))
    close(found, vector(2 + 4 / 116**0.5, 10 + 50 / 116**0.5))  # T g = (4, 10)


@pytest.mark.parametrize("method", [*FAMILY, EfficientSAM])
@MAKES
def test_e5_with_a_learning_rate_of_zero_the_weights_keep_their_bits(
    method, algorithm, given, steps
):
    model = train(algorithm, steps=0, **given, interventions=Interventions([method()]))
    model.policy.optimizer = torch.optim.SGD(model.policy.parameters(), lr=0.0, momentum=0.9)
    model.lr_schedule = lambda _: 0.0
    before = parameter_bytes(model)
    model.learn(steps)
    assert model.num_updates > 4
    assert parameter_bytes(model) == before


class TwoLayers(nn.Module):
    """y = W2 relu(W1 x), as a learner."""

    def __init__(self, intervention, c):
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two = (
            nn.Linear(3, 8, bias=False, dtype=torch.float64),
            nn.Linear(8, 1, bias=False, dtype=torch.float64),
        )
        self.x = torch.randn(16, 3, dtype=torch.float64)
        self.y = torch.randn(16, 1, dtype=torch.float64)
        with torch.no_grad():
            self.one.weight.mul_(c)
            self.two.weight.div_(c)
        self.interventions = Interventions([intervention])
        self.num_updates, self.seen = 0, []

    policy = property(lambda self: self)

    def scope(self, name):
        return [self.one.weight, self.two.weight]

    def loss(self, _=()):
        loss = ((self.two(torch.relu(self.one(self.x))) - self.y) ** 2).mean()
        self.seen.append(loss.item())
        return {"critic": loss}

    def sharpness(self):
        self.interventions.gradient(self, Minibatch(self, self.loss))
        return self.seen[-1] - self.seen[0]


@pytest.mark.parametrize("c", [0.25, 4.0])
def test_e6_asam_does_not_see_a_rescaling_of_layers_and_sam_does(c):
    one, scaled = (TwoLayers(ASAM(rho=0.1, eta=0), scale).sharpness() for scale in (1.0, c))
    assert scaled == pytest.approx(one, rel=1e-9)
    one, scaled = (TwoLayers(SAM(rho=0.1), scale).sharpness() for scale in (1.0, c))
    assert abs(scaled / one - 1) > 0.05


@pytest.mark.parametrize(
    ("eta", "rho", "edge"), [(0.01, 0.05, 54.0312), (0.1, 0.1, 10.0)], ids=["small", "large"]
)
def test_e7_the_edge_of_stability_of_sam_that_is_not_normalised(eta, rho, edge):
    for factor, falls in ((0.99, True), (1.01, False)):
        learner = Quadratic(SAM(rho=rho, normalised=False), lr=eta)
        learner.curvature = torch.tensor([edge * factor, 0.0], dtype=torch.float64)
        for _ in range(300):
            update(learner, learner.losses())
        assert (abs(learner.weight[0].item()) < 1) is falls


def test_gsam_takes_the_orthogonal_part_away():
    p, g = gradient(SAM(rho=0.5)), gradient(Nothing())
    across = g - (g @ p) / (p @ p) * p
    close(gradient(GSAM(rho=0.5, alpha=0.7)), p - 0.7 * across)
    close(gradient(GSAM(rho=0.5, alpha=0)), p)


def test_looksam_reuses_what_sam_added_across_the_gradient():
    p, g = gradient(SAM(rho=0.5)), gradient(Nothing())
    across = p - (p @ g) / (g @ g) * g
    close(gradient(LookSAM(rho=0.5, every=3), updates=1), p)
    expected = g + 0.2 * g.norm() / across.norm() * across
    close(gradient(LookSAM(rho=0.5, every=3), updates=2), expected)
    close(gradient(LookSAM(rho=0.5, every=3), updates=4), p)
    close(gradient(LookSAM(rho=0.5, every=1), updates=5), p)


def test_friendly_sam_climbs_along_the_gradient_less_its_running_mean():
    close(gradient(FriendlySAM(rho=0.5, sigma=0)), gradient(SAM(rho=0.5)))
    learner = Quadratic(FriendlySAM(rho=0.5), lr=0.1)
    mean = vector(0.0, 0.0)
    for _ in range(3):
        w = learner.weight.detach().clone()
        g = CURVATURE * w
        mean = 0.9 * mean + 0.1 * g
        d = g - mean
        update(learner, learner.losses())
        close(learner.weight.grad, CURVATURE * (w + 0.5 * d / d.norm()))


def test_momentum_sam_looks_along_the_momentum():
    learner = Quadratic(MomentumSAM(rho=0.5))
    learner.optimizer = torch.optim.Adam([learner.weight], lr=0.1)
    update(learner, learner.losses())
    close(learner.weight.grad, vector(1.0, 10.0))  # no momentum yet
    w, m = learner.weight.detach().clone(), learner.optimizer.state[learner.weight]["exp_avg"]
    expected = CURVATURE * (w - 0.5 * m / m.norm())
    update(learner, learner.losses())
    close(learner.weight.grad, expected)


def test_the_radius_of_a_cycle_rises_along_half_a_cosine_and_starts_again():
    sam = SAM(rho=0.2, cycle=4)
    first = [sam.radius(n) for n in range(4)]
    assert first == pytest.approx([0.029289, 0.1, 0.170711, 0.2], abs=1e-6)
    assert [sam.radius(n) for n in range(4, 8)] == pytest.approx(first)


@pytest.mark.parametrize("method", [m for m in FAMILY if m is not MomentumSAM])
def test_every_radius_warms_up_and_cycles(method):
    strength = "alpha" if method is GNP else "rho"
    half = gradient(method(**{strength: 0.25}))
    close(gradient(method(**{strength: 0.5}, warmup=2)), half)
    close(gradient(method(**{strength: 0.5}, cycle=2)), half)


def test_the_radius_of_momentum_sam_warms_up_and_cycles():
    for schedule in ({"warmup": 4}, {"cycle": 4}):
        learner = Quadratic(MomentumSAM(rho=0.5, **schedule))
        learner.optimizer = torch.optim.Adam([learner.weight], lr=0.1)
        update(learner, learner.losses())
        w, m = learner.weight.detach().clone(), learner.optimizer.state[learner.weight]["exp_avg"]
        expected = CURVATURE * (w - 0.25 * m / m.norm())  # half way, at the second of four
        update(learner, learner.losses())
        close(learner.weight.grad, expected)


def new_gradient(model, seed=None):
    """What the interventions of an agent leave in ``.grad`` for its last minibatch."""
    if seed is not None:
        model.interventions.members[0].generator.manual_seed(seed)
    model.policy.optimizer.zero_grad()
    model.interventions.gradient(model, model.losses(model.last_batch))
    everything = model.scope("all")
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in everything]


@MAKES
def test_efficient_sam_with_all_weights_and_samples_is_sam(algorithm, given, steps):
    esam = EfficientSAM(rho=0.3, beta=1.0, gamma=1.0)
    model = train(algorithm, steps=steps, **given, interventions=Interventions([esam]))
    found = new_gradient(model)
    model.interventions = Interventions([SAM(rho=0.3)])
    for a, b in zip(found, new_gradient(model), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@MAKES
def test_efficient_sam_is_the_algorithm_written_out(algorithm, given, steps):
    esam, anchor = EfficientSAM(rho=0.5, beta=0.6, gamma=0.25), L2Init(strength=0.1)
    model = train(algorithm, steps=steps, **given, interventions=Interventions([esam, anchor]))
    batch, weights, everything = model.last_batch, model.scope("critic"), model.scope("all")
    start = [w.detach().clone() for w in weights]
    found = new_gradient(model, seed=7)
    assert all(torch.equal(w, s) for w, s in zip(weights, start, strict=True))
    plain = Interventions()
    model.interventions = plain

    def loss(part):
        """The critic's mean loss of some transitions, by the agent without interventions."""
        taken = type(batch)(*(x if x is None else x[part] for x in batch))
        return model.losses(taken)("critic")["critic"]

    every = slice(None)
    single = [[i] for i in range(len(batch.observations))]
    drawn = torch.Generator().manual_seed(7)
    g = torch.autograd.grad(loss(every) + anchor.penalty(model), weights)
    before = torch.stack([loss(one).detach() for one in single])
    length = torch.sqrt(sum((x**2).sum() for x in g))
    terms = model.losses(batch)()
    others = [term for name, term in terms.items() if name != "critic"]
    expected = [torch.zeros_like(p) for p in everything]

    def add(term):
        for total, x in zip(
            expected, torch.autograd.grad(term, everything, allow_unused=True), strict=True
        ):
            total.add_(0 if x is None else x)

    if others:
        add(sum(others))
    with torch.no_grad():
        for w, x in zip(weights, g, strict=True):
            mask = torch.rand(w.shape, generator=drawn) < 0.6
            w += 0.5 / 0.6 * x / length * mask
    rises = torch.stack([loss(one).detach() for one in single]) - before
    chosen = rises.sort(descending=True).indices[: len(rises) // 4].tolist()
    add(loss(chosen) + anchor.penalty(model))
    with torch.no_grad():
        for w, s in zip(weights, start, strict=True):
            w.copy_(s)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


@MAKES
def test_efficient_sam_without_radius_learns_from_all_samples(algorithm, given, steps):
    model = train(
        algorithm, steps=steps, **given, interventions=Interventions([EfficientSAM(rho=0.0)])
    )
    found = new_gradient(model)
    model.interventions = Interventions()
    for a, b in zip(found, new_gradient(model), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
