"""Recycle dormant units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge

from rlplastic.errors import UsageError
from rlplastic.interventions import Intervention, Learner
from rlplastic.registry import intervention

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter


@intervention("redo")
@dataclass(frozen=True, kw_only=True)
class ReDo(Intervention):
    """Recycle dormant units: new incoming weights, outgoing weights zero.

    A unit's score is its mean absolute activation over the last minibatch (and over a feature
    map's places) divided by the mean of its layer; at most τ is dormant (arXiv 2302.12902, Eq. 1).
    A dormant unit's incoming weights, bias and normalisation are drawn anew, its outgoing weights
    are zero, and so are the optimizer's moments of both; so are they in the target network.

    Attributes:
        every: Updates between two recyclings (1,000: the paper's).
        tau: τ: 0.025, or 0.1 under high replay ratios (arXiv 2302.12902).
        scope: Whose hidden layers.
    """

    every: Annotated[int, Ge(1)] = 1_000
    tau: Annotated[float, Ge(0)] = 0.025
    scope: Literal["critic", "actor", "all"] = "all"

    def check(self, agent: Learner) -> None:
        """The scope must have hidden units."""
        refuse_no_units(self, agent, self.scope)

    def after_update(self, agent: Learner) -> None:
        """Recycle after each N-th update."""
        if agent.num_updates % self.every == 0:
            self.recycle(agent)

    def recycle(self, agent: Learner) -> None:
        """Recycle the units that are dormant on the last minibatch."""
        from rlplastic.interventions import surgery

        dormant = []
        for layer, output in surgery.outputs(agent, surgery.movable(agent, self.scope)):
            activity = output.abs().mean(dim=(0, 1))
            dormant.append((layer, activity <= self.tau * activity.mean()))
        count = sum(int(units.sum()) for _, units in dormant)
        self.state["recycled"] = self.state.get("recycled", 0) + count
        if count:
            renew(agent, dormant, surgery.newborn_values(agent, self.generator))


def renew(
    agent: Learner, chosen: list[tuple[Any, Tensor]], values: dict[Parameter, Tensor]
) -> None:
    """Give units new incoming parameters and outgoing weights of zero.

    All outgoing weights after all incoming ones: a weight between two renewed units is zero.

    Args:
        agent: Whose units they are.
        chosen: Each `rlplastic.agents.networks.Layer` with booleans ``[units]``.
        values: A newly drawn value for every parameter.
    """
    import torch

    from rlplastic.interventions import surgery

    for layer, units in chosen:
        for parameter, mask in layer.incoming(units):
            surgery.overwrite(agent, parameter, values[parameter], mask)
    for layer, units in chosen:
        for parameter, mask in layer.outgoing(units):
            surgery.overwrite(agent, parameter, torch.zeros_like(parameter), mask)


def refuse_no_units(intervention: Intervention, agent: Learner, scope: str) -> None:
    """Refuse an agent whose scope has no hidden units.

    Raises:
        UsageError: names the intervention and the scope.
    """
    from rlplastic.interventions import surgery

    if not surgery.movable(agent, scope):
        raise UsageError(
            f"--reg {intervention.name}: scope {scope!r} has no hidden units in this agent"
        )
