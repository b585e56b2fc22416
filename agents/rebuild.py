"""Changes to the modules of a newly constructed policy, in place; nothing is drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from rlplastic.agents.duelling import output_of
from rlplastic.agents.mixture import refuse_mixture
from rlplastic.agents.modules import (
    ResidualBlock,
    SeededDropout,
    SpectralLinear,
    UnitNorm,
)
from rlplastic.agents.networks import (
    NORMS,
    auxiliary,
    hidden_places,
    is_replaced,
    last_hidden,
    paths_of,
)
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


def add_residuals(policy: Any) -> None:
    """Make residual blocks of the hidden layers of every path, all but the first, two by two.

    The weights stay as they were drawn. The first layer loses its activation, and a layer norm
    stands before what reads the last block.

    Raises:
        UsageError: something else than linear layers and ReLUs is there, or a mixture of experts.
    """
    refuse_mixture(policy)
    for *_, container in paths_of(policy):
        assert isinstance(container, nn.Sequential)
        modules = list(container.children())
        count = sum(type(module) is nn.ReLU for module in modules)
        layers, activations = modules[: 2 * count : 2], modules[1 : 2 * count : 2]
        plain = all(type(m) is nn.Linear for m in layers)
        plain = plain and all(type(m) is nn.ReLU for m in activations)
        if not plain or count < 3 or len(modules) > 2 * count + 1:
            raise UsageError(
                "simba and another intervention, or dqn.duelling, each replace the hidden layers; "
                "choose one"
            )
        blocks = zip(layers[1::2], layers[2::2], strict=True)
        norm = nn.LayerNorm(layers[-1].out_features)
        output = modules[2 * count :]
        made = [layers[0], *(ResidualBlock(up, down) for up, down in blocks), norm, *output]  # type: ignore[arg-type]
        del container[:]
        container.extend(made)


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


def normalise_features(policy: nn.Module) -> None:
    """Put a `UnitNorm` behind the last hidden activation of every network that ends in an output.

    Raises:
        UsageError: a network without hidden layers.
    """
    for container, _, place in last_hidden(policy):
        if not any(isinstance(module, UnitNorm) for module in container.children()):
            container.insert(place + 1, UnitNorm())


def norm_for(layer: nn.Module) -> nn.Module:
    """A layer norm for what a linear layer or convolution computes."""
    if isinstance(layer, nn.Conv2d):
        return nn.GroupNorm(1, layer.out_channels)
    return nn.LayerNorm(layer.out_features)


def add_norms(policy: nn.Module) -> None:
    """Put a layer norm before every hidden activation that has none, in place."""
    for container, weights, place in reversed(hidden_places(policy)):
        if not any(isinstance(container[between], NORMS) for between in range(weights, place)):
            container.insert(weights + 1, norm_for(container[weights]))


def double_activations(policy: nn.Module, activation: type[nn.Module]) -> None:
    """Halve the units of every hidden layer, and give it an activation of two outputs a unit.

    The units that stay keep their initial weights, so nothing is drawn, and the layers above keep
    their shape.

    Raises:
        UsageError: a hidden layer with an odd number of units, or whose activation has two outputs
            already.
    """
    for container, weights, place in hidden_places(policy):
        layer = container[weights]
        units, odd = divmod(len(layer.weight), 2)  # type: ignore[arg-type]
        if odd:
            raise UsageError(
                f"a hidden layer of {2 * units + 1} units cannot be halved; "
                f"nearest valid: {2 * units}"
            )
        if is_replaced(container[place]):
            raise UsageError("two interventions each replace the activations; choose one")
        for name, parameter in layer.named_parameters():
            setattr(layer, name, nn.Parameter(parameter.detach()[:units].clone()))
        setattr(layer, "out_channels" if isinstance(layer, nn.Conv2d) else "out_features", units)
        for between in range(weights + 1, place):
            if isinstance(container[between], NORMS):
                container[between] = norm_for(layer)
        container[place] = activation()
