"""One update, for every agent: loss terms in, one step of the optimizer out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import gymnasium
import torch
from stable_baselines3.common.base_class import BaseAlgorithm, maybe_make_env
from torch import Tensor, nn

from rlplastic import interventions
from rlplastic.agents.direct import Slopes
from rlplastic.errors import Diverged
from rlplastic.interventions import Interventions, total
from rlplastic.interventions.ascent import norm

Direct = Callable[..., tuple[dict[str, Tensor], list[Slopes]]]


class Learner(interventions.Learner, Protocol):
    """What `update` needs of an agent, beside what interventions may ask of it."""

    interventions: Interventions
    max_grad_norm: float


_has_dropout: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def has_dropout(policy: nn.Module) -> bool:
    """True if a forward pass draws masks: all passes of one update must then draw the same.

    Looked up once for each policy, since walking its modules takes as long as a forward pass:
    layers that draw masks are there from the start (`Intervention.build`).
    """
    if policy not in _has_dropout:
        _has_dropout[policy] = any(
            isinstance(m, nn.modules.dropout._DropoutNd) for m in policy.modules()
        )
    return _has_dropout[policy]


class Minibatch:
    """The loss terms of one minibatch, as `rlplastic.interventions.Losses` asks for them.

    The terms of the first call are computed at most once, so that an agent may look at them
    (for an early stop) before the interventions do. Dropout draws the same mask in every call.

    Args:
        policy: The networks, asked for dropout.
        terms: The terms of some names, of all if there are none, at the current weights.
        slopes: See `rlplastic.interventions.Losses`.
    """

    def __init__(
        self,
        policy: nn.Module,
        terms: Callable[[tuple[str, ...]], dict[str, Tensor]],
        slopes: Direct | None = None,
    ) -> None:
        self._terms = terms
        self.slopes = slopes
        self._masks = torch.get_rng_state() if has_dropout(policy) else None
        self._first: dict[str, Tensor] | None = None

    def peek(self) -> dict[str, Tensor]:
        """All terms at the current weights, kept for the first call."""
        if self._first is None:
            self._first = self._compute(())
        return self._first

    def __call__(self, *names: str) -> dict[str, Tensor]:
        """All terms, or only the named ones, at the current weights."""
        if self._first is not None:
            first, self._first = self._first, None
            return first
        return self._compute(names)

    def _compute(self, names: tuple[str, ...]) -> dict[str, Tensor]:
        if self._masks is not None:
            torch.set_rng_state(self._masks)
        return self._terms(names)


class Scopes:
    """The parameters of an agent's scopes, kept while its optimizer has the same ones.

    A walk through the modules takes as long as a pass of a small network.
    """

    def __init__(self) -> None:
        self._held: list[nn.Parameter] = []
        self._known: dict[str, list[nn.Parameter]] = {}

    def of(
        self,
        name: str,
        optimizer: torch.optim.Optimizer,
        walk: Callable[[str], list[nn.Parameter]],
    ) -> list[nn.Parameter]:
        """The parameters of a scope, by the walk if they are not known."""
        held = [p for group in optimizer.param_groups for p in group["params"]]
        before = self._held
        if len(before) != len(held) or any(a is not b for a, b in zip(before, held, strict=True)):
            self._held, self._known = held, {}
        if name not in self._known:
            self._known[name] = walk(name)
        return list(self._known[name])


def wrapped(
    interventions: Interventions, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, ...]:
    """The arguments of an agent of stable-baselines3, its environment as interventions show it.

    Args:
        interventions: Which may change the environment.
        args: By position: the policy, the environment, ...
        kwargs: By name; changed in place.
    """
    env = args[1] if len(args) > 1 else kwargs.get("env")
    if env is None or not interventions.wraps:
        return args
    if isinstance(env, str | gymnasium.Env):
        env = BaseAlgorithm._wrap_env(maybe_make_env(env, 0))
    env = interventions.wrap(env, kwargs.get("gamma", 0.99))
    if len(args) > 1:
        return (args[0], env, *args[2:])
    kwargs["env"] = env
    return args


def clip(gradients: list[Tensor], limit: float) -> float:
    """`torch.nn.utils.clip_grad_norm_`'s norm and bytes; what is short enough is left alone."""
    return shorten(gradients, norm(gradients), limit)


def shorten(gradients: list[Tensor], length: Tensor, limit: float) -> float:
    """The same, where their norm is known."""
    found = float(length)
    if math.isfinite(found) and found + 1e-6 > limit * (1 - 1e-6):
        torch._foreach_mul_(gradients, (limit / (length + 1e-6)).clamp(max=1.0))
    return found


def refuse_infinite(length: float, loss: float, number: int) -> None:
    """Raise `Diverged` unless the gradient's norm and the loss of an update are finite."""
    if not math.isfinite(length):
        raise Diverged(f"gradient norm {length} at update {number}")
    if not math.isfinite(loss):
        raise Diverged(f"loss {loss} at update {number}")


def update(agent: Learner, losses: Minibatch) -> dict[str, Tensor]:
    """Turn loss terms into one step of the optimizer; returns the terms for the log.

    Raises:
        Diverged: a loss term or the gradient is NaN or infinite; the weights are left as they were.
    """
    optimizer = agent.policy.optimizer
    # the optimizer's parameters, without walking through the policy's modules for them
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    for parameter in trained:
        parameter.grad = None
    terms = agent.interventions.gradient(agent, losses)
    loss = float(total(terms).detach())  # infinite targets have finite Huber gradients
    length = clip([p.grad for p in trained if p.grad is not None], agent.max_grad_norm)
    refuse_infinite(length, loss, agent.num_updates + 1)
    optimizer.step()
    agent.num_updates += 1
    agent.interventions.after_update(agent)
    return terms
