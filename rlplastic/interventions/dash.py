"""Direction-aware shrinking: forget what the gradient does not ask for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt, Le

from rlplastic.interventions import Intervention, Learner
from rlplastic.registry import intervention

if TYPE_CHECKING:
    from torch import Tensor


@intervention("dash")
@dataclass(frozen=True, kw_only=True)
class DASH(Intervention):
    """Shrink the weights of each unit that do not point where the loss falls, every N updates.

    With ḡ the running mean of the gradients of the updates (arXiv 2410.23495)::

        ḡ ← (1 - α) ḡ + α g        w ← w max(λ, cos(w, -ḡ))

    w is a row of a linear layer, a kernel of a convolution, or all biases of a layer, as in the
    paper's code. The paper shrinks whenever data arrives; an agent's data always arrive, hence N.
    The target network gets the same weights, and the optimizer forgets the moments of what shrank.

    Attributes:
        every: N, in updates of the agent's life; ours.
        alpha: α (0.3: the paper's code).
        smallest: λ, the smallest factor (0.3: the paper's code); 1 changes nothing but the moments.
        scope: Layers that are shrunk, output layers included.
    """

    every: Annotated[int, Ge(1)] = 10_000
    alpha: Annotated[float, Gt(0), Le(1)] = 0.3
    smallest: Annotated[float, Ge(0), Le(1)] = 0.3
    scope: Literal["critic", "head", "backbone", "actor", "all"] = "all"

    def begin(self, agent: Learner) -> None:
        """No gradient has been seen."""
        import torch

        from rlplastic.interventions import surgery

        layers = surgery.weight_layers(agent, self.scope)
        self.state["gradient"] = [torch.zeros_like(p) for la in layers for p in la.parameters()]

    def after_update(self, agent: Learner) -> None:
        """Take note of the gradient; shrink after each N-th update."""
        from rlplastic.interventions import surgery

        layers = surgery.weight_layers(agent, self.scope)
        weights = [parameter for layer in layers for parameter in layer.parameters()]
        for parameter, mean in zip(weights, self.state["gradient"], strict=True):
            if parameter.grad is not None:
                mean.lerp_(parameter.grad, self.alpha)
        if agent.num_updates % self.every == 0:
            for parameter, mean in zip(weights, self.state["gradient"], strict=True):
                shrunk = parameter.detach() * self.factor(parameter.detach(), -mean)
                surgery.overwrite(agent, parameter, shrunk)
            self.state["shrinkings"] = self.state.get("shrinkings", 0) + 1

    def factor(self, weight: Tensor, direction: Tensor) -> Tensor:
        """max(λ, cosine) of each row, kernel or bias vector, in a shape that multiplies it."""
        import torch

        start = {4: 2, 2: 1, 1: 0}[weight.ndim]  # dimensions within a unit begin here
        flat, towards = weight.flatten(start), direction.flatten(start)
        cosine = torch.cosine_similarity(flat, towards, dim=-1).clamp(self.smallest, 1.0)
        return cosine.reshape(*weight.shape[:start], *[1] * (weight.ndim - start))
