"""What the optimizer remembers when the objective changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge, Lt

from rlplastic.interventions import Intervention, Learner
from rlplastic.registry import intervention


@intervention("adamrel")
@dataclass(frozen=True, kw_only=True)
class AdamRel(Intervention):
    """Adam with relative time: its count of steps starts anew with every new objective.

    The moments stay (arXiv 2412.17113). A new objective is a new rollout of PPO or a
    new target network of DQN; supervised agents have none but the shifts, which they are not told.
    """

    agents: ClassVar[tuple[str, ...]] = ("dqn", "ppo")

    def check(self, agent: Learner) -> None:
        """The optimizer must be Adam."""
        from rlplastic.interventions.surgery import require_optimizer

        require_optimizer(agent, "Adam", "adamrel", "whose count of steps it sets to 0")

    def new_objective(self, agent: Learner) -> None:
        """Set the count of steps of every parameter to 0."""
        for kept in agent.policy.optimizer.state.values():
            kept["step"].zero_()


@intervention("moment-reset")
@dataclass(frozen=True, kw_only=True)
class MomentReset(Intervention):
    """Empty the optimizer with every new objective: moments and count of steps.

    arXiv 2306.17833: at each new target network of DQN; for PPO at each new rollout.
    """

    agents: ClassVar[tuple[str, ...]] = ("dqn", "ppo")

    def new_objective(self, agent: Learner) -> None:
        """Forget everything."""
        agent.policy.optimizer.state.clear()


@intervention("betas")
@dataclass(frozen=True, kw_only=True)
class MatchedBetas(Intervention):
    """Adam with both decay rates alike, so that no stale second moment makes the first steps huge.

    Dohare et al. (Nature 2024; shibhansh/loss-of-plasticity) use β₁ = β₂ = 0.99 for PPO on
    non-stationary Ant; the mechanism is in arXiv 2303.01486.

    Attributes:
        beta1: Decay of the first moment (0.99: Dohare et al.; 0.9 for both in arXiv 2412.07224).
        beta2: Decay of the second moment (as the first).
    """

    beta1: Annotated[float, Ge(0), Lt(1)] = 0.99
    beta2: Annotated[float, Ge(0), Lt(1)] = 0.99

    def check(self, agent: Learner) -> None:
        """The optimizer must be Adam."""
        from rlplastic.interventions.surgery import require_optimizer

        require_optimizer(agent, "Adam", "betas", "whose decay rates it sets")

    def begin(self, agent: Learner) -> None:
        """Set the decay rates."""
        for group in agent.policy.optimizer.param_groups:
            group["betas"] = (self.beta1, self.beta2)
