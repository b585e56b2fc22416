"""Atari games on ALE's own vector environment.

Sticky actions 0.25 and an episode that ends at game over, not at a lost life, as Machado et al.
recommend (arXiv 1709.06009); up to 30 no-ops at the start and FIRE where a game needs it, as in
Mnih et al. (2015); the game's minimal action set, frame skip 4, 84 x 84 grey frames with
max-pooling over the last two, four of them stacked. Frames come single; the stream shifts and
stacks them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import gymnasium
import numpy as np
from ale_py.vector_env import AtariVectorEnv
from annotated_types import Ge, Le, MinLen
from gymnasium.vector import AutoresetMode

from rlplastic.envs.copies import Array, Copies, Transition
from rlplastic.envs.switching import SwitchCopies
from rlplastic.errors import unknown
from rlplastic.registry import environment


class AtariCopies(Copies):
    """`Copies` on `ale_py.vector_env.AtariVectorEnv`."""

    stack = 4

    def __init__(self, env: AtariVectorEnv) -> None:
        self.env = env
        self.num_copies = env.num_envs
        self.observation_space = env.single_observation_space
        self.action_space = env.single_action_space

    def reset(self, seeds: Sequence[int] | None = None) -> Array:
        """See `Copies.reset`; ALE takes seeds in [0, 2**31)."""
        seed = None if seeds is None else np.asarray(seeds, dtype=np.int32)
        frames: Array = self.env.reset(seed=seed)[0]
        return frames

    def step(self, actions: Array) -> Transition:
        """See `Copies.step`."""
        frames, reward, terminated, truncated, info = self.env.step(np.asarray(actions, np.int64))
        ended = terminated | truncated
        final = frames
        if ended.any():  # `final_obs` exists only then, and is blank in the copies that go on
            final = np.where(ended[:, None, None, None], info["final_obs"], frames)
        return Transition(
            observation=frames,
            reward=reward.astype(np.float64),  # int32, which scaling would overflow
            terminated=terminated.astype(bool, copy=False),
            truncated=truncated.astype(bool, copy=False),
            final=final,
        )

    def close(self) -> None:
        """See `Copies.close`."""
        self.env.close()


@environment("Atari")
@dataclass(frozen=True, kw_only=True)
class Atari:
    """An Atari 2600 game; `game` is ALE's name, as ``space_invaders``.

    Attributes:
        game: ALE's name of the game.
        sticky: Probability that ALE repeats the last action (arXiv 1709.06009, Sec. 5).
        noops: Most no-ops at the start of an episode, drawn uniformly (Mnih et al. 2015).
        max_frames: Emulator frames after which an episode is truncated.
    """

    frame_skip: ClassVar[int] = 4
    time_limit: ClassVar[int | None] = None  # in practice games end earlier

    game: str
    sticky: Annotated[float, Ge(0), Le(1)] = 0.25
    noops: Annotated[int, Ge(0)] = 30
    max_frames: Annotated[int, Ge(4)] = 108_000

    def __post_init__(self) -> None:
        """Refuse a game that ALE does not have."""
        if self.game not in self.choices():
            raise unknown("Atari game", self.game, self.choices())

    @staticmethod
    def choices() -> list[str]:
        """Every value of `game`: ALE's games for one player.

        It has the ROMs of four for two players only (combat, joust, maze_craze, warlords) and ends
        the process when it is asked to play one alone.
        """
        return [
            spec.kwargs["game"]
            for spec in gymnasium.registry.values()
            if spec.id.startswith("ALE/")  # which ale-py registers at import
        ]

    def make(self, num_copies: int, *, all_actions: bool = False) -> AtariCopies:
        """See `rlplastic.envs.copies`; with the game's minimal action set, or all 18."""
        return AtariCopies(
            AtariVectorEnv(
                self.game,
                num_copies,
                num_threads=1,  # a sweep fills the cores with cells, not with threads
                stack_num=1,
                frameskip=self.frame_skip,
                repeat_action_probability=self.sticky,
                max_num_frames_per_episode=self.max_frames,
                noop_max=self.noops,
                use_fire_reset=True,
                reward_clipping=False,
                episodic_life=False,
                autoreset_mode=AutoresetMode.SAME_STEP,
                full_action_space=all_actions,
            )
        )


@environment("AtariSwitch")
@dataclass(frozen=True, kw_only=True)
class AtariSwitch:
    """Several Atari games, one at a time, with all 18 actions; the shift `game` says which.

    Attributes:
        games: ALE's names of the games; world w plays the w-th.
        sticky: As of `Atari`.
        noops: As of `Atari`.
        max_frames: As of `Atari`.
    """

    frame_skip: ClassVar[int] = 4
    time_limit: ClassVar[int | None] = None

    games: Annotated[Sequence[str], MinLen(2)]
    sticky: Annotated[float, Ge(0), Le(1)] = 0.25
    noops: Annotated[int, Ge(0)] = 30
    max_frames: Annotated[int, Ge(4)] = 108_000

    def __post_init__(self) -> None:
        """Refuse a game that ALE does not have."""
        self._members()

    def _members(self) -> list[Atari]:
        return [
            Atari(game=game, sticky=self.sticky, noops=self.noops, max_frames=self.max_frames)
            for game in self.games
        ]

    def make(self, num_copies: int) -> Copies:
        """See `rlplastic.envs.copies`."""
        return SwitchCopies(
            [game.make(num_copies, all_actions=True) for game in self._members()], self.games
        )
