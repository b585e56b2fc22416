"""Shifts of supervised streams: of the pixels, the labels, the examples, the targets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Gt, Le
from gymnasium import spaces

from rlplastic.envs.copies import Array
from rlplastic.envs.regression import SlowBits
from rlplastic.envs.shifts import Shift
from rlplastic.envs.spirals import Spiral
from rlplastic.envs.supervised import Examples, Supervised
from rlplastic.registry import shift


class LabelShift(Shift):
    """A shift of the right answers of labelled examples."""

    @property
    def examples(self) -> Examples:
        """The base environment."""
        base = self.base
        assert isinstance(base, Examples)
        return base

    def check(self) -> None:
        """Labelled examples only."""
        if not isinstance(self.base, Examples):
            raise self.refuse("labelled examples, as of environment 'Images'")

    def _counted(self, what: str) -> str:
        return f"{what} of {len(self.examples.classes)} classes of {self.examples.data.name}"

    def configure(self, env: Any, world: int) -> Any:
        """The same examples with the world's answers."""
        env.changes[self.__dict__["_index"]] = partial(self.labels, world=world)
        return env

    def labels(self, before: Array, world: int) -> Array:
        """The world's answers, given those of world 0: int64 ``[examples]``."""
        raise NotImplementedError


@shift("labels")
@dataclass(frozen=True, kw_only=True)
class Labels(LabelShift):
    """Exchange the classes' names, drawn anew for each world: class c is answered ``order[c]``.

    Label-permuted EMNIST (arXiv 2404.00781) and the label permutations of arXiv 2312.00246: the
    same inputs, other answers, and what was learned of the inputs stays of use.
    """

    on: ClassVar[str] = "reward"

    def check(self) -> None:
        """As many worlds as orders of the classes."""
        super().check()
        self.__dict__["worlds"] = math.factorial(min(len(self.examples.classes), 20))
        self.__dict__["counted"] = self._counted("orders")

    def neutral(self) -> Array:
        """Every class under its own name."""
        return np.arange(len(self.examples.classes))

    def draw(self, rng: np.random.Generator) -> Array:
        """The new name of each class."""
        return rng.permutation(len(self.examples.classes))

    def labels(self, before: Array, world: int) -> Array:
        """Renamed."""
        return before if world == 0 else self._content(world)[before]


@shift("turn-labels")
@dataclass(frozen=True, kw_only=True)
class TurnLabels(LabelShift):
    """Move every class on to the next name: in world w, class c is answered (c + w) mod C.

    Label adaptation of arXiv 2306.10711 (dojeon-ai/PLASTIC, synthetic/output_adaptation.py: there
    100 times on CIFAR-10): the inputs stay, and the answers move over time. C worlds, after which
    they come back.
    """

    on: ClassVar[str] = "reward"

    def check(self) -> None:
        """As many worlds as classes."""
        super().check()
        self.__dict__["worlds"] = len(self.examples.classes)
        self.__dict__["counted"] = self._counted("turns")

    def labels(self, before: Array, world: int) -> Array:
        """Moved on by the number of the world."""
        return (before + world) % len(self.examples.classes)


@shift("relabel")
@dataclass(frozen=True, kw_only=True)
class Relabel(LabelShift):
    """Draw the labels of a share of the examples anew, uniformly: each world changes another share.

    World w is world w - 1 with `share` of its labels drawn anew. With share 1 the labels are
    random from world 1 on and have to be memorised (arXiv 2303.01486, Sec. 4; 2308.11958); with a
    small one little changes (arXiv 2402.18762 finds 1 % almost harmless).

    Attributes:
        share: Of the examples.
    """

    on: ClassVar[str] = "reward"

    share: Annotated[float, Gt(0), Le(1)] = 1.0

    def check(self) -> None:
        """As many labels are drawn as there are examples in world 0."""
        super().check()
        self.__dict__["_number"] = len(self.examples.true_labels)

    def draw(self, rng: np.random.Generator) -> Array:
        """The new label of each example, or -1 where it stays."""
        number: int = self.__dict__["_number"]
        fresh = rng.integers(len(self.examples.classes), size=number)
        stay = rng.permutation(number) >= max(1, round(self.share * number))
        return np.where(stay, -1, fresh)

    def labels(self, before: Array, world: int) -> Array:
        """Those of the world before, and the new ones."""
        first = world if self.share == 1 else 1
        for earlier in range(max(first, 1), world + 1):
            fresh = np.resize(self._content(earlier), len(before))  # beside 'pairs' more or fewer
            before = np.where(fresh < 0, before, fresh)
        return before


