"""Self-normalised resets: renew units that are silent for longer than they used to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Lt

from rlplastic.interventions import Intervention, Learner
from rlplastic.registry import intervention

if TYPE_CHECKING:
    from torch import Tensor


@intervention("snr")
@dataclass(frozen=True, kw_only=True)
class SelfNormalisedResets(Intervention):
    """Renew a unit that has been silent for longer than its own silences usually last.

    A unit is silent in an update if its output is not positive for any sample and place of the
    minibatch. Each unit has a threshold on the length of a silence, and its silences set that anew
    every `refresh` updates (arXiv 2410.20098, after the code of ajozefiak/SelfNormalizedResets)::

        q ← the `percentile` of its silences since the last time, those that ended in a reset too
        threshold ← q if q < threshold, else 2 x threshold; at least `least`, at most `most`

    Without a silence the threshold stays. Where the code counts samples, this counts updates. A
    renewed unit gets new incoming weights and outgoing weights of zero, as in ``redo``: the
    optimizer's moments of both are zero, and the target network's copies are the same. One forward
    pass more at each update.

    Attributes:
        percentile: Share of its silences that a unit is allowed (0.9: a suite's; the paper's text
            has a significance of 1 - percentile).
        refresh: Updates between two settings of the thresholds; ours.
        threshold: The first threshold, in updates; ours.
        least: Smallest threshold, in updates; ours (the code's is one minibatch).
        most: Largest threshold, in updates; ours (a suite's is 20,000 samples).
        scope: Whose hidden layers.
    """

    cost: ClassVar[float] = 1.0

    percentile: Annotated[float, Gt(0), Lt(1)] = 0.9
    refresh: Annotated[int, Ge(1)] = 1_000
    threshold: Annotated[int, Ge(1)] = 100
    least: Annotated[int, Ge(1)] = 20
    most: Annotated[int, Ge(1)] = 1_000
    scope: Literal["critic", "actor", "all"] = "all"

    def check(self, agent: Learner) -> None:
        """The scope must have hidden units."""
        from rlplastic.interventions.redo import refuse_no_units

        refuse_no_units(self, agent, self.scope)

    def after_update(self, agent: Learner) -> None:
        """Note who is silent, renew who is so for too long, and now and then set the thresholds."""
        from rlplastic.interventions import surgery
        from rlplastic.interventions.redo import renew

        chosen: list[tuple[Any, Tensor]] = []
        layers = surgery.movable(agent, self.scope)
        for number, (layer, output) in enumerate(surgery.outputs(agent, layers)):
            units = self.silent_too_long(number, (output > 0).any(dim=0).any(dim=0))
            if units.any():
                chosen.append((layer, units))
            if agent.num_updates % self.refresh == 0:
                self.set_thresholds(number)
        if chosen:
            count = sum(int(units.sum()) for _, units in chosen)
            self.state["renewed"] = self.state.get("renewed", 0) + count
            renew(agent, chosen, surgery.newborn_values(agent, self.generator))

    def silent_too_long(self, number: int, fires: Tensor) -> Tensor:
        """Count an update of a layer; the units whose silence has reached their threshold.

        Args:
            number: Of the layer.
            fires: Booleans ``[units]``.
        """
        import torch

        kept = self.state.setdefault(
            f"layer{number}",
            {
                "age": torch.zeros_like(fires, dtype=torch.long),
                "threshold": torch.full_like(fires, self.threshold, dtype=torch.long),
                # silences of each length up to `most`, which holds the longer ones too
                "silences": fires.new_zeros((len(fires), self.most + 1), dtype=torch.long),
            },
        )
        age = kept["age"]
        self._note(kept, fires & (age > 0))
        age += 1
        age[fires] = 0
        late: Tensor = age >= kept["threshold"]
        self._note(kept, late)
        age[late] = 0
        return late

    def _note(self, kept: dict[str, Tensor], units: Tensor) -> None:
        """These units' silences end now."""
        places = units.nonzero().flatten()
        kept["silences"][places, kept["age"][places].clamp_max(self.most)] += 1

    def set_thresholds(self, number: int) -> None:
        """Set the thresholds of a layer from its silences, and forget those."""
        import torch

        kept = self.state[f"layer{number}"]
        silences, threshold = kept["silences"], kept["threshold"]
        total = silences.sum(dim=1, keepdim=True)
        reached = silences.cumsum(dim=1) >= self.percentile * total
        usual = reached.int().argmax(dim=1)
        new = torch.where(usual < threshold, usual, 2 * threshold).clamp(self.least, self.most)
        kept["threshold"] = torch.where(total.flatten() > 0, new, threshold)
        silences.zero_()
