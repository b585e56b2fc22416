"""Shifts of images: single frames ``[copies, channels, height, width]``, before stacking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Gt, Le, Lt
from gymnasium import spaces

from rlplastic.envs import orders
from rlplastic.envs.copies import Array
from rlplastic.envs.shifts import Shift
from rlplastic.registry import shift


def _shape(shift: Shift) -> tuple[int, int, int]:
    """Channels, height and width of a base environment's frames, whose pixels have one range.

    Raises:
        UsageError: it has none.
    """
    space = shift.base.observation_space
    if not (isinstance(space, spaces.Box) and len(space.shape) == 3):
        raise shift.refuse("images")
    if np.ptp(space.low) or np.ptp(space.high):
        raise shift.refuse("images whose pixels all have the same range")
    channels, height, width = space.shape
    return channels, height, width


def _need_bytes(shift: Shift) -> None:
    """Refuse images whose pixels are not bytes from 0 to 255."""
    _shape(shift)
    space = shift.base.observation_space
    assert isinstance(space, spaces.Box)
    if space.dtype != np.uint8 or space.low.min() != 0 or space.high.max() != 255:
        raise shift.refuse("images of bytes from 0 to 255")


@shift("pixels")
@dataclass(frozen=True, kw_only=True)
class Pixels(Shift):
    """Exchange the pixels of each frame: an order drawn anew for each world.

    The same order in every channel. As in permuted MNIST (arXiv 1312.6211) and Juliani & Ash
    (arXiv 2405.19153). It destroys what a convolution can use, which `tiles` leaves.

    Attributes:
        share: Share of the pixels that change place; at least two of them.
    """

    on: ClassVar[str] = "observation"
    still: ClassVar[bool] = True

    share: Annotated[float, Gt(0), Le(1)] = 1.0

    def check(self) -> None:
        """Images with something to exchange."""
        others = orders.number_of(self._places, orders.moving(self._places, self.share))
        self.__dict__["worlds"] = None if others is None else others + 1

    @property
    def _places(self) -> int:
        _, height, width = _shape(self)
        return height * width

    def draw(self, rng: np.random.Generator) -> Array:
        """Which pixel is shown at each place."""
        return orders.draw(rng, self._places, orders.moving(self._places, self.share))

    def observation(self, frames: Array, world: Array) -> Array:
        """In the world's order."""
        flat = frames.reshape(*frames.shape[:2], -1)
        out = np.empty_like(flat)
        for order, rows in self.each(world):
            # "clip" is faster than the default, and an order has nothing to clip
            out[rows] = np.take(flat[rows], order, axis=2, mode="clip")
        return out.reshape(frames.shape)


@shift("channels")
@dataclass(frozen=True, kw_only=True)
class Channels(Shift):
    """Exchange the channels of each frame: colours, or MinAtar's kinds of object.

    Attributes:
        share: Share of the channels that change place; at least two of them.
    """

    on: ClassVar[str] = "observation"
    still: ClassVar[bool] = True

    share: Annotated[float, Gt(0), Le(1)] = 1.0

    def check(self) -> None:
        """Several channels."""
        channels, _, _ = _shape(self)
        if channels < 2:
            raise self.refuse("images of at least two channels")
        others = orders.number_of(channels, orders.moving(channels, self.share))
        self.__dict__["worlds"] = None if others is None else others + 1

    def draw(self, rng: np.random.Generator) -> Array:
        """Which channel is shown in each one's place."""
        channels, _, _ = _shape(self)
        return orders.draw(rng, channels, orders.moving(channels, self.share))

    def observation(self, frames: Array, world: Array) -> Array:
        """In the world's order."""
        return frames[np.arange(len(frames))[:, None], self.content(world)]


@shift("rotations")
@dataclass(frozen=True, kw_only=True)
class Rotations(Shift):
    """Turn each frame. Four worlds: as it is, and one, two, three quarters to the left."""

    on: ClassVar[str] = "observation"
    still: ClassVar[bool] = True
    worlds: ClassVar[int | None] = 4

    def check(self) -> None:
        """A frame must keep its shape."""
        _, height, width = _shape(self)
        if height != width:
            raise self.refuse("square images")

    def observation(self, frames: Array, world: Array) -> Array:
        """Turned."""
        out = np.empty_like(frames)
        for turns in np.unique(world):
            rows = world == turns
            out[rows] = np.rot90(frames[rows], turns, axes=(2, 3))
        return out


