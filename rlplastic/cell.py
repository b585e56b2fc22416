"""One point of an experiment: what is run, its identity and its seeds."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from rlplastic import options, store

LONGEST = 120  # characters of a folder's name; file systems end at 255 bytes


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Stream x agent x arm x seed, fully resolved: nothing is looked up again when it runs.

    Attributes:
        suite: Suite that names the task.
        task: Base environment x track, as ``CartPole-observation``.
        agent: Name of the agent.
        reg: Label of the intervention, as ``sam:rho=0.1``.
        fresh: True for the newborn arm: one life for each phase after the first.
        seed: Index of the repetition.
        stream: Base environment, shifts, schedule, boundary, copies.
        hyperparameters: Every field of the agent's configuration.
        intervention: Every field of every intervention.
        replay: What happens to the replay memory at a shift, ``clear`` or ``keep``.
        sources: SHA-256 of each file outside the package that defines a name used here: a plugin
            that was edited is another experiment.
        device: Torch device; recorded, but not part of the identity.
        probes: ``full`` measures the costly probes too, around each shift; no part of the identity,
            since no probe changes training.
        evaluate: Episodes that each world of a life is played for, before it and at the end of each
            phase; not part of the identity, since evaluations do not change training. 0: none.
        plugins: Files to load before the cell is built; not part of the identity.
    """

    suite: str
    task: str
    agent: str
    reg: str
    fresh: bool = False
    seed: int
    stream: dict[str, Any]
    hyperparameters: dict[str, Any]
    intervention: list[dict[str, Any]] = field(default_factory=list)
    replay: str = "clear"
    sources: dict[str, str] = field(default_factory=dict)
    device: str = "cpu"
    probes: str = "default"
    evaluate: int = 0
    plugins: list[str] = field(default_factory=list)

    IDENTITY: ClassVar[tuple[str, ...]] = (
        "suite",
        "task",
        "agent",
        "reg",
        "fresh",
        "seed",
        "stream",
        "hyperparameters",
        "intervention",
        "replay",
        "sources",
    )
    RUNTIME: ClassVar[tuple[str, ...]] = ("device", "probes", "evaluate", "plugins")

    @property
    def identity(self) -> dict[str, Any]:
        """The fields that can change results, as JSON values."""
        values = asdict(self)
        return {name: values[name] for name in self.IDENTITY}

    @property
    def runtime(self) -> dict[str, Any]:
        """The fields that cannot."""
        values = asdict(self)
        return {name: values[name] for name in self.RUNTIME}

    @property
    def arm(self) -> str:
        """The arm's name in tables and figures: ``sam`` or, for the newborns, ``sam+fresh``."""
        return f"{self.reg}+fresh" if self.fresh else self.reg

    @property
    def slot(self) -> str:
        """Where the cell belongs in a folder, whatever its configuration."""
        return slot_name(self.task, self.agent, self.arm, self.seed)

    @property
    def id(self) -> str:
        """Readable name and hash of the identity; also the cell's folder."""
        return id_of(self.slot, self.identity)

    @property
    def num_phases(self) -> int:
        """Phases of the stream, the first included."""
        schedule = self.stream["schedule"]
        return int(schedule.get("phases") or len(schedule["worlds"]))

    @property
    def period(self) -> int:
        """Environment steps of a phase; where they differ, the schedule says which one's."""
        return int(self.stream["schedule"]["period"])

    @cached_property
    def starts(self) -> list[int]:
        """The clock at which each phase begins, and at which the last one ends."""
        from rlplastic.envs.schedules import bound  # loads torch, which looking at cells does not

        spec = options.build("schedule", self.stream["schedule"], f"task {self.task!r}")
        schedule = bound(spec, self.random_seed("stream"))
        return [schedule.start(phase) for phase in range(schedule.phases + 1)]

    @property
    def begin(self) -> int:
        """The clock at which the first life begins."""
        return self.starts[int(self.fresh)]

    @property
    def num_steps(self) -> int:
        """Environment steps that running this cell takes."""
        return self.starts[-1] - self.begin

    def random_seed(self, purpose: str, life: int = 0) -> int:
        """A seed of this cell in [0, 2**31): equal for all arms, different for each purpose.

        It depends on (seed, task, purpose, life) alone: the arms of one seed see the same worlds
        and start from the same weights, and tasks are independent of each other.
        """
        words = [self.seed, life, *_words(self.task), *_words(purpose)]
        return int(np.random.SeedSequence(words).generate_state(1)[0] >> 1)


def slot_name(task: str, agent: str, arm: str, seed: int) -> str:
    """The path of a cell below its results folder, without its hash."""
    arm = re.sub(r"[^A-Za-z0-9=.+_-]", "_", arm)[:LONGEST]  # the hash keeps them apart
    return f"{task}/{agent}/{arm}/{seed}"


def id_of(slot: str, identity: Mapping[str, Any]) -> str:
    """A cell's folder: its slot and the hash of its identity."""
    return f"{slot}-{store.digest(identity)[:8]}"


def _words(text: str) -> list[int]:
    digest = hashlib.sha256(text.encode()).digest()
    return [int.from_bytes(digest[i : i + 4], "little") for i in (0, 4)]
