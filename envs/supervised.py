"""Supervised streams as base environments: an example is shown, an answer is given and scored.

::

    step of a copy     one example: what is shown, the answer, its score
    step of all        one minibatch: as many examples as copies, in the order of the pass
    episode            `LIMIT` steps; its return is the accuracy in per cent (or minus the error)

So every score is of an example that has not been trained on since the pass began, before it is
trained on (prequential, as online accuracy in arXiv 2308.11958), and curves, recovery and newborns
mean what they mean for the other agents. The examples come in passes: every one once, in an order
drawn anew, which depends on the seed of the phase and not on the number of copies.

What the right answers are is no part of an observation: an agent that is told them, as supervised
learning is, reads `Supervised.answers`; any other only sees its scores.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Ge
from gymnasium import spaces

from rlplastic.envs import datasets
from rlplastic.envs.copies import Array, Copies, Transition
from rlplastic.envs.datasets import Dataset
from rlplastic.errors import UsageError
from rlplastic.registry import environment

LIMIT = 25  # steps of an episode: 25 episodes of a copy in the 625 minibatches of 10,000 examples
AHEAD = 24  # minibatches that are shown ahead at most: all of an episode but its last


class Supervised(Copies):
    """A source of examples with right answers.

    Attributes:
        answers: The right answers to what is shown now: int64 ``[copies]`` for classes, or
            float32 ``[copies, outputs]``.
        changes: What each shift of the stream makes of the right answers of all examples, by the
            shift's place in the stream; takes effect at the next `reset`.
        limit: Steps of an episode.
    """

    answers: Array
    joint = True

    def __init__(self, num_copies: int) -> None:
        self.num_copies = num_copies
        self.first, self.total = 0, num_copies
        self.changes: dict[int, Callable[[Array], Array]] = {}
        self.limit = LIMIT
        self._steps = 0
        self._coming: deque[tuple[Array, Array]] = deque()  # shown already, to who looked ahead
        self._rng = np.random.default_rng(0)
        self._none, self._all = np.zeros(num_copies, dtype=bool), np.ones(num_copies, dtype=bool)

    def share(self, first: int, total: int) -> None:
        """See `Copies.share`: a minibatch has `total` examples, of which these are some."""
        self.first, self.total = first, total

    @abstractmethod
    def _begin(self) -> None:
        """A phase begins, with a new `_rng`."""

    @abstractmethod
    def _show(self) -> Array:
        """The next examples; sets `answers`."""

    @abstractmethod
    def _score(self, actions: Array) -> Array:
        """The score of each copy's answer: float64, so that an episode's sum is its return."""

    def _show_many(self, count: int) -> tuple[Array, Array]:
        """The next so many minibatches: ``[count, copies, ...]``, and their answers."""
        shown = [(self._show(), self.answers) for _ in range(count)]
        frames, answers = zip(*shown, strict=True)
        return np.stack(frames), np.stack(answers)

    def _next(self) -> Array:
        """The next examples, whether somebody has looked ahead or not; sets `answers`."""
        if not self._coming:
            return self._show()
        frames, self.answers = self._coming.popleft()
        return frames

    def reset(self, seeds: Sequence[int] | None = None) -> Array:
        """See `Copies.reset`; the seed, one for all copies, fixes the order of the examples."""
        if seeds is not None:
            self._rng = np.random.default_rng(seeds[0])
            self._coming.clear()
            self._begin()
        self._steps = 0
        return self._next()

    def step(self, actions: Array) -> Transition:
        """See `Copies.step`; an example follows an example, wherever episodes end."""
        reward = self._score(actions)
        self._steps += 1
        ended = self._none
        if self._steps == self.limit:
            self._steps, ended = 0, self._all
        shown = self._next()
        return Transition(
            observation=shown, reward=reward, terminated=self._none, truncated=ended, final=shown
        )

    def ahead(self, most: int) -> Array | None:
        """See `Copies.ahead`: an example follows an example, whatever is answered."""
        count = min(most, self.limit - 1 - self._steps, AHEAD)
        if count < 1 or self._coming:
            return None
        now = self.answers
        frames, answers = self._show_many(count)
        self.answers = now
        self._coming.extend(zip(frames, answers, strict=True))
        return frames

    def pay(self, actions: Array) -> Array:
        """See `Copies.pay`."""
        reward = self._score(actions)
        self._steps += 1
        self._next()
        return reward

    def configure(self, change: Callable[[Any], Any]) -> None:
        """See `Copies.configure`: these copies are one object, which the change is made to."""
        change(self)


class Examples(Supervised):
    """Labelled images, or points within [-1, 1], shown in passes.

    Attributes:
        data: All of them.
        classes: The classes that are shown now; the first of them is answer 0. A shift may set
            others, as many; takes effect at the next `reset`.
        size: The first so many examples of these classes; 0: all. A shift may set more.
    """

    def __init__(self, data: Dataset, num_copies: int, classes: Sequence[int], size: int) -> None:
        super().__init__(num_copies)
        self.data, self.size = data, size
        self.num_known = int(data.labels.max()) + 1
        self.classes = tuple(classes) or tuple(range(self.num_known))
        low, high = (0, 255) if data.images.dtype == np.uint8 else (-1, 1)
        kind = data.images.dtype.type
        self.observation_space = spaces.Box(low, high, data.images.shape[1:], kind)
        self.action_space = spaces.Discrete(len(self.classes))
        self._selected: tuple[Any, ...] = ()
        self.true_labels = np.empty(0, dtype=np.int64)
        self.select()

    def select(self) -> None:
        """Take `size` examples of `classes`; `true_labels` are theirs, before any `changes`."""
        if self._selected == (self.classes, self.size):
            return
        place = np.full(self.num_known, -1)
        place[list(self.classes)] = np.arange(len(self.classes))
        labels = place[self.data.labels]
        rows = np.flatnonzero(labels >= 0)[: self.size or None]
        self.true_labels = labels[rows]
        self._images = self.data.images if len(rows) == len(labels) else self.data.images[rows]
        self._selected = (self.classes, self.size)

    def _begin(self) -> None:
        self.select()
        self._labels = self.true_labels
        for _, change in sorted(self.changes.items()):
            self._labels = change(self._labels)
        self._order = np.empty(0, dtype=np.int64)
        self._place = 0

    def _rows(self) -> Array:
        """Which examples come next."""
        begin = self._place + self.first
        self._place += self.total
        while len(self._order) < self._place:  # the pass has ended within the minibatch
            kept = self._order[self._place - self.total :]
            self._order = np.concatenate([kept, self._rng.permutation(len(self._labels))])
            begin, self._place = self.first, self.total
        return self._order[begin : begin + self.num_copies]

    def _show(self) -> Array:
        rows = self._rows()
        self.answers = self._labels[rows]
        return self._images[rows]

    def _show_many(self, count: int) -> tuple[Array, Array]:
        rows = np.stack([self._rows() for _ in range(count)])
        return self._images.take(rows, axis=0), self._labels.take(rows)

    def _score(self, actions: Array) -> Array:
        scores: Array = (actions == self.answers) * (100.0 / self.limit)
        return scores


@environment("Images")
@dataclass(frozen=True, kw_only=True)
class Images:
    """Labelled images, one a step; the action is a class, an episode's return its accuracy in %.

    Attributes:
        data: Name of a data set; see `rlplastic.envs.datasets`.
        classes: The classes that are shown, the first of them is answer 0; empty: all.
        size: The first so many examples only; 0: all.
        used: What is really read; filled in when a plan is made: for ``mnist`` ``digits``, which
            need no file, where no folder of data was given.
        digest: Of the arrays that are read; filled in likewise. Other data are refused.
    """

    time_limit: ClassVar[int] = LIMIT
    fixed_length: ClassVar[bool] = True  # of every episode: phases must be whole ones
    frame_skip: ClassVar[int] = 1

    data: datasets.Name = "mnist"
    classes: Sequence[Annotated[int, Ge(0)]] = ()
    size: Annotated[int, Ge(0)] = 0
    used: str = ""
    digest: str = ""

    def __post_init__(self) -> None:
        """Look at the data once, so that a plan says which they are."""
        if not (self.used and self.digest):
            found = datasets.load(self.data)
            object.__setattr__(self, "used", self.used or found.name)
            object.__setattr__(self, "digest", self.digest or found.digest)

    @property
    def title(self) -> str:
        """What reports say of it: the data that are read."""
        return f"{self.used} (SHA-256 {self.digest}...)"

    @property
    def chance(self) -> float:
        """The accuracy in % of random answers, whatever the classes' shares are."""
        return 100 / (len(self.classes) or datasets.CLASSES[self.data])

    @property
    def note(self) -> str:
        """What must be said before a bench: other data than those asked for."""
        if self.used != datasets.EMBEDDED or self.data == self.used:
            return ""
        return f"no --data-dir was given, so scikit-learn's {self.used} stand in for {self.data}"

    def make(self, num_copies: int) -> Copies:
        """See `rlplastic.envs.copies`.

        Raises:
            UsageError: other data than these, a class that they do not have, too few examples.
        """
        data = datasets.load(self.data)
        if (data.name, data.digest) != (self.used, self.digest):
            raise UsageError(
                f"environment 'Images': asks for {self.used} ({self.digest}); what is there now is "
                f"{data.name} ({data.digest}). Give the folder of data that it was planned with"
            )
        known = np.unique(data.labels)
        missing = sorted(set(self.classes) - set(known.tolist()))
        if missing:
            raise UsageError(
                f"environment 'Images': classes = {list(self.classes)}: {data.name} has no class "
                f"{missing[0]}; it has {known[0]} to {known[-1]}"
            )
        if len(set(self.classes)) != len(self.classes) or len(self.classes) == 1:
            raise UsageError(
                f"environment 'Images': classes = {list(self.classes)}: two or more different ones"
            )
        copies = Examples(data, num_copies, self.classes, self.size)
        if self.size > len(copies.true_labels):
            raise UsageError(
                f"environment 'Images': size = {self.size} is more than {data.name} has of these "
                f"classes; nearest valid: {len(copies.true_labels)}"
            )
        return copies
