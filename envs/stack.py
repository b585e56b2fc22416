"""The last frames of each copy, as a learner sees them stacked.

A step writes one frame of each copy and moves none: what is shown is a window that moves on over
a longer array. Where that ends another one begins, so what was shown once stays as it was.
"""

from __future__ import annotations

import numpy as np
from gymnasium import spaces

from rlplastic.envs.copies import Array

_AHEAD = 12  # frames that there is room for: the three that are moved then cost little by step


class Stack:
    """The last `size` frames of each copy; a size of 1 keeps none.

    Args:
        size: Number of frames.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._room: Array = np.empty((0, 0))
        self._at = 0  # the first channel that is shown

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
        if self.size == 1:
            return stacked
        copies, channels, *rest = stacked.shape
        ahead = _AHEAD * channels // self.size
        self._room = np.empty((copies, channels + ahead, *rest), stacked.dtype)
        self._room[:, :channels], self._at = stacked, 0
        return self._room[:, :channels]

    def push(self, frames: Array) -> Array:
        """What is shown once these frames ``[copies, channels, ...]`` have been added."""
        if self.size == 1:
            return frames
        channels = frames.shape[1]
        shown = self.size * channels
        if self._at + shown == self._room.shape[1]:
            self.begin(self._room[:, self._at :])
        end = self._at + shown
        self._room[:, end : end + channels] = frames
        self._at += channels
        return self._room[:, self._at : self._at + shown]
