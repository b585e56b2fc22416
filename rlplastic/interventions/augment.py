"""Augmentation of the images that a critic learns from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge

from rlplastic.interventions import Intervention, Learner
from rlplastic.registry import intervention

if TYPE_CHECKING:
    from torch import Tensor


@intervention("random-shift")
@dataclass(frozen=True, kw_only=True)
class RandomShift(Intervention):
    """Shift every image of a minibatch by up to p pixels, its edge repeated.

    DrQ (arXiv 2004.13649), which pads by p and crops at random; the strongest preserver of
    plasticity in arXiv 2310.07418. All frames of a stack shift alike; an observation and the next
    one each on their own. PPO's minibatches are left alone, hence DQN only: its policy acted on the
    images as they were.

    Attributes:
        pad: p (4 of 84 pixels: DrQ); 0 is none.
    """

    agents: ClassVar[tuple[str, ...]] = ("dqn",)
    observations: ClassVar[tuple[str, ...]] = ("images",)

    pad: Annotated[int, Ge(0)] = 4

    def minibatch(self, agent: Learner, batch: Any) -> Any:
        """The same transitions with other images."""
        return batch._replace(
            observations=self.shifted(batch.observations),
            next_observations=self.shifted(batch.next_observations),
        )

    def shifted(self, images: Tensor) -> Tensor:
        """Images ``[batch, channels, height, width]``, each shifted on its own."""
        import torch

        count, _, height, width = images.shape
        moves = torch.randint(-self.pad, self.pad + 1, (2, count, 1), generator=self.generator)
        rows = (torch.arange(height) + moves[0]).clamp(0, height - 1).to(images.device)
        columns = (torch.arange(width) + moves[1]).clamp(0, width - 1).to(images.device)
        number = torch.arange(count, device=images.device)[:, None, None]
        # [batch, height, width, channels]: channels last, as convolutions like them
        return images[number, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
