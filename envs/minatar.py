"""MinAtar's games (arXiv 1903.03176) on the package `minatar`, with three of its faults mended.

The package (1.0.15, GPL-3: imported here, never copied) does not register its environments with
Gymnasium 1.x, does not seed itself the way Gymnasium's checker asks for, and lets the last action
of an episode stick to the first of the next, even across ``reset(seed)``. It is a dependency and
no extra: 16 kB of Python whose own requirements rliable brings anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import gymnasium
import numpy as np
from annotated_types import Ge, Le, MinLen
from gymnasium import spaces
from minatar import Environment

from rlplastic.envs.copies import Array, Copies, GymCopies
from rlplastic.envs.switching import SwitchCopies
from rlplastic.errors import unknown
from rlplastic.registry import environment

GAMES = ("asterix", "breakout", "freeway", "seaquest", "space_invaders")
LIT = 255  # bytes, since stable-baselines3 divides images by 255: the network sees 0 and 1


class MinAtarEnv(gymnasium.Env[Array, Any]):
    """One game: frames uint8 ``[channels, 10, 10]``, 255 where an object is.

    Args:
        game: The package's name of it.
        sticky: Probability that the last action is repeated.
        ramping: Whether the game gets harder within an episode.
        minimal: Only the actions that have an effect, else all six.
    """

    def __init__(self, game: str, *, sticky: float, ramping: bool, minimal: bool) -> None:
        self.game = Environment(game, sticky_action_prob=sticky, difficulty_ramping=ramping)
        self.actions = self.game.minimal_action_set() if minimal else range(self.game.num_actions())
        height, width, channels = self.game.state_shape()
        self.observation_space = spaces.Box(0, LIT, (channels, height, width), np.uint8)
        self.action_space = spaces.Discrete(len(self.actions))
        self.render_mode = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """See `gymnasium.Env.reset`."""
        super().reset(seed=seed)
        self.game.seed(seed)  # None leaves the generator as it is
        self.game.last_action = 0  # an episode begins after no action, not after the last one's
        self.game.reset()
        return self._show(), {}

    def step(self, action: int) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """See `gymnasium.Env.step`."""
        reward, terminated = self.game.act(self.actions[int(action)])
        return self._show(), float(reward), bool(terminated), False, {}

    def _show(self) -> Array:
        frame: Array = self.game.state().transpose(2, 0, 1) * np.uint8(LIT)  # of booleans
        return frame


@environment("MinAtar")
@dataclass(frozen=True, kw_only=True)
class MinAtar:
    """A MinAtar game; `game` is the package's name, as ``space_invaders``.

    Attributes:
        game: The package's name of the game.
        sticky: Probability that the game repeats the last action (arXiv 1903.03176, Sec. 3).
        ramping: Whether the game gets harder within an episode; Breakout and Freeway never do.
        minimal: Only the actions that have an effect in this game, else all six.
    """

    frame_skip: ClassVar[int] = 1
    time_limit: ClassVar[int | None] = None  # only Freeway has one, of 2,500 steps

    game: str
    sticky: Annotated[float, Ge(0), Le(1)] = 0.1
    ramping: bool = True
    minimal: bool = True

    def __post_init__(self) -> None:
        """Refuse a game that MinAtar does not have."""
        if self.game not in GAMES:
            raise unknown("MinAtar game", self.game, GAMES)

    def make(self, num_copies: int) -> Copies:
        """See `rlplastic.envs.copies`."""
        return GymCopies(
            lambda: MinAtarEnv(
                self.game, sticky=self.sticky, ramping=self.ramping, minimal=self.minimal
            ),
            num_copies,
        )


@environment("MinAtarSwitch")
@dataclass(frozen=True, kw_only=True)
class MinAtarSwitch:
    """Several MinAtar games, one at a time, with all six actions; the shift `game` says which.

    Games with fewer channels than another are filled up with empty ones, as in C-CHAIN (Tang et
    al., ICML 2025).

    Attributes:
        games: The package's names of the games; world w plays the w-th.
        sticky: As of `MinAtar`.
        ramping: As of `MinAtar`.
    """

    frame_skip: ClassVar[int] = 1
    time_limit: ClassVar[int | None] = None

    games: Annotated[Sequence[str], MinLen(2)]
    sticky: Annotated[float, Ge(0), Le(1)] = 0.1
    ramping: bool = True

    def __post_init__(self) -> None:
        """Refuse a game that MinAtar does not have."""
        self._members()

    def _members(self) -> list[MinAtar]:
        return [
            MinAtar(game=game, sticky=self.sticky, ramping=self.ramping, minimal=False)
            for game in self.games
        ]

    def make(self, num_copies: int) -> Copies:
        """See `rlplastic.envs.copies`."""
        return SwitchCopies([game.make(num_copies) for game in self._members()], self.games)