@shift("pairs")
@dataclass(frozen=True, kw_only=True)
class Pairs(Shift):
    """Show the examples of other classes, as many as before; no world comes twice.

    Digit pairs, class-incremental: with ``classes = [0, 1]`` of ten digits there are 45 worlds,
    one for each pair (the 45 tasks of arXiv 2409.17300 are taken to be these; the paper's own
    order and coding are not known). The lower class is answer 0.
    """

    on: ClassVar[str] = "dynamics"

    def check(self) -> None:
        """There must be other classes."""
        base = self.base
        if not isinstance(base, Examples) or len(base.classes) >= base.num_known:
            raise self.refuse("labelled examples of some of the classes, as classes = [0, 1]")
        self.__dict__["worlds"] = math.comb(base.num_known, len(base.classes))
        all_classes = f"{base.num_known} classes of {base.data.name}"
        self.__dict__["counted"] = f"{len(base.classes)} of {all_classes}"
        self.__dict__["_first"] = base.classes

    def neutral(self) -> Array:
        """The classes that the base environment shows."""
        return np.sort(self.__dict__["_first"])

    def draw(self, rng: np.random.Generator) -> Array:
        """Other classes, in ascending order."""
        base = self.base
        assert isinstance(base, Examples)
        return np.sort(rng.choice(base.num_known, size=len(base.classes), replace=False))

    def configure(self, env: Any, world: int) -> Any:
        """The same data, of which other classes are shown."""
        chosen = self._content(world).tolist() if world else self.__dict__["_first"]
        env.classes = tuple(chosen)
        return env


@shift("chunks")
@dataclass(frozen=True, kw_only=True)
class Chunks(Shift):
    """Show more of the examples: `size` of them in world 0, and as many again in each world.

    Input adaptation: data that arrive over time (arXiv 2306.10711, Sec. 3; 1910.08475 with two
    chunks). The answers stay.
    """

    on: ClassVar[str] = "dynamics"

    def check(self) -> None:
        """There must be examples that world 0 does not show."""
        base = self.base
        if not isinstance(base, Examples) or not 0 < base.size < len(base.data.labels):
            raise self.refuse("the first of many labelled examples, as size = 1000")
        self.__dict__["worlds"] = len(base.data.labels) // base.size
        all_examples = f"{len(base.data.labels)} examples of {base.data.name}"
        self.__dict__["counted"] = f"chunks of {base.size} of {all_examples}"
        self.__dict__["_size"] = base.size

    def configure(self, env: Any, world: int) -> Any:
        """The same data, of which more are shown."""
        env.size = self.__dict__["_size"] * (world + 1)
        return env


@shift("points")
@dataclass(frozen=True, kw_only=True)
class OtherPoints(Shift):
    """Show other points of the same spirals, drawn anew for each world.

    What the network was asked does not change, so that the first answers of a phase are those to
    points that it has not been trained on. Ours.
    """

    on: ClassVar[str] = "dynamics"

    def check(self) -> None:
        """Spirals only."""
        if not isinstance(self.base, Spiral):
            raise self.refuse("points of spirals, as of environment 'Spirals'")

    def draw(self, rng: np.random.Generator) -> Array:
        """A seed for the points."""
        return rng.integers(2**31, size=1)

    def configure(self, env: Any, world: int) -> Any:
        """The same spirals, of which other points are shown."""
        env.seed = int(self._content(world)[0]) if world else None
        return env


@shift("flip")
@dataclass(frozen=True, kw_only=True)
class Flip(Shift):
    """Flip one of the slow bits: world w is world w - 1 with one bit flipped, drawn anew.

    Slowly-changing regression (Dohare et al., Nature 2024: every 10,000 examples), from the bits
    that the base environment has drawn on. A world may be one that has been before, as there.
    """

    on: ClassVar[str] = "dynamics"

    def check(self) -> None:
        """Slow bits only."""
        if not isinstance(self.base, SlowBits):
            raise self.refuse("slow bits, as of environment 'Bits'")

    def draw(self, rng: np.random.Generator) -> Array:
        """The bit that is flipped."""
        base = self.base
        assert isinstance(base, SlowBits)
        return rng.integers(len(base.slow), size=1)

    def configure(self, env: Any, world: int) -> Any:
        """The same target network behind the world's bits."""
        env.slow = env.initial.copy()
        for earlier in range(1, world + 1):
            bit = self._drawn(earlier, 0)
            env.slow[bit] = 1 - env.slow[bit]
        return env


@shift("mean")
@dataclass(frozen=True, kw_only=True)
class Mean(Shift):
    """Add a number to all targets, drawn anew for each world from N(0, amplitude^2).

    Large-mean regression (arXiv 2402.18762): the offset has to be written into the weights. That
    paper's targets and amplitude are not known; 10 standard deviations of the targets is ours.

    Attributes:
        amplitude: Standard deviation of the number.
    """

    on: ClassVar[str] = "reward"

    amplitude: Annotated[float, Gt(0)] = 10.0

    def check(self) -> None:
        """Numbers as answers only."""
        base = self.base
        if not isinstance(base, Supervised) or isinstance(base.action_space, spaces.Discrete):
            raise self.refuse("answers that are numbers, as of environment 'Bits'")

    def draw(self, rng: np.random.Generator) -> Array:
        """The number."""
        return rng.normal(0.0, self.amplitude, size=1).astype(np.float32)

    def configure(self, env: Any, world: int) -> Any:
        """The same examples with moved targets."""
        moved = self._content(world) if world else np.zeros(1, dtype=np.float32)
        env.changes[self.__dict__["_index"]] = lambda answers: answers + moved
        return env
