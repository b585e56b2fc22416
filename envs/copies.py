"""Base environments: a batch of copies that a stream steps together.

A base environment is a frozen dataclass with the decorator ``@environment("Name")`` whose
``make(num_copies)`` returns `Copies`. Everything that shifts need to know of it is an attribute:
its spaces, the spread of each observation dimension, how many frames the learner sees stacked.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rlplastic.errors import UsageError

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Transition:
    """One step of all copies; leading dimension: copy.

    Attributes:
        observation: What the copies show now: for a copy that ended, its next episode's first.
        reward: float64, as the base environment pays it.
        terminated: A real end of the episode.
        truncated: Ended by the base environment's own time limit.
        final: What the step led to: equals `observation` except in copies that ended, and may be
            the same array where none did.
    """

    observation: Array
    reward: Array
    terminated: Array
    truncated: Array
    final: Array


class Copies(ABC):
    """`num_copies` equal base environments that restart themselves within a step.

    Attributes:
        num_copies: Number of copies.
        observation_space: Of one copy, for a single frame.
        action_space: Of one copy.
        stack: Number of single frames that the learner sees; 1 for plain observations.
        spread: Scale of each observation dimension, or None where it has no meaning.
        joint: True if all copies draw from one source in turn: they get the seed of copy 0.
    """

    num_copies: int
    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]
    stack: int = 1
    spread: Array | None = None
    joint: bool = False

    @abstractmethod
    def reset(self, seeds: Sequence[int] | None = None) -> Array:
        """Restart all copies, with one seed each; without seeds their generators go on.

        With a seed a copy forgets its past completely.
        """

    @abstractmethod
    def step(self, actions: Array) -> Transition:
        """One step of all copies."""

    def ahead(self, most: int) -> Array | None:
        """What the coming steps lead to, where no action can change it: ``[steps, copies, ...]``.

        At most so many steps, none of which ends an episode; None: it is not known. Each of them
        may then be taken by `pay`.
        """
        return None

    def pay(self, actions: Array) -> Array:
        """Take a step that `ahead` has told of; its reward, as in `step`."""
        raise NotImplementedError(f"{type(self).__name__} does not know what comes")

    def share(self, first: int, total: int) -> None:  # noqa: B027
        """These are the copies from number `first` on of `total` that are stepped together."""

    def draw(self, seed: int) -> None:  # noqa: B027
        """Draw what is another in each seed of a bench and the same in all of its phases.

        Called once with the stream's seed, before shifts are bound; unlike the seeds of `reset`,
        it is none of a phase's. World 0 is what was drawn here.
        """

    def configure(self, change: Callable[[Any], Any]) -> None:
        """Re-parameterise every copy; takes effect at the next `reset`.

        `change` is given each base environment and returns what replaces it: each copy's own, or
        these copies themselves where they are one object.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot be re-parameterised")

    def close(self) -> None:  # noqa: B027
        """Release what the copies hold."""


class GymCopies(Copies):
    """Copies of a Gymnasium environment, stepped in turn in this process."""

    def __init__(
        self,
        make: Callable[[], gymnasium.Env[Any, Any]],
        num_copies: int,
        *,
        spread: Sequence[float] | None = None,
    ) -> None:
        if num_copies < 1:
            raise UsageError(f"{num_copies} copies of an environment; valid: 1 or more")
        self.envs = [make() for _ in range(num_copies)]
        self.num_copies = num_copies
        self.observation_space = self.envs[0].observation_space
        self.action_space = self.envs[0].action_space
        self.spread = None if spread is None else np.asarray(spread, dtype=np.float64)

    def reset(self, seeds: Sequence[int] | None = None) -> Array:
        """See `Copies.reset`."""
        if seeds is None:
            return np.stack([env.reset()[0] for env in self.envs])
        return np.stack(
            [env.reset(seed=seed)[0] for env, seed in zip(self.envs, seeds, strict=True)]
        )

    def step(self, actions: Array) -> Transition:
        """See `Copies.step`."""
        results = [env.step(action)[:4] for env, action in zip(self.envs, actions, strict=True)]
        shown, reward, terminated, truncated = zip(*results, strict=True)
        ended = [term or trunc for term, trunc in zip(terminated, truncated, strict=True)]
        final = observation = np.array(shown)
        if any(ended):
            first = [
                env.reset()[0] if end else obs
                for env, obs, end in zip(self.envs, shown, ended, strict=True)
            ]
            observation = np.array(first)
        return Transition(
            observation=observation,
            reward=np.array(reward, dtype=np.float64),
            terminated=np.array(terminated, dtype=bool),
            truncated=np.array(truncated, dtype=bool),
            final=final,
        )

    def configure(
        self, change: Callable[[gymnasium.Env[Any, Any]], gymnasium.Env[Any, Any]]
    ) -> None:
        """See `Copies.configure`."""
        self.envs = [change(env) for env in self.envs]

    def close(self) -> None:
        """See `Copies.close`."""
        for env in self.envs:
            env.close()
