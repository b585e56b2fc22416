"""From an agent's configuration to stable-baselines3's policy arguments, and the scopes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlplastic.agents.adam import LeanAdam
from rlplastic.agents.duelling import paths_to_outputs, split
from rlplastic.agents.modules import (
    Replaced,
    ResidualBlock,
    SeededDropout,
    SteepLeakyReLU,
    UnitNorm,
)
from rlplastic.agents.sgd import LeanSGD
from rlplastic.errors import UsageError
from rlplastic.interventions import SCOPES

Activation = Literal["relu", "tanh", "leaky_relu", "leaky_relu_0.1"]


ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "leaky_relu": nn.LeakyReLU,
    "leaky_relu_0.1": SteepLeakyReLU,
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


@dataclass(frozen=True, eq=False)
class Layer:
    """A hidden layer: what makes its units, what they pass through, and who reads them.

    Attributes:
        weights: The linear layer or convolution that makes the units.
        norm: The normalisation between the weights and the activation, or none.
        activation: The activation, or none.
        readers: The linear layers or convolutions whose input the units are.
        between: All modules between the weights and the readers, in order.
    """

    weights: nn.Linear | nn.Conv2d
    norm: nn.Module | None
    activation: nn.Module | None
    readers: tuple[nn.Linear | nn.Conv2d, ...]
    between: tuple[nn.Module, ...] = ()

    @property
    def units(self) -> int:
        """Number of units: output features, or output channels."""
        return len(self.weights.weight)

    @property
    def expansion(self) -> int:
        """Outputs of the activation for each unit: 2 for CReLU, else 1."""
        return int(getattr(self.activation, "expansion", 1))

    def incoming(self, units: Tensor) -> list[tuple[nn.Parameter, Tensor]]:
        """Each parameter that makes the units, and a mask of theirs in it.

        Args:
            units: Booleans ``[units]``.
        """
        makers = [*self.weights.parameters(), *(self.norm.parameters() if self.norm else ())]
        shape = (-1, *[1] * 3)
        return [(p, units.view(shape[: p.ndim]).expand_as(p)) for p in makers]

    def outgoing(self, units: Tensor) -> list[tuple[nn.Parameter, Tensor]]:
        """The weight of each reader, and a mask of the entries that read these units.

        A flattened feature map keeps the places of a channel together, and an activation with two
        outputs per unit puts all the second ones behind all the first ones.
        """
        found: list[tuple[nn.Parameter, Tensor]] = []
        for reader in self.readers:
            weight: nn.Parameter = reader.weight  # type: ignore[assignment]
            places = weight[0].numel() // (self.expansion * self.units)
            mask = units.view(1, 1, -1, 1).expand(len(weight), self.expansion, -1, places)
            found.append((weight, mask.reshape(weight.shape)))
        return found


NORMS = (nn.LayerNorm, nn.GroupNorm)


def leaves(*modules: nn.Module) -> list[nn.Module]:
    """The modules that hold no others, in order; containers that are empty are none."""
    every = [leaf for module in modules for leaf in module.modules()]
    return [m for m in every if not isinstance(m, nn.Sequential) and not any(m.children())]


def hidden_layers(paths: Sequence[Sequence[nn.Module]]) -> list[Layer]:
    """The hidden layers along paths of leaf modules from the input to an output, each once.

    The last weights of a path are its output and no hidden layer.
    """
    order: dict[nn.Module, list[nn.Module]] = {}
    readers: dict[nn.Module, list[nn.Module]] = {}
    for path in paths:
        last: nn.Module | None = None
        for module in path:
            if isinstance(module, nn.Linear | nn.Conv2d):
                if last is not None and module not in readers[last]:
                    readers[last].append(module)
                last = module
                order.setdefault(module, [])
                readers.setdefault(module, [])
            elif last is not None and module not in order[last]:
                order[last].append(module)
    return [
        Layer(
            weights=weights,  # type: ignore[arg-type]
            norm=next((m for m in after if isinstance(m, NORMS)), None),
            activation=next((m for m in after if is_activation(m)), None),
            readers=tuple(readers[weights]),  # type: ignore[arg-type]
            between=tuple(after),
        )
        for weights, after in order.items()
        if readers[weights]
    ]


def top_layers(layers: Sequence[Layer]) -> list[Layer]:
    """Those of hidden layers that no other one reads: the last below each output."""
    hidden = {layer.weights for layer in layers}
    return [layer for layer in layers if not hidden.intersection(layer.readers)]


def is_activation(module: nn.Module) -> bool:
    """True for what stands between two layers of weights and is not a norm or a change of shape."""
    shapes = (nn.Flatten, nn.Dropout, SeededDropout, UnitNorm, *NORMS)
    return not isinstance(module, (*shapes, nn.Linear, nn.Conv2d, ResidualBlock))


def paths_of(policy: Any) -> list[tuple[nn.Module, ...]]:
    """Extractor and hidden layers below each output, for every network of a policy."""
    if hasattr(policy, "paths"):
        found: list[tuple[nn.Module, ...]] = policy.paths()
        return found
    if hasattr(policy, "q_net"):
        nets = (policy.q_net, policy.q_net_target)
        return [path for net in nets for path in paths_to_outputs(net)]
    extractors = [getattr(policy, f"{prefix}_features_extractor") for prefix in ("pi", "vf")]
    nets = (policy.mlp_extractor.policy_net, policy.mlp_extractor.value_net)
    return list(zip(extractors, nets, strict=True))


def last_hidden(policy: nn.Module) -> list[tuple[nn.Sequential, int, int]]:
    """As `hidden_places`, of the last hidden layer below each output.

    Raises:
        UsageError: an output without hidden layers.
    """
    found = [
        [place for module in path for place in hidden_places(module)] for path in paths_of(policy)
    ]
    if not all(found):
        raise UsageError("an output of this agent has no hidden layers below it")
    return [places[-1] for places in found]


def refuse_residual(policy: nn.Module) -> None:
    """Refuse a network with residual blocks, whose outputs read a sum and not a hidden layer.

    Raises:
        UsageError: it has residual blocks.
    """
    if any(isinstance(module, ResidualBlock) for module in policy.modules()):
        raise UsageError(
            "simba's residual blocks stand where another intervention needs plain hidden layers; "
            "choose one"
        )


def auxiliary(network: nn.Module) -> list[nn.Module]:
    """Outputs that an intervention has added to a critic and trains with a penalty."""
    found = getattr(network, "auxiliary", None)
    return [] if found is None else [found]


def hidden_places(policy: nn.Module) -> list[tuple[nn.Sequential, int, int]]:
    """Each container with the places of a layer of weights and of its activation in it.

    Raises:
        UsageError: there are residual blocks.
    """
    refuse_residual(policy)
    found = []
    for container in policy.modules():
        if not isinstance(container, nn.Sequential):
            continue
        weights: int | None = None
        for place, module in enumerate(container):
            if isinstance(module, nn.Linear | nn.Conv2d):
                weights = place
            elif weights is not None and is_activation(module):
                found.append((container, weights, place))
                weights = None
    return found


def is_replaced(activation: nn.Module) -> bool:
    """True if an intervention has put it in place of the agent's own."""
    return isinstance(activation, Replaced) or getattr(activation, "expansion", 1) != 1


