"""Shifts of what the world does: its levels and its physics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import gymnasium
import numpy as np
from annotated_types import Ge, Gt, Le

from rlplastic.envs import physics
from rlplastic.envs.copies import Array, GymCopies
from rlplastic.envs.shifts import Shift
from rlplastic.errors import UsageError, unknown
from rlplastic.registry import shift

_FIRST, _LAST = 2**32, 2**62  # numbers of drawn levels, out of the way of those of world 0


@dataclass(frozen=True, kw_only=True)
class Levels(Shift):
    """Another set of levels in each world, for environments with ``home`` and ``set_levels``.

    World 0 has the environment's own levels, ``home``; each later world draws a block of as many.
    """

    def check(self) -> None:
        """The environment must have levels."""
        envs = self.base.envs if isinstance(self.base, GymCopies) else []
        if not envs or not all(hasattr(env.unwrapped, "set_levels") for env in envs):
            raise self.refuse("an environment with levels")

    def draw(self, rng: np.random.Generator) -> Array:
        """The number of the first level of a world's block."""
        return rng.integers(_FIRST, _LAST, size=1)

    def block(self, home: tuple[int, ...], world: int) -> list[int]:
        """The levels that come with a world."""
        if world == 0:
            return list(home)
        first = int(self.content(np.array([world]))[0, 0])
        return list(range(first, first + len(home)))

    def blocks(self, world: int) -> list[int]:
        """The worlds whose blocks are to be seen in a world."""
        raise NotImplementedError

    def words(self, world: int) -> str:
        """The worlds whose levels there are."""
        return f"levels of world {', '.join(map(str, self.blocks(world)))}" if world else ""

    def configure(self, env: gymnasium.Env[Any, Any], world: int) -> gymnasium.Env[Any, Any]:
        """The same environment with the world's levels."""
        inner: Any = env.unwrapped
        inner.set_levels([n for one in self.blocks(world) for n in self.block(inner.home, one)])
        return env


@shift("window")
@dataclass(frozen=True, kw_only=True)
class Window(Levels):
    """Replace all levels by new ones in every world: ``window`` of arXiv 2405.19153."""

    on: ClassVar[str] = "dynamics"

    def blocks(self, world: int) -> list[int]:
        """The world's own alone."""
        return [world]


@shift("expand")
@dataclass(frozen=True, kw_only=True)
class Expand(Levels):
    """Add as many new levels to those that there are: ``expand`` of arXiv 2405.19153."""

    on: ClassVar[str] = "dynamics"

    def blocks(self, world: int) -> list[int]:
        """All until now, and the world's own."""
        return list(range(world + 1))


@shift("physics")
@dataclass(frozen=True, kw_only=True)
class Physics(Shift):
    """Multiply physical constants, each by a factor of its own, drawn anew for each world.

    A factor is log-uniform from 1 / `factor` to `factor`, or to the most that the environment
    allows. What there is: `rlplastic.envs.physics`. As the contexts of CARL (arXiv 2110.02102).

    Attributes:
        factor: The largest factor: how different the worlds are.
        parameters: The constants that change, as ``gravity``; empty: all that the environment has.
    """

    on: ClassVar[str] = "dynamics"

    factor: Annotated[float, Gt(1)] = 2.0
    parameters: Sequence[str] = ()

    def check(self) -> None:
        """The environment must have these constants."""
        envs = self.base.envs if isinstance(self.base, GymCopies) else []
        known = [physics.constants_of(env) for env in envs]
        if not known or known[0] is None:
            raise self.refuse("an environment of classic control or MuJoCo, or LunarLander")
        for name in self.parameters:
            if name not in known[0].attributes:
                raise unknown("parameter of shift 'physics'", name, known[0].attributes)
        if len(set(self.parameters)) < len(self.parameters):
            raise UsageError(
                f"shift 'physics': parameters = {list(self.parameters)}: each can have one factor; "
                f"valid: {', '.join(known[0].attributes)}, each once"
            )
        self.__dict__["_constants"] = known[0]

    @property
    def names(self) -> tuple[str, ...]:
        """The constants that change."""
        constants: physics.Constants = self.__dict__["_constants"]
        return tuple(self.parameters) or tuple(constants.attributes)

    def neutral(self) -> Array:
        """Every constant as it is."""
        return np.ones(len(self.names))

    def draw(self, rng: np.random.Generator) -> Array:
        """The factors, in the order of `names`."""
        constants: physics.Constants = self.__dict__["_constants"]
        most = [min(self.factor, constants.most.get(name, np.inf)) for name in self.names]
        return np.exp(rng.uniform(-np.log(self.factor), np.log(most)))

    def words(self, world: int) -> str:
        """Each constant with its factor."""
        factors = self.content(np.array([world]))[0] if world else ()
        return ", ".join(f"{n}*{f:.3g}" for n, f in zip(self.names, factors, strict=False))

    def configure(self, env: gymnasium.Env[Any, Any], world: int) -> gymnasium.Env[Any, Any]:
        """The same environment with the world's constants."""
        factors = self.content(np.array([world]))[0] if world else self.neutral()
        physics.multiply(env, dict(zip(self.names, factors.tolist(), strict=True)))
        return env


