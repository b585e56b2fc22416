"""Box2D: LunarLander, whose physics and wind can change. Needs the extra ``rlplastic[box2d]``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium
from gymnasium.error import DependencyNotInstalled
from gymnasium.wrappers import TimeLimit

from rlplastic.envs.copies import Array, Copies, GymCopies
from rlplastic.errors import UsageError
from rlplastic.registry import environment


def lunar_lander(**options: Any) -> gymnasium.Env[Array, Any]:
    """Gymnasium's LunarLander-v3, without a time limit; see `rlplastic.envs.lander`.

    Raises:
        UsageError: Box2D is not installed.
    """
    try:
        from rlplastic.envs.lander import Lander
    except (ModuleNotFoundError, DependencyNotInstalled) as error:
        raise UsageError(
            "LunarLander needs Box2D, which is not installed: pip install 'rlplastic[box2d]'"
        ) from error
    return Lander(**options)


@environment("LunarLander")
@dataclass(frozen=True, kw_only=True)
class LunarLander:
    """LunarLander-v3: 1,000 steps; land between the flags.

    Attributes:
        continuous: Throttles instead of four actions, for agents with continuous actions.
    """

    time_limit: ClassVar[int] = 1000
    frame_skip: ClassVar[int] = 1
    # half the width and height that are seen; unit velocities, a radian, legs on the ground or not
    spread: ClassVar[Sequence[float]] = (1.0,) * 8

    continuous: bool = False

    def make(self, num_copies: int) -> Copies:
        """See `rlplastic.envs.copies`."""
        return GymCopies(
            lambda: TimeLimit(lunar_lander(continuous=self.continuous), self.time_limit),
            num_copies,
            spread=self.spread,
        )
