"""Measurements of the critic while it trains. A probe never changes training.

A probe is a function with the decorator ``@probe("name")`` that takes an agent and the minibatch
it was last trained on, and returns a number. It draws nothing from any generator, leaves ``.grad``
alone, and puts back what it touches. To add one: one function in its family's file here.
"""

from __future__ import annotations

from typing import Any, Protocol

from rlplastic import registry


class Probe(Protocol):
    """The shape of a probe."""

    def __call__(self, agent: Any, batch: Any) -> float:
        """The measurement, a finite number unless the network is not finite."""


def measure(agent: Any) -> dict[str, float]:
    """Every probe's value on the agent's last minibatch, by name."""
    training = agent.policy.training
    agent.policy.set_training_mode(False)
    try:
        return {
            name: float(entry.load()(agent, agent.last_batch))
            for name, entry in registry.entries("probe").items()
        }
    finally:
        agent.policy.set_training_mode(training)
