"""B2, B3: checkpoints that are cut or changed are found out; the cell ends in the same bytes."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import short_cells
from short_cells import PROVENANCE, Outcome, cell_of
from tally import Tally, ended, forked, whole

from rlplastic import runner, snapshot, store
from rlplastic.cell import Cell
from rlplastic.checkpoint import Checkpoints

FILES = ("2.json", "2.state", "2.replay")
TO_THE_END = 50  # each so-many-eth damaged cell is also run to its end


def damaged(
    tally: Tally, trials: int, seed: int, damage: Callable[[bytes, random.Random], bytes]
) -> Tally:
    """Change a file of the newest checkpoint, again and again: the one before must be found."""
    rng = random.Random(seed)  # noqa: S311
    with interrupted() as (cell, cut, right):
        contents = {name: (cut / "checkpoint" / name).read_bytes() for name in FILES}
        for trial in range(trials):
            name = FILES[trial % len(FILES)]
            path = cut / "checkpoint" / name
            path.write_bytes(damage(contents[name], rng))
            good = phase_found(cell, cut) == 1
            if trial % TO_THE_END == 0:
                copy = cut.with_name("copy")
                shutil.copytree(cut, copy)
                good &= ended(forked(lambda copy=copy: short_cells.run(cell, copy))) == 0
                good &= short_cells.outcome(copy) == right
                shutil.rmtree(copy)
            tally.count(good, f"{name}, trial {trial}")
            path.write_bytes(contents[name])
        assert phase_found(cell, cut) == 2, "the whole one is not found either"
    tally.note = f"of {', '.join(FILES)}; each {TO_THE_END}th run to its end"
    return tally


def cuts(trials: int, seed: int) -> Tally:
    """Cut at random lengths, nothing at all among them."""
    tally = Tally("B2: a checkpoint cut at any length is never used and never fatal")

    def cut(content: bytes, rng: random.Random) -> bytes:  # JSON ends with a line feed
        return content[: rng.randrange(len(content) - 1) * (rng.random() > 0.05)]

    return damaged(tally, trials, seed, cut)


def bits(trials: int, seed: int) -> Tally:
    """One bit is another."""

    def flip(content: bytes, rng: random.Random) -> bytes:
        changed = bytearray(content)
        changed[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        return bytes(changed)

    tally = Tally("B3: a checkpoint with any bit changed is never used and never fatal")
    return damaged(tally, trials, seed, flip)


@contextmanager
def interrupted() -> Iterator[tuple[Cell, Path, Outcome]]:
    """A cell cut off in its third phase, its folder with two checkpoints, and its right end."""
    cell = cell_of("dqn", "redo:every=30", replay="keep", buffer_size=400)
    with tempfile.TemporaryDirectory() as folder:
        right, _ = whole(cell, Path(folder) / "whole")
        cut = Path(folder) / "cut"
        ended(forked(lambda: short_cells.run_and_die(cell, cut)))
        yield cell, cut, right


def phase_found(cell: Cell, path: Path) -> int | None:
    """The phase at which the cell would go on."""
    setting = runner.setting_of(cell, PROVENANCE)
    found = Checkpoints(store.CellFolder(path)).latest(cell.identity, setting, snapshot.unpack)
    return found.checkpoint and found.checkpoint.phase
