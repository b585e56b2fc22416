"""Keep predicting what the features could predict at birth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge, Gt

from rlplastic.interventions import Intervention, Learner
from rlplastic.registry import intervention

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

BIRTH = 220_409_560  # any number: newborns that only lend their weights have the same outputs


@intervention("infer")
@dataclass(frozen=True, kw_only=True)
class InitialFeatures(Intervention):
    """Initial feature regularisation: k outputs keep predicting β times what they first said.

    With φ the critic's last hidden layer after its activation, g_i linear outputs that are added to
    it, and φ₀, g⁰_i both at birth (arXiv 2204.09560, Eq. 2)::

        c mean (g_i(φ(s)) - β g⁰_i(φ₀(s)))²        over the minibatch and the k outputs

    The outputs are trained with the critic, and belong to its scope; they start uniform within
    1/√units. One forward pass of the initial network and one of the present more at each update.

    Attributes:
        strength: c (0.05: timoklein/infer).
        outputs: k (10: timoklein/infer).
        scale: β (175: timoklein/infer).
    """

    agents: ClassVar[tuple[str, ...]] = ("dqn", "ppo")

    strength: Annotated[float, Gt(0)] = 0.05
    outputs: Annotated[int, Ge(1)] = 10
    scale: Annotated[float, Gt(0)] = 175.0

    def rebuild(self, policy: nn.Module) -> None:
        """Add the outputs."""
        import torch

        from rlplastic.agents.rebuild import add_auxiliary

        generator = torch.Generator().manual_seed(BIRTH)
        add_auxiliary(policy, self.outputs, lambda layer: self._draw(layer, generator))

    def check(self, agent: Learner) -> None:
        """The critic must have hidden units."""
        from rlplastic.interventions.redo import refuse_no_units

        refuse_no_units(self, agent, "critic")

    def begin(self, agent: Learner) -> None:
        """Draw the outputs, and remember the critic as it is born."""
        for network in self._networks(agent):
            self._draw(network.auxiliary, self.generator)
        ours, *twins = self._networks(agent)
        for twin in twins:
            twin.auxiliary.load_state_dict(ours.auxiliary.state_dict())
        self.state["initial"] = [p.detach().clone() for p in agent.scope("critic")]

    def penalty(self, agent: Learner) -> Tensor | None:
        """C times the mean squared distance to the scaled initial outputs."""
        import torch

        from rlplastic.interventions import surgery

        top = self._networks(agent)[0].auxiliary
        observations = agent.last_batch.observations
        with torch.no_grad(), surgery.swapped(agent.scope("critic"), self.state["initial"]):
            then = top(surgery.features(agent, observations))
        now = top(surgery.features(agent, observations))
        penalty: Tensor = self.strength * (now - self.scale * then).square().mean()
        return penalty

    @staticmethod
    def _networks(agent: Learner) -> list[Any]:
        """Those with the outputs, the target network last."""
        policy = agent.policy
        return [policy.q_net, policy.q_net_target] if hasattr(policy, "q_net") else [policy]

    @staticmethod
    def _draw(layer: Any, generator: torch.Generator) -> None:
        import torch

        bound = layer.in_features**-0.5
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.copy_((2 * torch.rand(parameter.shape, generator=generator) - 1) * bound)
