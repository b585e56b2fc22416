"""PPO's networks: stable-baselines3's, without what stands around the arithmetic of a pass.

The operations on floats, their order and the random draws are stable-baselines3's, so the bytes
are; what is left out are the calls of modules around functions, distributions as objects, and the
checks of their arguments. What is not known here (a module of an intervention, one with hooks, an
action distribution other than a categorical one) is called as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from gymnasium import spaces
from stable_baselines3.common.distributions import CategoricalDistribution
from stable_baselines3.common.policies import ActorCriticCnnPolicy, ActorCriticPolicy
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import FlattenExtractor, MlpExtractor, NatureCNN
from torch import Tensor, nn

from rlplastic.agents.direct import unwatched
from rlplastic.agents.features import SmallCNN
from rlplastic.agents.surrogate import judged, log_probabilities
from rlplastic.agents.towers import Towers, towers_in

# by the forward method, so that a class of one's own that only sets a constant is known too
_PLAIN: dict[Any, Callable[[Any, Tensor], Tensor]] = {
    nn.Linear.forward: lambda m, x: F.linear(x, m.weight, m.bias),
    nn.Conv2d.forward: lambda m, x: m._conv_forward(x, m.weight, m.bias),
    nn.Flatten.forward: lambda m, x: x.flatten(m.start_dim, m.end_dim),
    nn.Tanh.forward: lambda m, x: torch.tanh(x),
    nn.LeakyReLU.forward: lambda m, x: F.leaky_relu(x, m.negative_slope, m.inplace),
    nn.ReLU.forward: lambda m, x: F.relu(x, m.inplace),
    NatureCNN.forward: lambda m, x: run(m.linear, run(m.cnn, x)),
    SmallCNN.forward: lambda m, x: run(m.linear, run(m.cnn, x)),
    FlattenExtractor.forward: lambda m, x: run(m.flatten, x),
}


def run(module: Any, x: Tensor) -> Tensor:
    """What ``module(x)`` gives."""
    if not unwatched(module):
        called: Tensor = module(x)
        return called
    forward = type(module).forward
    if forward is nn.Sequential.forward:
        for child in module._modules.values():
            x = run(child, x)
        return x
    plain = _PLAIN.get(forward)
    found: Tensor = module(x) if plain is None else plain(module, x)
    return found


def sampled(log_probs: Tensor) -> Tensor:
    """An action of each row: int64 ``[batch]``.

    Raises:
        ValueError: a row is not finite, as `torch.distributions` says it.
    """
    try:
        return torch.multinomial(torch.softmax(log_probs, dim=-1), 1, True).squeeze(-1)
    except RuntimeError as error:
        raise ValueError(f"logits that are not finite: {log_probs}") from error


class LeanPolicy(ActorCriticPolicy):
    """stable-baselines3's ``MlpPolicy`` of PPO.

    Attributes:
        known: What `towers` found, while `held`; None: look each time.
    """

    known: Towers | None = None

    @property
    def lean(self) -> bool:
        """Whether the passes can be taken without stable-baselines3's own methods."""
        return (
            type(self.action_dist) is CategoricalDistribution
            and type(self.mlp_extractor) is MlpExtractor
            and isinstance(self.observation_space, spaces.Box)
        )

    def forward(self, obs: Any, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Actions ``[batch]``, values ``[batch, 1]`` and log-probabilities ``[batch]``."""
        if deterministic or not self.lean:
            return super().forward(obs, deterministic)
        logits, values = self.said(self.prepared(obs))
        log_probs = log_probabilities(logits)
        actions = sampled(log_probs)
        return actions, values, log_probs.gather(-1, actions.unsqueeze(-1)).squeeze(-1)

    @cached_property
    def _scaled(self) -> bool:
        return bool(self.normalize_images) and is_image_space(self.observation_space)

    def prepared(self, obs: Tensor) -> Tensor:
        """Observations as the extractors take them: floats, those of images in [0, 1]."""
        floats = obs.float()
        if not self._scaled:
            return floats
        return floats / 255.0 if floats is obs else floats.div_(255.0)

    def extractors(self) -> tuple[Any, Any]:
        """The actor's and the critic's; the same one if they share it."""
        if self.share_features_extractor:
            return self.features_extractor, self.features_extractor
        return self.pi_features_extractor, self.vf_features_extractor

    def towers(self) -> Towers | None:
        """The modules in the order of the pass, to be run by hand; None if one is not known."""
        pi, vf = self.extractors()
        dimensions = len(self.observation_space.shape or ())
        known = {1: (FlattenExtractor,), 3: (NatureCNN, SmallCNN)}.get(dimensions, ())
        if not all(type(extractor) in known and unwatched(extractor) for extractor in (pi, vf)):
            return None
        below = [[each.cnn, each.linear] if dimensions == 3 else [] for each in (pi, vf)]
        shared: list[Any] = below[0] if pi is vf else []
        if shared:
            below = [[], []]
        net = self.mlp_extractor
        return towers_in(
            shared,
            [*below[0], net.policy_net, self.action_net],
            [*below[1], net.value_net, self.value_net],
        )

    @contextmanager
    def held(self) -> Iterator[None]:
        """Meanwhile no module is changed or watched: do not look each time."""
        self.known = self.towers() if self.lean else None
        try:
            yield
        finally:
            self.known = None

    def said(self, prepared: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``[batch, actions]`` and values ``[batch, 1]``."""
        towers = None if torch.is_grad_enabled() else self.known or self.towers()
        if towers is not None:
            return towers.said(prepared)
        net = self.mlp_extractor
        pi, vf = self.extractors()
        pi_features = vf_features = run(pi, prepared)
        if vf is not pi:
            vf_features = run(vf, prepared)
        logits = run(self.action_net, run(net.policy_net, pi_features))
        return logits, run(self.value_net, run(net.value_net, vf_features))

    def evaluated(self, prepared: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `evaluate_actions`, of prepared observations and integer actions."""
        logits, values = self.said(prepared)
        policy = judged(logits, actions)
        return values, policy.log_prob, policy.entropy

    def valued(self, prepared: Tensor) -> Tensor:
        """As `predict_values`, of prepared observations."""
        towers = None if torch.is_grad_enabled() else self.towers()
        if towers is not None:
            return towers.valued(prepared)
        features = run(self.extractors()[1], prepared)
        return run(self.value_net, run(self.mlp_extractor.value_net, features))


class LeanCnnPolicy(LeanPolicy, ActorCriticCnnPolicy):
    """stable-baselines3's ``CnnPolicy`` of PPO."""