@shift("wind")
@dataclass(frozen=True, kw_only=True)
class Wind(Shift):
    """Let a wind blow, drawn anew for each world; in world 0 there is none. For LunarLander.

    Attributes:
        power: Largest power of the wind, uniform from 0 (Gymnasium recommends up to 20).
        turbulence: Largest power of its turning, uniform from 0 (Gymnasium: up to 2).
    """

    on: ClassVar[str] = "dynamics"

    power: Annotated[float, Ge(0), Le(20)] = 15.0
    turbulence: Annotated[float, Ge(0), Le(2)] = 1.5

    def check(self) -> None:
        """The environment must have wind."""
        envs = self.base.envs if isinstance(self.base, GymCopies) else []
        if not envs or not all(hasattr(env.unwrapped, "enable_wind") for env in envs):
            raise self.refuse("LunarLander")
        if self.power == self.turbulence == 0:
            raise UsageError("shift 'wind': power and turbulence are both 0; one must blow")

    def draw(self, rng: np.random.Generator) -> Array:
        """Power and turbulence."""
        return rng.uniform(0.0, [self.power, self.turbulence])

    def words(self, world: int) -> str:
        """How strong the wind is, and its turning."""
        return "power {:.3g}, turbulence {:.3g}".format(*self._blowing(world)) if world else ""

    def _blowing(self, world: int) -> list[float]:
        blowing: list[float] = self.content(np.array([world]))[0].tolist()
        return blowing

    def configure(self, env: gymnasium.Env[Any, Any], world: int) -> gymnasium.Env[Any, Any]:
        """The same environment in the world's wind."""
        inner: Any = env.unwrapped
        inner.enable_wind = world != 0
        if world:
            inner.wind_power, inner.turbulence_power = self._blowing(world)
        return env


@shift("friction")
@dataclass(frozen=True, kw_only=True)
class Friction(Shift):
    """Make the ground of a MuJoCo world slippery or rough: sliding friction, drawn for each world.

    Log-uniform, for all geoms, as in Slippery Ant (Dohare et al., Nature 2024: 0.02 to 2).

    Attributes:
        low: Smallest coefficient.
        high: Largest coefficient.
    """

    on: ClassVar[str] = "dynamics"

    low: Annotated[float, Gt(0)] = 0.02
    high: Annotated[float, Gt(0)] = 2.0

    def check(self) -> None:
        """The environment must be MuJoCo's."""
        envs = self.base.envs if isinstance(self.base, GymCopies) else []
        if not envs or not all(hasattr(env.unwrapped, "model") for env in envs):
            raise self.refuse("an environment of MuJoCo")
        if self.low >= self.high:
            raise UsageError(
                f"shift 'friction': low = {self.low:g} must be below high = {self.high:g}"
            )

    def draw(self, rng: np.random.Generator) -> Array:
        """The coefficient."""
        return np.exp(rng.uniform(np.log(self.low), np.log(self.high), size=1))

    def configure(self, env: gymnasium.Env[Any, Any], world: int) -> gymnasium.Env[Any, Any]:
        """The same environment with the world's friction; in world 0, with its own."""
        own = physics.own(env, "model.geom_friction")[:, 0]
        friction: Array = env.unwrapped.model.geom_friction  # type: ignore[attr-defined]
        friction[:, 0] = self.content(np.array([world]))[0, 0] if world else own
        return env
