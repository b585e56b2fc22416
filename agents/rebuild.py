"""Changes to the modules of a newly constructed policy, in place; nothing is drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from rlplastic.agents.duelling import output_of
from rlplastic.agents.modules import SeededDropout, SpectralLinear
from rlplastic.agents.networks import auxiliary, hidden_places, is_replaced, last_hidden
from rlplastic.errors import UsageError


def replace_activations(policy: nn.Module, make: Callable[[], nn.Module]) -> None:
    """Give every hidden layer another activation with as many outputs, in place.

    Raises:
        UsageError: another intervention has replaced them already.
    """
    for container, _, place in hidden_places(policy):
        if is_replaced(container[place]):
            raise UsageError("two interventions each replace the activations; choose one")
        container[place] = make()


def add_dropout(policy: nn.Module, rate: float, owner: Mapping[str, Any]) -> None:
    """Put a dropout behind every hidden activation."""
    for number, (container, _, place) in reversed(list(enumerate(hidden_places(policy)))):
        container.insert(place + 1, SeededDropout(rate, number, owner))


def divide_last_hidden(policy: nn.Module) -> None:
    """Make the last hidden layer of every path to an output a `SpectralLinear`.

    Raises:
        UsageError: a path without hidden layers.
    """
    for container, weights, _ in last_hidden(policy):
        if not isinstance(container[weights], SpectralLinear):
            container[weights] = SpectralLinear.of(container[weights])  # type: ignore[arg-type]


def add_auxiliary(policy: Any, outputs: int, initialise: Callable[[nn.Linear], None]) -> None:
    """Give each critic of a policy more outputs that read its last hidden layer.

    Raises:
        UsageError: the critic has such outputs already.
    """
    tops = [(policy, policy.value_net)] if hasattr(policy, "value_net") else []
    tops = tops or [(net, output_of(net)) for net in (policy.q_net, policy.q_net_target)]
    for network, top in tops:
        if auxiliary(network):
            raise UsageError("two interventions each add outputs to the critic; choose one")
        network.auxiliary = nn.Linear(top.in_features, outputs, device="meta").to_empty(
            device="cpu"
        )
        initialise(network.auxiliary)
