"""The space that a layer's inputs span, and what of a gradient lies within it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def inputs_of(agent: Any, layers: Sequence[nn.Module], observations: Tensor) -> list[Tensor]:
    """What goes into each linear layer or convolution, without masks: ``[rows, in]``.

    A row is an example; of a convolution, an example's patch that one output is computed from.
    """
    seen: dict[nn.Module, Tensor] = {}
    hooks = [
        layer.register_forward_pre_hook(lambda module, given: seen.__setitem__(module, given[0]))
        for layer in layers
    ]
    training = agent.policy.training
    agent.policy.set_training_mode(False)
    try:
        with torch.no_grad():
            agent.values(observations)
    finally:
        agent.policy.set_training_mode(training)
        for hook in hooks:
            hook.remove()
    return [_rows(layer, seen[layer]) for layer in layers]


def _rows(layer: Any, inputs: Tensor) -> Tensor:
    if not isinstance(layer, nn.Conv2d):
        return inputs.flatten(1)
    patches = F.unfold(inputs, layer.kernel_size, layer.dilation, layer.padding, layer.stride)  # type: ignore[arg-type]
    return patches.transpose(1, 2).flatten(0, 1)


def basis(rows: Tensor, share: float) -> Tensor:
    """The fewest right singular vectors that hold this share of the squared norm: ``[in, k]``.

    The k of arXiv 2103.09762, Eq. 5: ‖R_k‖²_F ≥ share ‖R‖²_F. Rows that are all zero have none.
    """
    _, sizes, directions = torch.linalg.svd(rows.double(), full_matrices=False)
    held = sizes.square().cumsum(0)
    count = int((held < share * held[-1]).sum()) + 1 if held[-1] > 0 else 0
    found: Tensor = directions[:count].T.to(rows.dtype).contiguous()
    return found


def within(gradient: Tensor, directions: Tensor, importance: Tensor) -> Tensor:
    """G M diag(λ) Mᵀ of a layer's gradient ``[out, ...]``, of the same shape."""
    flat = gradient.flatten(1)
    return ((flat @ directions) * importance @ directions.T).view_as(gradient)
