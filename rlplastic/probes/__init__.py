"""Measurements of the critic while it trains. A probe never changes training.

A probe is a function with the decorator ``@probe("name")`` that takes an agent and the minibatch
it was last trained on, and returns a number, or None where it does not apply, or a number for each
of several parts, such as layers: ``{"1": 0.2, "output": 0.1}`` is written as ``name/1`` and
``name/output``. It draws nothing from the global generators, leaves ``.grad`` alone, and puts back
what it touches. To add one: one function in its family's file here.
A costly one says ``@probe("name", cost="full")``: it is measured at the shifts only, on request.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from rlplastic import registry
from rlplastic.probes.look import looking

IMAGES = 32  # of a minibatch, at most, are looked at: what DQN's has


class Probe(Protocol):
    """The shape of a probe."""

    def __call__(self, agent: Any, batch: Any) -> float | Mapping[str, float] | None:
        """The measurement, finite unless the network is not; None where there is nothing such."""


def names(which: str = "default") -> list[str]:
    """The cheap probes, or all of them."""
    return [
        name
        for name, entry in registry.entries("probe").items()
        if which == "full" or entry.traits.get("cost", "default") == "default"
    ]


def seen_of(batch: Any) -> Any:
    """What is looked at of a minibatch, a named tuple of tensors or None."""
    if batch.observations.ndim < 4 or len(batch.observations) <= IMAGES:
        return batch
    return type(batch)(*(None if column is None else column[:IMAGES] for column in batch))


def measure(agent: Any, which: str = "default") -> dict[str, float]:
    """Value of the cheap probes, or of all, on the agent's last minibatch, by name.

    Of images, on its first `IMAGES` (minibatches are drawn at random): a look at a PPO's 256 would
    take as long as three of its updates, and ranks are those of as many examples as a DQN's.
    """
    training, batch = agent.policy.training, seen_of(agent.last_batch)
    agent.policy.set_training_mode(False)
    found: dict[str, float] = {}
    try:
        with looking(agent, batch):
            for name in names(which):
                value = registry.load("probe", name)(agent, batch)
                if isinstance(value, Mapping):
                    found.update({f"{name}/{part}": float(one) for part, one in value.items()})
                elif value is not None:
                    found[name] = float(value)
        return found
    finally:
        agent.policy.set_training_mode(training)
