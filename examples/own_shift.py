"""A shift of one's own, in one file.

Run it::

rlplastic ls shifts dim --plugin examples/own_shift.py
python examples/own_shift.py
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Le

from rlplastic.envs.shifts import Shift
from rlplastic.registry import shift


@shift("dim")
@dataclass(frozen=True, kw_only=True)
class Dim(Shift):
    """Make every frame darker, by a factor drawn anew for each world.

    Attributes:
        darkest: Smallest factor.
    """

    on: ClassVar[str] = "observation"

    darkest: Annotated[float, Ge(0), Le(1)] = 0.2

    def check(self):
        """Refuse what is not an image."""
        if len(self.base.observation_space.shape) != 3:
            raise self.refuse("images")

    def draw(self, rng):
        """The factor of one world."""
        return rng.uniform(self.darkest, 1.0, size=(1, 1, 1))

    def observation(self, frames, world):
        """Frames `[copies, channels, height, width]`, darker."""
        return (frames * self.content(world)).astype(frames.dtype)


if __name__ == "__main__":
    from rlplastic.envs.atari import Atari
    from rlplastic.envs.schedules import Periodic
    from rlplastic.envs.stream import Stream

    stream = Stream(Atari(game="pong").make(2), [Dim()], Periodic(period=20, phases=3), seed=1)
    stream.reset()
    for step in range(30):
        observation, _, _, _ = stream.step(np.zeros(2, dtype=int))
        print(step, stream.phase, observation.max())
