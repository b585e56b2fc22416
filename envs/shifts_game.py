"""Shifts to another game, or to another mode of the same one.

An environment of several games has ``Switch`` in its name, one of several modes ``Modes``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Ge, Gt, Le, MinLen

from rlplastic.envs.atari_modes import DEFAULT, AtariModesEnv
from rlplastic.envs.copies import Array, GymCopies
from rlplastic.envs.shifts import Shift
from rlplastic.envs.switching import SwitchCopies
from rlplastic.registry import shift


@shift("game")
@dataclass(frozen=True, kw_only=True)
class Game(Shift):
    """Play another game: world w is the environment's w-th.

    Task switching as in S-ALE (arXiv 2303.07507) and C-CHAIN's MinAtar (Tang et al., ICML 2025).

    Attributes:
        units: What good play gains over random in each game. Rewards of game w are multiplied by
            ``units[0] / units[w]``, so that gaps in one game count like gaps in another, and a
            learner's targets keep their scale; empty: rewards stay as they are.
    """

    on: ClassVar[str] = "dynamics"

    units: Sequence[Annotated[float, Gt(0)]] = ()

    def check(self) -> None:
        """There must be several games, with a unit each or none at all."""
        if not isinstance(self.base, SwitchCopies):
            raise self.refuse("an environment of several games")
        self.__dict__["worlds"] = number = len(self.base.games)
        if len(self.units) not in (0, number):
            raise self.refuse(f"no units or one for each of {number} games, not {len(self.units)}")

    def words(self, world: int) -> str:
        """The game's name."""
        base = self.base
        assert isinstance(base, SwitchCopies)
        return base.names[world]

    def reward(self, reward: Array, world: Array, observation: Array) -> Array:
        """In units of game 0."""
        if not self.units:
            return reward
        scaled: Array = reward * (self.units[0] / np.asarray(self.units))[world]
        return scaled

    def configure(self, env: Any, world: int) -> Any:
        """The same copies with the world's game."""
        env.choose(world)
        return env


@shift("mode")
@dataclass(frozen=True, kw_only=True)
class Mode(Shift):
    """Play an Atari game in another of its own modes and difficulties (arXiv 1709.06009, Sec. 5).

    World 0 is mode 0 at difficulty 0; world w is the w-th flavour after it.

    Attributes:
        flavours: Pairs of a mode and a difficulty, as ``[[1, 0], [9, 0]]``.
    """

    on: ClassVar[str] = "dynamics"

    flavours: Annotated[Sequence[tuple[int, int]], MinLen(1)]

    def check(self) -> None:
        """The game must have these modes and difficulties, each given once."""
        emulator = _emulator(self)
        all_flavours = [emulator.flavour, *self.flavours]
        for flavour in self.flavours:
            emulator.choose(flavour)
            if all_flavours.count(flavour) > 1:
                raise self.refuse(
                    f"flavours that differ from each other and from {list(all_flavours[0])}, "
                    f"which is world 0; {list(flavour)} is there already"
                )
        emulator.choose(all_flavours[0])
        self.__dict__["worlds"] = len(all_flavours)

    def flavour(self, world: int) -> tuple[int, int]:
        """Mode and difficulty of a world."""
        return DEFAULT if world == 0 else self.flavours[world - 1]

    def words(self, world: int) -> str:
        """The world's mode and difficulty."""
        return "{}, difficulty {}".format(*self.flavour(world))

    def configure(self, env: Any, world: int) -> Any:
        """The emulator in the world's flavour."""
        env.unwrapped.choose(self.flavour(world))
        return env


@shift("ale-sticky")
@dataclass(frozen=True, kw_only=True)
class AleSticky(Shift):
    """Change the probability that ALE repeats the last action (arXiv 1709.06009, Sec. 5).

    World 0 has the environment's own; world w has the w-th after it.

    Attributes:
        probabilities: Of a repeat, at each frame of the emulator.
    """

    on: ClassVar[str] = "dynamics"

    probabilities: Annotated[Sequence[Annotated[float, Ge(0), Le(1)]], MinLen(1)]

    def check(self) -> None:
        """Each probability once, and none of them the environment's own."""
        every = [_emulator(self).game.sticky, *self.probabilities]
        if len(set(every)) < len(every):
            raise self.refuse(f"probabilities that differ from each other and from {every[0]}")
        self.__dict__["worlds"] = len(every)

    def words(self, world: int) -> str:
        """The world's probability."""
        own = _emulator(self).game.sticky
        return f"probability {own if world == 0 else self.probabilities[world - 1]:g}"

    def configure(self, env: Any, world: int) -> Any:
        """The emulator with the world's probability."""
        env.unwrapped.stick(None if world == 0 else self.probabilities[world - 1])
        return env


def _emulator(shift: Shift) -> AtariModesEnv:
    """The first copy's emulator."""
    env = shift.base.envs[0].unwrapped if isinstance(shift.base, GymCopies) else None
    if not isinstance(env, AtariModesEnv):
        raise shift.refuse("the environment 'AtariModes'")
    return env
