"""Probes: closed forms, broken networks, and that none of them changes anything."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from rlplastic import options, probes, registry, runner
from rlplastic.interventions import Interventions
from rlplastic.plan import Request, make_plan
from rlplastic.probes import curvature, norms, outputs, units


class Critic:
    """A network as an agent: a regression onto zero."""

    num_updates = 0

    def __init__(self, net):
        self.policy = self.net = net

    def values(self, observations):
        return self.net(observations)

    def scope(self, name):
        return list(self.net.parameters())

    def losses(self, batch):
        return lambda *names: {"critic": self.net(batch.observations).square().mean()}


def hidden(weight, bias, activation=nn.ReLU):
    """One hidden layer with known weights, and a batch of the two unit vectors."""
    layer = nn.Linear(2, len(weight))
    layer.weight.data, layer.bias.data = torch.tensor(weight), torch.tensor(bias)
    head = nn.Linear(len(weight), 1)
    return Critic(nn.Sequential(layer, activation(), head)), SimpleNamespace(
        observations=torch.eye(2)
    )


def test_ranks_of_known_singular_values():
    four, two = torch.ones(4).double(), torch.tensor([99.0, 1.0]).double()
    assert (units.srank_of(four), units.srank_of(two)) == (4, 1)
    assert units.effective_rank_of(four) == pytest.approx(4)
    assert units.effective_rank_of(two) == pytest.approx(1.057599, abs=1e-6)


def test_ranks_of_features_of_rank_2_and_their_norm():
    agent, batch = hidden([[3.0, 0.0], [0.0, 4.0], [0.0, 0.0]], [0.0, 0.0, 0.0])
    assert units.srank(agent, batch) == 2
    assert units.stable_rank(agent, batch) == pytest.approx(25 / 16)
    assert units.feature_norm(agent, batch) == pytest.approx(3.5)


def test_dead_linearised_active_and_dormant_units_are_counted():
    # units: dead, positive everywhere, positive on one input, nearly silent
    weight = [[-1.0, -1.0], [1.0, 1.0], [1.0, -1.0], [0.001, 0.0]]
    agent, batch = hidden(weight, [0.0, 1.0, 0.0, 0.0])
    assert units.dead_fraction(agent, batch) == 1 / 4
    assert units.linearised_fraction(agent, batch) == 1 / 4
    assert units.active_fraction(agent, batch) == 3 / 4
    assert units.dormant_fraction(agent, batch) == 2 / 4
    agent, batch = hidden(weight, [0.0, 1.0, 0.0, 0.0], nn.Tanh)
    assert units.linearised_fraction(agent, batch) == 0
    assert units.dead_fraction(agent, batch) == 0


def test_gradient_norms_and_outputs_of_a_linear_network():
    agent = Critic(nn.Linear(2, 1))
    agent.net.weight.data, agent.net.bias.data = torch.tensor([[1.0, -3.0]]), torch.zeros(1)
    batch = SimpleNamespace(observations=torch.eye(2))
    # outputs 1 and -3; gradient (1, -3) of the weights and -2 of the bias
    assert outputs.value_magnitude(agent, batch) == 2
    assert norms.grad_l1(agent, batch) == pytest.approx(6)
    assert norms.grad_norm(agent, batch) == pytest.approx(14**0.5)


def test_top_eigenvalue_and_trace_are_those_of_the_explicit_hessian():
    torch.manual_seed(0)
    agent = Critic(nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1)).double())
    batch = SimpleNamespace(observations=torch.randn(20, 3).double())
    size, product = curvature.hessian_of(agent, batch)
    hessian = torch.stack([product(row) for row in torch.eye(size).double()])
    shapes = {name: p.shape for name, p in agent.net.named_parameters()}

    def loss(flat):
        parts = flat.split([shape.numel() for shape in shapes.values()])
        values = {n: p.view(s) for (n, s), p in zip(shapes.items(), parts, strict=True)}
        return torch.func.functional_call(agent.net, values, batch.observations).square().mean()

    here = torch.cat([p.detach().reshape(-1) for p in agent.net.parameters()])
    explicit = torch.autograd.functional.hessian(loss, here)
    torch.testing.assert_close(hessian, explicit)
    eigenvalues = torch.linalg.eigvalsh(explicit)
    top = eigenvalues[eigenvalues.abs().argmax()].item()
    assert curvature.hessian_top(agent, batch) == pytest.approx(top, rel=5e-3)
    # the deviation of the estimate: sqrt(2 / samples) times the norm off the diagonal
    off = explicit - explicit.diag().diag()
    deviation = (2 / curvature.SAMPLES) ** 0.5 * off.norm().item()
    found = curvature.hessian_trace(agent, batch)
    assert abs(found - explicit.trace().item()) < 4 * deviation


def test_negative_curvature_keeps_its_sign_and_a_diagonal_trace_is_exact():
    weight = nn.Parameter(torch.tensor([1.0, 1.0]).double())
    product = curvature.hessian_product((weight**2 * torch.tensor([-5.0, 1.0])).sum(), [weight])

    def draw():
        return torch.tensor([1.0, -1.0]).double()

    assert curvature.top_eigenvalue(product, draw) == pytest.approx(-10, rel=1e-2)
    assert curvature.trace(product, draw) == pytest.approx(-8)


def trained(agent, task):
    """A real agent after a few updates, with its stream."""
    plan = make_plan(Request(agents=[agent], regs=["none"], env=task, budget="smoke", seeds=[0]))
    cell = next(c for c in plan.cells if c.agent == agent)
    stream = runner.build_stream(cell)
    stream.begin(0)
    config = options.make(registry.load("agent", agent), cell.hyperparameters, "test")
    built = config.build(
        stream, seed=0, interventions=Interventions(), device="cpu", horizon=100_000
    )
    built.learn(512 if agent == "dqn" else config.rollout, log_interval=None)
    stream.close()
    return built


def state_of(agent):
    """Everything that a probe must leave alone, as bytes."""
    tensors = [*agent.policy.state_dict().values()]
    tensors += [p.grad for p in agent.policy.parameters() if p.grad is not None]
    for moments in agent.policy.optimizer.state.values():
        tensors += [value for value in moments.values() if torch.is_tensor(value)]
    numbers = [tensor.detach().cpu().contiguous().numpy().tobytes() for tensor in tensors]
    random = (torch.get_rng_state().numpy().tobytes(), repr(np.random.get_state()))
    return numbers, random, [module.training for module in agent.policy.modules()]


@pytest.mark.parametrize("agent", ["dqn", "ppo"])
def test_every_probe_is_finite_and_leaves_everything_as_it_was(agent):
    built = trained(agent, "Toy-Shifted/Corridor-observation")
    assert built.num_updates > 0
    for dead in (False, True):
        if dead:
            for parameter in built.scope("all"):
                parameter.data.zero_()
        before = state_of(built)
        found = probes.measure(built, "full")
        assert set(found) == set(registry.entries("probe"))
        assert np.isfinite(list(found.values())).all(), found
        assert state_of(built) == before
        assert probes.measure(built, "full") == found
