"""The lean optimizers step in the bytes of torch's own, whatever their groups say."""

from __future__ import annotations

import copy

import pytest
import torch

from rlplastic.agents.adam import LeanAdam
from rlplastic.agents.sgd import LeanSGD

DECOUPLED = {"weight_decay": 0.1, "decoupled_weight_decay": True}


@pytest.mark.parametrize(
    ("lean", "plain", "extra"),
    [
        (LeanAdam, torch.optim.Adam, {}),
        (LeanAdam, torch.optim.Adam, {"weight_decay": 0.1}),
        (LeanAdam, torch.optim.Adam, DECOUPLED),
        (LeanSGD, torch.optim.SGD, {}),
        (LeanSGD, torch.optim.SGD, {"weight_decay": 0.1}),
        (LeanSGD, torch.optim.SGD, {"momentum": 0.9}),
    ],
)
def test_a_lean_step_has_the_bytes_of_torchs(lean, plain, extra):
    """Also where the second group has no gradient, and so no state, until the third step."""
    ends = []
    for kind in (lean, plain):
        torch.manual_seed(0)
        first, second = (torch.nn.Parameter(torch.randn(5, 3)) for _ in range(2))
        optimizer = kind([first], lr=0.05, fused=True)
        optimizer.add_param_group({"params": [second], **extra})
        for number in range(5):
            first.grad = torch.randn(5, 3)
            second.grad = torch.randn(5, 3) if number >= 2 else None
            optimizer.step()
        ends.append([p.detach().numpy().tobytes() for p in (first, second)])
    assert ends[0] == ends[1]


def replaced(optimizer, weights):
    optimizer.state[weights[1]]["step"] = torch.tensor(0.0)


def emptied(optimizer, weights):
    optimizer.state[weights[1]]["step"].zero_()


def left_out(optimizer, weights):
    weights[1].grad = None


def forgotten(optimizer, weights):
    del optimizer.state[weights[1]]


def copied(optimizer, weights):
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))


@pytest.mark.parametrize("change", [replaced, emptied, left_out, forgotten, copied])
def test_counts_of_steps_are_each_weights_own(change):
    """They lie together in memory; who changes one, or leaves a weight out, changes no other."""
    ends = []
    for kind in (LeanAdam, torch.optim.Adam):
        torch.manual_seed(0)
        weights = [torch.nn.Parameter(torch.randn(4)) for _ in range(3)]
        optimizer = kind(weights, lr=0.05, fused=True)
        for number in range(6):
            for weight in weights:
                weight.grad = torch.randn(4)
            if number in (2, 3):
                change(optimizer, weights)
            optimizer.step()
        steps = [float(optimizer.state[w]["step"]) for w in weights]
        ends.append(([w.detach().numpy().tobytes() for w in weights], steps))
    assert ends[0] == ends[1]
