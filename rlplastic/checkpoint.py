"""Checkpoints of a cell: the phase boundary that an interrupted cell goes on from.

::

    <cell>/checkpoint/
      3.json            what is needed to go on at phase 3; written last: it speaks of whole files
      3.state           the agent (`rlplastic.snapshot`)
      3.replay          what came into the replay memory since the checkpoint before

Two generations are kept. One counts only if every file has the digest it should have, if the
record still begins as it did then, and if it was written by the same code on the same kind of
processor: a cell never goes on under another version. If none counts, the cell starts again from
nothing, which ends in the same bytes and only takes longer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rlplastic import store
from rlplastic.store import CellFolder, Mark

KEPT = 2  # generations


@dataclass(frozen=True, kw_only=True)
class Part:
    """A file of a checkpoint."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Where a cell can go on.

    Attributes:
        first: First phase of the life in progress.
        phase: The phase that begins; equal to `first` for a life that begins with it.
        updates: Updates of the lives before.
        seconds: Time spent so far.
        mark: How far the record was.
        setting: Versions, device and processor; see `same_setting`.
        parts: The files, the agent's first; none for a life that has not begun.
    """

    first: int
    phase: int
    updates: int
    seconds: float
    mark: Mark
    setting: Mapping[str, Any]
    parts: tuple[Part, ...] = ()

    @staticmethod
    def of(values: Mapping[str, Any]) -> Checkpoint:
        """From JSON; KeyError, TypeError or ValueError if it is not what was written."""
        content = {key: value for key, value in values.items() if key != "sha256"}
        if store.digest(content) != values["sha256"]:
            raise ValueError("is not the file that was written (SHA-256)")
        names = ("first", "phase", "updates")
        return Checkpoint(
            **{name: int(values[name]) for name in names},
            seconds=float(values["seconds"]),
            mark=Mark(**values["mark"]),
            setting=dict(values["setting"]),
            parts=tuple(Part(**part) for part in values["parts"]),
        )


@dataclass
class Found:
    """A checkpoint that counts, with its contents decoded; or why there is none.

    Attributes:
        checkpoint: The newest that counts, or None.
        contents: What `decode` made of each part.
        refused: Why newer ones do not count; empty if there were none.
    """

    checkpoint: Checkpoint | None = None
    contents: list[Any] = field(default_factory=list)
    refused: str = ""


class Checkpoints:
    """The checkpoints of one cell's folder."""

    def __init__(self, folder: CellFolder) -> None:
        self._folder = folder
        self.path = folder.path / "checkpoint"

    def write(
        self, checkpoint: Checkpoint, state: bytes | None, replay: bytes | None
    ) -> Checkpoint:
        """Bring a checkpoint to the disk, then let go of the third oldest.

        Args:
            checkpoint: Its `parts` are those of earlier checkpoints that are still needed.
            state: The agent; None for a life that has not begun.
            replay: What came into the replay memory since the checkpoint before, if it is kept.

        Returns:
            The checkpoint with its new parts.
        """
        name = str(checkpoint.phase)
        news = [(f"{name}.state", state), (f"{name}.replay", replay)]
        written = []
        for file, content in news:
            if content is not None:
                store.write_bytes(self.path / file, content)
                written.append(
                    Part(name=file, size=len(content), sha256=hashlib.sha256(content).hexdigest())
                )
        earlier = [part for part in checkpoint.parts if part.name.endswith(".replay")]
        states = [part for part in written if part.name.endswith(".state")]
        replays = [part for part in written if part.name.endswith(".replay")]
        whole = {**checkpoint.__dict__, "parts": (*states, *earlier, *replays)}
        checkpoint = Checkpoint(**whole)
        values = asdict(checkpoint)
        store.write_json(self.path / f"{name}.json", {**values, "sha256": store.digest(values)})
        self._forget_old()
        return checkpoint

    def latest(
        self,
        identity: Mapping[str, Any],
        setting: Mapping[str, Any],
        decode: Callable[[bytes], Any],
    ) -> Found:
        """The newest checkpoint that counts. Never raises because of what is in the files.

        Args:
            identity: The cell's; the folder's header must be of the same.
            setting: The present one.
            decode: Makes a value of a part's bytes; raises what `Found.refused` then says.
        """
        found = Found()
        for path in self._newest_first():
            try:
                checkpoint = Checkpoint.of(_small_json(path))
                self._check(checkpoint, identity, setting)
                found.contents = [decode(self._read(part)) for part in checkpoint.parts]
                found.checkpoint = checkpoint
                return found
            except Exception as error:
                found.refused = found.refused or f"{path.name}: {error}"
        return found

    def discard(self) -> None:
        """Remove all of them: the cell has ended, or they do not fit it."""
        store.remove(self.path)

    def _check(
        self, checkpoint: Checkpoint, identity: Mapping[str, Any], setting: Mapping[str, Any]
    ) -> None:
        header = _small_json(self._folder.path / "header.json")
        if store.canonical(header["cell"]) != store.canonical(identity):
            raise ValueError("the header is another cell's")
        for key in sorted({*setting, *checkpoint.setting}):
            then, now = checkpoint.setting.get(key), setting.get(key)
            if then != now:
                raise ValueError(f"{key} was {then}, is {now}")
        self._folder.check(checkpoint.mark)

    def _read(self, part: Part) -> bytes:
        path = self.path / part.name
        if path.parent != self.path or path.is_symlink():
            raise ValueError(f"{part.name!r} is not in the folder")
        if path.stat().st_size != part.size:
            raise ValueError(f"{part.name} has {path.stat().st_size} bytes, not {part.size}")
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != part.sha256:
            raise ValueError(f"{part.name} is not the file that was written (SHA-256)")
        return content

    def _newest_first(self) -> Iterator[Path]:
        found = [path for path in self.path.glob("*.json") if path.stem.isdigit()]
        return iter(sorted(found, key=lambda path: -int(path.stem)))

    def _forget_old(self) -> None:
        """Keep `KEPT` generations and the files they speak of; nothing else is in the folder."""
        kept: set[str] = set()
        for path in list(self._newest_first())[:KEPT]:
            with suppress(OSError, ValueError, KeyError, TypeError):
                kept |= {path.name, *(p.name for p in Checkpoint.of(_small_json(path)).parts)}
        for path in self.path.iterdir():
            if path.name not in kept:
                store.remove(path)


def _small_json(path: Path) -> dict[str, Any]:
    value = store.read_json(path)
    if not isinstance(value, dict):
        raise TypeError(f"{path.name} is not a JSON object")
    return value
