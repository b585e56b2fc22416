"""Points of two or more spirals that turn around each other: a small problem that is not linear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Gt, Le

from rlplastic.envs.copies import Array, Copies
from rlplastic.envs.datasets import Dataset
from rlplastic.envs.supervised import Examples
from rlplastic.registry import environment

LIMIT = 250  # steps of an episode: minibatches have hundreds of points, and each copy has a record


class Spiral(Examples):
    """See `Spirals`.

    Attributes:
        seed: Of the points that a shift shows instead of the first ones; takes effect at the next
            `reset`.
    """

    def __init__(self, num_copies: int, config: Spirals) -> None:
        self._config = config
        self._first = config.points_of(config.points)
        self.seed: int | None = None
        super().__init__(self._first, num_copies, (), 0)
        self.limit = LIMIT
        self._shown: int | None = None

    def reset(self, seeds: Sequence[int] | None = None) -> Array:
        """See `Supervised.reset`."""
        if self.seed != self._shown:
            self.data = self._first if self.seed is None else self._config.points_of(self.seed)
            self._selected = ()
            self._shown = self.seed
        return super().reset(seeds)


@environment("Spirals")
@dataclass(frozen=True, kw_only=True)
class Spirals:
    """Points of C spirals, one a step; the action is the spiral, the return the accuracy in %.

    Point i of n of spiral c has radius i / (n - 1) and angle 2π (c / C + turns i / (n - 1)), moved
    by N(0, noise^2) radians (arXiv 2102.03793; miguel-rg/dynamical-loss-functions, whose defaults
    these are). With as many copies as points, a step is a step of gradient descent on all of them.

    Attributes:
        classes: C, the number of spirals.
        number: Points of each.
        turns: Turns of each around the centre.
        noise: Standard deviation of the angle, in radians.
        points: Which points are drawn.
    """

    time_limit: ClassVar[int] = LIMIT
    fixed_length: ClassVar[bool] = True  # of every episode: phases must be whole ones
    frame_skip: ClassVar[int] = 1

    classes: Annotated[int, Ge(2), Le(10)] = 3
    number: Annotated[int, Ge(2), Le(100_000)] = 100
    turns: Annotated[float, Gt(0)] = 2.0
    noise: Annotated[float, Ge(0)] = 0.2
    points: Annotated[int, Ge(0)] = 0

    def points_of(self, seed: int) -> Dataset:
        """The points that a seed gives: float32 ``[classes x number, 2]``, within [-1, 1]."""
        rng = np.random.default_rng(seed)
        radius = np.tile(np.linspace(0.0, 1.0, self.number), (self.classes, 1))
        first = np.arange(self.classes)[:, None] / self.classes
        angle = 2 * np.pi * (first + self.turns * radius)
        angle += rng.normal(0.0, 1.0, angle.shape) * self.noise
        where = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=2)
        labels = np.repeat(np.arange(self.classes), self.number)
        images = where.reshape(-1, 2).astype(np.float32)
        return Dataset(name="spirals", images=images, labels=labels)

    def make(self, num_copies: int) -> Copies:
        """See `rlplastic.envs.copies`."""
        return Spiral(num_copies, self)
