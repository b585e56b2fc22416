"""Results folders, read into frozen values: the way from training to analysis.

A folder is data. Reading it parses JSON and nothing else, never raises because a run stopped
half-way, and refuses to put two configurations under one name::

    results/<name>/plan.json                        what was to run
    results/<name>/<task>/<agent>/<arm>/<seed>-<hash8>/
        header.json                                 the cell's identity and provenance
        rows.jsonl                                  episodes, phases and probes
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

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlplastic.errors import UsageError
from rlplastic.metrics.pairing import refuse_mixtures

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Slot = tuple[str, str, str, int]

FINISHED = ("done", "diverged")
CASTS: dict[Any, Callable[[Any], Any]] = {"int": int, "float": float, "str": str}
DECODER = json.JSONDecoder(parse_constant=lambda word: float(f"not a number: {word}"))
LARGEST_JSON = 64 * 2**20  # bytes of a plan, header or end marker; a real plan has a few MB


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
        ordered = sorted(rows, key=lambda row: (row["begin"], row["copy"]))

        def column(key: str, kind: type) -> NDArray[Any]:
            return np.fromiter((row[key] for row in ordered), dtype=kind, count=len(ordered))

        whole = ("phase", "world", "begin", "end", "copy", "length")
        return Episodes(
            **{key: column(key, np.int64) for key in whole},
            returns=column("return", np.float64),
            base_returns=column("base_return", np.float64),
            cut=column("cut", np.bool_),
        )


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
        probes: All measurements written so far.
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
    probes: tuple[Probe, ...] = ()
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

    def of(self, *, agent: str, task: str | None = None) -> list[Record]:
        """All records of an agent, of one task or of all."""
        return [r for s, r in self.records.items() if s[1] == agent and task in (None, s[0])]

    def regs(self, agent: str) -> list[str]:
        """Interventions that were compared on an agent: ``none`` first, the rest by name."""
        return sorted({r.reg for r in self.of(agent=agent)}, key=lambda reg: (reg != "none", reg))

    def seeds(self, agent: str) -> list[int]:
        """Seeds that were planned for an agent, or are on disk."""
        return sorted({r.slot[3] for r in self.of(agent=agent)})


def slot_of(cell: Mapping[str, Any]) -> Slot:
    """(task, agent, arm, seed) of a cell's identity."""
    arm = str(cell["reg"]) + "+fresh" * bool(cell.get("fresh"))
    return str(cell["task"]), str(cell["agent"]), arm, int(cell["seed"])


def read(folder: Path) -> Results:
    """Read a results folder.

    Raises:
        UsageError: The folder has no plan, or holds two configurations of one thing.
    """
    plan = _read_plan(folder)
    headers = dict(_headers(folder))
    planned = {str(item["id"]): item["cell"] for item in plan.get("cells", [])}
    cells = planned | {name: header["cell"] for name, header in headers.items()}
    refuse_mixtures(cells)
    records: dict[Slot, Record] = {}
    for name, cell in cells.items():
        if name in headers:
            record = _read_cell(folder / name, name, headers[name])
        else:
            record = _without_header(folder, name, cell)
        records[record.slot] = record
    return Results(folder=folder, plan=plan, records=dict(sorted(records.items())))


def _without_header(folder: Path, name: str, cell: Mapping[str, Any]) -> Record:
    """A planned cell that has not begun, or failed before it could."""
    if ".." not in Path(name).parts and not Path(name).is_absolute():
        status, reason, _ = _ending(folder / name)
        if status == "failed":
            return Record(id=name, cell=cell, status=status, reason=reason)
    return Record(id=name, cell=cell, status="missing")


def _load(path: Path) -> dict[str, Any]:
    """One JSON object; ValueError if the file holds anything else."""
    if path.stat().st_size > LARGEST_JSON:
        raise ValueError(f"{path.name} is larger than {LARGEST_JSON >> 20} MB")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError(f"{path.name} is nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path.name} is not a JSON object")
    return value


