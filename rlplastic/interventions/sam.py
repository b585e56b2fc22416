"""Sharpness-aware minimisation of the critic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge

from rlplastic.interventions import Intervention, Learner, Losses, total
from rlplastic.registry import intervention

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter


@intervention("sam")
@dataclass(frozen=True, kw_only=True)
class SAM(Intervention):
    r"""Sharpness-aware minimisation: the critic's gradient at the worst point within ρ.

    With g = ∇L(w) the gradient of the critic's term over the scope (arXiv 2010.01412, Eq. 2)::

        ε = ρ g / (‖g‖₂ + 1e-12)          one norm over all tensors of the scope
        the update uses ∇L(w + ε); w is put back exactly before the optimizer steps

    Only the critic's term is taken at w + ε. In an actor-critic the gradient of the policy and
    entropy terms is taken at w and added. The minibatch, the bootstrap target and any dropout
    mask are the same in both passes; the gradient is clipped once, after the second.

    Attributes:
        rho: Radius. 0.05 is SAM's own default (arXiv 2010.01412, Sec. 3.1); PLASTIC
            (arXiv 2306.10711) used 0.1 on Atari and 0.01 on DeepMind Control.
        scope: Parameters that are perturbed: ``critic`` is every parameter that the value loss
            reaches; PLASTIC perturbs the ``backbone``.
        every: SAM at each `every`-th update, a plain update at the others (PLASTIC's
            sam_update_period); 1 is SAM proper.
        warmup: Updates over which ρ rises linearly from 0 (arXiv 2406.09723 shows that gradient
            regularisation from the start can hurt adaptive optimizers); 0: none.
    """

    cost: ClassVar[float] = 2.0

    rho: Annotated[float, Ge(0)] = 0.05
    scope: Literal["critic", "head", "backbone"] = "critic"
    every: Annotated[int, Ge(1)] = 1
    warmup: Annotated[int, Ge(0)] = 0

    def radius(self, num_updates: int) -> float:
        """ρ for the update after `num_updates` others."""
        if self.warmup == 0:
            return self.rho
        return self.rho * min(1.0, (num_updates + 1) / self.warmup)

    def check(self, agent: Learner) -> None:
        """The scope must have parameters."""
        agent.scope(self.scope)

    def gradient(self, agent: Learner, losses: Losses) -> dict[str, Tensor]:
        """The critic's gradient at w + ε, plus the other terms' at w."""
        import torch

        terms = losses()
        critic = terms["critic"]
        others = {name: term for name, term in terms.items() if name != "critic"}
        if agent.num_updates % self.every:
            total(terms).backward()  # type: ignore[no-untyped-call]
            return terms

        weights = agent.scope(self.scope)
        ascent = torch.autograd.grad(critic, weights, retain_graph=bool(others), allow_unused=True)
        if others:
            total(others).backward()  # type: ignore[no-untyped-call]
        before = self._climb(weights, ascent, self.radius(agent.num_updates))
        losses("critic")["critic"].backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            torch._foreach_copy_(list(weights), before)
        self.state["sam_updates"] = self.state.get("sam_updates", 0) + 1
        return terms

    @staticmethod
    def _climb(
        weights: list[Parameter], ascent: tuple[Tensor | None, ...], rho: float
    ) -> list[Tensor]:
        """Move the weights by ε in place and return copies of what they were.

        Copies, since adding ε and taking it away again changes the last bit.
        """
        import torch

        with torch.no_grad():
            before = [weight.detach().clone() for weight in weights]
            moved = [(w, g) for w, g in zip(weights, ascent, strict=True) if g is not None]
            tensors: list[Tensor] = [w for w, _ in moved]
            gradients = [g for _, g in moved]
            norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
            steps = list(torch._foreach_mul(gradients, rho / (norm + 1e-12)))
            torch._foreach_add_(tensors, steps)
        return before