def target_copy(policy: Any, module: nn.Module) -> nn.Module | None:
    """The target network's copy of a module of the online network; None without such a network."""
    if getattr(policy, "q_net_target", None) is None:
        return None
    target: list[nn.Module] = list(policy.q_net_target.modules())
    return target[list(policy.q_net.modules()).index(module)]


def default_optimizer(agent: Any, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer that stable-baselines3 makes for these parameters, or one of the same bytes."""
    policy = agent.policy
    kind, settings = policy.optimizer_class, policy.optimizer_kwargs
    lean = kind is torch.optim.Adam and settings.get("fused") and not settings.get("amsgrad")
    if torch.device(agent.device).type == "cpu":
        if lean:
            kind = LeanAdam
        elif kind is torch.optim.SGD and settings.get("fused"):
            kind = LeanSGD
    made: torch.optim.Optimizer = kind(parameters, lr=agent.lr_schedule(1), **settings)
    return made


def new_policy(agent: Any, generator: torch.Generator, **settings: Any) -> nn.Module:
    """A newly initialised policy like an agent's own; the global generators stay where they are."""
    seed = int(torch.randint(2**62, (), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        policy: nn.Module = agent.policy_class(
            agent.observation_space,
            agent.action_space,
            agent.lr_schedule,
            **settings,
            **agent.policy_kwargs,
        )
        if getattr(agent, "duelling", False):
            split(policy)
        if hasattr(agent, "critic"):
            agent.critic.install(policy)
    agent.interventions.rebuild(policy)
    return policy.to(agent.device)


def set_channels_last(policy: nn.Module) -> None:
    """Store convolution weights with the channels last; the parameters stay the same objects."""
    policy.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
