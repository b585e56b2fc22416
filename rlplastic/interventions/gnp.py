"""The penalty on the norm of the gradient, of which SAM is a special case."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le

from rlplastic.interventions import Intervention, Learner, Losses
from rlplastic.registry import intervention

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter

    from rlplastic.interventions.ascent import Gradients


@intervention("gnp")
@dataclass(frozen=True, kw_only=True)
class GNP(Intervention):
    """Gradient norm penalty: minimise L + λ‖∇L‖ of the critic, λ = α r.

    The penalty's gradient is a finite difference along the gradient (arXiv 2202.03599)::

        (1 - α) ∇L(w) + α ∇L(w + r g / ‖g‖₂)         α = 1 is SAM with ρ = r, α = 0 is none

    The other terms of an actor-critic are taken at w, as in ``sam``.

    Attributes:
        r: Length of the step: 0.1 on CIFAR, 0.05 on ImageNet (zhaoyang-0204/gnp).
        alpha: α = λ / r (0.8: zhaoyang-0204/gnp).
        scope: Parameters over which the norm of the gradient is taken.
        warmup: Updates over which α rises linearly from 0 (arXiv 2406.09723); 0: none.
        cycle: Updates of a cosine cycle in which α rises from 0 and starts again
            (arXiv 2006.08403); 0: none.
    """

    cost: ClassVar[float] = 2.0
    stacks: ClassVar[bool] = True
    later: ClassVar[tuple[str, ...]] = ("cycle",)

    r: Annotated[float, Gt(0)] = 0.05
    alpha: Annotated[float, Ge(0), Le(1)] = 0.8
    scope: Literal["critic", "head", "backbone"] = "critic"
    warmup: Annotated[int, Ge(0)] = 0
    cycle: Annotated[int, Ge(0)] = 0

    def check(self, agent: Learner) -> None:
        """The scope must have parameters."""
        agent.scope(self.scope)

    def gradient(self, agent: Learner, losses: Losses) -> dict[str, Tensor]:
        """The interpolated gradient of the critic, plus the other terms' at w."""
        from rlplastic.interventions import ascent

        alpha = ascent.radius(self.alpha, agent.num_updates, self.warmup, self.cycle)

        def combine(first: Gradients, second: Gradients, _: list[Parameter]) -> Gradients:
            return [  # in place, since nobody else has them
                None if a is None or b is None else a.mul_(1 - alpha).add_(b.mul_(alpha))
                for a, b in zip(first, second, strict=True)
            ]

        step = ascent.along_gradient(self.r)
        return ascent.two_passes(agent, losses, self.scope, step, combine)
