"""SAM at every k-th update, and a memory of what it changed at the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge

from rlplastic.interventions import Intervention, Learner, Losses, total
from rlplastic.registry import intervention

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter

    from rlplastic.interventions.ascent import Combine, Gradients


@intervention("looksam")
@dataclass(frozen=True, kw_only=True)
class LookSAM(Intervention):
    """SAM at every k-th update, and the slow part of what it changed at the others.

    At a SAM update, with g = ∇L(w) and p = ∇L(w + ε) over the scope (arXiv 2203.02714)::

        v = p - (⟨p, g⟩ / ‖g‖²) g                      what SAM adds across the gradient; kept
        otherwise: g + α (‖g‖ / ‖v‖) v

    Only the critic's term is changed; the others of an actor-critic are taken at w.

    Attributes:
        rho: Radius (0.05: SAM's; `pytorch-optimizer` has 0.1).
        alpha: Weight of what is reused: 0.2 with k = 5 (MarlonBecker/MSAM), 0.7 with k = 10
            (`pytorch-optimizer`).
        every: k (5: MarlonBecker/MSAM).
        scope: Parameters that are perturbed.
        warmup: Updates over which ρ rises linearly from 0 (arXiv 2406.09723); 0: none.
        cycle: Updates of a cosine cycle in which ρ rises from 0 and starts again
            (arXiv 2006.08403); 0: none.
    """

    cost: ClassVar[float] = 2.0
    later: ClassVar[tuple[str, ...]] = ("warmup", "cycle")

    rho: Annotated[float, Ge(0)] = 0.05
    alpha: Annotated[float, Ge(0)] = 0.2
    every: Annotated[int, Ge(1)] = 5
    scope: Literal["critic", "head", "backbone"] = "critic"
    warmup: Annotated[int, Ge(0)] = 0
    cycle: Annotated[int, Ge(0)] = 0

    def check(self, agent: Learner) -> None:
        """The scope must have parameters."""
        agent.scope(self.scope)

    def gradient(self, agent: Learner, losses: Losses) -> dict[str, Tensor]:
        """SAM's gradient, or the plain one with what SAM added last along it."""
        import torch

        from rlplastic.interventions import ascent

        if agent.num_updates % self.every == 0:
            rho = ascent.radius(self.rho, agent.num_updates, self.warmup, self.cycle)
            step = ascent.along_gradient(rho)
            return ascent.two_passes(agent, losses, self.scope, step, self._keep(agent))
        terms = losses()
        weights = agent.scope(self.scope)
        found = torch.autograd.grad(terms["critic"], weights, retain_graph=True, allow_unused=True)
        across = self.state["across"]
        pairs = [(g, v) for g, v in zip(found, across, strict=True) if g is not None]
        g, v = [list(side) for side in zip(*pairs, strict=True)]
        factor = self.alpha * ascent.norm(g) / (ascent.norm(v) + 1e-12)
        total(terms).backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            for weight, part in zip(weights, across, strict=True):
                if weight.grad is not None:
                    weight.grad.add_(part * factor)
        return terms

    def _keep(self, agent: Learner) -> Combine:
        import torch

        from rlplastic.interventions import ascent

        ours = [id(weight) for weight in agent.scope(self.scope)]

        def combine(first: Gradients, second: Gradients, reached: list[Parameter]) -> Gradients:
            place = {id(w): n for n, w in enumerate(reached)}

            def mine(gradients: Gradients) -> list[Tensor]:
                found = ((gradients[place[i]], reached[place[i]]) for i in ours)
                return [torch.zeros_like(w) if x is None else x for x, w in found]

            g, p = mine(first), mine(second)
            share = ascent.inner(p, g) / (ascent.norm(g) ** 2 + 1e-12)
            across = [b - share * a for a, b in zip(g, p, strict=True)]
            if ascent.norm(across) < 1e-6 * ascent.norm(p):  # rounding, which α would blow up
                across = [torch.zeros_like(part) for part in across]
            self.state["across"] = across
            return second

        return combine
