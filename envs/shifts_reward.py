"""Shifts of what the agent is paid for.

A reward world must change the optimal policy and leave headroom, or there is nothing to recover:
goals, regions and values change places. The bare sign flip is for environments where both
directions can be played well; the scale of the learner's target is a shift of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import gymnasium
import numpy as np
from annotated_types import Ge, Gt, Lt, MinLen

from rlplastic.envs.copies import Array, GymCopies
from rlplastic.envs.shifts import Shift
from rlplastic.registry import shift


@shift("region")
@dataclass(frozen=True, kw_only=True)
class Region(Shift):
    """Pay only in one half of the state space. World 1: below the threshold; world 2: above.

    World 0 pays everywhere, as the base environment does.
    """

    on: ClassVar[str] = "reward"
    worlds: ClassVar[int | None] = 3

    dimension: Annotated[int, Ge(0)] = 0
    threshold: float = 0.0

    def check(self) -> None:
        """The dimension must exist."""
        shape = self.base.observation_space.shape
        if shape is None or len(shape) != 1 or self.dimension >= shape[0]:
            raise self.refuse(f"a vector with a dimension {self.dimension}")

    def reward(self, reward: Array, world: Array, observation: Array) -> Array:
        """The base reward where it counts, else 0."""
        below = observation[:, self.dimension] < self.threshold
        return np.where(below == (world == 1), reward, 0.0)


@shift("side")
@dataclass(frozen=True, kw_only=True)
class Side(Shift):
    """Pay only while the player is in one half of the frame. World 1: left; world 2: right.

    World 0 pays everywhere, as the base environment does.

    Attributes:
        channel: The frame's channel that shows the player and nothing else.
        outside: What a reward in the other half is multiplied by: 0 is lost, -1 costs as much.
    """

    on: ClassVar[str] = "reward"
    worlds: ClassVar[int | None] = 3

    channel: Annotated[int, Ge(0)] = 0
    outside: Annotated[float, Ge(-1), Lt(1)] = 0.0

    def check(self) -> None:
        """The channel must exist."""
        shape = self.base.observation_space.shape
        if shape is None or len(shape) != 3 or self.channel >= shape[0]:
            raise self.refuse(f"frames with a channel {self.channel}")

    def reward(self, reward: Array, world: Array, observation: Array) -> Array:
        """The base reward where it counts, else `outside` times it."""
        columns = observation[:, self.channel].sum(axis=1, dtype=np.int64)
        left, right = np.array_split(columns, 2, axis=1)
        in_left = left.sum(axis=1) > right.sum(axis=1)
        return np.where(in_left == (world == 1), reward, self.outside * reward)


@shift("goal")
@dataclass(frozen=True, kw_only=True)
class Goal(Shift):
    """Move the goal: world w is the environment's w-th goal.

    For environments that have ``num_goals`` and ``set_goal(index)``.
    """

    on: ClassVar[str] = "reward"

    def check(self) -> None:
        """The environment must have several goals."""
        envs = self.base.envs if isinstance(self.base, GymCopies) else []
        if not envs or not all(hasattr(env.unwrapped, "set_goal") for env in envs):
            raise self.refuse("an environment with several goals")
        self.__dict__["worlds"] = envs[0].unwrapped.num_goals  # type: ignore[attr-defined]

    def configure(self, env: gymnasium.Env[Any, Any], world: int) -> gymnasium.Env[Any, Any]:
        """The same environment with the world's goal."""
        env.unwrapped.set_goal(world)  # type: ignore[attr-defined]
        return env


@shift("values")
@dataclass(frozen=True, kw_only=True)
class Values(Shift):
    """Exchange the values of the reward's distinct increments: what was good becomes bad.

    World 1 pays ``to[i]`` where the base environment pays ``increments[i]``; other increments
    stay. Two worlds, as the square wave of Jelly Bean World's item values (PT-DQN's protocol,
    Anand & Precup, NeurIPS 2023).
    """

    on: ClassVar[str] = "reward"
    worlds: ClassVar[int | None] = 2

    increments: Annotated[Sequence[float], MinLen(1)]
    to: Annotated[Sequence[float], MinLen(1)]

    def check(self) -> None:
        """One new value for each increment, and at least one that differs."""
        if len(self.increments) != len(self.to) or list(self.increments) == list(self.to):
            raise self.refuse(
                f"as many new values as increments, not all equal (increments = "
                f"{list(self.increments)}, to = {list(self.to)})"
            )

    def reward(self, reward: Array, world: Array, observation: Array) -> Array:
        """The exchanged values."""
        out = reward.copy()
        for increment, value in zip(self.increments, self.to, strict=True):
            out[reward == increment] = value
        return out


@shift("sign")
@dataclass(frozen=True, kw_only=True)
class Sign(Shift):
    """Pay the opposite. Two worlds. Only where both directions have headroom, as in Boxing."""

    on: ClassVar[str] = "reward"
    worlds: ClassVar[int | None] = 2

    def reward(self, reward: Array, world: Array, observation: Array) -> Array:
        """Minus the base reward."""
        return -reward


@shift("target-scale")
@dataclass(frozen=True, kw_only=True)
class TargetScale(Shift):
    """Scale what the learner is paid by `factor` in world 1, after clipping.

    It moves the learner's targets and leaves the optimal policy alone; the recorded returns are
    those before scaling. Two worlds.
    """

    on: ClassVar[str] = "target"
    worlds: ClassVar[int | None] = 2

    factor: Annotated[float, Gt(0)] = 10.0

    def target(self, reward: Array, world: Array) -> Array:
        """Scaled."""
        return reward * self.factor
