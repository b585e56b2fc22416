"""Continual backpropagation: renew the least useful units, a few at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Le, Lt

from rlplastic.interventions import Intervention, Learner
from rlplastic.registry import intervention

if TYPE_CHECKING:
    from torch import Tensor


@intervention("cbp")
@dataclass(frozen=True, kw_only=True)
class ContinualBackprop(Intervention):
    """Renew the least useful of the old enough units, a small share at each update.

    Per unit, over the last minibatch (Dohare et al., Nature 2024; arXiv 2306.13812)::

        u ← η u + (1 - η) mean|h| Σ|w_out|        utility, corrected by 1 - η^age
        f ← η f + (1 - η) mean h                  mean activation, corrected likewise

    Each layer renews ρ times its units older than m, lowest utility first; fractions add up. A
    renewed unit's mean effect f w_out moves into the next layer's bias, its outgoing weights are
    zero and its incoming ones drawn anew, as are the optimizer's moments of both and the target
    network's copies. One forward pass more at each update. In the paper's code f is emptied before
    it is moved, so that nothing moves; here it is as in the paper.

    Attributes:
        rate: ρ (1e-4: PPO on Ant).
        maturity: m, in updates (10,000: PPO on Ant; 100 on MNIST).
        decay: η (0.99: the paper's code, shibhansh/loss-of-plasticity).
        scope: Whose hidden layers.
    """

    cost: ClassVar[float] = 1.0

    rate: Annotated[float, Ge(0), Le(1)] = 1e-4
    maturity: Annotated[int, Ge(0)] = 10_000
    decay: Annotated[float, Ge(0), Lt(1)] = 0.99
    scope: Literal["critic", "actor", "all"] = "all"

    def check(self, agent: Learner) -> None:
        """The scope must have hidden units."""
        from rlplastic.interventions.redo import refuse_no_units

        refuse_no_units(self, agent, self.scope)

    def after_update(self, agent: Learner) -> None:
        """Note what the units do, and renew those whose turn it is."""
        from rlplastic.interventions import surgery
        from rlplastic.interventions.redo import renew

        layers = surgery.movable(agent, self.scope)
        chosen = [
            (number, layer, units)
            for number, (layer, output) in enumerate(surgery.outputs(agent, layers))
            if (units := self._worst(number, layer, output)) is not None
        ]
        if not chosen:
            return
        for number, layer, units in chosen:
            self._leave_the_mean(agent, number, layer, units)
        values = surgery.newborn_values(agent, self.generator)
        renew(agent, [(layer, units) for _, layer, units in chosen], values)

    def _worst(self, number: int, layer: Any, output: Tensor) -> Tensor | None:
        """Update a layer's statistics; the units to renew now, if any."""
        import torch

        zeros = output.new_zeros(layer.units)
        unit = self.state.setdefault(
            f"layer{number}",
            {"age": zeros.clone(), "utility": zeros.clone(), "mean": zeros.repeat(layer.expansion)},
        )
        weight = zeros.clone()
        for reader in layer.readers:
            shape = (len(reader.weight), layer.expansion, layer.units, -1)
            weight += reader.weight.detach().abs().reshape(shape).sum(dim=(0, 1, 3))
        unit["age"] += 1
        unit["utility"].lerp_(output.abs().mean(dim=(0, 1)) * weight, 1 - self.decay)
        unit["mean"].lerp_(output.mean(dim=0).flatten(), 1 - self.decay)
        old = unit["age"] > self.maturity
        owed = self.state.get(f"owed{number}", 0.0) + self.rate * float(old.sum())
        count = min(int(owed), int(old.sum()))
        self.state[f"owed{number}"] = owed - count
        if not count:
            return None
        utility = unit["utility"] / (1 - self.decay ** unit["age"])
        worst = torch.where(old, utility, torch.inf).topk(count, largest=False).indices
        units = torch.zeros_like(old)
        units[worst] = True
        return units

    def _leave_the_mean(self, agent: Learner, number: int, layer: Any, units: Tensor) -> None:
        """Move the mean effect of units into the biases above, and forget their statistics."""
        import torch

        unit = self.state[f"layer{number}"]
        mean = unit["mean"].view(layer.expansion, layer.units) / (1 - self.decay ** unit["age"])
        twins: dict[Any, Any] = agent.targets()
        with torch.no_grad():
            for reader in layer.readers:
                if reader.bias is None:
                    continue
                shape = (len(reader.weight), layer.expansion, layer.units, -1)
                effect = reader.weight.reshape(shape).sum(dim=3) * (mean * units)
                reader.bias += effect.sum(dim=(1, 2))
                if reader.bias in twins:
                    twins[reader.bias] += effect.sum(dim=(1, 2))
        for value in (unit["age"], unit["utility"], *unit["mean"].view(layer.expansion, -1)):
            value[units] = 0.0
        self.state["renewed"] = self.state.get("renewed", 0) + int(units.sum())
