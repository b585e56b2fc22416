"""Resets whose strength the incoming minibatch decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge, Gt, Le

from rlplastic.interventions import Intervention, Learner, Losses
from rlplastic.registry import intervention

if TYPE_CHECKING:
    from torch import Tensor


@intervention("auto-soft-reset")
@dataclass(frozen=True, kw_only=True)
class AutomaticSoftReset(Intervention):
    """Draw each tensor back to its initial values, as far as the incoming minibatch asks for it.

    Weights are thought to drift between two minibatches as an Ornstein-Uhlenbeck process that ends
    in the distribution they were born from (arXiv 2411.04034)::

        p(θ' | θ, γ) = N(γ θ + (1 - γ) θ₀, (1 - γ²) σ₀²)        γ = 1: nothing has changed

    Each update begins with γ = 1 for each tensor and makes K steps of descent of the minibatch's
    loss L, which stands for minus the log of its predictive likelihood, at M samples each::

        θ(γ) = γ θ + (1 - γ) θ₀ + z √(γ² σ² + (1 - γ²) σ₀²),  z ~ N(0, 1),  σ = s σ₀
        γ ← clip(γ - η_γ mean_M ∂L(θ(γ)) / ∂γ, 0, 1)

    Then θ ← γ θ + (1 - γ) θ₀, and the update is SGD's from there, its gradient multiplied by the
    variance before the minibatch over that after it: γ² + (1 - γ²) / s², at most 1 / s².

    The drift and the sampled objective are the paper's, which has K M gradients more an update as
    well, and a step that grows where γ falls; by which factor was derived from the drift here and
    not compared with its text. No code and no hyper-parameters of it were found, so that η_γ, K, M
    and s are ours; the mean of the drift is the weights' own initial values; σ₀ is the deviation of
    a tensor's initial values; a γ for each tensor is what the paper has for each layer. Classifiers
    and regressions that learn by SGD: Adam would divide the larger step away again.

    Attributes:
        rate: η_γ; ours. 0 is none: γ stays 1.
        steps: K; ours.
        samples: M; ours.
        spread: s, of the weights' present deviation to the initial one; ours.
    """

    agents: ClassVar[tuple[str, ...]] = ("mlp", "cnn")
    cost: ClassVar[float] = 2.0

    rate: Annotated[float, Ge(0)] = 0.1
    steps: Annotated[int, Ge(1)] = 1
    samples: Annotated[int, Ge(1)] = 1
    spread: Annotated[float, Gt(0), Le(1)] = 0.5

    def check(self, agent: Learner) -> None:
        """The optimizer must step along the gradient."""
        from rlplastic.interventions.surgery import require_optimizer

        require_optimizer(
            agent, "SGD", "auto-soft-reset", "whose step it scales and Adam divides away again"
        )

    def begin(self, agent: Learner) -> None:
        """Remember the initial weights."""
        import torch

        self.state["initial"] = [p.detach().clone() for p in agent.scope("all")]
        self.state["gammas"] = torch.ones(len(self.state["initial"]))

    def gradient(self, agent: Any, losses: Losses) -> dict[str, Tensor]:
        """Draw the weights back, and leave the gradient there, scaled."""
        import torch

        from rlplastic.interventions import ascent

        everything = agent.scope("all")
        whole = agent.interventions.penalised(agent, agent.losses(agent.last_batch))
        gammas = self.found(whole, everything)
        with torch.no_grad():
            for parameter, start, gamma in zip(
                everything, self.state["initial"], gammas, strict=True
            ):
                if gamma < 1:
                    parameter.lerp_(start, 1 - float(gamma))
        terms, found = ascent.critic_gradient(whole, everything)
        for parameter, g, gamma in zip(everything, found, gammas.tolist(), strict=True):
            if g is not None:
                parameter.grad = g * self.scale(gamma)
        self.state["gammas"] = gammas
        return terms

    def scale(self, gamma: float) -> float:
        """What a step is multiplied by: γ² + (1 - γ²) / s²."""
        return gamma**2 + (1 - gamma**2) / self.spread**2

    def found(self, losses: Losses, everything: list[Any]) -> Tensor:
        """γ of each tensor for a minibatch."""
        import torch

        from rlplastic.interventions import ascent, surgery

        gammas = torch.ones(len(everything))
        for _ in range(self.steps if self.rate else 0):
            slopes = torch.zeros(len(everything))
            for _ in range(self.samples):
                moved, by_gamma = self.sampled(everything, gammas.tolist())
                with surgery.swapped(everything, moved):
                    _, found = ascent.critic_gradient(losses, everything, "critic")
                for place, (g, direction) in enumerate(zip(found, by_gamma, strict=True)):
                    if g is not None:
                        slopes[place] += float((g * direction).sum()) / self.samples
            gammas = (gammas - self.rate * slopes).clamp(0, 1)
        return gammas

    def sampled(
        self, everything: list[Any], gammas: list[float]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """θ(γ) with newly drawn z, and its derivative by γ."""
        import torch

        moved, by_gamma = [], []
        for parameter, start, gamma in zip(everything, self.state["initial"], gammas, strict=True):
            now = parameter.detach()
            z = torch.randn(now.shape, generator=self.generator).to(now)
            first = float(start.std(correction=0)) ** 2
            variance = gamma**2 * self.spread**2 * first + (1 - gamma**2) * first
            change = gamma * (self.spread**2 - 1) * first / max(variance, 1e-24) ** 0.5
            moved.append(gamma * now + (1 - gamma) * start + z * variance**0.5)
            by_gamma.append(now - start + z * change)
        return moved, by_gamma
