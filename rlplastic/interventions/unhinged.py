"""A classification loss that is linear in the logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from rlplastic.errors import UsageError
from rlplastic.interventions import Intervention, Learner
from rlplastic.registry import intervention

if TYPE_CHECKING:
    from torch import nn


@intervention("unhinged")
@dataclass(frozen=True, kw_only=True)
class UnhingedLoss(Intervention):
    """Train a classifier with the unhinged loss, linear in logits, on features of unit norm.

    With φ what the outputs read, w_k the weights of class k of C, y the right one
    (arXiv 2312.07841)::

        ℓ = (1/C) Σ_k z_k - z_y        z_k = w_k · φ / ‖φ‖₂,  ‖w_k‖₂ = 1, no biases

    Without bounds the loss has no minimum and weights grow exponentially, so that the paper holds
    both factors on spheres (its spherically constrained case; it has others, among them a fixed
    simplex frame). Weights are put back onto theirs, and biases to 0, after each update, newly
    drawn ones by the next. No value of a step size is taken from the paper: the agent's own is
    used. Classifiers alone: of a critic it would say which bin, and not how likely each is.
    """

    agents: ClassVar[tuple[str, ...]] = ("mlp", "cnn")

    def critic(self) -> dict[str, Any]:
        """The options."""
        return {"kind": "unhinged"}

    def check(self, agent: Learner) -> None:
        """Answers must be classes."""
        if not hasattr(agent.policy.action_space, "n"):
            raise UsageError("--reg unhinged: needs classes; this stream asks for numbers")

    def rebuild(self, policy: nn.Module) -> None:
        """Divide the features by their norm, and put the output's weights onto the sphere."""
        from rlplastic.agents.rebuild import normalise_features

        normalise_features(policy)
        _onto_sphere(policy)

    def after_update(self, agent: Learner) -> None:
        """Put the output's weights back onto the sphere."""
        _onto_sphere(agent.policy)


def _onto_sphere(policy: Any) -> None:
    import torch

    output = policy.net[-1]
    with torch.no_grad():
        output.weight.div_(output.weight.norm(dim=1, keepdim=True).clamp_min(1e-12))
        output.bias.zero_()
