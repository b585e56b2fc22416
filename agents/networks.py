"""From an agent's configuration to stable-baselines3's policy arguments, and the scopes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import torch
from gymnasium import spaces
from torch import nn

from rlplastic.errors import UsageError
from rlplastic.interventions import SCOPES

Activation = Literal["relu", "tanh", "leaky_relu"]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "leaky_relu": nn.LeakyReLU,
}


def policy_name(space: spaces.Space[Any]) -> str:
    """``CnnPolicy`` for stacked frames, else ``MlpPolicy``."""
    return "CnnPolicy" if space.shape is not None and len(space.shape) == 3 else "MlpPolicy"


def unique(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """Each parameter once, in order."""
    return list({id(parameter): parameter for parameter in parameters}.values())


def last_linear(module: nn.Module) -> list[nn.Parameter]:
    """The parameters of the last linear layer within a module."""
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    return list(layers[-1].parameters())


def scope_of(
    name: str,
    *,
    critic: Iterable[nn.Parameter],
    head: Iterable[nn.Parameter],
    actor: Iterable[nn.Parameter],
) -> list[nn.Parameter]:
    """The parameters of a scope, from the three that define the others.

    critic: every parameter that the value loss reaches. head: the last value layer.
    backbone: critic minus head. actor: every parameter that the policy loss reaches.

    Raises:
        UsageError: no such scope, or one that is empty in this agent.
    """
    critic, head, actor = unique(critic), unique(head), unique(actor)
    top = {id(parameter) for parameter in head}
    scopes = {
        "critic": critic,
        "head": head,
        "backbone": [parameter for parameter in critic if id(parameter) not in top],
        "actor": actor,
        "all": unique([*critic, *actor]),
    }
    if name not in scopes:
        raise UsageError(f"scope {name!r}: valid are {', '.join(SCOPES)}")
    if not scopes[name]:
        full = [scope for scope, members in scopes.items() if members]
        raise UsageError(f"scope {name!r} has no parameters here; valid are {', '.join(full)}")
    return scopes[name]


def set_channels_last(policy: nn.Module) -> None:
    """Store convolution weights with the channels last; the parameters stay the same objects."""
    policy.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
