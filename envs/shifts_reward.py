"""Shifts of what the agent is paid for.

A reward world must change the optimal policy and leave headroom, or there is nothing to recover:
goals, regions and values change places. The bare sign flip is for environments where both
directions can be played well; the scale of the learner's target is a shift of its own. Any mix of
two reward functions is one: (1 - m) R + m R'. Noise, delay and sparsity leave the best policy of
the undiscounted return as it is and make it harder to find.
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

    Attributes:
        dimension: Which dimension of the observation divides the space.
        threshold: Where it does; the threshold itself is above.
    """

    on: ClassVar[str] = "reward"
    worlds: ClassVar[int | None] = 3
    mixes: ClassVar[bool] = True

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
    mixes: ClassVar[bool] = True

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

    Attributes:
        increments: What the base environment pays.
        to: What is paid in its place, in the same order.
    """

    on: ClassVar[str] = "reward"
    worlds: ClassVar[int | None] = 2
    mixes: ClassVar[bool] = True

    increments: Annotated[Sequence[float], MinLen(1)]
    to: Annotated[Sequence[float], MinLen(1)]

    def check(self) -> None:
        """One new value for each increment, and at least one that differs."""
        if len(set(self.increments)) < len(self.increments):
            raise self.refuse(f"increments that differ, not {list(self.increments)}")
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
    mixes: ClassVar[bool] = True

    def reward(self, reward: Array, world: Array, observation: Array) -> Array:
        """Minus the base reward."""
        return -reward


@shift("reward-offset")
@dataclass(frozen=True, kw_only=True)
class RewardOffset(Shift):
    """Add a constant to the reward of every step, N(0, sigma^2), drawn anew for each world.

    It changes what is best only through the length of episodes: a world that takes away rewards
    a quick end. Clipped rewards keep nothing of it but a sign.

    Attributes:
        sigma: Standard deviation of the constant, in units of the reward.
    """

    on: ClassVar[str] = "reward"
    mixes: ClassVar[bool] = True

    sigma: Annotated[float, Gt(0)] = 1.0

    def draw(self, rng: np.random.Generator) -> Array:
        """The constant."""
        return np.array(rng.normal(0.0, self.sigma))

    def reward(self, reward: Array, world: Array, observation: Array) -> Array:
        """Moved."""
        moved: Array = reward + self.content(world)
        return moved


@shift("reward-noise")
@dataclass(frozen=True, kw_only=True)
class RewardNoise(Shift):
    """Add N(0, sigma^2) to the reward, drawn anew at each step. Two worlds.

    As the Gaussian corruption of Romoff et al. (arXiv 1805.03359). The recorded return has the
    noise in it too. Clipped rewards would be the noise's sign wherever nothing else is paid.

    Attributes:
        sigma: Standard deviation of the noise, in units of the reward.
    """

    on: ClassVar[str] = "reward"
    worlds: ClassVar[int | None] = 2
    mixes: ClassVar[bool] = True

    sigma: Annotated[float, Gt(0)] = 1.0

    def reward(self, reward: Array, world: Array, observation: Array) -> Array:
        """Noisy."""
        return reward + self.sigma * self.normal()


@shift("reward-delay")
@dataclass(frozen=True, kw_only=True)
class RewardDelay(Shift):
    """Pay each reward `steps` steps later; what is owed at the end of an episode is paid there.

    Two worlds. The return of an episode stays as it is (but for episodes that the end of training
    cuts): it is the assignment of credit that gets harder.

    Attributes:
        steps: Steps of the agent that a reward takes to arrive.
    """

    on: ClassVar[str] = "reward"
    worlds: ClassVar[int | None] = 2

    steps: Annotated[int, Ge(1)] = 10

    def memory(self, copies: int) -> dict[str, Array]:
        """What is owed, in a ring, and the steps so far."""
        return {"owed": np.zeros((copies, self.steps)), "count": np.zeros(copies, dtype=np.int64)}

    def reward(self, reward: Array, world: Array, observation: Array) -> Array:
        """The reward of so many steps ago; at the end, all that is left as well."""
        owed, count, rows = self.kept("owed"), self.kept("count"), self.now.copies
        place = count[rows] % self.steps
        paid: Array = owed[rows, place]
        owed[rows, place] = reward
        count[rows] += 1
        return paid + np.where(self.now.last, owed[rows].sum(axis=1), 0.0)


@shift("sparse")
@dataclass(frozen=True, kw_only=True)
class Sparse(Shift):
    """Pay the sum of the rewards at every `every`-th step and at the end of an episode, else 0.

    Two worlds. The return of an episode stays as it is. The delayed-reward tasks of
    Self-Imitation Learning (arXiv 1806.05635) are ``every=20``.

    Attributes:
        every: Steps of the agent between two payments; 0: only at the end.
    """

    on: ClassVar[str] = "reward"
    worlds: ClassVar[int | None] = 2

    every: Annotated[int, Ge(0)] = 20

    def check(self) -> None:
        """Something must change."""
        if self.every == 1:
            raise self.refuse("every = 0 or at least 2; with 1 every reward is paid at once")

    def memory(self, copies: int) -> dict[str, Array]:
        """What is owed, and the steps so far."""
        return {"owed": np.zeros(copies), "count": np.zeros(copies, dtype=np.int64)}

    def reward(self, reward: Array, world: Array, observation: Array) -> Array:
        """The sum, when it is due."""
        owed, count, rows = self.kept("owed"), self.kept("count"), self.now.copies
        owed[rows] += reward
        count[rows] += 1
        due = self.now.last | (count[rows] % self.every == 0 if self.every else False)
        paid: Array = np.where(due, owed[rows], 0.0)
        owed[rows[due]] = 0.0
        return paid


@shift("target-scale")
@dataclass(frozen=True, kw_only=True)
class TargetScale(Shift):
    """Scale what the learner is paid by `factor` in world 1, after clipping.

    It moves the learner's targets and leaves the optimal policy alone; the recorded returns are
    those before scaling. Two worlds.

    Attributes:
        factor: What the target is multiplied by.
    """

    on: ClassVar[str] = "target"
    worlds: ClassVar[int | None] = 2
    mixes: ClassVar[bool] = True

    factor: Annotated[float, Gt(0)] = 10.0

    def target(self, reward: Array, world: Array) -> Array:
        """Scaled."""
        return reward * self.factor
