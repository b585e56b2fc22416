"""Shifts, schedules and base environments that each break one promise."""

import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from typing import ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces

from rlplastic.envs.copies import GymCopies
from rlplastic.envs.schedules import Periodic
from rlplastic.envs.shifts import Shift
from rlplastic.registry import environment, schedule, shift


@dataclass(frozen=True, kw_only=True)
class Vectors(Shift):
    """Moves vectors of floats, by the number of the world; nothing is broken."""

    on: ClassVar[str] = "observation"

    def check(self):
        if self.base.observation_space.dtype != np.float32:
            raise self.refuse("a vector of floats")

    def space(self, space):
        return spaces.Box(-np.inf, np.inf, space.shape, np.float32)

    def observation(self, frames, world):
        return (frames + self.move(frames, world)).astype(np.float32)

    def move(self, frames, world):
        return world[:, None]


@shift("sound")
@dataclass(frozen=True, kw_only=True)
class Sound(Vectors):
    """Nothing is broken."""


@shift("escapes")
@dataclass(frozen=True, kw_only=True)
class Escapes(Vectors):
    """In world 2 it leaves the space that it declares."""

    def space(self, space):
        return spaces.Box(space.low - 1, space.high + 1, dtype=np.float32)

    def move(self, frames, world):
        return np.where(world == 2, 100, 1)[:, None]


@shift("draws")
@dataclass(frozen=True, kw_only=True)
class Draws(Vectors):
    """It draws from numpy's global generator."""

    def move(self, frames, world):
        return world[:, None] + np.random.normal(size=frames.shape)


@shift("hashes")
@dataclass(frozen=True, kw_only=True)
class Hashes(Vectors):
    """Its worlds depend on the hash of a word, which is another in each process."""

    def move(self, frames, world):
        return world[:, None] + hash("a word") % 1000 / 1000


@shift("writes")
@dataclass(frozen=True, kw_only=True)
class Writes(Vectors):
    """It changes the frames in place."""

    def observation(self, frames, world):
        frames += world[:, None]
        return frames


@shift("remembers")
@dataclass(frozen=True, kw_only=True)
class Remembers(Vectors):
    """It shows the frame before, whatever was reset since."""

    def move(self, frames, world):
        last = self.__dict__.get("last", frames)
        self.__dict__["last"] = frames.copy()
        return (last if last.shape == frames.shape else frames) - frames + world[:, None]


@shift("counts")
@dataclass(frozen=True, kw_only=True)
class Counts(Vectors):
    """It has a clock of its own."""

    def move(self, frames, world):
        self.__dict__["calls"] = self.__dict__.get("calls", 0) + 1
        return world[:, None] + (self.__dict__["calls"] > 20)


@shift("mixes")
@dataclass(frozen=True, kw_only=True)
class Mixes(Vectors):
    """What a copy is shown depends on the others."""

    def move(self, frames, world):
        return world[:, None] + frames.mean(axis=0)


@shift("idle")
@dataclass(frozen=True, kw_only=True)
class Idle(Vectors):
    """It changes nothing."""

    def move(self, frames, world):
        return 0 * world[:, None]


@shift("twins")
@dataclass(frozen=True, kw_only=True)
class Twins(Vectors):
    """Worlds 1 and 2 are the same."""

    def move(self, frames, world):
        return (world > 0)[:, None]


@shift("heavier")
@dataclass(frozen=True, kw_only=True)
class Heavier(Shift):
    """Gravity doubles at each change and is not put back for world 0."""

    on: ClassVar[str] = "dynamics"

    def check(self):
        if not isinstance(self.base, GymCopies) or not hasattr(
            self.base.envs[0].unwrapped, "kinematics_integrator"
        ):
            raise self.refuse("CartPole")

    def configure(self, env, world):
        env.unwrapped.gravity *= 1 + (world > 0)
        return env


kept = []


@shift("opens")
@dataclass(frozen=True, kw_only=True)
class Opens(Vectors):
    """A file for each stream, never closed."""

    def check(self):
        kept.append(tempfile.TemporaryFile())  # noqa: SIM115


@shift("starts")
@dataclass(frozen=True, kw_only=True)
class Starts(Vectors):
    """A thread for each stream, never joined."""

    def check(self):
        threading.Thread(target=threading.Event().wait, daemon=True).start()


@shift("spawns")
@dataclass(frozen=True, kw_only=True)
class Spawns(Vectors):
    """A process for each stream, never waited for."""

    def check(self):
        kept.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(9)"]))


@schedule("delayed")
@dataclass(frozen=True, kw_only=True)
class Delayed(Periodic):
    """It begins at 16 instead of 0."""

    period: int
    phases: int

    def start(self, phase):
        return 16 + super().start(phase)


@schedule("abroad")
@dataclass(frozen=True, kw_only=True)
class Abroad(Periodic):
    """It begins in world 1."""

    period: int
    phases: int

    def world(self, phase):
        return phase + 1


class FlatEnv(gymnasium.Env):
    """Shows zeros of some space."""

    def __init__(self, space):
        self.observation_space, self.action_space = space, spaces.Discrete(2)
        self.render_mode = None

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(self.observation_space.shape, np.float32), {}

    def step(self, action):
        return np.zeros(self.observation_space.shape, np.float32), 0.0, False, False, {}


@environment("Point")
@dataclass(frozen=True, kw_only=True)
class Point:
    """A space of a single point, which Gymnasium's checker warns of."""

    def make(self, num_copies):
        return GymCopies(lambda: FlatEnv(spaces.Box(0, 0, (2,), np.float32)), num_copies)


@environment("Square")
@dataclass(frozen=True, kw_only=True)
class Square:
    """Neither a vector nor an image, which stable-baselines3's checker warns of."""

    def make(self, num_copies):
        return GymCopies(lambda: FlatEnv(spaces.Box(-1, 1, (2, 2), np.float32)), num_copies)
