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


def denormals(optimizer):
    """How many moments are neither 0 nor normal."""
    smallest = torch.finfo(torch.float32).tiny
    moments = [state["exp_avg"].abs() for state in optimizer.state.values()]
    return sum(int(((m > 0) & (m < smallest)).sum()) for m in moments)


@pytest.mark.parametrize("already", [False, True])
def test_moments_that_fade_become_0_and_change_no_weight(already):
    """Gradients that are 0 from some step on; the processor is left in the mode it was in."""
    ends = []
    for kind in (LeanAdam, torch.optim.Adam):
        torch.manual_seed(0)
        weight = torch.nn.Parameter(torch.cat([torch.randn(50), torch.zeros(50)]))
        optimizer = kind([weight], lr=0.05, fused=True)
        for number in range(1500):
            weight.grad = torch.randn(100) * (number < 5)
            if kind is LeanAdam and already:
                torch.set_flush_denormal(True)
            try:
                optimizer.step()
                assert (_smallest() * 1.0 == 0) == (kind is LeanAdam and already)
            finally:
                torch.set_flush_denormal(False)
        ends.append((weight.detach().numpy().tobytes(), denormals(optimizer)))
    (lean, faded), (plain, stuck) = ends
    assert lean == plain
    assert faded == 0 < stuck


def _smallest():
    return 5e-324
