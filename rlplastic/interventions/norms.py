"""Running normalisers of what the learner sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from annotated_types import Gt

from rlplastic.interventions import Intervention
from rlplastic.registry import intervention


@intervention("obsnorm")
@dataclass(frozen=True, kw_only=True)
class ObservationNormaliser(Intervention):
    """Give observations a running mean of 0 and variance of 1: (x - μ) / √(σ² + 1e-8).

    stable-baselines3's `VecNormalize`: μ and σ² are over all steps of the agent's life, old worlds
    included, and a newborn begins with none. It absorbs offsets and scales of the observations
    slowly, which is why no preset has it. A replay memory keeps observations as they came.

    Attributes:
        clip: Bound of the normalised observations (10: stable-baselines3).
    """

    agents: ClassVar[tuple[str, ...]] = ("dqn", "ppo")
    observations: ClassVar[tuple[str, ...]] = ("vectors",)

    clip: Annotated[float, Gt(0)] = 10.0

    def wrap(self, env: Any, gamma: float) -> Any:
        """Normalise the observations."""
        from rlplastic.interventions.normaliser import Normaliser

        found = Normaliser.around(env)
        found.normalise_observations(self.state, self.clip)
        return found


@intervention("rewnorm")
@dataclass(frozen=True, kw_only=True)
class RewardNormaliser(Intervention):
    """Divide rewards by the running deviation of their discounted sums: r / √(σ²_R + 1e-8).

    stable-baselines3's `VecNormalize`, with the agent's discount: σ²_R is over all steps of the
    agent's life, and a newborn begins with none. What is recorded are the rewards as they came.

    Attributes:
        clip: Bound of the divided rewards (10: stable-baselines3).
    """

    agents: ClassVar[tuple[str, ...]] = ("dqn", "ppo")

    clip: Annotated[float, Gt(0)] = 10.0

    def wrap(self, env: Any, gamma: float) -> Any:
        """Divide the rewards."""
        from rlplastic.interventions.normaliser import Normaliser

        found = Normaliser.around(env)
        found.normalise_rewards(self.state, self.clip, gamma)
        return found
