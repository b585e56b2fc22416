"""Shifts of what the agent's actions do. The agent's own record keeps the action that it chose."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Gt, Le, Lt
from gymnasium import spaces

from rlplastic.envs import orders
from rlplastic.envs.copies import Array
from rlplastic.envs.shifts import Shift
from rlplastic.registry import shift


@shift("action-permutation")
@dataclass(frozen=True, kw_only=True)
class ActionPermutation(Shift):
    """Exchange what the discrete actions do: an order drawn anew for each world.

    Exactly `share` of the actions do something else, so there are as many worlds as orders of
    that kind: two for CartPole's two actions, 266 for Pong's six.

    Attributes:
        share: Share of the actions that do something else; at least two of them.
    """

    on: ClassVar[str] = "action"
    moves_chance: ClassVar[bool] = False  # any order of uniformly random actions is one

    share: Annotated[float, Gt(0), Le(1)] = 1.0

    def check(self) -> None:
        """Only discrete actions have an order."""
        space = self.base.action_space
        if not (isinstance(space, spaces.Discrete) and space.n > 1):
            raise self.refuse("at least two discrete actions")
        others = orders.number_of(self._places, orders.moving(self._places, self.share))
        self.__dict__["worlds"] = None if others is None else others + 1

    @property
    def _places(self) -> int:
        space = self.base.action_space
        assert isinstance(space, spaces.Discrete)
        return int(space.n)

    def draw(self, rng: np.random.Generator) -> Array:
        """What each action does instead."""
        return orders.draw(rng, self._places, orders.moving(self._places, self.share))

    def action(self, action: Array, world: Array) -> Array:
        """The action in the chosen one's place."""
        space = self.base.action_space
        assert isinstance(space, spaces.Discrete)
        order, rows = self.content(world), np.arange(len(action))
        done: Array = order[rows, action - space.start] + space.start
        return done.astype(action.dtype)


@shift("sticky")
@dataclass(frozen=True, kw_only=True)
class Sticky(Shift):
    """Repeat the action before, with a fixed probability, whatever the agent chose. Two worlds.

    The action that was carried out is repeated, so it can stick for several steps; an episode's
    first action never is. As Machado et al. (arXiv 1709.06009, Sec. 5: 0.25), but once for each
    action of the agent, not for each frame of the emulator, and on top of what `Atari` has.

    Attributes:
        probability: Of each repetition.
    """

    on: ClassVar[str] = "action"
    worlds: ClassVar[int | None] = 2

    probability: Annotated[float, Gt(0), Lt(1)] = 0.25

    def memory(self, copies: int) -> dict[str, Array]:
        """The action carried out last, if there was one."""
        space = self.base.action_space
        last = np.zeros((copies, *(space.shape or ())), dtype=space.dtype)
        return {"last": last, "any": np.zeros(copies, dtype=bool)}

    def action(self, action: Array, world: Array) -> Array:
        """The agent's, or the one before."""
        last, before, rows = self.kept("last"), self.kept("any"), self.now.copies
        drawn = self.uniform() < self.probability
        stuck = (drawn & before[rows]).reshape(-1, *(1,) * (action.ndim - 1))
        done = np.where(stuck, last[rows], action).astype(action.dtype)
        last[rows], before[rows] = done, True
        return done


@shift("action-inversion")
@dataclass(frozen=True, kw_only=True)
class ActionInversion(Shift):
    """Turn continuous actions round: a becomes low + high - a, and twice gives a again.

    With bounds around zero it is exact, else up to rounding. With a `share` below 1
    each world turns other dimensions, exactly so many of them.

    Attributes:
        share: Share of the dimensions that are turned; at least one.
    """

    on: ClassVar[str] = "action"

    share: Annotated[float, Gt(0), Le(1)] = 1.0

    def check(self) -> None:
        """Continuous actions with bounds."""
        space = self.base.action_space
        if not (isinstance(space, spaces.Box) and space.is_bounded() and space.shape):
            raise self.refuse("continuous actions with bounds")
        self.__dict__["worlds"] = 1 + math.comb(math.prod(space.shape), self._turned)

    @property
    def _turned(self) -> int:
        return max(1, round(self.share * math.prod(self.base.action_space.shape or ())))

    def draw(self, rng: np.random.Generator) -> Array:
        """Which dimensions are turned."""
        shape = self.base.action_space.shape or ()
        turned = np.zeros(math.prod(shape), dtype=bool)
        turned[rng.choice(len(turned), self._turned, replace=False)] = True
        return turned.reshape(shape)

    def action(self, action: Array, world: Array) -> Array:
        """Turned round."""
        space = self.base.action_space
        assert isinstance(space, spaces.Box)
        turned = np.clip((space.low + space.high) - action, space.low, space.high)
        return np.where(self.content(world), turned, action).astype(action.dtype)


@shift("dead-action")
@dataclass(frozen=True, kw_only=True)
class DeadAction(Shift):
    """Make some actions do nothing; each world has other dead ones.

    A dead discrete action does what `instead` does; a dead dimension of continuous actions stays
    in the middle of its range. What is left must still be a choice: at least two live discrete
    actions, at least one live dimension.

    Attributes:
        dead: Number of dead actions, or dimensions.
        instead: The discrete action that stands for nothing, which cannot be dead itself: 0 in
            Atari (no-op), 1 in Acrobot and MountainCar (no force). Continuous actions ignore it.
    """

    on: ClassVar[str] = "action"

    dead: Annotated[int, Ge(1)] = 1
    instead: Annotated[int, Ge(0)] = 0

    def check(self) -> None:
        """Enough actions must be left."""
        space = self.base.action_space
        fits = isinstance(space, spaces.Discrete) and self.instead < space.n
        if not (fits or (isinstance(space, spaces.Box) and space.is_bounded())):
            raise self.refuse(
                f"discrete actions that have an action {self.instead}, or continuous ones with "
                "bounds"
            )
        if self._mortal <= self.dead:
            kind = "dimensions" if isinstance(space, spaces.Box) else "actions"
            least = self.dead + 1 + isinstance(space, spaces.Discrete)
            raise self.refuse(f"at least {least} {kind}, so that {self.dead} dead leave a choice")
        self.__dict__["worlds"] = 1 + math.comb(self._mortal, self.dead)

    @property
    def _mortal(self) -> int:
        """How many can die."""
        space = self.base.action_space
        if isinstance(space, spaces.Discrete):
            return int(space.n) - 1
        return math.prod(space.shape or ())

    def draw(self, rng: np.random.Generator) -> Array:
        """Which are dead."""
        dead = np.zeros(self._mortal, dtype=bool)
        dead[rng.choice(self._mortal, self.dead, replace=False)] = True
        if isinstance(self.base.action_space, spaces.Discrete):
            return np.insert(dead, self.instead, False)
        return dead.reshape(self.base.action_space.shape or ())

    def action(self, action: Array, world: Array) -> Array:
        """The action, or nothing."""
        space, dead = self.base.action_space, self.content(world)
        if isinstance(space, spaces.Discrete):
            gone = dead[np.arange(len(action)), action - space.start]
            return np.where(gone, self.instead + space.start, action).astype(action.dtype)
        assert isinstance(space, spaces.Box)
        middle = space.low + (space.high - space.low) / 2
        return np.where(dead, middle, action).astype(action.dtype)
