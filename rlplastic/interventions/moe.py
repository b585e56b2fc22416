"""A mixture of experts in place of the hidden layer below the outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge

from rlplastic.interventions import Intervention
from rlplastic.registry import intervention

if TYPE_CHECKING:
    from torch import nn


@intervention("moe")
@dataclass(frozen=True, kw_only=True)
class MixtureOfExperts(Intervention):
    """Mix n experts, each as wide as the last hidden layer, in the place of that layer.

    With x what comes into the last hidden layer of each network (arXiv 2402.08609; the soft mixture
    of arXiv 2308.00951)::

        out(x) = Σ_i g_i(x) V_i act(W_i x + b_i) + c        g(x) = softmax(G x)

    On images the layer is the dense one behind the convolutions. A sample is one token here, the
    paper's PerSamp: then all slots get it whole, and only the experts' shares are learnt. Its own
    choice, PerConv, has a token for each place of the feature map, and its experts map back to a
    token's size where ours map to the outputs; the paper finds it better than PerSamp on Atari. The
    layer has n times the weights and costs n times as much. All weights are as an agent would draw
    them for one expert; G starts at zero, all experts alike (the code draws it).

    Attributes:
        experts: n (4: google/dopamine's labs/moes on CartPole; 8 on Atari).
    """

    agents: ClassVar[tuple[str, ...]] = ("dqn", "ppo")

    experts: Annotated[int, Ge(2)] = 4

    def build(self, policy_kwargs: dict[str, Any]) -> dict[str, Any]:
        """The widths of all experts together, for the agent to draw."""
        asked = policy_kwargs.get("net_arch") or [64, 64]  # stable-baselines3's own
        if policy_kwargs.get("net_arch") == [] or asked == {"pi": [], "vf": []}:
            return {**policy_kwargs, **self._features(policy_kwargs)}
        if isinstance(asked, dict):
            arch: Any = {name: self._widths(widths) for name, widths in asked.items()}
        else:
            arch = self._widths(asked)
        return {**policy_kwargs, "net_arch": arch}

    def rebuild(self, policy: nn.Module) -> None:
        """Make mixtures of the wide layers."""
        from rlplastic.agents.mixture import mix_experts

        mix_experts(policy, self.experts)

    def _widths(self, widths: list[int]) -> list[int]:
        return [*widths[:-1], *(self.experts * width for width in widths[-1:])]

    def _features(self, policy_kwargs: dict[str, Any]) -> dict[str, Any]:
        """The dense layer behind the convolutions, as many times as wide."""
        import inspect

        from stable_baselines3.common.torch_layers import NatureCNN

        kind = policy_kwargs.get("features_extractor_class", NatureCNN)
        given = dict(policy_kwargs.get("features_extractor_kwargs") or {})
        width = given.get(
            "features_dim", inspect.signature(kind).parameters["features_dim"].default
        )
        return {"features_extractor_kwargs": {**given, "features_dim": self.experts * width}}
