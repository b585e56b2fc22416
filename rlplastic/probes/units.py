"""What the critic's hidden units do on the last minibatch."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rlplastic.agents.modules import ConcatenatedReLU
from rlplastic.agents.networks import Layer, top_layers
from rlplastic.probes.look import once
from rlplastic.registry import probe

TAU = 0.025
PIECEWISE_LINEAR = (nn.ReLU, nn.LeakyReLU, ConcatenatedReLU)


class Seen(NamedTuple):
    """A hidden layer on a minibatch.

    Attributes:
        layer: The layer.
        before: What its activation was given: ``[batch, units, ...]``.
        after: What it made of it; twice the units where an activation has two outputs.
    """

    layer: Layer
    before: Tensor
    after: Tensor


class Passed(NamedTuple):
    """One pass of the critic.

    Attributes:
        values: What it says: ``[batch, outputs]``.
        layers: Its hidden layers, input side first.
    """

    values: Tensor
    layers: list[Seen]


def seen(agent: Any, batch: Any) -> list[Seen]:
    """The critic's hidden layers on a minibatch, input side first."""
    return passed(agent, batch).layers


@once
def passed(agent: Any, batch: Any) -> Passed:
    """The critic on a minibatch."""
    layers = [layer for layer in agent.layers("critic") if layer.activation is not None]
    found: list[Seen] = []
    hooks = [
        layer.activation.register_forward_hook(
            lambda _, inputs, output, layer=layer: found.append(Seen(layer, inputs[0], output))
        )
        for layer in layers
    ]
    try:
        with torch.no_grad():
            values = agent.values(batch.observations)
    finally:
        for hook in hooks:
            hook.remove()
    return Passed(values, found)


def per_unit(layer: Layer, values: Tensor) -> Tensor:
    """``[samples, units]`` of ``[batch, units, ...]``: places are samples, and so are both outputs.

    A unit with two outputs counts once, over both.
    """
    flat = values.movedim(1, -1).reshape(-1, values.shape[1])
    return flat.reshape(len(flat), -1, layer.units).flatten(0, 1)


def share(flags: list[Tensor]) -> float:
    """The share of true ones among all."""
    count = sum(len(flag) for flag in flags)
    return float(sum(int(flag.sum()) for flag in flags) / max(count, 1))


@probe("dormant_fraction")
def dormant_fraction(agent: Any, batch: Any) -> float:
    """Share of hidden units that are τ-dormant, τ = 0.025 (arXiv 2302.12902, Eq. 1).

    A unit's score is its mean absolute activation over the batch (and over places, for feature
    maps, and over both outputs of a unit that has two) divided by the mean score of its layer; it
    is dormant where the score is at most τ.
    """
    activity = [per_unit(s.layer, s.after).abs().mean(dim=0) for s in seen(agent, batch)]
    return share([a <= TAU * a.mean() for a in activity])


@probe("dead_fraction")
def dead_fraction(agent: Any, batch: Any) -> float:
    """Share of hidden units whose output is 0 on every sample (and place) of the batch."""
    return share([(per_unit(s.layer, s.after) == 0).all(dim=0) for s in seen(agent, batch)])


@probe("linearised_fraction")
def linearised_fraction(agent: Any, batch: Any) -> float:
    """Share of hidden units whose pre-activation is positive on every sample and place.

    Such a ReLU is linear (arXiv 2402.18762). Of activations that are not piecewise
    linear, such as tanh, none counts.
    """
    return share(
        [
            (s.before > 0).movedim(1, -1).flatten(0, -2).all(dim=0)
            & isinstance(s.layer.activation, PIECEWISE_LINEAR)
            for s in seen(agent, batch)
        ]
    )


@probe("active_fraction")
def active_fraction(agent: Any, batch: Any) -> float:
    """Mean over the samples of the share of hidden units with a positive output (FAU).

    arXiv 2310.07418; over all hidden layers, each output of a unit with two on its own.
    """
    outputs = [s.after for s in seen(agent, batch)]
    positive = sum(float((o > 0).float().mean()) * o.shape[1] for o in outputs)
    return positive / max(sum(o.shape[1] for o in outputs), 1)


@once
def features(agent: Any, batch: Any) -> Tensor | None:
    """The last hidden layer's outputs in double precision, ``[batch, features]``; None without."""
    found = {s.layer.weights: s.after.flatten(1) for s in seen(agent, batch)}
    last = top_layers([layer for layer in agent.layers("critic") if layer.weights in found])
    tops = [found[layer.weights] for layer in last]  # two in a duelling network
    return torch.cat(tops, dim=1).double() if tops else None


@once
def singular_values(agent: Any, batch: Any) -> Tensor:
    """Singular values of the last hidden layer's outputs, largest first; empty where all are 0."""
    matrix = features(agent, batch)
    if matrix is None or not matrix.any():
        return torch.zeros(0, dtype=torch.float64)
    values: Tensor = torch.linalg.svdvals(matrix)
    return values


@probe("feature_norm")
def feature_norm(agent: Any, batch: Any) -> float:
    """Mean over the batch of the L2 norm of the last hidden layer's outputs."""
    matrix = features(agent, batch)
    return 0.0 if matrix is None else float(matrix.norm(dim=1).mean())


@probe("effective_rank")
def effective_rank(agent: Any, batch: Any) -> float:
    """Exponential of the entropy of the singular values of the last hidden layer's outputs.

    Roy & Vetterli, EUSIPCO 2007: at most min(batch, units), 1 where all rows are parallel and 0
    where the layer is dead.
    """
    values = singular_values(agent, batch)
    part = values / values.sum() if len(values) else values
    part = part[part > 0]
    return float(torch.exp(-(part * part.log()).sum())) if len(part) else 0.0


@probe("srank")
def srank(agent: Any, batch: Any) -> float:
    """Least k with σ₁ + ... + σ_k at least 99 % of all, of the last hidden layer's outputs.

    arXiv 2010.14498, δ = 0.01; 0 where the layer is dead.
    """
    values = singular_values(agent, batch)
    if not len(values):
        return 0.0
    reached = values.cumsum(0) / values.sum() >= 0.99 - 1e-12
    return float(int(reached.int().argmax()) + 1)


@probe("stable_rank")
def stable_rank(agent: Any, batch: Any) -> float:
    """‖A‖²_F / σ₁² of the last hidden layer's outputs; 0 where the layer is dead.

    Rudelson & Vershynin, J. ACM 2007. What some suites call stable rank is a count like `srank`.
    """
    values = singular_values(agent, batch)
    return float(values.square().sum() / values[0] ** 2) if len(values) else 0.0


@probe("value_magnitude")
def value_magnitude(agent: Any, batch: Any) -> float:
    """Mean absolute output of the critic on the batch, over all actions for Q-values."""
    return float(passed(agent, batch).values.abs().mean())
