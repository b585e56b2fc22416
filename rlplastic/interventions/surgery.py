"""What interventions do to weights: read units, overwrite entries, forget their moments."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from rlplastic.errors import UsageError
from rlplastic.interventions import Learner


def overwrite(
    agent: Learner, parameter: Parameter, values: Tensor, mask: Tensor | None = None
) -> None:
    """Write values into a parameter and into the target network's copy of it.

    The optimizer's moments of exactly what was written are forgotten; where all of a parameter was
    written, its count of steps starts anew too.

    Args:
        agent: Whose parameter it is.
        parameter: Changed in place.
        values: Of its shape.
        mask: Booleans of its shape: the entries to write; None: all.
    """
    twin = agent.targets().get(parameter)
    with torch.no_grad():
        for place in (parameter,) if twin is None else (parameter, twin):
            place.copy_(values if mask is None else torch.where(mask, values, place))
    forget(agent.policy.optimizer, parameter, mask)


def forget(optimizer: Any, parameter: Parameter, mask: Tensor | None = None) -> None:
    """Set the optimizer's moments of the masked entries of a parameter to zero; None: all of it."""
    if mask is None:
        optimizer.state.pop(parameter, None)
        return
    for value in optimizer.state.get(parameter, {}).values():
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            value.masked_fill_(mask, 0.0)


def require_optimizer(agent: Learner, kind: str, reg: str, why: str) -> None:
    """Refuse an agent whose optimizer is of another kind.

    Args:
        agent: Whose optimizer it is.
        kind: ``Adam`` or ``SGD``, torch's class or a descendant of it.
        reg: The intervention that needs it.
        why: What it does with it: the end of "needs Adam, ...".

    Raises:
        UsageError: names the option that sets the optimizer of the agents that have one.
    """
    optimizer = agent.policy.optimizer
    if isinstance(optimizer, getattr(torch.optim, kind)):
        return
    raise UsageError(
        f"--reg {reg}: needs {kind}, {why}; this agent has {type(optimizer).__name__}. "
        f"Nearest valid of classifiers: --set mlp.optimizer={kind.lower()}"
    )


def newborn_values(agent: Learner, generator: torch.Generator) -> dict[Parameter, Tensor]:
    """A newly drawn initial value for each parameter of the policy."""
    fresh = agent.newborn(generator)
    pairs = zip(agent.policy.parameters(), fresh.parameters(), strict=True)
    return {ours: theirs.detach() for ours, theirs in pairs}


def weight_layers(agent: Learner, scope: str) -> list[nn.Linear | nn.Conv2d]:
    """The linear layers and convolutions whose weights are in a scope, the outputs included."""
    wanted = {id(parameter) for parameter in agent.scope(scope)}
    return [
        module
        for module in agent.policy.modules()
        if isinstance(module, nn.Linear | nn.Conv2d) and id(module.weight) in wanted
    ]


def outputs(agent: Learner, layers: Sequence[Any]) -> Iterator[tuple[Any, Tensor]]:
    """Each layer with what its activation made of the last minibatch.

    Yields:
        The layer, and ``[batch x places, expansion, units]`` (a map's places count as samples).
    """
    seen: dict[int, Tensor] = {}
    hooks = [
        layer.activation.register_forward_hook(
            lambda module, _, output: seen.__setitem__(id(module), output)
        )
        for layer in layers
    ]
    training = agent.policy.training
    agent.policy.set_training_mode(False)
    try:
        with torch.no_grad():
            observations = agent.last_batch.observations
            agent.values(observations)
            if hasattr(agent.policy, "get_distribution"):
                agent.policy.get_distribution(observations)
    finally:
        agent.policy.set_training_mode(training)
        for hook in hooks:
            hook.remove()
    for layer in layers:
        output = seen[id(layer.activation)].movedim(1, -1)
        yield layer, output.reshape(-1, layer.expansion, layer.units)


def movable(agent: Learner, scope: str) -> list[Any]:
    """The hidden layers of a scope whose units have an activation."""
    return [layer for layer in agent.layers(scope) if layer.activation is not None]


def features(agent: Learner, observations: Tensor) -> Tensor:
    """The critic's last hidden layer after its activation, with its graph: ``[batch, units]``.

    Where two outputs have one each (a duelling network), the units of both.
    """
    return _caught(_last_activations(agent), lambda: agent.values(observations))


def target_features(agent: Learner, observations: Tensor) -> Tensor:
    """The same of the target network, which must be there."""
    from rlplastic.agents.networks import target_copy

    activations = [target_copy(agent.policy, module) for module in _last_activations(agent)]
    return _caught(activations, lambda: agent.policy.q_net_target(observations))


def _last_activations(agent: Learner) -> list[Any]:
    from rlplastic.agents.networks import top_layers

    tops = top_layers(agent.layers("critic"))
    # behind residual blocks the outputs read a norm
    return [top.norm if top.activation is None else top.activation for top in tops]


def _caught(modules: Sequence[Any], run: Callable[[], Tensor]) -> Tensor:
    """What modules say while something is computed, side by side: ``[batch, units]``."""
    seen: dict[int, Tensor] = {}
    hooks = [
        module.register_forward_hook(
            lambda module, _, output: seen.__setitem__(id(module), output.flatten(1))
        )
        for module in modules
    ]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    found = [seen[id(module)] for module in modules]
    return found[0] if len(found) == 1 else torch.cat(found, dim=1)


@contextmanager
def swapped(parameters: Sequence[Tensor], values: Sequence[Tensor]) -> Iterator[None]:
    """Give parameters other values for a while.

    Their data is exchanged rather than overwritten: a graph that was built before stays valid, and
    the parameters are afterwards what they were, bit for bit.
    """
    before = [parameter.data for parameter in parameters]
    try:
        for parameter, value in zip(parameters, values, strict=True):
            parameter.data = value
        yield
    finally:
        for parameter, value in zip(parameters, before, strict=True):
            parameter.data = value
