"""PPO's loss of a minibatch (arXiv 1707.06347, Eq. 7 and 9), and its gradient without a graph.

The terms are computed in one place, whether autograd looks on or not. For a categorical policy and
a critic that says values, `Surrogate.by_logits` and `Surrogate.by_values` are their gradients by
what comes out of the networks: autograd's kernels in its order, so its bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from torch import Tensor

from rlplastic.agents.critics import Critic

_aten: Any = torch.ops.aten
_MEAN = 1  # torch's own reduction


def log_probabilities(logits: Tensor) -> Tensor:
    """Of all actions ``[batch, actions]``, as `torch.distributions.Categorical` computes them."""
    return logits - logits.logsumexp(dim=-1, keepdim=True)


class Judged(NamedTuple):
    """What a categorical policy says of the actions taken, each ``[batch]`` but the first two.

    Attributes:
        log_probs: Of all actions ``[batch, actions]``.
        probs: The same as probabilities.
        log_prob: Of the action taken.
        entropy: Of the policy.
    """

    log_probs: Tensor
    probs: Tensor
    log_prob: Tensor
    entropy: Tensor


def judged(logits: Tensor, actions: Tensor) -> Judged:
    """From logits ``[batch, actions]`` and the actions taken, int64 ``[batch]``."""
    log_probs = log_probabilities(logits)
    log_prob = log_probs.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
    bounded = torch.clamp(log_probs, min=lowest(log_probs))  # so that 0 log 0 is 0
    probs = torch.softmax(log_probs, dim=-1)
    return Judged(log_probs, probs, log_prob, -(bounded * probs).sum(-1))


def lowest(values: Tensor) -> float:
    """The smallest finite number of a tensor's kind."""
    return torch.finfo(values.dtype).min


class Compared(NamedTuple):
    """A policy beside the one that acted, each ``[batch]``: Eq. 7's ratio, and both its products.

    Attributes:
        log_ratio: Logarithm of the ratio of the probabilities of the action taken.
        ratio: The ratio.
        within: The ratio, clipped.
        plain: Advantage times ratio.
        clipped: Advantage times clipped ratio.
    """

    log_ratio: Tensor
    ratio: Tensor
    within: Tensor
    plain: Tensor
    clipped: Tensor


@dataclass(frozen=True, kw_only=True)
class Surrogate:
    """The loss of one minibatch, whatever the networks are.

    Attributes:
        batch: Of a rollout.
        actions: Taken in it; of a categorical policy int64 ``[batch]``.
        advantages: ``[batch]``, as the policy's term takes them.
        clip_range: Of the ratio, to either side of 1.
        clip_range_vf: How far a value may lie from the rollout's; None: anywhere.
        ent_coef: Weight of the entropy term.
        vf_coef: Weight of the critic's term.
        critic: The critic's loss.
        weights: How much each transition counts in it ``[batch]``; None: all alike.
    """

    batch: RolloutBufferSamples
    actions: Tensor
    advantages: Tensor
    clip_range: float
    clip_range_vf: float | None
    ent_coef: float
    vf_coef: float
    critic: Critic
    weights: Tensor | None = None

    def compared(self, log_prob: Tensor) -> Compared:
        """The policy that gives the actions these log-probabilities ``[batch]``."""
        log_ratio = log_prob - self.batch.old_log_prob
        ratio = torch.exp(log_ratio)
        within = torch.clamp(ratio, 1 - self.clip_range, 1 + self.clip_range)
        return Compared(log_ratio, ratio, within, self.advantages * ratio, self.advantages * within)

    def near(self, values: Tensor) -> Tensor:
        """Values ``[batch]`` as the critic's term takes them: near the rollout's, if so asked."""
        if self.clip_range_vf is None:
            return values
        old, limit = self.batch.old_values, self.clip_range_vf
        return old + torch.clamp(values - old, -limit, limit)

    def value_loss(self, values: Tensor) -> Tensor:
        """The critic's loss, without its weight; values as they come ``[batch, 1]``."""
        return self.critic.loss(self.batch.returns, self.near(values.flatten()), self.weights)

    def terms(
        self, compared: Compared, entropy: Tensor, value_loss: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The terms, each with its weight, and the statistics for the log.

        Args:
            compared: The policy.
            entropy: Its entropy ``[batch]``.
            value_loss: The critic's loss.
        """
        actor = -torch.min(compared.plain, compared.clipped).mean()
        entropy_loss = -torch.mean(entropy)
        terms = {
            "actor": actor,
            "entropy": self.ent_coef * entropy_loss,
            "critic": self.vf_coef * value_loss,
        }
        statistics = {
            "log_ratio": compared.log_ratio.detach(),
            "policy_gradient_loss": actor.detach(),
            "entropy_loss": entropy_loss.detach(),
            "value_loss": value_loss.detach(),
        }
        return terms, statistics

    def by_logits(self, judged: Judged, compared: Compared) -> Tensor:
        """The gradient of the policy's and the entropy term by the logits ``[batch, actions]``.

        Call it without gradients. With p the probabilities, a the action taken, r the ratio, A the
        advantage and H the entropy::

            -(1/N) A r [not clipped] (1[a] - p)  -  (c/N) dH/dlogits

        Where plain and clipped product are equal, the minimum's gradient goes to each by half.
        """
        log_probs, probs, log_prob, _ = judged
        each = np.float32(-1) / np.float32(len(log_prob))
        whole, half = (self.advantages * float(g) for g in (each, each / np.float32(2)))
        by_ratio = torch.where(compared.plain == compared.clipped, half, whole)
        by_ratio.masked_fill_(compared.plain > compared.clipped, 0)
        by_ratio += torch.where(compared.ratio == compared.within, half, 0.0)
        by_log_prob = by_ratio.mul_(compared.ratio)
        weight = float(np.float32(self.ent_coef) / np.float32(len(log_prob)))
        bounded = torch.clamp(log_probs, min=lowest(log_probs))
        by_probs = bounded * weight
        found = _aten._softmax_backward_data.default(by_probs, probs, -1, probs.dtype)
        found += torch.where(log_probs >= lowest(log_probs), probs * weight, 0.0)
        found.scatter_add_(-1, self.actions.unsqueeze(-1), by_log_prob.unsqueeze(-1))
        by_logits: Tensor = found - log_probs.exp() * found.sum(-1, keepdim=True)
        return by_logits

    def by_values(self, values: Tensor) -> Tensor:
        """The gradient of the critic's term by the values, both ``[batch, 1]``.

        Call it without gradients, and where all transitions count alike.
        """
        flat = values.flatten()
        near, returns = self.near(flat), self.batch.returns
        one = torch.full((), self.vf_coef, dtype=flat.dtype, device=flat.device)
        if self.critic.kind == "mse":
            found: Tensor = _aten.mse_loss_backward.default(one, near, returns, _MEAN)
        else:
            found = _aten.smooth_l1_loss_backward.default(one, near, returns, _MEAN, 1.0)
        if self.clip_range_vf is not None:
            moved, limit = flat - self.batch.old_values, self.clip_range_vf
            found = torch.where((moved >= -limit) & (moved <= limit), found, 0.0)
        return found.view_as(values)
