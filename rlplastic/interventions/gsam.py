"""Surrogate-gap guided sharpness-aware minimisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge

from rlplastic.interventions import Intervention, Learner, Losses
from rlplastic.registry import intervention

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter

    from rlplastic.interventions.ascent import Gradients


@intervention("gsam")
@dataclass(frozen=True, kw_only=True)
class GSAM(Intervention):
    """SAM that also climbs against the part of the gradient that SAM does not use.

    With p = ∇L(w + ε) SAM's gradient and g = ∇L(w) (arXiv 2203.08065)::

        p - α g⊥,   g⊥ = g - (⟨g, p⟩ / ‖p‖²) p          over all parameters the critic reaches

    which lowers the gap L(w + ε) - L(w) without touching L(w + ε) to first order; α = 0 is ``sam``.
    The paper ties ρ to the learning rate, which is constant here, and so is ρ.

    Attributes:
        rho: Radius (0.05: SAM's).
        alpha: Weight of the orthogonal part: 0.4 (juntang-zhuang/GSAM), 0.05 to 0.1 for ViTs.
        scope: Parameters that are perturbed.
        warmup: Updates over which ρ rises linearly from 0; 0: none.
        cycle: Updates of a cosine cycle in which ρ rises from 0 and starts again
            (arXiv 2006.08403); 0: none.
    """

    cost: ClassVar[float] = 2.0
    later: ClassVar[tuple[str, ...]] = ("cycle",)

    rho: Annotated[float, Ge(0)] = 0.05
    alpha: Annotated[float, Ge(0)] = 0.4
    scope: Literal["critic", "head", "backbone"] = "critic"
    warmup: Annotated[int, Ge(0)] = 0
    cycle: Annotated[int, Ge(0)] = 0

    def check(self, agent: Learner) -> None:
        """The scope must have parameters."""
        agent.scope(self.scope)

    def gradient(self, agent: Learner, losses: Losses) -> dict[str, Tensor]:
        """SAM's gradient less α g⊥, plus the other terms' at w."""
        from rlplastic.interventions import ascent

        def combine(first: Gradients, second: Gradients, _: list[Parameter]) -> Gradients:
            pairs = [
                (g, p)
                for g, p in zip(first, second, strict=True)
                if g is not None and p is not None
            ]
            g, p = [list(side) for side in zip(*pairs, strict=True)]
            share = ascent.inner(g, p) / (ascent.norm(p) ** 2 + 1e-12)
            return [
                None if a is None or b is None else b - self.alpha * (a - share * b)
                for a, b in zip(first, second, strict=True)
            ]

        rho = ascent.radius(self.rho, agent.num_updates, self.warmup, self.cycle)
        return ascent.two_passes(agent, losses, self.scope, ascent.along_gradient(rho), combine)
