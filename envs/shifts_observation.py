"""Shifts of what the agent sees: vectors, and images whose parts change places.

Images are single frames ``[copies, channels, height, width]``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Ge, Gt, Le
from gymnasium import spaces

from rlplastic.envs import orders
from rlplastic.envs.copies import Array
from rlplastic.envs.shifts import Shift
from rlplastic.errors import UsageError
from rlplastic.registry import shift


def _is_image(space: spaces.Space[Any]) -> bool:
    return isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) == 3


@shift("offset")
@dataclass(frozen=True, kw_only=True)
class Offset(Shift):
    """Add a constant vector to every observation, drawn anew for each world.

    Dimension d is moved by N(0, (sigma * spread_d)^2), where the spread is the environment's own.
    The protocol of TRAC and C-CHAIN (arXiv 2405.16642, Sec. 4: sigma 2 for every dimension).

    Attributes:
        sigma: Standard deviation of a dimension's move, in units of its spread.
    """

    on: ClassVar[str] = "observation"
    still: ClassVar[bool] = True
    mixes: ClassVar[bool] = True

    sigma: Annotated[float, Gt(0)] = 2.0

    def check(self) -> None:
        """Only vectors of floats can be moved."""
        space = self.base.observation_space
        if not (isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating)):
            raise self.refuse("a vector of floats")

    def space(self, space: spaces.Space[Any]) -> spaces.Space[Any]:
        """Unbounded: offsets are."""
        return spaces.Box(-np.inf, np.inf, space.shape or (), np.dtype(space.dtype).type)

    def neutral(self) -> Array:
        """No move."""
        return np.zeros(self.base.observation_space.shape or ())

    def draw(self, rng: np.random.Generator) -> Array:
        """The vector."""
        shape = self.base.observation_space.shape or ()
        spread = np.ones(shape) if self.base.spread is None else self.base.spread
        return rng.normal(0.0, self.sigma, shape) * spread

    def observation(self, frames: Array, world: Array) -> Array:
        """Moved."""
        return (frames + self.content(world)).astype(frames.dtype)


@shift("permutation")
@dataclass(frozen=True, kw_only=True)
class Permutation(Shift):
    """Exchange the features of a vector: an order drawn anew for each world.

    Exactly `share` of the features change place, so there are as many worlds as orders of that
    kind: ten for CartPole's four features. As the permuted inputs of supervised streams (arXiv
    1312.6211) and of Juliani & Ash (arXiv 2405.19153).

    Attributes:
        share: Share of the features that change place; at least two of them.
    """

    on: ClassVar[str] = "observation"
    still: ClassVar[bool] = True

    share: Annotated[float, Gt(0), Le(1)] = 1.0

    def check(self) -> None:
        """Vectors with something to exchange."""
        shape = self.base.observation_space.shape
        if not isinstance(self.base.observation_space, spaces.Box) or shape is None:
            raise self.refuse("a vector of at least two features")
        if len(shape) != 1 or shape[0] < 2:
            raise self.refuse("a vector of at least two features (for images: pixels, tiles)")
        others = orders.number_of(shape[0], orders.moving(shape[0], self.share))
        self.__dict__["worlds"] = None if others is None else others + 1

    def space(self, space: spaces.Space[Any]) -> spaces.Space[Any]:
        """Each feature may be where any other was."""
        assert isinstance(space, spaces.Box)
        low, high = float(space.low.min()), float(space.high.max())
        return spaces.Box(low, high, space.shape, np.dtype(space.dtype).type)

    def draw(self, rng: np.random.Generator) -> Array:
        """Which feature is shown at each place."""
        (places,) = self.base.observation_space.shape or ()
        return orders.draw(rng, places, orders.moving(places, self.share))

    def observation(self, frames: Array, world: Array) -> Array:
        """In the world's order."""
        return np.take_along_axis(frames, self.content(world), axis=1)


