"""PPO's networks: stable-baselines3's, without what stands around the arithmetic of a pass.

The operations on floats, their order and the random draws are stable-baselines3's, so the bytes
are; what is left out are the calls of modules around functions, distributions as objects, and the
checks of their arguments. What is not known here (a module of an intervention, one with hooks, an
action distribution other than a categorical one) is called as it is.
"""

from __future__ import annotations

from collections.abc import Callable
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

from rlplastic.agents.features import SmallCNN

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
    hooked = module._forward_hooks or module._forward_pre_hooks
    if hooked or module._backward_hooks or module._backward_pre_hooks:
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


def log_probabilities(logits: Tensor) -> Tensor:
    """Of all actions ``[batch, actions]``, as `torch.distributions.Categorical` computes them."""
    return logits - logits.logsumexp(dim=-1, keepdim=True)


def sampled(log_probs: Tensor) -> Tensor:
    """An action of each row: int64 ``[batch]``.

    Raises:
        ValueError: a row is not finite, as `torch.distributions` says it.
    """
    try:
        return torch.multinomial(torch.softmax(log_probs, dim=-1), 1, True).squeeze(-1)
    except RuntimeError as error:
        raise ValueError(f"logits that are not finite: {log_probs}") from error


def entropy_of(log_probs: Tensor) -> Tensor:
    """Of each row: ``[batch]``."""
    lowest = torch.finfo(log_probs.dtype).min  # so that 0 log 0 is 0
    return -(torch.clamp(log_probs, min=lowest) * torch.softmax(log_probs, dim=-1)).sum(-1)


class LeanPolicy(ActorCriticPolicy):
    """stable-baselines3's ``MlpPolicy`` of PPO."""

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
        latent_pi, latent_vf = self.latents(self.prepared(obs))
        values = run(self.value_net, latent_vf)
        log_probs = log_probabilities(run(self.action_net, latent_pi))
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

    def latents(self, prepared: Tensor) -> tuple[Tensor, Tensor]:
        """What the actor's and the critic's last layer read."""
        net = self.mlp_extractor
        if self.share_features_extractor:
            pi_features = vf_features = run(self.features_extractor, prepared)
        else:
            pi_features = run(self.pi_features_extractor, prepared)
            vf_features = run(self.vf_features_extractor, prepared)
        return run(net.policy_net, pi_features), run(net.value_net, vf_features)

    def evaluated(self, prepared: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `evaluate_actions`, of prepared observations and integer actions."""
        latent_pi, latent_vf = self.latents(prepared)
        log_probs = log_probabilities(run(self.action_net, latent_pi))
        log_prob = log_probs.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
        values = run(self.value_net, latent_vf)
        return values, log_prob, entropy_of(log_probs)

    def valued(self, prepared: Tensor) -> Tensor:
        """As `predict_values`, of prepared observations."""
        shared = self.share_features_extractor
        extractor = self.features_extractor if shared else self.vf_features_extractor
        return run(self.value_net, run(self.mlp_extractor.value_net, run(extractor, prepared)))


class LeanCnnPolicy(LeanPolicy, ActorCriticCnnPolicy):
    """stable-baselines3's ``CnnPolicy`` of PPO."""
