"""Shifts of what the agent sees that come and go with each step: noise, dropout, delay."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Gt, Le, Lt
from gymnasium import spaces

from rlplastic.envs.copies import Array
from rlplastic.envs.shifts import Shift
from rlplastic.registry import shift

_LEVELS = 256  # of the noise on images: one random byte for each pixel


def _box(shift: Shift) -> spaces.Box:
    """The observation space, which must be one of numbers."""
    space = shift.base.observation_space
    if not isinstance(space, spaces.Box):
        raise shift.refuse("observations that are arrays of numbers")
    return space


@cache
def _quantiles(sigma: float) -> Array:
    """`_LEVELS` equally likely values with mean 0 and deviation sigma: the middles of a Gaussian's.

    Rounded to whole numbers.
    """
    middles = [NormalDist().inv_cdf((i + 0.5) / _LEVELS) for i in range(_LEVELS)]
    values: Array = np.rint(np.array(middles) / np.std(middles) * sigma).astype(np.int16)
    return values


@shift("noise")
@dataclass(frozen=True, kw_only=True)
class Noise(Shift):
    """Add Gaussian noise to every observation, drawn anew at each step. Two worlds.

    Dimension d of a vector is moved by N(0, (sigma * spread_d)^2), where the spread is the
    environment's own. A pixel of an image of bytes is moved by one of 256 equally likely values,
    the Gaussian's quantiles with deviation 255 sigma, and rounded and cut to 0..255.

    Attributes:
        sigma: Standard deviation, in units of the spread, or of the whole range of a byte.
    """

    on: ClassVar[str] = "observation"
    worlds: ClassVar[int | None] = 2
    mixes: ClassVar[bool] = True

    sigma: Annotated[float, Gt(0), Le(10)] = 0.1

    def check(self) -> None:
        """Floats or bytes; on bytes at least some level must move."""
        space = _box(self)
        if np.issubdtype(space.dtype, np.floating):
            return
        if space.dtype != np.uint8 or space.low.min() != 0 or space.high.max() != 255:
            raise self.refuse("a vector of floats, or images of bytes from 0 to 255")
        if not _quantiles(255 * self.sigma).any():
            raise self.refuse(f"a sigma that moves a byte, as 0.01; {self.sigma} moves none")

    def space(self, space: spaces.Space[Any]) -> spaces.Space[Any]:
        """Unbounded for floats: noise is."""
        if space.dtype == np.uint8:
            return space
        return spaces.Box(-np.inf, np.inf, space.shape or (), np.dtype(space.dtype).type)

    def observation(self, frames: Array, world: Array) -> Array:
        """Noisy."""
        shape = frames.shape[1:]
        if frames.dtype == np.uint8:
            moved = np.take(_quantiles(255 * self.sigma), self._bytes(math.prod(shape)))
            moved = moved.reshape(frames.shape)
            moved += frames
            return np.clip(moved, 0, 255, out=moved).astype(np.uint8)
        spread = np.ones(shape) if self.base.spread is None else self.base.spread
        noise = np.stack([rng.standard_normal(shape) for rng in self.generators()])
        return (frames + noise * (self.sigma * spread)).astype(frames.dtype)

    def _bytes(self, size: int) -> Array:
        """So many random bytes for each row; raw words, since it is done for every frame."""
        words = [rng.bit_generator.random_raw(-(-size // 8)) for rng in self.generators()]
        return np.stack(words).astype("<u8", copy=False).view(np.uint8)[:, :size]


@shift("dropout")
@dataclass(frozen=True, kw_only=True)
class Dropout(Shift):
    """Lose frames: a lost one is replaced by the last that was shown, or by a blank. Two worlds.

    The flickering screens of Hausknecht & Stone (arXiv 1507.06527) are ``shows="blank"`` with
    probability 0.5. With ``last``, the first frame of an episode is never lost.

    Attributes:
        probability: Of losing a frame, each on its own.
        shows: What is shown in a lost frame's place; a blank is 0, or what is nearest to it.
    """

    on: ClassVar[str] = "observation"
    worlds: ClassVar[int | None] = 2

    probability: Annotated[float, Gt(0), Lt(1)] = 0.5
    shows: Literal["last", "blank"] = "last"

    def check(self) -> None:
        """Arrays of numbers."""
        _box(self)

    def memory(self, copies: int) -> dict[str, Array]:
        """What was shown last, if anything was."""
        if self.shows == "blank":
            return {}
        space = _box(self)
        last = np.zeros((copies, *space.shape), dtype=space.dtype)
        return {"last": last, "any": np.zeros(copies, dtype=bool)}

    def observation(self, frames: Array, world: Array) -> Array:
        """The frame, or what replaces it."""
        lost = self.uniform() < self.probability
        out, rows = frames.copy(), self.now.copies
        if self.shows == "blank":
            space = _box(self)
            out[lost] = np.clip(0, space.low, space.high)
            return out
        last, before = self.kept("last"), self.kept("any")
        lost &= before[rows]
        out[lost] = last[rows[lost]]
        last[rows[~lost]], before[rows] = frames[~lost], True
        return out


@shift("delay")
@dataclass(frozen=True, kw_only=True)
class Delay(Shift):
    """Show what was to be seen `steps` steps ago; until there is such a thing, the first frame.

    Two worlds. The constant observation delay of delayed decision processes (arXiv 2010.02966
    has random ones). Rewards and ends come in time.

    Attributes:
        steps: Steps of the agent that an observation takes to arrive.
    """

    on: ClassVar[str] = "observation"
    worlds: ClassVar[int | None] = 2

    steps: Annotated[int, Ge(1)] = 2

    def check(self) -> None:
        """Arrays of numbers."""
        _box(self)

    def memory(self, copies: int) -> dict[str, Array]:
        """The frames on their way, in a ring, and how many have come so far."""
        space = _box(self)
        held = np.zeros((copies, self.steps, *space.shape), dtype=space.dtype)
        return {"held": held, "count": np.zeros(copies, dtype=np.int64)}

    def observation(self, frames: Array, world: Array) -> Array:
        """The frame of so many steps ago."""
        held, count, rows = self.kept("held"), self.kept("count"), self.now.copies
        begun = count[rows] == 0
        held[rows[begun]] = frames[begun, None]
        place = count[rows] % self.steps
        out: Array = held[rows, place]
        held[rows, place] = frames
        count[rows] += 1
        return out