@shift("scale")
@dataclass(frozen=True, kw_only=True)
class Scale(Shift):
    """Multiply every observation by a constant vector, drawn anew for each world.

    Dimension d is multiplied by exp(N(0, sigma^2)): as often made smaller as larger, never
    turned round or wiped out.

    Attributes:
        sigma: Standard deviation of a factor's logarithm: 0.7 is a factor of 2.
    """

    on: ClassVar[str] = "observation"
    still: ClassVar[bool] = True
    mixes: ClassVar[bool] = True

    sigma: Annotated[float, Gt(0)] = 0.7

    def check(self) -> None:
        """Only vectors of floats can be scaled."""
        space = self.base.observation_space
        if not (isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating)):
            raise self.refuse("a vector of floats (for images: brightness)")

    def space(self, space: spaces.Space[Any]) -> spaces.Space[Any]:
        """Unbounded: factors are."""
        return spaces.Box(-np.inf, np.inf, space.shape or (), np.dtype(space.dtype).type)

    def draw(self, rng: np.random.Generator) -> Array:
        """The factors."""
        return np.exp(rng.normal(0.0, self.sigma, self.base.observation_space.shape or ()))

    def observation(self, frames: Array, world: Array) -> Array:
        """Scaled."""
        return (frames * self.content(world)).astype(frames.dtype)


@shift("tiles")
@dataclass(frozen=True, kw_only=True)
class Tiles(Shift):
    """Cut each frame into `tiles` x `tiles` squares and put them in another order.

    Tiles rather than pixels: within a tile a convolution still finds the edges it can use.
    Patch permutation as in Juliani & Ash (arXiv 2405.19153).

    Attributes:
        tiles: Tiles along each side; more of them leave less together.
    """

    on: ClassVar[str] = "observation"
    still: ClassVar[bool] = True

    tiles: Annotated[int, Ge(2)] = 4

    def check(self) -> None:
        """Height and width must divide into tiles."""
        space = self.base.observation_space
        if not _is_image(space):
            raise self.refuse("images")
        _, height, width = space.shape or ()
        if height % self.tiles or width % self.tiles:
            valid = [n for n in range(2, height + 1) if height % n == 0 and width % n == 0]
            near = min(valid, key=lambda n: abs(n - self.tiles))
            raise UsageError(
                f"shift 'tiles': tiles = {self.tiles} does not divide frames of "
                f"{height} x {width}; nearest that does: {near}"
            )
        self.__dict__["worlds"] = math.factorial(self.tiles**2)  # orders, the unshifted included

    def neutral(self) -> Array:
        """Every tile in its place."""
        return np.arange(self.tiles**2)

    def draw(self, rng: np.random.Generator) -> Array:
        """The order of the tiles."""
        return rng.permutation(self.tiles**2)

    def observation(self, frames: Array, world: Array) -> Array:
        """The tiles in the world's order."""
        copies, channels, height, width = frames.shape
        t, h, w = self.tiles, height // self.tiles, width // self.tiles
        # a line of a tile is one item here: each is moved once, and as a whole
        lines = np.ascontiguousarray(frames).view(f"V{w * frames.itemsize}")
        lines = lines.reshape(copies, channels, -1)
        moved = np.empty_like(lines)
        for order, rows in self.each(world):
            row, column = np.divmod(order.reshape(t, 1, t), t)
            places = (row * h + np.arange(h)[:, None]) * t + column
            moved[rows] = np.take(lines[rows], places.ravel(), axis=2, mode="clip")
        return moved.view(frames.dtype).reshape(frames.shape)


@shift("inversion")
@dataclass(frozen=True, kw_only=True)
class Inversion(Shift):
    """Turn bright into dark: x becomes low + high - x. Two worlds."""

    on: ClassVar[str] = "observation"
    still: ClassVar[bool] = True
    worlds: ClassVar[int | None] = 2

    def check(self) -> None:
        """The space must be bounded."""
        space = self.base.observation_space
        if not (isinstance(space, spaces.Box) and space.is_bounded()):
            raise self.refuse("bounded observations")

    def observation(self, frames: Array, world: Array) -> Array:
        """Inverted."""
        space = self.base.observation_space
        assert isinstance(space, spaces.Box)
        inverted: Array = (space.low + (space.high - frames)).astype(frames.dtype)
        return inverted


@shift("flips")
@dataclass(frozen=True, kw_only=True)
class Flips(Shift):
    """Mirror each frame. Four worlds: as it is, left-right, upside down, both."""

    on: ClassVar[str] = "observation"
    still: ClassVar[bool] = True
    worlds: ClassVar[int | None] = 4

    def check(self) -> None:
        """Images only."""
        if not _is_image(self.base.observation_space):
            raise self.refuse("images")

    def observation(self, frames: Array, world: Array) -> Array:
        """Mirrored."""
        out = frames.copy()
        for index, axes in ((1, (3,)), (2, (2,)), (3, (2, 3))):
            rows = world == index
            if rows.any():
                out[rows] = np.flip(frames[rows], axis=axes)
        return out
