"""The continual Gym Control protocol of TRAC (arXiv 2405.16642) and C-CHAIN (ICML 2025).

Written anew after `crl_gym_classic_control/control_train_aligned_vanilla.py` of C-CHAIN's code,
itself after TRAC's notebook (MIT licence); C-CHAIN's code has no licence file. One environment is
played in iterations of 800 steps, after each of which the agent learns; an episode ends after 400
steps at the latest *and at the end of its iteration*, cut and bootstrapped::

    |  400  |  400  |  93 | 400 | 307  |  ...         episodes of a good agent
    |  iteration 0  |   iteration 1    |  ...
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import gymnasium
from gymnasium.envs.classic_control.acrobot import AcrobotEnv
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from gymnasium.envs.classic_control.mountain_car import MountainCarEnv

from rlplastic.envs.box2d import lunar_lander
from rlplastic.envs.copies import Array, Copies, GymCopies
from rlplastic.registry import environment

GAMES: dict[str, Callable[[], gymnasium.Env[Array, Any]]] = {
    "CartPole": CartPoleEnv,
    "Acrobot": AcrobotEnv,
    "MountainCar": MountainCarEnv,
    "LunarLander": lunar_lander,
}


class Iterations(gymnasium.Wrapper[Array, Any, Array, Any]):
    """Truncates an episode after `limit` steps, and at the end of every iteration.

    Iterations are counted from the last seeded reset, with which every phase of a stream begins.
    """

    def __init__(self, env: gymnasium.Env[Array, Any], limit: int, iteration: int) -> None:
        super().__init__(env)
        self.limit, self.iteration = limit, iteration
        self._total = self._length = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """See `gymnasium.Env.reset`."""
        if seed is not None:
            self._total = 0
        self._length = 0
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """See `gymnasium.Env.step`."""
        observation, reward, terminated, _, info = self.env.step(action)
        self._total += 1
        self._length += 1
        over = self._length == self.limit or self._total % self.iteration == 0
        return observation, float(reward), terminated, over and not terminated, info


@environment("ContinualControl")
@dataclass(frozen=True, kw_only=True)
class ContinualControl:
    """A game of the continual Gym Control protocol: episodes of 400 steps, iterations of 800.

    Its observations have no spread: the protocol moves every dimension by the same sigma.

    Attributes:
        game: Which one, without Gymnasium's own time limit. LunarLander is v3, since v2, which the
            protocol names, is no longer part of Gymnasium.
    """

    time_limit: ClassVar[int] = 400
    frame_skip: ClassVar[int] = 1
    iteration: ClassVar[int] = 800  # steps of one copy; the return curve has one bin for each

    game: Literal["CartPole", "Acrobot", "MountainCar", "LunarLander"]

    def make(self, num_copies: int) -> Copies:
        """See `rlplastic.envs.copies`."""
        make = GAMES[self.game]
        return GymCopies(lambda: Iterations(make(), self.time_limit, self.iteration), num_copies)
