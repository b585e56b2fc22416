"""LunarLander with a mass and a friction that can be changed. Imports Box2D: see `box2d`."""

from __future__ import annotations

from typing import Any, ClassVar

from gymnasium.envs.box2d.lunar_lander import LunarLander

from rlplastic.envs.copies import Array
from rlplastic.envs.physics import Constants


class Lander(LunarLander):
    """Gymnasium's LunarLander-v3, and the same with other physics.

    Attributes:
        mass: What the masses of the lander and its legs are multiplied by: the engines' forces
            stay, so that a heavier lander accelerates less.
        friction: What the friction of all surfaces is multiplied by.
    """

    physics: ClassVar[Constants] = Constants(
        attributes={"gravity": ("gravity",), "mass": ("mass",), "friction": ("friction",)},
        most={"gravity": 1.19},  # Gymnasium allows gravities between -12 and 0; its own is -10
    )
    mass = 1.0
    friction = 1.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """See `gymnasium.Env.reset`; Gymnasium's own first step is of the unchanged lander."""
        first: tuple[Array, dict[str, Any]] = super().reset(seed=seed, options=options)
        for body in (self.lander, *self.legs, self.moon):
            if (self.mass, self.friction) == (1.0, 1.0):
                break  # not a bit of world 0 is computed anew
            for fixture in body.fixtures:
                fixture.density *= self.mass
                fixture.friction *= self.friction
            body.ResetMassData()
        return first
