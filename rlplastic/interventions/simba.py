"""Residual feedforward blocks in place of plain hidden layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge

from rlplastic.errors import UsageError
from rlplastic.interventions import Intervention
from rlplastic.registry import intervention

if TYPE_CHECKING:
    from torch import nn


@intervention("simba")
@dataclass(frozen=True, kw_only=True)
class SimBa(Intervention):
    """SimBa's network: residual blocks with layer norms, and a linear path from input to output.

    In place of the hidden layers after the features (arXiv 2410.09754; SonyResearch/simba)::

        x ← W x + b,     x ← x + W₂ relu(W₁ norm(x) + b₁) + b₂  for each block,     norm(x)

    in every network, as wide as the agent's first hidden layer. A block has about 2 e times the
    weights of a hidden layer, and costs as much. Weights are drawn as the agent draws its own
    (He-normal within blocks, and orthogonal, in the code). The paper also normalises observations
    by running statistics, which is ``obsnorm``: `simba+obsnorm`. Probes and resets of units see
    those within the blocks. It excludes what changes the hidden layers or needs the last of them.

    Attributes:
        blocks: Residual blocks of each network (2: the code's critic; 1: its actor).
        expansion: e, units of a block for each of its width (4: the code).
    """

    agents: ClassVar[tuple[str, ...]] = ("dqn", "ppo")
    observations: ClassVar[tuple[str, ...]] = ("vectors",)

    blocks: Annotated[int, Ge(1)] = 2
    expansion: Annotated[int, Ge(1)] = 4

    def build(self, policy_kwargs: dict[str, Any]) -> dict[str, Any]:
        """The layers that the blocks are made of, for the agent to draw."""
        from torch import nn

        asked = policy_kwargs.get("net_arch", [64, 64])  # stable-baselines3's own
        paths = asked if isinstance(asked, dict) else {"": asked}
        made = {name: self._widths(widths) for name, widths in paths.items()}
        arch = made if isinstance(asked, dict) else made[""]
        return {**policy_kwargs, "net_arch": arch, "activation_fn": nn.ReLU}

    def rebuild(self, policy: nn.Module) -> None:
        """Make blocks of them."""
        from rlplastic.agents.rebuild import add_residuals

        add_residuals(policy)

    def _widths(self, widths: list[int]) -> list[int]:
        if not widths:
            raise UsageError("--reg simba: this agent has no hidden layers after the features")
        width = widths[0]
        return [width, *[self.expansion * width, width] * self.blocks]
