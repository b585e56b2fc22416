"""The losses of supervised agents."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def unhinged(logits: Tensor, classes: Tensor) -> Tensor:
    """mean_k z_k - z_y of each example: linear in the logits ``[batch, classes]`` (2312.07841)."""
    return logits.mean(dim=1) - logits.gather(1, classes.unsqueeze(1)).squeeze(1)


def loss_of(kind: str, found: Tensor, answers: Tensor, weights: Tensor | None = None) -> Tensor:
    """The mean loss: squared error of numbers, of classes cross-entropy or another.

    Args:
        kind: ``mean``, or ``unhinged`` for classes.
        found: What the network said: ``[batch, outputs]``.
        answers: int64 ``[batch]``, or float32 ``[batch, outputs]``.
        weights: How much each example counts: ``[batch]``; None: all alike.
    """
    if kind == "unhinged":
        each = unhinged(found, answers)
        return (each if weights is None else each * weights).mean()
    numbers = found.ndim == answers.ndim
    error = F.mse_loss if numbers else F.cross_entropy
    if weights is None:
        return error(found, answers)
    each = error(found, answers, reduction="none")
    return ((each.mean(dim=1) if numbers else each) * weights).mean()
