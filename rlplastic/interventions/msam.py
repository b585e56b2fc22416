"""Momentum SAM: perturb along the optimizer's momentum, without a second gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge

from rlplastic.interventions import Intervention, Learner, Losses, total
from rlplastic.registry import intervention

if TYPE_CHECKING:
    from torch import Tensor


@intervention("msam")
@dataclass(frozen=True, kw_only=True)
class MomentumSAM(Intervention):
    """Momentum SAM: the critic's gradient at a point along the momentum, which costs no gradient.

    With m the optimizer's running mean of the gradient, Adam's first moment or SGD's momentum, over
    the scope (arXiv 2401.12033)::

        ε = -ρ m / (‖m‖₂ + 1e-12)          the way the weights are moving

    as in the paper's own code (MarlonBecker/MSAM, adamW_msam.py). Without a step yet, ε = 0.

    Attributes:
        rho: Radius; ours: twice SAM's. The paper's code has 3 for SGD and 1 for AdamW, on networks
            with norms ten times those of a critic's.
        scope: Parameters that are perturbed.
        warmup: Updates over which ρ rises linearly from 0 (arXiv 2406.09723); 0: none.
        cycle: Updates of a cosine cycle in which ρ rises from 0 and starts again
            (arXiv 2006.08403); 0: none.
    """

    cost: ClassVar[float] = 1.0
    later: ClassVar[tuple[str, ...]] = ("warmup", "cycle")

    rho: Annotated[float, Ge(0)] = 0.1
    scope: Literal["critic", "head", "backbone"] = "critic"
    warmup: Annotated[int, Ge(0)] = 0
    cycle: Annotated[int, Ge(0)] = 0

    def check(self, agent: Learner) -> None:
        """The scope must have parameters."""
        agent.scope(self.scope)

    def gradient(self, agent: Learner, losses: Losses) -> dict[str, Tensor]:
        """The critic's gradient at w + ε, plus the other terms' at w."""
        import torch

        from rlplastic.interventions import ascent

        terms = losses()
        if others := {name: term for name, term in terms.items() if name != "critic"}:
            total(others).backward()  # type: ignore[no-untyped-call]
        state = agent.policy.optimizer.state
        pairs = []
        for weight in agent.scope(self.scope):
            kept = state.get(weight, {})
            momentum = kept.get("exp_avg", kept.get("momentum_buffer"))
            if momentum is not None:
                pairs.append((weight, momentum))
        before = [weight.detach().clone() for weight, _ in pairs]
        rho = ascent.radius(self.rho, agent.num_updates, self.warmup, self.cycle)
        if pairs:
            with torch.no_grad():
                moments = [momentum for _, momentum in pairs]
                factor = -ascent.per_norm(rho, moments)
                torch._foreach_add_([weight for weight, _ in pairs], moments, alpha=factor)
        try:
            losses("critic")["critic"].backward()  # type: ignore[no-untyped-call]
        finally:
            with torch.no_grad():
                for (weight, _), copy in zip(pairs, before, strict=True):
                    weight.copy_(copy)
        return terms
