"""torch's fused Adam without the profiler's and the compiler's entries around every step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_SMALLEST = 5e-324  # of double precision


class LeanAdam(torch.optim.Adam):
    """`torch.optim.Adam(fused=True)` on a CPU: its kernel, called directly, so its bytes.

    A step of a small network takes less time than the way to it. And a moment too small for a
    normal number (1.2e-38) counts as 0: within 800 updates those of a weight without a gradient,
    behind a unit that is silent, come to be of that kind and stay there for ever, where some
    processors take a hundred times as long over each. What they would add to a weight is below
    1e-30 of a step, and no bit of it.
    """

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step from the gradients that are there."""
        every = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        if closure is not None or not all(self.state[p] for p in every):
            super().step(closure)  # torch makes the state of a first step, in all groups at once
            return
        flush = _SMALLEST * 1.0 > 0 and torch.set_flush_denormal(True)  # not so already, and can be
        try:
            self._move()
        finally:
            if flush:
                torch.set_flush_denormal(False)

    step.hooked = True  # type: ignore[attr-defined]  # torch would wrap it in its profiler's entry

    def _move(self) -> None:
        for group in self.param_groups:
            moved = [p for p in group["params"] if p.grad is not None]
            if not moved:
                continue
            states = [self.state[p] for p in moved]
            beta1, beta2 = group["betas"]
            steps = together(states)
            with torch.no_grad():
                count(steps)
                decoupled = group.get("decoupled_weight_decay", False)
                kernel = torch._fused_adamw_ if decoupled else torch._fused_adam_
                kernel(
                    moved,
                    [p.grad for p in moved],
                    [state["exp_avg"] for state in states],
                    [state["exp_avg_sq"] for state in states],
                    [],
                    steps,
                    lr=group["lr"],
                    beta1=beta1,
                    beta2=beta2,
                    weight_decay=group["weight_decay"],
                    eps=group["eps"],
                    amsgrad=False,
                    maximize=group["maximize"],
                    grad_scale=None,
                    found_inf=None,
                )


def together(states: list[dict[str, Any]]) -> list[Tensor]:
    """The counts of steps of some parameters, as views of one tensor, in order.

    Each stays a tensor of its own for whoever reads it or changes it in place; what has been put
    in the place of one is taken in at the next step.
    """
    steps = [state["step"] for state in states]
    whole = steps[0]._base
    if whole is None or whole.shape != (len(steps),) or any(s._base is not whole for s in steps):
        steps = list(torch.stack(steps).unbind())
        for state, step in zip(states, steps, strict=True):
            state["step"] = step
    return steps


def count(steps: list[Tensor]) -> None:
    """Add 1 to each of what `together` returned, in one kernel."""
    whole = steps[0]._base
    assert whole is not None
    whole += 1
