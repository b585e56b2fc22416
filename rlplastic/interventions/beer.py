"""An upper bound on how alike the features of consecutive states may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge

from rlplastic.interventions import Intervention, Learner
from rlplastic.registry import intervention

if TYPE_CHECKING:
    from torch import Tensor


@intervention("beer")
@dataclass(frozen=True, kw_only=True)
class BEER(Intervention):
    """Penalise features of consecutive states that are more alike than the Bellman equation allows.

    With φ and φ' the critic's last hidden layer after its activation at s and s', w the weights of
    the output and γ the discount of s' (arXiv 2404.12754; sweetice/BEER-ICLR2024)::

        β mean max(0, cos(φ, φ') - c)
        c = (‖φ‖² + γ² ‖φ'‖² - r² / ‖w‖²) / (2 γ ‖φ‖ ‖φ'‖)

    The bound c has no gradient, nor has φ', which is the target network's as in the code. ‖w‖ is
    the norm of all weights of the output layer. Where the episode ended there is no s', and no
    penalty. With n-step returns r is the sum of rewards and γ the discount of their end.

    Attributes:
        strength: β (1e-3: the paper's code).
    """

    agents: ClassVar[tuple[str, ...]] = ("dqn",)

    strength: Annotated[float, Ge(0)] = 1e-3

    def check(self, agent: Learner) -> None:
        """The critic must have hidden units."""
        from rlplastic.interventions.redo import refuse_no_units

        refuse_no_units(self, agent, "critic")

    def penalty(self, agent: Learner) -> Tensor | None:
        """β times the mean excess over the bound."""
        import torch

        from rlplastic.interventions import surgery

        batch = agent.last_batch
        gamma = batch.discounts if batch.discounts is not None else agent.gamma
        now = surgery.features(agent, batch.observations)
        with torch.no_grad():
            then = surgery.target_features(agent, batch.next_observations)
            here, there = now.norm(dim=1, keepdim=True), then.norm(dim=1, keepdim=True)
            top = sum(p.square().sum() for p in agent.scope("head") if p.ndim == 2)
            bound = here**2 + gamma**2 * there**2 - batch.rewards**2 / top
            bound = bound / (2 * gamma * here * there + 1e-12)
        alike = torch.cosine_similarity(now, then, dim=1, eps=1e-6).unsqueeze(1)
        excess = torch.relu(alike - bound) * (1 - batch.dones)
        penalty: Tensor = self.strength * excess.mean()
        return penalty
