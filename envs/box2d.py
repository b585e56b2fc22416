"""Box2D: LunarLander, whose gravity and wind can change. Needs the extra ``rlplastic[box2d]``."""

from __future__ import annotations

from typing import Any

import gymnasium

from rlplastic.envs.copies import Array
from rlplastic.errors import UsageError


def lunar_lander(**options: Any) -> gymnasium.Env[Array, Any]:
    """Gymnasium's LunarLander-v3, without a time limit.

    Raises:
        UsageError: Box2D is not installed.
    """
    try:
        from gymnasium.envs.box2d.lunar_lander import LunarLander
    except (ModuleNotFoundError, gymnasium.error.DependencyNotInstalled) as error:
        raise UsageError(
            "LunarLander needs Box2D, which is not installed: pip install 'rlplastic[box2d]'"
        ) from error
    return LunarLander(**options)