def _read_plan(folder: Path) -> dict[str, Any]:
    try:
        plan = _load(folder / "plan.json")
    except FileNotFoundError:
        raise UsageError(
            f"{folder}: not a results folder, since it has no plan.json.\n"
            "Give the folder that `rlplastic bench` printed, as results/<name>."
        ) from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder / 'plan.json'}: cannot be read: {error}") from error
    if plan.get("schema") != 1:
        raise UsageError(
            f"{folder / 'plan.json'}: schema {plan.get('schema')!r}; this version reads schema 1."
        )
    return plan


def _headers(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The header of each cell on disk; a folder whose header is torn has not begun."""
    for path in sorted(folder.glob("*/*/*/*/header.json")):
        name = path.parent.relative_to(folder).as_posix()
        try:
            header = _load(path)
            slot_of(header["cell"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if header.get("id", name) != name:
            raise UsageError(
                f"{path.parent}: holds the cell {header['id']}.\n"
                "A cell that was renamed or copied by hand is not read; move it back or away."
            )
        yield name, header


def _read_cell(path: Path, name: str, header: dict[str, Any]) -> Record:
    status, reason, facts = _ending(path)
    content = _bytes(path / "rows.jsonl")
    rows, torn = _rows(content)
    if status in FINISHED:
        fault = _fault(content, len(rows), torn, facts)
        status, reason = ("damaged", fault) if fault else (status, reason)
    timing, _ = _rows(_bytes(path / "timing.jsonl"))
    try:
        episodes = Episodes.of(row for row in rows if row.get("kind") == "episode")
        if not np.isfinite(episodes.returns).all():
            raise ValueError("a return is not finite")
        closed = [_value(Phase, row) for row in rows if row.get("kind") == "phase"]
        probes = [_value(Probe, row) for row in rows if row.get("kind") == "probe"]
        return Record(
            id=name,
            cell=header["cell"],
            status=status,
            reason=reason,
            header=header,
            episodes=episodes,
            phases={phase.phase: phase for phase in closed},
            probes=tuple(probe for probe in probes if math.isfinite(probe.value)),
            ended=(int(facts["phase"]), int(facts["step"])) if status == "diverged" else None,
            seconds=math.fsum(row.get("seconds", 0.0) for row in timing),
            steps=sum(int(row.get("steps", 0)) for row in timing),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        fault = f"a row does not hold what it should: {error!r}"
        return Record(id=name, cell=header["cell"], header=header, status="damaged", reason=fault)


def _ending(path: Path) -> tuple[str, str, dict[str, Any]]:
    """Status, reason and the other facts of the end marker."""
    for name in ("done.json", "failed.json"):
        try:
            facts = _load(path / name)
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            return "damaged", str(error), {}
        status = str(facts.get("status"))
        if status not in (*FINISHED, "failed") or (
            status == "diverged" and not {"phase", "step"} <= set(facts)
        ):
            return "damaged", f"{name} does not say how the cell ended", {}
        return status, str(facts.get("reason", "")), facts
    return "unfinished", "", {}


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:  # not begun, or begun anew while we read
        return b""


def _rows(content: bytes) -> tuple[list[dict[str, Any]], bool]:
    """The rows before the first line that is not one, and whether there was such a line."""
    rows: list[dict[str, Any]] = []
    *lines, rest = content.decode("utf-8", errors="replace").split("\n")
    for line in lines:
        try:
            row = DECODER.decode(line)
        except (ValueError, RecursionError):
            return rows, True
        if not isinstance(row, dict):
            return rows, True
        rows.append(row)
    return rows, bool(rest)


def _fault(content: bytes, count: int, torn: bool, facts: Mapping[str, Any]) -> str:
    """What is wrong with the rows of a cell that has an end marker; empty if nothing is."""
    if torn:
        return f"row {count + 1} of rows.jsonl is not JSON"
    if facts.get("rows", count) != count:
        return f"rows.jsonl has {count} rows, done.json speaks of {facts['rows']}"
    if "sha256" in facts and facts["sha256"] != hashlib.sha256(content).hexdigest():
        return "rows.jsonl is not the file that done.json speaks of (SHA-256)"
    return ""


def _value(kind: type[Any], row: Mapping[str, Any]) -> Any:
    return kind(**{item.name: CASTS[item.type](row[item.name]) for item in fields(kind)})
