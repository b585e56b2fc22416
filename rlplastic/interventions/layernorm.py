"""Layer normalisation before every hidden activation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlplastic.interventions import Intervention, Learner
from rlplastic.registry import intervention

if TYPE_CHECKING:
    from torch import nn


@intervention("layernorm")
@dataclass(frozen=True, kw_only=True)
class LayerNorm(Intervention):
    """Normalise what every hidden layer computes before its activation, with gain and bias.

    arXiv 1607.06450; the strongest single remedy in arXiv 2303.01486 and 2402.18762. Of a
    convolution, all channels and places are normalised together, with a gain and a bias for each
    channel (`torch.nn.GroupNorm` with one group).
    """

    def rebuild(self, policy: nn.Module) -> None:
        """Put a norm between each hidden layer and its activation."""
        from rlplastic.agents.rebuild import add_norms

        add_norms(policy)


@intervention("nap")
@dataclass(frozen=True, kw_only=True)
class NormaliseAndProject(Intervention):
    """Normalise and project: layer norms, and weights that keep their initial norm.

    arXiv 2407.01800: a layer norm before every activation, and after each update
    W ← W ‖W₀‖ / ‖W‖ for the weights of every layer. The paper adds a schedule of the learning
    rate, since the implicit one of growing norms is gone; here it is constant, as in all arms.
    """

    def rebuild(self, policy: nn.Module) -> None:
        """Put a norm between each hidden layer and its activation."""
        from rlplastic.agents.rebuild import add_norms

        add_norms(policy)

    def begin(self, agent: Learner) -> None:
        """Remember the initial norm of each layer's weights."""
        from rlplastic.interventions import surgery

        layers = surgery.weight_layers(agent, "all")
        self.state["norms"] = [layer.weight.detach().norm() for layer in layers]

    def after_update(self, agent: Learner) -> None:
        """Give each layer's weights their initial norm again."""
        import torch

        from rlplastic.interventions import surgery

        layers = surgery.weight_layers(agent, "all")
        with torch.no_grad():
            for layer, norm in zip(layers, self.state["norms"], strict=True):
                layer.weight.mul_(norm / layer.weight.norm().clamp_min(1e-12))
