"""Shifts of what the world does: its levels and its physics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium
import numpy as np

from rlplastic.envs.copies import Array, GymCopies
from rlplastic.envs.shifts import Shift
from rlplastic.registry import shift

_FIRST, _LAST = 2**32, 2**62  # numbers of drawn levels, out of the way of those of world 0


@dataclass(frozen=True, kw_only=True)
class Levels(Shift):
    """Another set of levels in each world, for environments with ``home`` and ``set_levels``.

    World 0 has the environment's own levels, ``home``; each later world draws a block of as many.
    """

    def check(self) -> None:
        """The environment must have levels."""
        envs = self.base.envs if isinstance(self.base, GymCopies) else []
        if not envs or not all(hasattr(env.unwrapped, "set_levels") for env in envs):
            raise self.refuse("an environment with levels")

    def draw(self, rng: np.random.Generator) -> Array:
        """The number of the first level of a world's block."""
        return rng.integers(_FIRST, _LAST, size=1)

    def block(self, home: tuple[int, ...], world: int) -> list[int]:
        """The levels that come with a world."""
        if world == 0:
            return list(home)
        first = int(self.content(np.array([world]))[0, 0])
        return list(range(first, first + len(home)))

    def blocks(self, world: int) -> list[int]:
        """The worlds whose blocks are to be seen in a world."""
        raise NotImplementedError

    def configure(self, env: gymnasium.Env[Any, Any], world: int) -> gymnasium.Env[Any, Any]:
        """The same environment with the world's levels."""
        inner: Any = env.unwrapped
        inner.set_levels([n for one in self.blocks(world) for n in self.block(inner.home, one)])
        return env


@shift("window")
@dataclass(frozen=True, kw_only=True)
class Window(Levels):
    """Replace all levels by new ones in every world: ``window`` of arXiv 2405.19153."""

    on: ClassVar[str] = "dynamics"

    def blocks(self, world: int) -> list[int]:
        """The world's own alone."""
        return [world]


@shift("expand")
@dataclass(frozen=True, kw_only=True)
class Expand(Levels):
    """Add as many new levels to those that there are: ``expand`` of arXiv 2405.19153."""

    on: ClassVar[str] = "dynamics"

    def blocks(self, world: int) -> list[int]:
        """All until now, and the world's own."""
        return list(range(world + 1))
