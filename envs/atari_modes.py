"""Atari games whose mode, difficulty and sticky probability can be changed.

ALE's vector environment cannot set them, so each copy is an emulator of its own, with the same
preprocessing: a test compares the two byte for byte.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import gymnasium
import numpy as np
from ale_py import Action, ALEInterface, LoggerMode, roms
from annotated_types import Ge, Le
from gymnasium import spaces

from rlplastic.envs.atari import Atari
from rlplastic.envs.copies import Array, Copies, GymCopies
from rlplastic.errors import UsageError
from rlplastic.registry import environment

SIZE = 84
DEFAULT = (0, 0)  # mode and difficulty that every game of ALE begins with
_SLIVER = 1e-3  # of a pixel: OpenCV leaves such shares out


class AtariModesEnv(gymnasium.Env[Array, Any]):
    """One emulator: frames uint8 ``[1, 84, 84]``, as ALE's vector environment shows them.

    Args:
        game: What is played, with its sticky probability, no-ops and limit.
    """

    def __init__(self, game: Atari) -> None:
        self.game = game
        self.sticky = game.sticky
        self.flavour = DEFAULT
        ALEInterface.setLoggerMode(LoggerMode.Error)
        self.ale = ALEInterface()
        rom = roms.get_rom_path(game.game)
        assert rom is not None  # `Atari` refuses a game that ALE does not have
        self.rom = rom
        self._load()
        self.modes = [int(mode) for mode in self.ale.getAvailableModes()]
        self.difficulties = [int(level) for level in self.ale.getAvailableDifficulties()]
        self.actions = self.ale.getMinimalActionSet()
        self.observation_space = spaces.Box(0, 255, (1, SIZE, SIZE), np.uint8)
        self.action_space = spaces.Discrete(len(self.actions))
        self.render_mode = None
        screen = self.ale.getScreenDims()  # 210 x 160 in nearly every game
        self._screens = np.zeros((2, *screen), np.uint8)  # the last two, for the maximum of both
        self._rows, self._columns = (Shrink(length, SIZE) for length in screen)

    def choose(self, flavour: Sequence[int]) -> None:
        """Mode and difficulty from the next seeded reset on.

        Raises:
            UsageError: the game has no such mode or difficulty; names those it has.
        """
        mode, difficulty = flavour
        for value, valid, what in (
            (mode, self.modes, "mode"),
            (difficulty, self.difficulties, "difficulty"),
        ):
            if value not in valid:
                raise UsageError(
                    f"Atari game {self.game.game!r} has no {what} {value}; "
                    f"valid: {', '.join(map(str, valid))}"
                )
        self.flavour = (mode, difficulty)

    def stick(self, probability: float | None) -> None:
        """Sticky probability from the next seeded reset on; None: the game's own."""
        self.sticky = self.game.sticky if probability is None else probability

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """See `gymnasium.Env.reset`."""
        super().reset(seed=seed)
        if seed is not None:
            self._load(seed)
        self.ale.reset_game()
        fires = Action.FIRE in self.actions
        if fires:
            self.ale.act(Action.FIRE)
        for _ in range(int(self.np_random.integers(max(self.game.noops, 1))) - fires):
            self.ale.act(Action.NOOP)
            if self.ale.game_over():
                self.ale.reset_game()
        self._frames = 0
        self._screens[1] = 0
        self.ale.getScreenGrayscale(self._screens[0])
        return self._show(), {}

    def step(self, action: int) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """See `gymnasium.Env.step`."""
        reward, pressed, over, late = 0.0, self.actions[int(action)], False, False
        for left in reversed(range(self.game.frame_skip)):
            reward += self.ale.act(pressed)
            self._frames += 1
            over, late = bool(self.ale.game_over()), self._frames >= self.game.max_frames
            if over or late:  # and the screen is not looked at, as in the vector environment
                break
            if left < 2:
                self.ale.getScreenGrayscale(self._screens[left])
        return self._show(), reward, over, late and not over, {}

    def _load(self, seed: int | None = None) -> None:
        """Start the console anew, so that nothing of the past is left in it."""
        self.ale.setFloat("repeat_action_probability", self.sticky)
        if seed is not None:
            self.ale.setInt("random_seed", seed)
        self.ale.loadROM(self.rom)
        if self.flavour != DEFAULT:
            self.ale.setMode(self.flavour[0])
            self.ale.setDifficulty(self.flavour[1])

    def _show(self) -> Array:
        last, before = self._screens
        np.maximum(last, before, out=last)
        narrow = self._columns(last.T.astype(np.float32))
        frame: Array = np.rint(self._rows(narrow.T)).astype(np.uint8)
        return frame[None]


class Shrink:
    """Averages over equal stretches of the first axis, rounded as OpenCV's INTER_AREA rounds.

    Sums go pixel by pixel in float32: in another order, some halves round the other way.

    Args:
        source: Length of the axis.
        target: Length that it gets, at most `source`.
    """

    def __init__(self, source: int, target: int) -> None:
        edges = np.arange(target + 1) * (source / target)
        first = edges[:-1].astype(int)
        places = first[:, None] + np.arange(math.ceil(source / target) + 1)
        shared = np.minimum(edges[1:, None], places + 1) - np.maximum(edges[:-1, None], places)
        weights = (np.where(shared > _SLIVER, shared, 0) / (source / target)).astype(np.float32)
        self._terms = [
            (np.minimum(place, source - 1), weight[:, None])
            for place, weight in zip(places.T, weights.T, strict=True)
        ]

    def __call__(self, screen: Array) -> Array:
        """float32 ``[source, any]`` to ``[target, any]``."""
        (place, weight), *others = self._terms
        total: Array = screen[place] * weight
        for place, weight in others:
            total += screen[place] * weight
        return total


@environment("AtariModes")
@dataclass(frozen=True, kw_only=True)
class AtariModes:
    """An Atari game with the shifts `mode` and `ale-sticky`; slower than `Atari`.

    Attributes:
        game: ALE's name of the game.
        sticky: As of `Atari`.
        noops: As of `Atari`.
        max_frames: As of `Atari`.
    """

    frame_skip: ClassVar[int] = 4
    time_limit: ClassVar[int | None] = None

    game: str
    sticky: Annotated[float, Ge(0), Le(1)] = 0.25
    noops: Annotated[int, Ge(0)] = 30
    max_frames: Annotated[int, Ge(4)] = 108_000

    def __post_init__(self) -> None:
        """Refuse a game that ALE does not have."""
        self._game()

    def _game(self) -> Atari:
        return Atari(
            game=self.game, sticky=self.sticky, noops=self.noops, max_frames=self.max_frames
        )

    def make(self, num_copies: int) -> Copies:
        """See `rlplastic.envs.copies`."""
        game = self._game()
        copies = GymCopies(lambda: AtariModesEnv(game), num_copies)
        copies.stack = 4
        return copies
