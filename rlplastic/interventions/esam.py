"""Efficient SAM: some weights climb, and the samples that this hurts most are learnt from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le

from rlplastic.interventions import Intervention, Learner, Losses
from rlplastic.registry import intervention

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter

    from rlplastic.interventions.ascent import Offset


@intervention("esam")
@dataclass(frozen=True, kw_only=True)
class EfficientSAM(Intervention):
    """Efficient SAM: a share of the weights climb, and the samples that this hurts most are learnt.

    With g = ∇L(w) and ℓ_i the critic's loss of sample i of n (arXiv 2110.03141)::

        ε = (ρ / β) m ⊙ g / (‖g‖₂ + 1e-12)         m Bernoulli(β), drawn for each weight
        S = the γ n samples with the largest ℓ_i(w + ε) - ℓ_i(w), all that tie with the last too
        the update uses the gradient of (1 / |S|) Σ_S ℓ_i at w + ε

    β = γ = 1 is ``sam``. m is for each weight and ‖g‖ over all of them, so that ε is SAM's on
    average, as in the paper's text; its code (dydjw9/Efficient_SAM) draws whole tensors. Penalties
    are taken at w + ε, other terms at w. Nothing is saved here: those that are not chosen are
    computed too, so that the chosen have the dropout masks of the first pass.

    Attributes:
        rho: Radius (0.05: dydjw9/Efficient_SAM on CIFAR; 0.1 with wide networks).
        beta: Share of the weights that are perturbed (0.6: dydjw9/Efficient_SAM; 0.5 wide).
        gamma: Share of the samples that are learnt from (0.5: dydjw9/Efficient_SAM).
        scope: Parameters that are perturbed.
        warmup: Updates over which ρ rises linearly from 0 (arXiv 2406.09723); 0: none.
        cycle: Updates of a cosine cycle in which ρ rises from 0 and starts again
            (arXiv 2006.08403); 0: none.
    """

    cost: ClassVar[float] = 2.0

    rho: Annotated[float, Ge(0)] = 0.05
    beta: Annotated[float, Gt(0), Le(1)] = 0.6
    gamma: Annotated[float, Gt(0), Le(1)] = 0.5
    scope: Literal["critic", "head", "backbone"] = "critic"
    warmup: Annotated[int, Ge(0)] = 0
    cycle: Annotated[int, Ge(0)] = 0

    def check(self, agent: Learner) -> None:
        """The scope must have parameters."""
        agent.scope(self.scope)

    def weights(self, agent: Learner, batch: Any) -> Tensor | None:
        """One for each sample: the loss's derivative by them is the loss of each sample."""
        import torch

        device = batch.observations.device
        shares = torch.ones(len(batch.observations), device=device, requires_grad=True)
        self.__dict__["_shares"] = shares
        return shares

    def gradient(self, agent: Learner, losses: Losses) -> dict[str, Tensor]:
        """The gradient of the chosen samples at w + ε, plus the other terms' at w."""
        import torch

        from rlplastic.interventions import ascent

        rho = ascent.radius(self.rho, agent.num_updates, self.warmup, self.cycle)
        before: list[Tensor] = []

        def step(weights: list[Parameter], gradients: list[Tensor]) -> Offset:
            direction = [self._mask(g) * g for g in gradients]
            return direction, ascent.per_norm(rho / self.beta, gradients)

        def look(term: Tensor) -> Tensor:
            shares = self.__dict__["_shares"]
            (each,) = torch.autograd.grad(
                term, shares, retain_graph=True, create_graph=bool(before)
            )  # each sample's part of the mean
            if not before:
                before.append(each)
                return term
            rises = (each - before[0]).detach()
            count = max(int(self.gamma * len(rises)), 1)
            chosen = (rises >= rises.topk(count).values[-1]).to(each)
            changed: Tensor = term + (each * (chosen * len(rises) / chosen.sum() - 1)).sum()
            return changed

        return ascent.two_passes(agent, losses, self.scope, step, look=look)

    def _mask(self, like: Tensor) -> Tensor:
        import torch

        drawn = torch.rand(like.shape, generator=self.generator)
        mask: Tensor = (drawn < self.beta).to(like)
        return mask
