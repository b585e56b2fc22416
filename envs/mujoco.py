"""MuJoCo: the Ant, whose ground can become slippery. Needs the extra ``rlplastic[mujoco]``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium
from gymnasium.error import DependencyNotInstalled
from gymnasium.wrappers import TimeLimit

from rlplastic.envs.copies import Array, Copies, GymCopies
from rlplastic.errors import UsageError
from rlplastic.registry import environment


def ant() -> gymnasium.Env[Array, Any]:
    """Gymnasium's Ant-v5, without a time limit.

    Raises:
        UsageError: MuJoCo is not installed.
    """
    try:
        from gymnasium.envs.mujoco.ant_v5 import AntEnv

        return AntEnv()
    except (ModuleNotFoundError, DependencyNotInstalled) as error:
        raise UsageError(
            "Ant needs MuJoCo, which is not installed: pip install 'rlplastic[mujoco]'"
        ) from error


@environment("Ant")
@dataclass(frozen=True, kw_only=True)
class Ant:
    """Ant-v5: 1,000 steps; walk to the right, eight continuous torques."""

    time_limit: ClassVar[int] = 1000
    frame_skip: ClassVar[int] = 5

    def make(self, num_copies: int) -> Copies:
        """See `rlplastic.envs.copies`."""
        return GymCopies(lambda: TimeLimit(ant(), self.time_limit), num_copies)
