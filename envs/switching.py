"""One of several base environments at a time, in spaces that hold them all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from rlplastic.envs.copies import Array, Copies, Transition
from rlplastic.errors import UsageError


class SwitchCopies(Copies):
    """Copies of several games, of which one is played: game 0, until `choose` says another.

    Observations that are shorter, or have fewer channels, than another game's are filled up with
    zeros behind their own. An action that a game lacks counts as its action 0.

    Args:
        games: The copies of each game, equally many, by the games' names.

    Raises:
        UsageError: a game that is there twice; games whose spaces have no common one.
    """

    def __init__(self, games: Sequence[Copies], names: Sequence[str]) -> None:
        for name in names:
            if names.count(name) > 1:
                raise UsageError(
                    f"game {name!r} is there {names.count(name)} times; a world plays a game of "
                    "its own, and the schedule 'cyclic' lets it come back"
                )
        self.games = games
        self.names = names
        self.game = games[0]
        self.num_copies = games[0].num_copies
        self.stack = games[0].stack
        self.observation_space = _common_box([game.observation_space for game in games])
        self.action_space = _common_actions([game.action_space for game in games])

    def choose(self, index: int) -> None:
        """Play another game from the next `reset` on."""
        self.game = self.games[index]

    def reset(self, seeds: Sequence[int] | None = None) -> Array:
        """See `Copies.reset`."""
        return self._filled(self.game.reset(seeds))

    def step(self, actions: Array) -> Transition:
        """See `Copies.step`."""
        lacking = actions >= self.game.action_space.n  # type: ignore[attr-defined]
        step = self.game.step(np.where(lacking, 0, actions))
        return Transition(
            observation=self._filled(step.observation),
            reward=step.reward,
            terminated=step.terminated,
            truncated=step.truncated,
            final=self._filled(step.final),
        )

    def configure(self, change: Callable[[Any], Any]) -> None:
        """See `Copies.configure`; `change` is given these copies."""
        change(self)

    def close(self) -> None:
        """See `Copies.close`."""
        for game in self.games:
            game.close()

    def _filled(self, observation: Array) -> Array:
        shape = (len(observation), *(self.observation_space.shape or ()))
        if observation.shape == shape:
            return observation
        filled = np.zeros(shape, observation.dtype)
        filled[:, : observation.shape[1]] = observation
        return filled


def _common_box(boxes: Sequence[spaces.Space[Any]]) -> spaces.Box:
    """The smallest box that holds all, filled up with zeros along the first dimension."""
    rest = {(box.dtype, (box.shape or ())[1:]) for box in boxes}
    if len(rest) > 1 or not all(isinstance(box, spaces.Box) and box.shape for box in boxes):
        raise UsageError(
            "games can take turns if their observations are arrays of one type that differ in "
            f"their first dimension alone; these are {', '.join(map(str, boxes))}"
        )
    length = max(box.shape[0] for box in boxes)  # type: ignore[index]
    ends: list[list[Array]] = [[], []]
    for box in boxes:
        assert isinstance(box, spaces.Box)
        pad = [(0, length - box.shape[0])] + [(0, 0)] * (len(box.shape) - 1)
        ends[0].append(np.pad(box.low, pad))
        ends[1].append(np.pad(box.high, pad))
    low, high = np.min(ends[0], axis=0), np.max(ends[1], axis=0)
    return spaces.Box(low, high, dtype=np.dtype(boxes[0].dtype).type)


def _common_actions(actions: Sequence[spaces.Space[Any]]) -> spaces.Discrete:
    if not all(isinstance(space, spaces.Discrete) and space.start == 0 for space in actions):
        raise UsageError(
            "games can take turns if their actions are numbered from 0; these are "
            f"{', '.join(map(str, actions))}"
        )
    return spaces.Discrete(max(int(space.n) for space in actions))  # type: ignore[attr-defined]
