"""Classic control: CartPole, Acrobot, Pendulum, and MountainCar with a goal that can be moved.

World 0 is Gymnasium's own environment, with its rewards and its time limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import MinLen
from gymnasium.envs.classic_control.acrobot import AcrobotEnv
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from gymnasium.envs.classic_control.mountain_car import MountainCarEnv
from gymnasium.envs.classic_control.pendulum import PendulumEnv
from gymnasium.wrappers import TimeLimit

from rlplastic.envs.copies import Array, Copies, GymCopies
from rlplastic.envs.switching import SwitchCopies
from rlplastic.errors import unknown
from rlplastic.registry import environment


class MountainCarWithGoals(MountainCarEnv):
    """Goals: the top of the right hill (position 0.5); the left slope (position -1.1)."""

    num_goals: ClassVar[int] = 2
    left_goal: ClassVar[float] = -1.1

    def __init__(self) -> None:
        super().__init__()
        self.right_goal = self.goal_position
        self.goal = 0

    def set_goal(self, goal: int) -> None:
        """Choose the goal from now on."""
        self.goal = goal
        # beyond the wall at 0.6, the base class's own goal is out of reach
        self.goal_position = self.right_goal if goal == 0 else np.inf

    def step(self, action: int) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """See `gymnasium.Env.step`."""
        observation, reward, terminated, truncated, info = super().step(action)
        if self.goal == 1:
            terminated = bool(self.state[0] <= self.left_goal)
        return observation, float(reward), terminated, truncated, info


@environment("CartPole")
@dataclass(frozen=True, kw_only=True)
class CartPole:
    """CartPole-v1: 500 steps, +1 for each."""

    time_limit: ClassVar[int] = 500
    frame_skip: ClassVar[int] = 1
    # where an episode ends (position, angle); about one unit for the velocities
    spread: ClassVar[Sequence[float]] = (2.4, 1.0, 0.2095, 1.0)

    def make(self, num_copies: int) -> Copies:
        """See `rlplastic.envs.copies`."""
        return GymCopies(
            lambda: TimeLimit(CartPoleEnv(), self.time_limit), num_copies, spread=self.spread
        )


@environment("Acrobot")
@dataclass(frozen=True, kw_only=True)
class Acrobot:
    """Acrobot-v1: 500 steps, -1 for each until the tip is above the line."""

    time_limit: ClassVar[int] = 500
    frame_skip: ClassVar[int] = 1
    # cosines and sines; the angular velocities' limits are 4 pi and 9 pi, used to about a third
    spread: ClassVar[Sequence[float]] = (1.0, 1.0, 1.0, 1.0, 4.0, 9.0)

    def make(self, num_copies: int) -> Copies:
        """See `rlplastic.envs.copies`."""
        return GymCopies(
            lambda: TimeLimit(AcrobotEnv(), self.time_limit), num_copies, spread=self.spread
        )


@environment("MountainCar")
@dataclass(frozen=True, kw_only=True)
class MountainCar:
    """MountainCar-v0: 200 steps, -1 for each until the goal; two goals."""

    time_limit: ClassVar[int] = 200
    frame_skip: ClassVar[int] = 1
    # half the range of position and velocity
    spread: ClassVar[Sequence[float]] = (0.9, 0.07)

    def make(self, num_copies: int) -> Copies:
        """See `rlplastic.envs.copies`."""
        return GymCopies(
            lambda: TimeLimit(MountainCarWithGoals(), self.time_limit),
            num_copies,
            spread=self.spread,
        )


@environment("Pendulum")
@dataclass(frozen=True, kw_only=True)
class Pendulum:
    """Pendulum-v1: 200 steps, continuous torque; for agents with continuous actions."""

    time_limit: ClassVar[int] = 200
    frame_skip: ClassVar[int] = 1
    spread: ClassVar[Sequence[float]] = (1.0, 1.0, 8.0)

    def make(self, num_copies: int) -> Copies:
        """See `rlplastic.envs.copies`."""
        return GymCopies(
            lambda: TimeLimit(PendulumEnv(), self.time_limit), num_copies, spread=self.spread
        )


SWITCHABLE: dict[str, type[CartPole | Acrobot | MountainCar]] = {
    "CartPole": CartPole,
    "Acrobot": Acrobot,
    "MountainCar": MountainCar,
}


@environment("ControlSwitch")
@dataclass(frozen=True, kw_only=True)
class ControlSwitch:
    """Several classic-control environments, one at a time; the shift `game` says which.

    Shorter observations are filled up with zeros. CartPole, which has two actions, takes the third
    of the others as its first.

    Attributes:
        games: Names of the environments; world w is the w-th.
    """

    time_limit: ClassVar[int] = 500  # the longest of the three
    frame_skip: ClassVar[int] = 1

    games: Annotated[Sequence[str], MinLen(2)] = tuple(SWITCHABLE)

    def __post_init__(self) -> None:
        """Refuse an environment that is not one of these."""
        for game in self.games:
            if game not in SWITCHABLE:
                raise unknown("classic-control environment", game, SWITCHABLE)

    def make(self, num_copies: int) -> Copies:
        """See `rlplastic.envs.copies`."""
        return SwitchCopies(
            [SWITCHABLE[game]().make(num_copies) for game in self.games], self.games
        )
