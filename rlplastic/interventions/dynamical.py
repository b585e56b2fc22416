"""A loss whose weights oscillate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge

from rlplastic.errors import UsageError
from rlplastic.interventions import Intervention, Learner
from rlplastic.registry import intervention

if TYPE_CHECKING:
    from torch import Tensor


@intervention("dynamical")
@dataclass(frozen=True, kw_only=True)
class DynamicalLoss(Intervention):
    """Weigh the critic's errors by action, and let the weights oscillate, one action at a time.

    With C classes and t updates (arXiv 2102.03793 and 2410.10690; that the classes of an agent that
    acts are the actions of its transitions is ours)::

        Γ_c = 1 + (A - 1) (1 - |2 τ / T - 1|)   for c = ⌊t / T⌋ mod C, τ = t mod T;   else Γ_c = 1
        the loss of an example of class c is multiplied by C Γ_c / Σ Γ

    So a weight rises from 1 to A and falls again over T updates, then the next one does. It can
    also serve as a mild and periodic non-stationarity of the loss itself.

    Attributes:
        amplitude: A (70: miguel-rg/dynamical-loss-functions); 1 is none.
        period: T, in updates (5,000: miguel-rg/dynamical-loss-functions).
    """

    agents: ClassVar[tuple[str, ...]] = ("dqn", "ppo", "mlp", "cnn")

    amplitude: Annotated[float, Ge(1)] = 70.0
    period: Annotated[int, Ge(2)] = 5_000

    def check(self, agent: Learner) -> None:
        """Actions must be of a finite number."""
        if not hasattr(agent.policy.action_space, "n"):
            raise UsageError("--reg dynamical: needs a finite number of actions")

    def gammas(self, num_updates: int, classes: int) -> list[float]:
        """The weight of each class after so many updates; they sum to their number."""
        cycle, phase = divmod(num_updates, self.period)
        weights = [1.0] * classes
        weights[cycle % classes] += (self.amplitude - 1) * (1 - abs(2 * phase / self.period - 1))
        return [classes * weight / sum(weights) for weight in weights]

    def weights(self, agent: Learner, batch: Any) -> Tensor | None:
        """The weight of each transition: ``[batch]``."""
        import torch

        gammas = self.gammas(agent.num_updates, int(agent.policy.action_space.n))
        found: Tensor = torch.tensor(gammas).to(batch.observations.device)
        return found[batch.actions.long().flatten()]
