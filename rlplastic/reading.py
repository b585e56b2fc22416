"""Reading a results folder: JSON and nothing else, whatever state the run was left in."""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from rlplastic import store
from rlplastic.cell import id_of, slot_name
from rlplastic.errors import UsageError
from rlplastic.metrics.pairing import refuse_mixtures
from rlplastic.record import (
    FINISHED,
    Episodes,
    Evaluation,
    Phase,
    Probe,
    Record,
    Results,
    Slot,
    slot_of,
)

DECODER = json.JSONDecoder(parse_constant=lambda word: float(f"not a number: {word}"))
CASTS: dict[Any, Callable[[Any], Any]] = {"int": int, "float": float, "str": str}
MUCH, CHUNK = 2**26, 16  # bytes of rows that are worth other processes; cells that one is given
LARGEST_ROWS = 2**30  # bytes of a record; twenty phases of the shortest episodes have 30 MB


def read(folder: Path, helpers: Executor | None = None) -> Results:
    """Read a results folder.

    Args:
        folder: The folder.
        helpers: Processes that share the work where there is much of it.

    Raises:
        UsageError: The folder has no plan, or holds two configurations of one thing.
    """
    plan = _read_plan(folder)
    headers = dict(_headers(folder))
    planned = {str(item["id"]): item["cell"] for item in plan.get("cells", [])}
    cells = planned | {name: header["cell"] for name, header in headers.items()}
    _refuse_edited(folder, cells)
    refuse_mixtures(cells)
    paths = [folder / name for name in headers]
    begun: Iterator[Record]
    if helpers is not None and sum(map(_size, paths)) >= MUCH:
        begun = helpers.map(_read_cell, paths, headers, headers.values(), chunksize=CHUNK)
    else:
        begun = map(_read_cell, paths, headers, headers.values())
    waiting = (
        _without_header(folder, name, cells[name]) for name in planned if name not in headers
    )
    records: dict[Slot, Record] = {record.slot: record for record in (*begun, *waiting)}
    return Results(folder=folder, plan=plan, records=dict(sorted(records.items())))


def _refuse_edited(folder: Path, cells: Mapping[str, Mapping[str, Any]]) -> None:
    """A folder's name is made from its configuration, so an edited or moved one is found out."""
    for name, cell in cells.items():
        if name != id_of(slot_name(*slot_of(cell)), cell):
            raise UsageError(
                f"{folder / name}: its configuration is not the one that its name was made from.\n"
                "A plan.json or header.json that was edited by hand is not read; put it back."
            )


def _without_header(folder: Path, name: str, cell: Mapping[str, Any]) -> Record:
    """A planned cell that has not begun, or failed before it could."""
    if ".." not in Path(name).parts and not Path(name).is_absolute():
        status, reason, _ = _ending(folder / name)
        if status == "failed":
            return Record(id=name, cell=cell, status=status, reason=reason)
    return Record(id=name, cell=cell, status="missing")


def _load(path: Path) -> dict[str, Any]:
    """One JSON object; ValueError if the file holds anything else."""
    value = store.read_json(path)
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
    try:
        content, timing = _bytes(path / "rows.jsonl"), _bytes(path / "timing.jsonl")
    except ValueError as error:
        fault = str(error)
        return Record(id=name, cell=header["cell"], header=header, status="damaged", reason=fault)
    rows, torn = _rows(content)
    if status in FINISHED:
        fault = _fault(content, len(rows), torn, facts)
        status, reason = ("damaged", fault) if fault else (status, reason)
    clock, _ = _rows(timing)
    try:
        kinds: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in rows:
            kinds[str(row.get("kind"))].append(row)
        episodes = Episodes.of(kinds["episode"])
        if not np.isfinite(episodes.returns).all():
            raise ValueError("a return is not finite")
        closed = [_value(Phase, row) for row in kinds["phase"]]
        layout = _layout(header)
        probes = [_value(Probe, row) for row in kinds["probe"]]
        return Record(
            id=name,
            cell=header["cell"],
            status=status,
            reason=reason,
            header=header,
            episodes=episodes,
            phases={phase.phase: phase for phase in closed},
            layout=layout,
            evaluations=tuple(_evaluation(row, len(layout)) for row in kinds["evaluation"]),
            probes=tuple(probe for probe in probes if math.isfinite(probe.value)),
            ended=(int(facts["phase"]), int(facts["step"])) if status == "diverged" else None,
            seconds=math.fsum(row.get("seconds", 0.0) for row in clock),
            steps=sum(int(row.get("steps", 0)) for row in clock),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        fault = f"a row does not hold what it should: {error!r}"
        return Record(id=name, cell=header["cell"], header=header, status="damaged", reason=fault)


def _evaluation(row: Mapping[str, Any], phases: int) -> Evaluation:
    """An evaluation within a life of so many phases."""
    found: Evaluation = _value(Evaluation, row)
    if not (0 <= found.lived <= phases and math.isfinite(found.value)):
        raise ValueError(f"an evaluation of {found.value} after {found.lived} of {phases} phases")
    return found


def _layout(header: Mapping[str, Any]) -> dict[int, Phase]:
    """The phases that the cell was to have."""
    rows = [{**row, "updates": 0} for row in header.get("layout", ())]
    return {row["phase"]: _value(Phase, row) for row in rows}


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


def _size(path: Path) -> int:
    """Bytes of a cell's rows."""
    try:
        return (path / "rows.jsonl").stat().st_size
    except OSError:
        return 0


def _bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > LARGEST_ROWS:
            raise ValueError(f"{path.name} is larger than {LARGEST_ROWS >> 20} MB")
        return path.read_bytes()
    except FileNotFoundError:  # not begun, or begun anew while we read
        return b""


def _rows(content: bytes) -> tuple[list[dict[str, Any]], bool]:
    """The rows before the first line that is not one, and whether there was such a line."""
    rows: list[dict[str, Any]] = []
    lines, _, unfinished = content.rpartition(b"\n")
    try:  # all at once, which is what almost every record allows
        rows = orjson.loads(b"[%b]" % lines.replace(b"\n", b","))
        if len(rows) == content.count(b"\n") and set(map(type, rows)) <= {dict}:
            return rows, bool(unfinished)
    except ValueError:
        pass
    rows = []
    whole, _, rest = content.decode("utf-8", errors="replace").rpartition("\n")
    for line in whole.split("\n") if b"\n" in content else ():
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
    return kind(**{name: cast(row[name]) for name, cast in COLUMNS[kind]})


COLUMNS = {
    kind: [(item.name, CASTS[item.type]) for item in fields(kind)]
    for kind in (Phase, Probe, Evaluation)
}
