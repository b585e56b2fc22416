"""CSV files with one row an episode, and the monitor.csv of stable-baselines3."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from rlplastic.elsewhere.logged import GUESSES, LARGEST, NAMES, TRUTH, Logged
from rlplastic.errors import UsageError, unknown


def read_csv(
    path: Path,
    file: TextIO,
    names: Mapping[str, str],
    said: Mapping[str, str],
    columns: Mapping[str, str],
) -> Iterator[Logged]:
    """The rows of a CSV file; one whose first line is ``#{...}`` is a monitor.csv."""
    first = file.readline()
    monitor = first.startswith("#")
    known = {**_monitor_head(path, first), **names} if monitor else names
    if not monitor:
        file.seek(0)
    reader = csv.reader(file, strict=True)
    try:
        head = next(reader, [])
        place = _places(f"{path}:{1 + monitor}", head, columns)
        if not (monitor or "step" in place or "begin" in place):
            raise UsageError(
                f"{path}:1: no column says at which step an episode ended; it has: "
                f"{', '.join(head)}\nName it: --columns step=NAME"
            )
        for row in reader:
            where = f"{path}:{reader.line_num + monitor}"
            if row and len(row) != len(head):
                raise UsageError(f"{where}: {len(row)} values below {len(head)} columns")
            if row:
                cells = {key: row[at].strip() for key, at in place.items()}
                spoken = {key: cells[key] for key in NAMES if cells.get(key)}
                heads = {key: head[at] for key, at in place.items()}
                row_names = {**known, **spoken, **said}
                yield _episode(str(path), where, row_names, cells, heads, clock=not monitor)
    except csv.Error as error:
        raise UsageError(f"{path}:{reader.line_num + monitor}: not a CSV file: {error}") from error


def _monitor_head(path: Path, line: str) -> dict[str, str]:
    try:
        head = json.loads(line[1:])
        task = head.get("env_id")
    except (ValueError, AttributeError, RecursionError):
        raise UsageError(
            f"{path}:1: begins as a monitor.csv, but '#' is not followed by JSON"
        ) from None
    return {"task": task} if isinstance(task, str) and task and task != "None" else {}


def _places(where: str, head: Sequence[str], columns: Mapping[str, str]) -> dict[str, int]:
    """Index of the column for each key of `GUESSES` that there is one for."""
    stripped = [name.strip() for name in head]
    lowered = {name.lower(): at for at, name in reversed(list(enumerate(stripped)))}
    found = {}
    for key, guesses in GUESSES.items():
        if key in columns:
            if columns[key] not in stripped:
                raise unknown(f"column in {where}", columns[key], stripped)
            found[key] = stripped.index(columns[key])
        else:
            at = next((lowered[guess] for guess in guesses if guess in lowered), None)
            if at is not None:
                found[key] = at
    if "return" not in found:
        raise UsageError(
            f"{where}: no column is a return; it has: {', '.join(stripped) or 'nothing'}\n"
            "Name it: --columns return=NAME"
        )
    return found


def _episode(
    log: str,
    where: str,
    names: Mapping[str, str],
    cells: Mapping[str, str],
    heads: Mapping[str, str],
    *,
    clock: bool,
) -> Logged:
    """One row; of a monitor.csv, whose steps are those of one copy, only the length is used."""

    def fault(key: str, what: str) -> UsageError:
        return UsageError(f"{where}: column {heads[key]!r}: {cells[key]!r:.60} is {what}")

    def whole(key: str, least: int) -> int | None:
        if key not in cells:
            return None
        try:
            value = float(cells[key])
            if not (value.is_integer() and least <= value < LARGEST):
                raise ValueError
        except (ValueError, OverflowError):
            raise fault(key, f"not a whole number from {least} on") from None
        return int(value)

    try:
        value = float(cells["return"])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise fault("return", "not a finite number")
    cut = TRUTH.get(cells.get("cut", "").lower())
    if cut is None:
        raise fault("cut", "neither true nor false")
    return Logged(
        where=where,
        log=log,
        names=names,
        value=value,
        length=whole("length", 1),
        begin=whole("begin", 0) if clock else None,
        end=whole("step", 0) if clock else None,
        cut=cut,
    )
