"""Adaptive sharpness-aware minimisation: SAM that does not depend on the scale of the weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge

from rlplastic.interventions import Intervention, Learner, Losses
from rlplastic.registry import intervention

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter

    from rlplastic.interventions.ascent import Offset


@intervention("asam")
@dataclass(frozen=True, kw_only=True)
class ASAM(Intervention):
    """SAM with a radius measured relative to each weight, so that rescaling layers changes nothing.

    With T = |w| + η, elementwise over every parameter of the scope (arXiv 2102.11600)::

        ε = ρ T² g / (‖T g‖₂ + 1e-12)

    The rest is as in ``sam``. Biases are scaled like weights, as in davda54/sam; with η = 0 the
    sharpness of a ReLU network is then the same for all rescalings that leave its function alone.

    Attributes:
        rho: Radius: 0.5 on CIFAR-10, 1.0 on CIFAR-100 (SamsungLabs/ASAM); ten times SAM's.
        eta: η, so that weights at zero can move (0.01: SamsungLabs/ASAM).
        scope: Parameters that are perturbed.
        warmup: Updates over which ρ rises linearly from 0; 0: none.
        cycle: Updates of a cosine cycle in which ρ rises from 0 and starts again; 0: none.
    """

    cost: ClassVar[float] = 2.0

    rho: Annotated[float, Ge(0)] = 0.5
    eta: Annotated[float, Ge(0)] = 0.01
    scope: Literal["critic", "head", "backbone"] = "critic"
    warmup: Annotated[int, Ge(0)] = 0
    cycle: Annotated[int, Ge(0)] = 0

    def check(self, agent: Learner) -> None:
        """The scope must have parameters."""
        agent.scope(self.scope)

    def gradient(self, agent: Learner, losses: Losses) -> dict[str, Tensor]:
        """The critic's gradient at w + ε, plus the other terms' at w."""
        from rlplastic.interventions import ascent

        rho = ascent.radius(self.rho, agent.num_updates, self.warmup, self.cycle)

        def step(weights: list[Parameter], gradients: list[Tensor]) -> Offset:
            scales = [weight.abs() + self.eta for weight in weights]
            scaled = [t * g for t, g in zip(scales, gradients, strict=True)]
            direction = [t * s for t, s in zip(scales, scaled, strict=True)]
            return direction, ascent.per_norm(rho, scaled)

        return ascent.two_passes(agent, losses, self.scope, step)
