"""Dropout after every hidden activation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Lt

from rlplastic.interventions import Intervention, Learner
from rlplastic.registry import intervention

if TYPE_CHECKING:
    from torch import nn


@intervention("dropout")
@dataclass(frozen=True, kw_only=True)
class Dropout(Intervention):
    """Drop a share of the units of every hidden layer at each update, and none while acting.

    Of a feature map whole channels are dropped; what stays is divided by 1 - rate. All passes of
    an update have the same masks, whatever they compute, and the bootstrap target has none. Part of
    the regime that arXiv 2006.06958 finds to be stable, and so perhaps less plastic.

    Attributes:
        rate: Share of units that are dropped (0.25: arXiv 2006.06958); 0 is none.
    """

    rate: Annotated[float, Ge(0), Lt(1)] = 0.25

    def rebuild(self, policy: nn.Module) -> None:
        """Put a dropout behind every hidden activation."""
        from rlplastic.agents.rebuild import add_dropout

        add_dropout(policy, self.rate, self.state)

    def begin(self, agent: Learner) -> None:
        """Draw the masks of the first update."""
        self._draw()

    def after_update(self, agent: Learner) -> None:
        """Draw the masks of the next update: PPO looks at its losses before the update begins."""
        self._draw()

    def _draw(self) -> None:
        import torch

        self.state["seed"] = int(torch.randint(2**62, (), generator=self.generator))
