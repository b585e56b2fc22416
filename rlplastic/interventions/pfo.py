"""Proximal feature optimisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge

from rlplastic.interventions import Intervention, Learner
from rlplastic.registry import intervention

if TYPE_CHECKING:
    from torch import Tensor


@intervention("pfo")
@dataclass(frozen=True, kw_only=True)
class ProximalFeatures(Intervention):
    """Keep the policy's features near those of the network that made the rollout.

    c mean (z - z_old)² over the minibatch and the n units, with z the last hidden layer's
    pre-activations (before any norm) and z_old those of the network at the rollout's end
    (arXiv 2405.00662; the mean over units is its code's, whose coefficient this is). One forward
    pass of the old network and one of the present more at each update.

    Attributes:
        strength: c (1: CLAIRE-Labo/no-representation-no-trust).
        scope: Whose last hidden layer.
        average: False: c mean ‖z - z_old‖², a sum over the units, which is n times as strong.
    """

    agents: ClassVar[tuple[str, ...]] = ("ppo",)

    strength: Annotated[float, Ge(0)] = 1.0
    scope: Literal["actor", "critic"] = "actor"
    average: bool = True

    def check(self, agent: Learner) -> None:
        """The scope must have hidden layers, and outputs that read the last of them."""
        from rlplastic.agents.networks import refuse_residual
        from rlplastic.interventions.redo import refuse_no_units

        refuse_no_units(self, agent, self.scope)
        refuse_residual(agent.policy)

    def begin(self, agent: Learner) -> None:
        """Make room for a second network."""
        self.__dict__["_old"] = agent.newborn(self.generator)

    def new_objective(self, agent: Learner) -> None:
        """Keep the weights that made the rollout."""
        self.__dict__["_old"].load_state_dict(agent.policy.state_dict())

    def penalty(self, agent: Learner) -> Tensor | None:
        """C times the mean squared change of the features."""
        import torch

        last = agent.layers(self.scope)[-1].weights
        name = next(name for name, module in agent.policy.named_modules() if module is last)
        observations = agent.last_batch.observations
        now = self._features(agent.policy, name, observations)
        with torch.no_grad():
            then = self._features(self.__dict__["_old"], name, observations)
        moved: Tensor = (now - then).square().flatten(1)
        return self.strength * (moved.mean() if self.average else moved.sum(dim=1).mean())

    def _features(self, policy: Any, name: str, observations: Tensor) -> Tensor:
        seen: list[Tensor] = []
        hook = policy.get_submodule(name).register_forward_hook(
            lambda _, __, output: seen.append(output)
        )
        try:
            if self.scope == "actor":
                policy.get_distribution(observations)
            else:
                policy.predict_values(observations)
        finally:
            hook.remove()
        return seen[-1]
