"""The physical constants of Gymnasium's environments, by the names that the shift ``physics`` uses.

An environment of one's own needs an attribute ``physics``, a `Constants`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import gymnasium


@dataclass(frozen=True, kw_only=True)
class Constants:
    """What can be changed in an environment, and how.

    Attributes:
        attributes: By the name of each constant, the attributes that are multiplied together,
            numbers or lists or arrays of them; dots lead into objects, as ``model.opt.gravity``.
        most: Largest factor, where the environment allows no more.
        settle: Computes anew what the environment keeps of them.
    """

    attributes: Mapping[str, tuple[str, ...]]
    most: Mapping[str, float] = field(default_factory=dict)
    settle: Callable[[Any], None] = lambda env: None


def _settle_cartpole(env: Any) -> None:
    env.total_mass = env.masspole + env.masscart
    env.polemass_length = env.masspole * env.length


def _settle_mujoco(env: Any) -> None:
    import mujoco

    mujoco.mj_setConst(env.model, env.data)  # masses below a body, inverse weights, ...


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
    # any of Gymnasium's robots; damping is that of the joints
    "MujocoEnv": Constants(
        attributes={
            "gravity": ("model.opt.gravity",),
            "mass": ("model.body_mass", "model.body_inertia"),
            "friction": ("model.geom_friction",),
            "torque": ("model.actuator_gear",),
            "damping": ("model.dof_damping",),
        },
        settle=_settle_mujoco,
    ),
}


def constants_of(env: gymnasium.Env[Any, Any]) -> Constants | None:
    """The constants of an environment; None if it is not known."""
    own: Constants | None = getattr(env.unwrapped, "physics", None)
    kinds = [kind.__name__ for kind in type(env.unwrapped).__mro__]
    return own or next((KNOWN[name] for name in kinds if name in KNOWN), None)


def own(env: gymnasium.Env[Any, Any], attribute: str) -> Any:
    """What an attribute is in world 0: kept when it is first asked for, before it is changed."""
    kept = vars(env.unwrapped).setdefault("_own_constants", {})
    if attribute not in kept:
        kept[attribute] = copy.copy(attrgetter(attribute)(env.unwrapped))
    return kept[attribute]


def multiply(env: gymnasium.Env[Any, Any], factors: Mapping[str, float]) -> None:
    """Set constants to their own values times these factors; all others to their own values."""
    inner, constants = env.unwrapped, constants_of(env)
    assert constants is not None
    for name, attributes in constants.attributes.items():
        factor = factors.get(name, 1.0)
        for attribute in attributes:
            value = own(env, attribute)
            changed = [one * factor for one in value] if isinstance(value, list) else value * factor
            way, _, last = attribute.rpartition(".")
            setattr(attrgetter(way)(inner) if way else inner, last, changed)
    constants.settle(inner)