@shift("brightness")
@dataclass(frozen=True, kw_only=True)
class Brightness(Shift):
    """Change brightness and contrast: x becomes (x - 127.5) c + 127.5 + b, for each world anew.

    log c is uniform within +-log(`contrast`), b within +-255 `brightness`. The result is rounded
    and cut to 0..255, so that levels of grey fall together and something is lost for good: with
    the defaults a world keeps at least 148 of the 256, with both at their most at least 31. Two
    of the distortions of ImageNet-C (arXiv 1903.12261), with ranges of our own.

    Attributes:
        brightness: Most that a level moves, in units of the whole range.
        contrast: Most that differences of levels are multiplied, or divided, by.
    """

    on: ClassVar[str] = "observation"
    still: ClassVar[bool] = True
    mixes: ClassVar[bool] = True

    brightness: Annotated[float, Ge(0), Le(0.5)] = 0.25
    contrast: Annotated[float, Ge(1), Le(4)] = 1.5

    def check(self) -> None:
        """Bytes, and something that changes."""
        _need_bytes(self)
        if self.contrast == 1:  # then levels only move, by whole numbers
            steps = int(255 * self.brightness)
            if steps == 0:
                raise self.refuse("a brightness of 1/255 or a contrast above 1 to change anything")
            self.__dict__["worlds"] = 1 + 2 * steps

    def neutral(self) -> Array:
        """Every level as it is."""
        return np.arange(256, dtype=np.uint8)

    def draw(self, rng: np.random.Generator) -> Array:
        """What each of the 256 levels becomes."""
        gain = self.contrast ** rng.uniform(-1, 1)
        levels = (np.arange(256) - 127.5) * gain + 127.5
        levels += 255 * self.brightness * rng.uniform(-1, 1)
        table: Array = np.clip(np.floor(levels + 0.5), 0, 255).astype(np.uint8)
        return table

    def observation(self, frames: Array, world: Array) -> Array:
        """Brighter or darker."""
        out = np.empty_like(frames)
        for table, rows in self.each(world):
            out[rows] = np.take(table, frames[rows])
        return out


@shift("occlusion")
@dataclass(frozen=True, kw_only=True)
class Occlusion(Shift):
    """Hide a rectangle of each frame behind plain grey; each world hides another place.

    As Cutout (arXiv 1708.04552), but the place stays for the whole of a phase.

    Attributes:
        share: Height and width of the rectangle, in units of the frame's.
    """

    on: ClassVar[str] = "observation"
    still: ClassVar[bool] = True

    share: Annotated[float, Gt(0), Lt(1)] = 0.3

    def check(self) -> None:
        """The rectangle must have places to be."""
        _, height, width = _shape(self)
        hidden = self._hidden
        places = (height - hidden[0] + 1) * (width - hidden[1] + 1)
        if places < 2:
            raise self.refuse(f"a smaller share than {self.share}, which hides all there is")
        self.__dict__["worlds"] = 1 + places

    @property
    def _hidden(self) -> tuple[int, int]:
        """Height and width of the rectangle, in pixels."""
        _, height, width = _shape(self)
        return max(1, round(self.share * height)), max(1, round(self.share * width))

    def draw(self, rng: np.random.Generator) -> Array:
        """Its upper left corner."""
        _, height, width = _shape(self)
        down, across = self._hidden
        return rng.integers(0, [height - down + 1, width - across + 1])

    def observation(self, frames: Array, world: Array) -> Array:
        """With the rectangle hidden."""
        space = self.base.observation_space
        assert isinstance(space, spaces.Box)
        grey = np.mean([float(space.low.min()), float(space.high.max())]).astype(frames.dtype)
        out = frames.copy()
        down, across = self._hidden
        for (top, left), rows in self.each(world):
            out[rows, :, top : top + down, left : left + across] = grey
        return out


@shift("blur")
@dataclass(frozen=True, kw_only=True)
class Blur(Shift):
    """Blur each frame. Two worlds.

    Each pass averages with weights 1/4, 1/2, 1/4 along both axes, the edge repeated outside, and
    rounds: `passes` of them are close to a Gaussian of sqrt(passes / 2) pixels. Rounding loses
    the finest differences. One of ImageNet-C's distortions (arXiv 1903.12261).

    Attributes:
        passes: How often: 2 for a Gaussian of one pixel, 8 for one of two.
    """

    on: ClassVar[str] = "observation"
    still: ClassVar[bool] = True
    worlds: ClassVar[int | None] = 2
    mixes: ClassVar[bool] = True

    passes: Annotated[int, Ge(1)] = 2

    def check(self) -> None:
        """Images of bytes."""
        _need_bytes(self)

    def observation(self, frames: Array, world: Array) -> Array:
        """Blurred."""
        copies, channels, height, width = frames.shape
        padded = np.empty((copies, channels, height + 2, width + 2), np.uint16)  # 16 * 255 at most
        seen = frames
        for _ in range(self.passes):
            padded[:, :, 1:-1, 1:-1] = seen
            padded[:, :, 0], padded[:, :, -1] = padded[:, :, 1], padded[:, :, -2]
            padded[..., 0], padded[..., -1] = padded[..., 1], padded[..., -2]
            sums = padded[:, :, 1:] + padded[:, :, :-1]  # twice the sum of two is 1, 2, 1
            sums = sums[:, :, 1:] + sums[:, :, :-1]
            sums = sums[..., 1:] + sums[..., :-1]
            sums = sums[..., 1:] + sums[..., :-1]
            sums += 8
            sums >>= 4
            seen = sums
        return seen.astype(frames.dtype)
