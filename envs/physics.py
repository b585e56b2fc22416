"""The physical constants of Gymnasium's environments, by the names that the shift ``physics`` uses.

An environment of one's own needs an attribute ``physics``, a `Constants`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium


@dataclass(frozen=True, kw_only=True)
class Constants:
    """What can be changed in an environment, and how.

    Attributes:
        attributes: By the name of each constant, the attributes that are multiplied together.
        most: Largest factor, where the environment allows no more.
        settle: Computes anew what the environment keeps of them.
    """

    attributes: Mapping[str, tuple[str, ...]]
    most: Mapping[str, float] = field(default_factory=dict)
    settle: Callable[[Any], None] = lambda env: None


def _settle_cartpole(env: Any) -> None:
    env.total_mass = env.masspole + env.masscart
    env.polemass_length = env.masspole * env.length


KNOWN: dict[str, Constants] = {
    "CartPoleEnv": Constants(
        attributes={
            "gravity": ("gravity",),
            "cart_mass": ("masscart",),
            "pole_mass": ("masspole",),
            "pole_length": ("length",),
            "force": ("force_mag",),
        },
        settle=_settle_cartpole,
    ),
    "AcrobotEnv": Constants(  # gravity is a literal in its equations
        attributes={
            "length": (
                "LINK_LENGTH_1",
                "LINK_LENGTH_2",
                "LINK_COM_POS_1",
                "LINK_COM_POS_2",
            ),
            "upper_mass": ("LINK_MASS_1",),
            "lower_mass": ("LINK_MASS_2",),
            "inertia": ("LINK_MOI",),
            "torque": ("AVAIL_TORQUE",),
        }
    ),
    "MountainCarEnv": Constants(attributes={"gravity": ("gravity",), "force": ("force",)}),
    "PendulumEnv": Constants(attributes={"gravity": ("g",), "mass": ("m",), "length": ("l",)}),
    # Gymnasium allows gravities between -12 and 0; its own is -10
    "LunarLander": Constants(attributes={"gravity": ("gravity",)}, most={"gravity": 1.19}),
}


def constants_of(env: gymnasium.Env[Any, Any]) -> Constants | None:
    """The constants of an environment; None if it is not known."""
    own: Constants | None = getattr(env.unwrapped, "physics", None)
    kinds = [kind.__name__ for kind in type(env.unwrapped).__mro__]
    return own or next((KNOWN[name] for name in kinds if name in KNOWN), None)


def multiply(env: gymnasium.Env[Any, Any], factors: Mapping[str, float]) -> None:
    """Set constants to their own values times these factors; all others to their own values."""
    inner, constants = env.unwrapped, constants_of(env)
    assert constants is not None
    named = [(name, key) for name, keys in constants.attributes.items() for key in keys]
    own = vars(inner).setdefault("_own_constants", {key: getattr(inner, key) for _, key in named})
    for name, key in named:
        factor, value = factors.get(name, 1.0), own[key]
        changed = [one * factor for one in value] if isinstance(value, list) else value * factor
        setattr(inner, key, changed)
    constants.settle(inner)
