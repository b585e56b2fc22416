"""Every byte that the suite writes.

Layout of a results folder::

    results/<name>/
      plan.json                                  what will run, frozen before the first step
      <task>/<agent>/<arm>/<seed>-<hash8>/       one folder a cell
        header.json                              resolved configuration and provenance
        rows.jsonl                               episodes, phases, probes, evaluations: append-only
        timing.jsonl                             wall clock, kept apart so that rows compare by byte
        checkpoint/                              while it runs: where it can go on
        tensorboard/                             event files
        done.json | failed.json                  the end, with the reason
      report.html  report.md  results.csv
      tensorboard/                               scores and arms, see `rlplastic.tensorboard`

Files that are written whole appear whole: a temporary file in the same folder, flushed to disk,
then renamed. Nothing here is pickled; reading a folder executes nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from rlplastic.errors import UsageError

SCHEMA = 1
LARGEST_JSON = 64 * 2**20  # bytes of a plan, header or end marker; a real plan has a few MB
FINISHED = ("done", "diverged")
TAIL = 8_000  # characters of what a failed cell printed and of its traceback that are kept


def write_text(path: Path, text: str) -> Path:
    """Write a file so that a reader sees the old one or the new one, never a part."""
    return write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> Path:
    """As `write_text`. When it returns, the file is on the disk under its name."""
    with naming(path):
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


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors of the system name the file: a full disk is found out by a `write` that does not."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_events(folder: Path, files: Mapping[str, bytes]) -> None:
    """Make a folder hold these event files, and touch none that is as it should be."""
    old = {path.relative_to(folder).as_posix() for path in folder.rglob("*tfevents*")}
    for name in old - files.keys():
        remove(folder / name)
    for name, content in files.items():
        if name not in old or (folder / name).read_bytes() != content:
            write_bytes(folder / name, content)


def write_json(path: Path, value: Any) -> Path:
    """Write a value as JSON; NaN and infinity are refused, since JSON has neither."""
    return write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def remove(path: Path) -> None:
    """Remove a file, or a folder with what is in it, if it is there."""
    with suppress(FileNotFoundError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def sweep(folder: Path, older: float = 0.0) -> None:
    """Remove the temporary files that a killed `write_bytes` left, if so many seconds old."""
    for path in folder.glob(".*.*"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime >= older:
                path.unlink()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(path: Path) -> Any:
    """The value in a file.

    Raises:
        OSError: there is none, or it may not be read.
        ValueError: it is not JSON, is nested too deeply, or larger than `LARGEST_JSON`.
    """
    if path.stat().st_size > LARGEST_JSON:
        raise ValueError(f"{path.name} is larger than {LARGEST_JSON >> 20} MB")
    return parse_json(path.read_bytes())


def parse_json(text: str | bytes) -> Any:
    """The value of a text; ValueError if it is not JSON or nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def canonical(value: Any) -> str:
    """The one JSON text of a value: what identities are hashed from."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 of the canonical text of a value."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Mark:
    """How far a record is: what is behind it is made again when the cell goes on from here.

    Attributes:
        rows: Number of rows.
        bytes: Length of ``rows.jsonl``.
        sha256: Of those bytes.
        timing_bytes: Length of ``timing.jsonl``.
    """

    rows: int
    bytes: int
    sha256: str
    timing_bytes: int


def line(row: dict[str, Any]) -> str:
    """A row as it stands in a record."""
    return json.dumps(row, separators=(",", ":"), allow_nan=False) + "\n"


class CellFolder:
    """The writing side of one cell."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, header: dict[str, Any]) -> None:
        """Drop what an interrupted attempt left, write the header, open the rows.

        Raises:
            UsageError: the cell is finished already.
        """
        self._refuse_finished()
        remove(self.path)
        self.path.mkdir(parents=True)
        write_json(self.path / "header.json", header)
        self._hash = hashlib.sha256()
        self._count = 0
        self._open("x")
        _sync_folder(self.path)

    def go_on(self, mark: Mark) -> None:
        """Cut the record off where it was at a checkpoint, and append from there.

        Raises:
            UsageError: the cell is finished already.
        """
        self._refuse_finished()
        for name, length in (("rows.jsonl", mark.bytes), ("timing.jsonl", mark.timing_bytes)):
            os.truncate(self.path / name, length)
        remove(self.path / "failed.json")
        sweep(self.path)
        self._hash = hashlib.sha256((self.path / "rows.jsonl").read_bytes())
        self._count = mark.rows
        self._open("a")

    def check(self, mark: Mark) -> None:
        """ValueError if the record does not begin with what it was at a mark."""
        with (self.path / "rows.jsonl").open("rb") as file:
            content = file.read(mark.bytes)
        if len(content) != mark.bytes or hashlib.sha256(content).hexdigest() != mark.sha256:
            raise ValueError("rows.jsonl is not the record that it goes on from")
        if (self.path / "timing.jsonl").stat().st_size < mark.timing_bytes:
            raise ValueError("timing.jsonl is shorter than it was")

    def mark(self) -> Mark:
        """How far the record is, after all of it has been brought to the disk."""
        self.flush()
        return Mark(
            rows=self._count,
            bytes=os.fstat(self._rows.fileno()).st_size,
            sha256=self._hash.hexdigest(),
            timing_bytes=os.fstat(self._timing.fileno()).st_size,
        )

    def _refuse_finished(self) -> None:
        if status_of(self.path) in FINISHED:
            raise UsageError(f"{self.path}: this cell is finished and is not touched again")

    def _open(self, mode: str) -> None:
        self._rows: IO[str] = (self.path / "rows.jsonl").open(mode, encoding="utf-8", newline="\n")
        self._timing: IO[str] = (self.path / "timing.jsonl").open(mode, encoding="utf-8")

    @property
    def tensorboard(self) -> Path:
        """Where this cell's event files go."""
        return self.path / "tensorboard"

    def row(self, **values: Any) -> None:
        """Append one row; it reaches the disk at the next `flush`."""
        text = line(values)
        with naming(self.path / "rows.jsonl"):
            self._rows.write(text)
        self._hash.update(text.encode())
        self._count += 1

    def timing(self, **values: Any) -> None:
        """Append one line of wall-clock figures."""
        with naming(self.path / "timing.jsonl"):
            self._timing.write(json.dumps(values, separators=(",", ":")) + "\n")

    def flush(self) -> None:
        """Bring all rows so far to the disk."""
        for file in (self._rows, self._timing):
            with naming(Path(file.name)):
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
    failure = {"status": "failed", "reason": reason, "tail": tail[-TAIL:]}
    write_json(path / "failed.json", failure)


def status_of(path: Path) -> str:
    """One of ``done``, ``diverged``, ``failed``, ``unfinished`` and ``pending``."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        status = read_json(path / "done.json")["status"]
        if status in FINISHED:
            return str(status)
    if (path / "failed.json").exists():
        return "failed"
    return "unfinished" if (path / "header.json").exists() else "pending"


def failed_since(path: Path, time: float) -> bool:
    """True if a cell has failed after this time (seconds since the epoch)."""
    with suppress(OSError):
        return (path / "failed.json").stat().st_mtime >= time
    return False
