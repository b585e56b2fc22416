"""The last frames of each copy, as a learner sees them stacked.

What is shown is a new array at each step: Gymnasium's checker refuses observations that share
memory, since users keep them.
"""

from __future__ import annotations

import numpy as np
from gymnasium import spaces

from rlplastic.envs.copies import Array


class Stack:
    """The last `size` frames of each copy; a size of 1 keeps none.

    Args:
        size: Number of frames.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._shown: Array = np.empty(0)

    def space(self, space: spaces.Space[object]) -> spaces.Space[object]:
        """The space of stacked frames, given that of single ones."""
        if self.size == 1:
            return space
        assert isinstance(space, spaces.Box)
        times = (self.size,) + (1,) * (len(space.shape) - 1)
        return spaces.Box(
            np.tile(space.low, times), np.tile(space.high, times), dtype=space.dtype.type
        )

    def begin(self, stacked: Array) -> Array:
        """Go on from these stacked frames ``[copies, size x channels, ...]``, and show them."""
        self._shown = stacked
        return stacked

    def push(self, frames: Array) -> Array:
        """What is shown once these frames ``[copies, channels, ...]`` have been added."""
        if self.size == 1:
            return frames
        channels = frames.shape[1]
        self._shown = np.concatenate([self._shown[:, channels:], frames], axis=1)
        return self._shown
