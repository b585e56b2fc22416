"""Results folders, read into frozen values: the way from training to analysis.

A folder is data. Reading it parses JSON and nothing else, never raises because a run stopped
half-way, and refuses to put two configurations under one name::

    results/<name>/plan.json                        what was to run
    results/<name>/<task>/<agent>/<arm>/<seed>-<hash8>/
        header.json                                 the cell's identity and provenance
        rows.jsonl                                  episodes, phases, probes and evaluations
        timing.jsonl                                wall clock
        done.json | failed.json                     how it ended; neither: it has not ended

Each cell that was planned, or is on disk, becomes one `Record` with a status:

==========  =======================================================================
done        ended as planned
diverged    the learner produced NaN or infinity: an outcome, scored as one
failed      ended without a result, for the reason given
damaged     the rows are not the ones the end marker speaks of
unfinished  has begun, has not ended
missing     planned, not begun
==========  =======================================================================
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Slot = tuple[str, str, str, int]

FINISHED = ("done", "diverged")


@dataclass(frozen=True, kw_only=True)
class Episodes:
    """The episodes of a cell as columns, ordered by the step at which they began."""

    phase: IntArray
    world: IntArray
    begin: IntArray
    end: IntArray
    copy: IntArray
    length: IntArray
    returns: FloatArray
    base_returns: FloatArray
    cut: BoolArray

    def __len__(self) -> int:
        return len(self.begin)

    def where(self, mask: BoolArray) -> Episodes:
        """The episodes for which the mask is true."""
        return Episodes(
            **{column.name: getattr(self, column.name)[mask] for column in fields(self)}
        )

    @staticmethod
    def of(rows: Iterable[Mapping[str, Any]]) -> Episodes:
        """Columns from the rows of a record."""
        rows = list(rows)
        columns: dict[str, NDArray[Any]] = {
            item.name: np.fromiter(
                map(itemgetter(COLUMNS[item.name]), rows), KINDS[item.type], count=len(rows)
            )
            for item in fields(Episodes)
        }
        order = np.lexsort((columns["copy"], columns["begin"]))
        return Episodes(**{name: column[order] for name, column in columns.items()})


COLUMNS = {item.name: item.name for item in fields(Episodes)}
COLUMNS |= {"returns": "return", "base_returns": "base_return"}  # as a row names them
KINDS: dict[Any, type] = {"IntArray": np.int64, "FloatArray": np.float64, "BoolArray": np.bool_}


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One closed phase: the clock at its two ends, and the updates made in it."""

    phase: int
    world: int
    begin: int
    end: int
    updates: int


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One measurement of the network, ``before``, ``after`` or ``during``."""

    phase: int
    step: int
    moment: str
    name: str
    value: float


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Mean return of the frozen policy in one world, when so many phases were over."""

    lived: int
    step: int
    world: int
    value: float


@dataclass(frozen=True, kw_only=True)
class Record:
    """What happened in one cell.

    Attributes:
        id: Path of the cell's folder below the results folder.
        cell: Identity of the cell: everything that can change its numbers.
        status: See the head of this file.
        reason: Why it failed, diverged or is damaged.
        header: `header.json`, empty while missing.
        episodes: All episodes written so far.
        phases: Closed phases by number.
        layout: Every phase of the stream by number, as it was before the first step.
        probes: All measurements written so far.
        evaluations: All that were written so far.
        ended: (phase, step) at which a diverged cell ended.
        seconds: Wall-clock time of the closed phases.
        steps: Environment steps of the closed phases.
    """

    id: str
    cell: Mapping[str, Any]
    status: str
    reason: str = ""
    header: Mapping[str, Any] = field(default_factory=dict)
    episodes: Episodes = field(default_factory=lambda: Episodes.of([]))
    phases: Mapping[int, Phase] = field(default_factory=dict)
    layout: Mapping[int, Phase] = field(default_factory=dict)
    probes: tuple[Probe, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()
    ended: tuple[int, int] | None = None
    seconds: float = 0.0
    steps: int = 0

    @property
    def reg(self) -> str:
        """Label of the intervention; the arm without its ``+fresh``."""
        return str(self.cell["reg"])

    @property
    def fresh(self) -> bool:
        """Whether this is a newborn arm."""
        return bool(self.cell.get("fresh"))

    @property
    def slot(self) -> Slot:
        """(task, agent, arm, seed): the place that one configuration may hold."""
        return slot_of(self.cell)

    @property
    def finished(self) -> bool:
        """Whether the cell has an outcome: it ended as planned, or diverged."""
        return self.status in FINISHED

    @property
    def oracle(self) -> bool:
        """Whether the intervention is told when the world changes."""
        return bool(self.header.get("oracle", False))


@dataclass(frozen=True, kw_only=True)
class Results:
    """A results folder: the plan and a record for each cell, by (task, agent, arm, seed)."""

    folder: Path
    plan: Mapping[str, Any]
    records: Mapping[Slot, Record]

    @property
    def tasks(self) -> list[str]:
        """Tasks, in the plan's order; tasks that are only on disk follow."""
        return list(
            dict.fromkeys([*self.plan.get("tasks", {}), *sorted(s[0] for s in self.records)])
        )

    @property
    def agents(self) -> list[str]:
        """Learning agents; the random reference is not one."""
        return sorted({agent for _, agent, _, _ in self.records} - {"random"})

    @property
    def learners(self) -> list[Record]:
        """The records of every agent that learns."""
        return [record for slot, record in self.records.items() if slot[1] != "random"]

    @cached_property
    def _groups(self) -> dict[tuple[str, str | None], list[Record]]:
        """Records by agent and task, and by agent alone: asked for thousands of times a report."""
        groups: dict[tuple[str, str | None], list[Record]] = defaultdict(list)
        for (task, agent, _, _), record in self.records.items():
            groups[agent, task].append(record)
            groups[agent, None].append(record)
        return dict(groups)

    @cached_property
    def _kinds(self) -> dict[str, tuple[set[str], set[int]]]:
        """Arms and seeds by agent."""
        kinds: dict[str, tuple[set[str], set[int]]] = defaultdict(lambda: (set(), set()))
        for _, agent, arm, seed in self.records:
            arms, seeds = kinds[agent]
            arms.add(arm)
            seeds.add(seed)
        return dict(kinds)

    def of(self, *, agent: str, task: str | None = None) -> list[Record]:
        """All records of an agent, of one task or of all."""
        return list(self._groups.get((agent, task), ()))

    def regs(self, agent: str) -> list[str]:
        """Interventions that were compared on an agent: ``none`` first, the rest by name."""
        return sorted({r.reg for r in self.of(agent=agent)}, key=lambda reg: (reg != "none", reg))

    def seeds(self, agent: str) -> list[int]:
        """Seeds that were planned for an agent, or are on disk."""
        return sorted(self._kinds[agent][1]) if agent in self._kinds else []

    def arms(self, agent: str) -> set[str]:
        """Arms of an agent that were planned, or are on disk, newborn ones included."""
        return self._kinds[agent][0] if agent in self._kinds else set()


def slot_of(cell: Mapping[str, Any]) -> Slot:
    """(task, agent, arm, seed) of a cell's identity."""
    arm = str(cell["reg"]) + "+fresh" * bool(cell.get("fresh"))
    return str(cell["task"]), str(cell["agent"]), arm, int(cell["seed"])
