"""The optimizer of `rlplastic.interventions.upgd`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from rlplastic.interventions.upgd import UPGD


class Perturbed(torch.optim.Optimizer):
    """The step that is written out in `UPGD`.

    Args:
        parameters: To be trained.
        settings: The intervention, whose generator the noise comes from.
    """

    def __init__(self, parameters: Iterable[Parameter], settings: UPGD) -> None:
        super().__init__(parameters, {"lr": 1e-3})
        self._settings = settings

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step from the gradients that are there."""
        settings = self._settings
        moved = [(p, g["lr"]) for g in self.param_groups for p in g["params"] if p.grad is not None]
        utilities = []
        for parameter, _ in moved:
            gradient = parameter.grad
            assert gradient is not None
            kept = self.state[parameter]
            if not kept:
                kept["step"] = torch.tensor(0.0)
                names = ("utility", "exp_avg", "exp_avg_sq")
                for name in names if settings.adaptive else names[:1]:
                    kept[name] = torch.zeros_like(parameter)
            kept["step"] += 1
            kept["utility"].lerp_(-gradient * parameter, 1 - settings.beta_utility)
            if settings.adaptive:
                kept["exp_avg"].lerp_(gradient, 1 - settings.beta1)
                kept["exp_avg_sq"].lerp_(gradient.square(), 1 - settings.beta2)
            utilities.append(kept["utility"] / self._start(settings.beta_utility, kept))
        largest = max((float(u.max()) for u in utilities), default=0.0)
        for (parameter, lr), utility in zip(moved, utilities, strict=True):
            plain = (
                torch.sigmoid(utility / largest) if largest > 0 else torch.full_like(utility, 0.5)
            )
            noise = torch.randn(parameter.shape, generator=settings.generator).to(parameter)
            step = self._unperturbed(parameter) + settings.sigma * noise
            parameter.mul_(1 - lr * settings.weight_decay).add_(step * (1 - plain), alpha=-2 * lr)

    def _unperturbed(self, parameter: Parameter) -> Tensor:
        """What is stepped along before noise and utilities: Adam's direction, or the gradient."""
        if not self._settings.adaptive:
            assert parameter.grad is not None
            return parameter.grad
        kept = self.state[parameter]
        first = kept["exp_avg"] / self._start(self._settings.beta1, kept)
        second = kept["exp_avg_sq"] / self._start(self._settings.beta2, kept)
        found: Tensor = first / (second.sqrt() + self._settings.eps)
        return found

    @staticmethod
    def _start(beta: float, kept: dict[str, Any]) -> float:
        """What a running mean of so many values is short of."""
        found: float = 1.0 - beta ** float(kept["step"])
        return found
