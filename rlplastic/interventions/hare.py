"""Hare and tortoise: a fast learner that returns to a slow one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Le

from rlplastic.interventions import Intervention, Learner
from rlplastic.registry import intervention

if TYPE_CHECKING:
    from torch import Tensor


@intervention("hare")
@dataclass(frozen=True, kw_only=True)
class HareAndTortoise(Intervention):
    """Set the weights back to their slow running mean every N updates.

    With θ the weights that learn (the hare) and ψ their mean (the tortoise; arXiv 2406.02596)::

        ψ ← μ ψ + (1 - μ) θ        after each update        θ ← ψ        after each N-th

    The agent acts and learns with θ. Where θ is set back the optimizer's moments are forgotten, and
    the target network gets the same weights: in the paper the tortoise is the target.

    Attributes:
        every: N, in updates of the agent's life; ours: twice the mean's horizon, 1 / (1 - μ).
        momentum: μ (0.999: the paper's script for CIFAR).
        scope: Parameters that are set back.
    """

    every: Annotated[int, Ge(1)] = 2_000
    momentum: Annotated[float, Ge(0), Le(1)] = 0.999
    scope: Literal["critic", "head", "backbone", "actor", "all"] = "all"

    def begin(self, agent: Learner) -> None:
        """The tortoise starts where the hare does."""
        self.state["tortoise"] = [p.detach().clone() for p in agent.scope(self.scope)]

    def after_update(self, agent: Learner) -> None:
        """Move the tortoise; set the hare back after each N-th update."""
        import torch

        from rlplastic.interventions import surgery

        weights = agent.scope(self.scope)
        with torch.no_grad():
            places: list[Tensor] = [*weights]
            torch._foreach_lerp_(self.state["tortoise"], places, 1 - self.momentum)
        if agent.num_updates % self.every == 0:
            for parameter, slow in zip(weights, self.state["tortoise"], strict=True):
                surgery.overwrite(agent, parameter, slow)
            self.state["resets"] = self.state.get("resets", 0) + 1
