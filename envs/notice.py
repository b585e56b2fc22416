"""What `notify` adds to observations: the world, told to the agent.

A one-hot code of the world, as Continual World appends one of its task (arXiv 2105.10919): it has
the same size in every phase, sets no order between worlds, and says when a world returns. It is
the world that the next action is taken in. During a ramp it is the mix of two codes.

Vectors of floats get one number more for each world of the schedule. Images get one constant plane
for each after the stacked frames, as AlphaZero's networks are told what no picture shows
(arXiv 1712.01815, Table S1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from rlplastic.envs.copies import Array
from rlplastic.errors import UsageError


class Notice:
    """Tells the worlds of a schedule apart, beside what the learner sees.

    Args:
        space: What the learner sees without it, frames stacked.
        worlds: The worlds to tell apart.

    Attributes:
        space: What the learner sees with it.

    Raises:
        UsageError: neither a vector of floats nor an image with room for the planes.
    """

    def __init__(self, space: spaces.Space[Any], worlds: Sequence[int]) -> None:
        self.worlds = np.array(sorted(worlds))
        image = isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) == 3
        vector = (
            isinstance(space, spaces.Box)
            and np.issubdtype(space.dtype, np.floating)
            and len(space.shape) == 1
        )
        if not (isinstance(space, spaces.Box) and (image or vector)):
            raise UsageError(f"notify needs vectors of floats or images; this stream shows {space}")
        room = min(space.shape[1:]) - space.shape[0] if image else len(worlds)
        if len(worlds) > room:  # by that, stable-baselines3 tells which dimension it is
            raise UsageError(
                f"notify: {len(worlds)} worlds need as many planes, but images of {space.shape} "
                f"have room for {room}, since channels must remain the smallest dimension"
            )
        self._one = 255 if image else 1
        shape = (len(worlds), *space.shape[1:])
        low, high = np.zeros(shape, space.dtype), np.full(shape, self._one, space.dtype)
        self.space = spaces.Box(
            np.concatenate([space.low, low]),
            np.concatenate([space.high, high]),
            dtype=space.dtype.type,
        )

    def beside(self, observation: Array, before: Array, world: Array, mix: float) -> Array:
        """Observations ``[copies, ...]``, with the code of ``(1 - mix) before + mix world``."""
        code = (1 - mix) * (before[:, None] == self.worlds) + mix * (world[:, None] == self.worlds)
        code = code * self._one
        if self._one == 255:
            height, width = observation.shape[2:]
            code = np.rint(code)[:, :, None, None].repeat(height, axis=2).repeat(width, axis=3)
        return np.concatenate([observation, code.astype(observation.dtype)], axis=1)
