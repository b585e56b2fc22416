"""Penalties and decay towards zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge

from rlplastic.errors import UsageError
from rlplastic.interventions import Intervention, Learner
from rlplastic.registry import intervention

if TYPE_CHECKING:
    from torch import Tensor


@intervention("l2")
@dataclass(frozen=True, kw_only=True)
class L2(Intervention):
    """Add half the squared norm of the weights to the loss: λ/2 ‖θ‖².

    Through Adam this is not a decay of the weights: that is ``wd`` (arXiv 1711.05101).

    Attributes:
        strength: λ (1e-3: PPO in Dohare et al., Nature 2024).
        scope: Parameters that are penalised.
    """

    strength: Annotated[float, Ge(0)] = 1e-3
    scope: Literal["critic", "head", "backbone", "actor", "all"] = "all"

    def check(self, agent: Learner) -> None:
        """The scope must have parameters."""
        agent.scope(self.scope)

    def penalty(self, agent: Learner) -> Tensor | None:
        """λ/2 ‖θ‖² over the scope."""
        import torch

        squares = [parameter.square().sum() for parameter in agent.scope(self.scope)]
        return self.strength / 2 * torch.stack(squares).sum()


@intervention("wd")
@dataclass(frozen=True, kw_only=True)
class WeightDecay(Intervention):
    """Decoupled weight decay, as in AdamW: θ ← (1 - η λ) θ before each step of size η.

    The optimizer's own (arXiv 1711.05101, Algorithm 2), with torch's ``decoupled_weight_decay``.

    Attributes:
        strength: λ: 1e-3 (Juliani & Ash, arXiv 2405.19153: AdamW's in PPO); BBF has 0.1.
        scope: Parameters that decay.
    """

    strength: Annotated[float, Ge(0)] = 1e-3
    scope: Literal["critic", "head", "backbone", "actor", "all"] = "all"

    def check(self, agent: Learner) -> None:
        """The scope must have parameters, and the optimizer must be an Adam without a decay."""
        from rlplastic.interventions.surgery import require_optimizer

        agent.scope(self.scope)
        require_optimizer(agent, "Adam", "wd", "since decoupled decay is Adam's here")

    def begin(self, agent: Learner) -> None:
        """Put the scope into a group of its own, which decays."""
        optimizer = agent.policy.optimizer
        if any(group.get("weight_decay") for group in optimizer.param_groups):
            raise UsageError("--reg wd: this optimizer has a weight decay of its own; choose one")
        wanted = {id(parameter) for parameter in agent.scope(self.scope)}
        groups = []
        for group in optimizer.param_groups:
            for inside in (False, True):
                members = [p for p in group["params"] if (id(p) in wanted) is inside]
                decay = {"weight_decay": self.strength, "decoupled_weight_decay": True}
                if members:
                    groups.append({**group, "params": members, **(decay if inside else {})})
        optimizer.param_groups[:] = groups
