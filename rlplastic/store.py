"""Every byte that the suite writes.

Layout of a results folder::

    results/<name>/
      plan.json                                  what will run, frozen before the first step
      <task>/<agent>/<arm>/<seed>-<hash8>/       one folder a cell
        header.json                              resolved configuration and provenance
        rows.jsonl                               episodes, phases, probes: append-only
        timing.jsonl                             wall clock, kept apart so that rows compare by byte
        tensorboard/                             event files
        done.json | failed.json                  the end, with the reason
      report.html  report.md  results.csv
      tensorboard/                               scores and arms, see `rlplastic.tensorboard`

Files that are written whole appear whole: a temporary file in the same folder, flushed to disk,
then renamed. Nothing here is pickled; reading a folder executes nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from rlplastic.errors import UsageError

SCHEMA = 1
FINISHED = ("done", "diverged")


class Locked(Exception):
    """Another process is running cells in this folder."""


def write_text(path: Path, text: str) -> Path:
    """Write a text as `write_bytes` does; a line ends with a newline alone, everywhere."""
    return write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a file so that a reader sees the old one or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(temporary).unlink()
        raise
    _sync_folder(path.parent)
    return path


def write_events(folder: Path, files: Mapping[str, bytes]) -> None:
    """Make a folder hold these event files, and touch none that is as it should be."""
    old = {path.relative_to(folder).as_posix() for path in folder.rglob("*tfevents*")}
    for name in old - files.keys():
        (folder / name).unlink()
    for name, content in files.items():
        if name not in old or (folder / name).read_bytes() != content:
            write_bytes(folder / name, content)


def write_json(path: Path, value: Any) -> Path:
    """Write a value as JSON; NaN and infinity are refused, since JSON has neither."""
    return write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def canonical(value: Any) -> str:
    """The one JSON text of a value: what identities are hashed from."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 of the canonical text of a value."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def lock(folder: Path) -> FileLock:
    """Hold a results folder; the lock ends with its process, however that ends.

    Raises:
        Locked: another process holds it.
        UsageError: nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        guard = FileLock(folder / ".lock")
        guard.acquire(timeout=0.5)  # longer than `is_locked` holds it
    except Timeout:
        raise Locked(f"{folder}: another rlplastic process is running cells here") from None
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written: {error.strerror}") from error
    return guard


def is_locked(folder: Path) -> bool:
    """True if a process is running cells in this folder; writes nothing."""
    try:
        descriptor = os.open(folder / ".lock", os.O_RDONLY)
    except OSError:  # never run, or a folder that may not be read
        return False
    try:  # shared and for an instant; `lock` has the patience for it
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def line(row: dict[str, Any]) -> str:
    """A row as it stands in a record."""
    return json.dumps(row, separators=(",", ":"), allow_nan=False) + "\n"


class CellFolder:
    """The writing side of one cell. A cell that is started again starts from nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, header: dict[str, Any]) -> None:
        """Drop what an interrupted attempt left, write the header, open the rows."""
        if status_of(self.path) in FINISHED:
            raise UsageError(f"{self.path}: this cell is finished and is not touched again")
        if self.path.exists():
            shutil.rmtree(self.path)
        self.path.mkdir(parents=True)
        write_json(self.path / "header.json", header)
        self._hash = hashlib.sha256()
        self._count = 0
        self._rows: IO[str] = (self.path / "rows.jsonl").open("x", encoding="utf-8", newline="\n")
        self._timing: IO[str] = (self.path / "timing.jsonl").open("x", encoding="utf-8")

    @property
    def tensorboard(self) -> Path:
        """Where this cell's event files go."""
        return self.path / "tensorboard"

    def row(self, **values: Any) -> None:
        """Append one row; it reaches the disk at the next `flush`."""
        text = line(values)
        self._rows.write(text)
        self._hash.update(text.encode())
        self._count += 1

    def timing(self, **values: Any) -> None:
        """Append one line of wall-clock figures."""
        self._timing.write(json.dumps(values, separators=(",", ":")) + "\n")

    def flush(self) -> None:
        """Bring all rows so far to the disk."""
        for file in (self._rows, self._timing):
            file.flush()
            os.fsync(file.fileno())

    def close(self) -> None:
        """Bring all rows to the disk; without an end marker the cell has not ended."""
        self.flush()
        self._rows.close()
        self._timing.close()

    def finish(self, status: str, **facts: Any) -> None:
        """Write the end marker: from here on the cell counts and is never touched again."""
        self.close()
        done = {"status": status, "rows": self._count, "sha256": self._hash.hexdigest(), **facts}
        write_json(self.path / "done.json", done)


def write_failure(path: Path, reason: str, tail: str = "") -> None:
    """Record that a cell ended without a result, and why."""
    path.mkdir(parents=True, exist_ok=True)
    failure = {"status": "failed", "reason": reason, "tail": tail[-4000:]}
    write_json(path / "failed.json", failure)


def status_of(path: Path) -> str:
    """One of ``done``, ``diverged``, ``failed``, ``unfinished`` and ``pending``."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        status = json.loads((path / "done.json").read_text(encoding="utf-8"))["status"]
        if status in FINISHED:
            return str(status)
    if (path / "failed.json").exists():
        return "failed"
    return "unfinished" if (path / "header.json").exists() else "pending"
