"""Sharpness-aware minimisation of the critic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge

from rlplastic.interventions import Intervention, Learner, Losses
from rlplastic.registry import intervention

if TYPE_CHECKING:
    from torch import Tensor


@intervention("sam")
@dataclass(frozen=True, kw_only=True)
class SAM(Intervention):
    r"""Sharpness-aware minimisation: the critic's gradient at the worst point within ρ.

    With g = ∇L(w) the gradient of the critic's term over the scope (arXiv 2010.01412, Eq. 2)::

        ε = ρ g / (‖g‖₂ + 1e-12)          one norm over all tensors of the scope
        the update uses ∇L(w + ε); w is put back exactly before the optimizer steps

    Only the critic's term is taken at w + ε. In an actor-critic the gradient of the policy and
    entropy terms is taken at w and added. The minibatch, the bootstrap target and any dropout
    mask are the same in both passes; the gradient is clipped once, after the second. Ours, and
    not `pytorch-optimizer`'s: a SAM that wraps the optimizer cannot leave the policy's term out.

    Attributes:
        rho: Radius. 0.05 is SAM's own default (arXiv 2010.01412, Sec. 3.1); PLASTIC
            (arXiv 2306.10711) used 0.1 on Atari and 0.01 on DeepMind Control.
        scope: Parameters that are perturbed: ``critic`` is every parameter that the value loss
            reaches; PLASTIC perturbs the ``backbone``.
        every: SAM at each `every`-th update, a plain update at the others (PLASTIC's
            sam_update_period); 1 is SAM proper.
        warmup: Updates over which ρ rises linearly from 0 (arXiv 2406.09723 shows that gradient
            regularisation from the start can hurt adaptive optimizers); 0: none.
        cycle: Updates of a cosine cycle in which ρ rises from 0 and starts again
            (arXiv 2006.08403); 0: none.
        normalised: False: ε = ρ g, whose edge of stability on a quadratic of curvature λ under
            step size η is η (λ + ρ λ²) = 2.
    """

    cost: ClassVar[float] = 2.0
    stacks: ClassVar[bool] = True

    rho: Annotated[float, Ge(0)] = 0.05
    scope: Literal["critic", "head", "backbone"] = "critic"
    every: Annotated[int, Ge(1)] = 1
    warmup: Annotated[int, Ge(0)] = 0
    cycle: Annotated[int, Ge(0)] = 0
    normalised: bool = True

    def radius(self, num_updates: int) -> float:
        """ρ for the update after `num_updates` others."""
        from rlplastic.interventions import ascent

        return ascent.radius(self.rho, num_updates, self.warmup, self.cycle)

    def check(self, agent: Learner) -> None:
        """The scope must have parameters."""
        agent.scope(self.scope)

    def gradient(self, agent: Learner, losses: Losses) -> dict[str, Tensor]:
        """The critic's gradient at w + ε, plus the other terms' at w."""
        from rlplastic.interventions import ascent

        if agent.num_updates % self.every:
            return ascent.plain(losses)
        rho = self.radius(agent.num_updates)
        step = ascent.along_gradient(rho, normalised=self.normalised)
        terms = ascent.two_passes(agent, losses, self.scope, step)
        self.state["sam_updates"] = self.state.get("sam_updates", 0) + 1
        return terms
