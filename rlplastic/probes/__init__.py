"""Measurements of the critic while it trains. A probe never changes training.

A probe is a function with the decorator ``@probe("name")`` that takes an agent and the minibatch
it was last trained on, and returns a number, or None where it does not apply. It draws nothing from
the global generators, leaves ``.grad`` alone, and puts back what it touches. To add one: one
function in its family's file here.
A costly one says ``@probe("name", cost="full")``: it is measured at the shifts only, on request.
"""

from __future__ import annotations

from typing import Any, Protocol

from rlplastic import registry


class Probe(Protocol):
    """The shape of a probe."""

    def __call__(self, agent: Any, batch: Any) -> float | None:
        """The measurement, finite unless the network is not; None where there is nothing such."""


def names(which: str = "default") -> list[str]:
    """The cheap probes, or all of them."""
    return [
        name
        for name, entry in registry.entries("probe").items()
        if which == "full" or entry.traits.get("cost", "default") == "default"
    ]


def measure(agent: Any, which: str = "default") -> dict[str, float]:
    """Value of the cheap probes, or of all, on the agent's last minibatch, by name."""
    training = agent.policy.training
    agent.policy.set_training_mode(False)
    try:
        found = {
            name: registry.load("probe", name)(agent, agent.last_batch) for name in names(which)
        }
        return {name: float(value) for name, value in found.items() if value is not None}
    finally:
        agent.policy.set_training_mode(training)
