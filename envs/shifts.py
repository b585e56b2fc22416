"""What a shift is. The shifts themselves are in the files ``shifts_*.py``.

To add one: a frozen dataclass in its family's file, with the decorator, any of these methods::

    @shift("offset")
    @dataclass(frozen=True, kw_only=True)
    class Offset(Shift):
        \"\"\"Add a constant vector to every observation.\"\"\"

        on: ClassVar[str] = "observation"
        sigma: Annotated[float, Gt(0)] = 2.0

        def space(self, space):                  # the union over the worlds, if it is another
            return Box(-np.inf, np.inf, space.shape, space.dtype)

        def draw(self, rng):                     # the content of one world
            return rng.normal(0.0, self.sigma, self.base.observation_space.shape)

        def observation(self, frames, world):    # [copies, ...], [copies]
            return (frames + self.content(world)).astype(frames.dtype)

A method sees only copies that are in a world other than 0, so world 0 is the unshifted
environment whatever the shift does. One that draws at each step, or remembers::

    def memory(self, copies):                    # as an episode finds it: [copies, ...]
        return {"sum": np.zeros(copies)}

    def reward(self, reward, world, observation):
        rows = self.now.copies                   # the copy that each row belongs to
        self.kept("sum")[rows] += reward + self.normal()
        return np.where(self.now.last, self.kept("sum")[rows], 0.0)
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import gymnasium
import numpy as np
from gymnasium import spaces

from rlplastic.envs.copies import Array, Copies
from rlplastic.envs.moments import Draws, Moment
from rlplastic.errors import UsageError

_CONTENT = 0x5348494654  # keeps the draws of contents apart from the seeds of resets
_ATTEMPTS = 20_000  # enough to find the last of some thousand contents
_KEPT = 4  # contents kept in memory: it must not grow with the number of phases


@dataclass(frozen=True, kw_only=True)
class Shift:
    """A change of the decision problem, as a function of the world.

    Attributes:
        worlds: Number of different worlds the shift has, world 0 included; None: any number.
        counted: What these worlds are, in words, where the base environment decides their number.
        on: Which side of the problem it changes: ``observation``, ``reward``, ``target``,
            ``action`` or ``dynamics``.
        mixes: True if (1 - m) x what one world gives + m x what another gives is a world between
            them, as the schedule ``gradual`` asks for. Not for shifts that remember.
        still: True if `observation` depends on frames and world alone, and neither draws nor
            remembers: the frames of many steps may then be given at once.
        moves_chance: False if uniformly random play earns the same in every world: the random
            reference then plays world 0 alone. Shifts of observations and targets are known to.
        base: The copies it acts on, once `bind` has been called.
    """

    worlds: ClassVar[int | None] = None
    counted: ClassVar[str] = ""
    on: ClassVar[str]
    mixes: ClassVar[bool] = False
    still: ClassVar[bool] = False
    moves_chance: ClassVar[bool] = True
    name: ClassVar[str]

    @property
    def base(self) -> Copies:
        """The base environment's copies: spaces, spread."""
        base: Copies = self.__dict__["_base"]
        return base

    def bind(self, base: Copies, seed: int, index: int) -> Self:
        """A copy of this shift that knows its base environment and its stream's seed.

        Raises:
            UsageError: the shift does not fit the base environment.
        """
        bound = replace(self)
        bound.__dict__.update(_base=base, _seed=seed, _index=index)
        bound.__dict__.update(_contents=OrderedDict(), _attempts=[], _known=set())
        bound.check()
        bound.prepare(base.num_copies)
        return bound

    def check(self) -> None:
        """Raise `UsageError` if the shift does not fit `base`."""

    def refuse(self, needs: str) -> UsageError:
        """The error of a shift that does not fit, saying what it needs."""
        return UsageError(
            f"shift {self.name!r} needs {needs}; this environment shows "
            f"{self.base.observation_space} and takes {self.base.action_space}"
        )

    def space(self, space: spaces.Space[Any]) -> spaces.Space[Any]:
        """The union, over the worlds, of the observation spaces (of a single frame)."""
        return space

    def draw(self, rng: np.random.Generator) -> Array:
        """The content of one world, any array; drawn again if it equals an earlier world's."""
        raise NotImplementedError

    def neutral(self) -> Array | None:
        """The content that would change nothing, which no world but 0 may have."""
        return None

    def content(self, world: Array) -> Array:
        """What `draw` gave for each copy's world, stacked: ``[copies, ...]``.

        It depends on (stream seed, world) alone.
        """
        if (world == world[0]).all():
            one = self._content(int(world[0]))
            # what np.broadcast_to gives, which takes as long as some shifts
            return np.ndarray((len(world), *one.shape), one.dtype, one, 0, (0, *one.strides))
        return np.stack([self._content(int(index)) for index in world])

    def each(self, world: Array) -> Iterator[tuple[Array, Array | slice]]:
        """The content of each distinct world, and the rows in it."""
        if (world == world[0]).all():
            yield self._content(int(world[0])), slice(None)
            return
        for index in np.unique(world):
            yield self._content(int(index)), np.flatnonzero(world == index)

    def _content(self, world: int) -> Array:
        contents: OrderedDict[int, Array] = self.__dict__["_contents"]
        if world not in contents:
            attempts: list[int] = self.__dict__["_attempts"]
            while len(attempts) < world:
                attempts.append(self._first_new(len(attempts) + 1))
            contents[world] = self._drawn(world, attempts[world - 1])
            while len(contents) > _KEPT:
                contents.popitem(last=False)
        contents.move_to_end(world)
        return contents[world]

    def _first_new(self, world: int) -> int:
        """The first attempt at a world's content that gives none of an earlier world, 0 included.

        Whatever the schedule, consecutive worlds differ. An earlier content is known by a digest,
        so that memory does not grow with the contents.
        """
        known: set[bytes] = self.__dict__["_known"]
        neutral = self.neutral()
        for attempt in range(_ATTEMPTS):
            content = self._drawn(world, attempt)
            mark = hashlib.blake2b(content.tobytes(), digest_size=16).digest()
            if mark not in known and not (neutral is not None and np.array_equal(content, neutral)):
                known.add(mark)
                return attempt
        raise UsageError(
            f"shift {self.name!r} finds no content for world {world} that no world before it has; "
            f"valid: fewer worlds, as with schedule 'cyclic'. It is {self}"
        )

    def _drawn(self, world: int, attempt: int) -> Array:
        words = [_CONTENT, self.__dict__["_seed"], self.__dict__["_index"], world, attempt]
        content = np.array(self.draw(np.random.default_rng(words)), order="C")
        content.setflags(write=False)  # rows of the same world share it
        return content

    def words(self, world: int) -> str:
        """What a world is, in words, for pictures; empty: its content or the options say it.

        Also asked of world 0.
        """
        return ""

    # What changes from step to step. The stream says for which copies a method is called

    def memory(self, copies: int) -> dict[str, Array]:
        """What is kept from step to step, as it is when an episode, or a world, begins.

        Arrays with a leading copy dimension; `kept` gives them.
        """
        return {}

    @property
    def now(self) -> Moment:
        """Which copies a method has been called for, and when."""
        moment: Moment = self.__dict__["_now"]
        return moment

    def kept(self, name: str) -> Array:
        """An array of `memory`, of all copies: index it with ``self.now.copies``."""
        array: Array = self.__dict__["_kept"][name]
        return array

    def uniform(self) -> Array:
        """One number from [0, 1) for each row; it depends on (seed, copy, step) alone."""
        return self._draws().one(self.now, "random")

    def normal(self) -> Array:
        """One number from N(0, 1) for each row; it depends on (seed, copy, step) alone."""
        return self._draws().one(self.now, "standard_normal")

    def generators(self) -> list[np.random.Generator]:
        """One generator for each row; what they give depends on (seed, copy, step) alone."""
        return self._draws().at(self.now)

    def _draws(self) -> Draws:
        draws: Draws | None = self.__dict__["_drawing"]
        if draws is None:
            draws = Draws(self.__dict__["_seeds"], self.__dict__["_index"])
            self.__dict__["_drawing"] = draws
        return draws

    def prepare(self, copies: int) -> None:
        """Be ready for so many copies, with nothing remembered."""
        everyone, never = np.arange(copies), np.zeros(copies, dtype=bool)
        now = Moment(copies=everyone, step=0, event="observation", last=never)
        self.__dict__.update(_kept=self.memory(copies), _now=now)
        self.reseed([0] * copies)

    def reseed(self, seeds: Sequence[int]) -> None:
        """Draw from now on what belongs to the copies' new seeds."""
        self.__dict__.update(_seeds=list(seeds), _drawing=None)

    def forget(self, copies: Array) -> None:
        """Clear the memory of some copies: an episode of theirs begins."""
        for name, blank in self.memory(len(copies)).items():
            self.__dict__["_kept"][name][copies] = blank

    def tell(self, moment: Moment) -> None:
        """Say what the next call of a method is for."""
        self.__dict__["_now"] = moment

    # What a shift may change; a shift overrides the ones it needs. Leading dimension: copy.

    def observation(self, frames: Array, world: Array) -> Array:
        """Single frames as the world shows them, same shape and dtype."""
        raise NotImplementedError

    def reward(self, reward: Array, world: Array, observation: Array) -> Array:
        """The task's reward, given the base reward and the base observation that came with it."""
        raise NotImplementedError

    def target(self, reward: Array, world: Array) -> Array:
        """What the learner is paid, after clipping; the recorded return stays as it is."""
        raise NotImplementedError

    def action(self, action: Array, world: Array) -> Array:
        """The action that the base environment gets."""
        raise NotImplementedError

    def configure(self, env: gymnasium.Env[Any, Any], world: int) -> gymnasium.Env[Any, Any]:
        """A base environment re-parameterised for a world, 0 included."""
        raise NotImplementedError
