"""The crash suite: real processes, really killed, and their bytes compared with undisturbed ones.

``tests/kill/test_storm.py`` runs a few trials of each in CI; ``make storm`` runs this file, for
the figures in ``benchmarks/RELIABILITY.md``::

    python tests/kill/storm.py --kills 400 --write benchmarks/RELIABILITY.md
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import short_cells
import torch
from benches import shared, signals
from damage import bits, cuts
from long_lives import checkpoint_share, soak
from short_cells import Outcome, cell_of
from tally import Tally, ended, forked, litter, whole

from rlplastic import provenance, store
from rlplastic.cell import Cell

KINDS: dict[str, Callable[[], Cell]] = {
    "toy dqn none": lambda: cell_of("dqn", "none"),
    "toy dqn sam": lambda: cell_of("dqn", "sam"),
    "toy dqn redo, replay kept": lambda: cell_of("dqn", "redo:every=30", replay="keep"),
    "toy dqn crelu": lambda: cell_of("dqn", "crelu"),
    "toy dqn none+fresh": lambda: cell_of("dqn", "none", fresh=True),
    "toy ppo none": lambda: cell_of("ppo", "none"),
    "toy ppo sam": lambda: cell_of("ppo", "sam"),
    "toy ppo reset": lambda: cell_of("ppo", "reset:every=30"),
    "toy ppo layernorm": lambda: cell_of("ppo", "layernorm"),
    "CartPole dqn cbp": lambda: cell_of("dqn", "cbp", env=CARTPOLE),
    "CartPole ppo sam": lambda: cell_of("ppo", "sam", env=CARTPOLE),
}
FRAMES: dict[str, Callable[[], Cell]] = {
    "Atari dqn sam": lambda: cell_of("dqn", "sam", env=ATARI, period=128),
    "Atari dqn none, replay kept": lambda: cell_of(
        "dqn", "none", env=ATARI, period=128, replay="keep"
    ),
    "MinAtar dqn sam": lambda: cell_of("dqn", "sam", env=MINATAR, period=640),
    "MinAtar ppo redo": lambda: cell_of("ppo", "redo:every=30", env=MINATAR, period=640),
    "Atari ppo layernorm": lambda: cell_of("ppo", "layernorm", env=ATARI, period=128),
}
CARTPOLE = "Control-Shifted/CartPole-observation"
MINATAR = "MinAtar-Shifted/MinAtarBreakout-observation"
ATARI = "Atari-Shifted/SpaceInvaders-observation"
SYSTEM_CALLS = ("fsync", "replace", "unlink", "truncate", "mkdir", "rmdir", "chmod")


# -- A1, B7: killed at random moments -------------------------------------------------------------


def kills(kinds: dict[str, Callable[[], Cell]], trials: int, seed: int) -> Tally:
    """SIGKILL at random moments of a cell's life, up to four times, then to its end."""
    tally = Tally("A1, B7: SIGKILL at any moment, then again: the same bytes, no litter")
    rng = random.Random(seed)  # noqa: S311
    resumed = 0
    with tempfile.TemporaryDirectory() as folder:
        known: dict[str, tuple[Cell, Outcome, float]] = {}
        for trial, kind in zip(range(trials), itertools.cycle(kinds), strict=False):
            if kind not in known:
                cell = kinds[kind]()
                known[kind] = (cell, *whole(cell, Path(folder) / f"whole{trial}"))
            cell, right, seconds = known[kind]
            path = Path(folder) / f"cut{trial}"
            for _ in range(rng.randint(1, 4)):
                pid = forked(lambda cell=cell, path=path: short_cells.run(cell, path))
                time.sleep(rng.uniform(0, 1.1 * seconds))
                os.kill(pid, signal.SIGKILL)
                ended(pid)
                resumed += bool(list(path.glob("checkpoint/*.json")))
            if store.status_of(path) not in store.FINISHED:
                ended(forked(lambda cell=cell, path=path: short_cells.run(cell, path)))
            store.remove(path / "checkpoint")  # as a bench does with finished cells
            good = (
                store.status_of(path) == "done"
                and short_cells.outcome(path) == right
                and not [name for name in litter(path) if not name.startswith(".done.json")]
            )
            tally.count(good, f"{kind}, trial {trial}, seed {seed}, {litter(path)}")
            shutil.rmtree(path)
    tally.note = f"{len(known)} kinds of cells; {resumed} kills left a checkpoint behind"
    return tally


# -- A2: killed at every system call --------------------------------------------------------------


@contextmanager
def dying(number: int, *, before: bool) -> Iterator[list[int]]:
    """End this process at the so-many-eth system call that changes files; counts them."""
    count = [0]
    originals = {name: getattr(os, name) for name in SYSTEM_CALLS}

    def wrapped(name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            count[0] += 1
            mine = count[0]
            if before and mine == number:
                os._exit(9)
            result = originals[name](*args, **kwargs)
            if mine == number:
                os._exit(9)
            return result

        return call

    try:
        for name in SYSTEM_CALLS:
            setattr(os, name, wrapped(name))
        yield count
    finally:
        for name, original in originals.items():
            setattr(os, name, original)


def calls(kinds: dict[str, Callable[[], Cell]], every: int) -> Tally:
    """End the process before and after each call that changes a file, then go on."""
    tally = Tally("A2: ended before and after each file operation: the same bytes")
    with tempfile.TemporaryDirectory() as folder:
        for kind, make in kinds.items():
            cell = make()
            right, _ = whole(cell, Path(folder) / f"whole {kind}")
            for before in (True, False):
                for number in itertools.count(1, every):
                    path = Path(folder) / f"{kind} {number} {before}"

                    def die(path=path, number=number, before=before, cell=cell) -> None:
                        with dying(number, before=before):
                            short_cells.run(cell, path)

                    if ended(forked(die)) == 0:
                        break  # there are not so many calls
                    if store.status_of(path) not in store.FINISHED:
                        ended(forked(lambda path=path, cell=cell: short_cells.run(cell, path)))
                    good = store.status_of(path) == "done" and short_cells.outcome(path) == right
                    tally.count(good, f"{kind}, call {number}, before = {before}")
                    shutil.rmtree(path)
    tally.note = f"{', '.join(kinds)}; " + ("every call" if every == 1 else f"each {every}th call")
    return tally


# -- B5: a full disk ------------------------------------------------------------------------------


def full_disk(sizes: list[int]) -> Tally:
    """A cell on a small file system: it fails naming a file, and ends the same with more space."""
    tally = Tally("B5: disk full: one error that names a file; with space again the same bytes")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "disk").mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder / "disk")]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            tally.note = "not run: this user cannot mount a tmpfs"
            return tally
        try:
            cell = KINDS["toy dqn redo, replay kept"]()
            right, _ = whole(cell, folder / "whole")
            for size in sizes:
                path = folder / "disk" / "cell"
                remount(folder / "disk", size)

                def fill(path=path, size=size) -> None:
                    try:
                        short_cells.run(cell, path)
                    except OSError as error:
                        os._exit(28 if error.errno == 28 and error.filename else 3)

                first = ended(forked(fill))
                remount(folder / "disk", 64 * 2**20)
                if store.status_of(path) not in store.FINISHED:
                    ended(forked(lambda path=path: short_cells.run(cell, path)))
                good = first == 28 and short_cells.outcome(path) == right
                tally.count(good, f"{size} bytes: exit {first}")
                shutil.rmtree(path, ignore_errors=True)
        finally:
            subprocess.run(["umount", str(folder / "disk")], check=True)
    tally.note = f"{min(sizes) >> 10} to {max(sizes) >> 10} KB"
    return tally


def remount(disk: Path, size: int) -> None:
    """Another size for a tmpfs."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)


# -- B1: readers meet no half file ----------------------------------------------------------------


def readers(seconds: float) -> Tally:
    """One process writes a file without pause, this one reads it without pause."""
    tally = Tally("B1: a reader never sees half a file")
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "plan.json"
        store.write_json(path, {"n": 0, "fill": "x" * 20_000})

        def write() -> None:
            for number in itertools.count(1):
                store.write_json(path, {"n": number, "fill": "x" * (number % 30_000)})

        pid = forked(write)
        import json

        end, last = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            try:
                now = json.loads(path.read_text())["n"]
            except ValueError:
                now = -1
            tally.count(now >= last)
            last = max(last, now)
        os.kill(pid, signal.SIGKILL)
        ended(pid)
    tally.note = f"{last} writes"
    return tally


# -- the program ----------------------------------------------------------------------------------


def main() -> int:
    """Run the storm and write its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=400, help="cells that are killed")
    parser.add_argument("--frames", type=int, default=12, help="cells on Atari that are killed")
    parser.add_argument("--benches", type=int, default=40, help="benches stopped, four times each")
    parser.add_argument("--shared", type=int, default=100, help="folders that benches share")
    parser.add_argument("--every", type=int, default=1, help="end at each so-many-eth call")
    parser.add_argument("--damage", type=int, default=1000, help="cuts, and as many flipped bits")
    parser.add_argument("--soak", type=float, default=3600.0, help="seconds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=Path, help="Markdown file for the figures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    begin = time.monotonic()
    some = {kind: KINDS[kind] for kind in ("toy dqn redo, replay kept", "toy ppo sam")}
    some |= {"toy dqn none+fresh": KINDS["toy dqn none+fresh"]}
    parts: list[Callable[[], Tally | list[Tally]]] = [
        lambda: readers(20.0),
        lambda: cuts(options.damage, options.seed),
        lambda: bits(options.damage, options.seed),
        lambda: full_disk([k * 2**10 for k in range(8, 200, 8)]),
        lambda: calls(some, options.every),
        lambda: signals(options.benches, options.seed),
        lambda: shared(options.shared, options.seed),
        lambda: kills(FRAMES, options.frames, options.seed),
        lambda: kills(KINDS, options.kills, options.seed),
        checkpoint_share,
    ]
    tallies: list[Tally] = []
    with tempfile.TemporaryDirectory() as folder:
        long = Path(folder) / "soak.json"  # an hour, beside all others
        soaking = forked(lambda: store.write_json(long, asdict(soak(options.soak))))
        for part in parts:
            found = part()
            for tally in found if isinstance(found, list) else [found]:
                print(tally.line(), flush=True)
                tallies.append(tally)
        assert ended(soaking) == 0
        tallies.append(Tally(**store.read_json(long)))
        print(tallies[-1].line())
    if options.write:
        store.write_text(options.write, page(tallies, time.monotonic() - begin))
    return int(any(tally.failures for tally in tallies))


def page(tallies: list[Tally], seconds: float) -> str:
    """The figures as Markdown."""
    versions = ", ".join(f"{name} {v}" for name, v in provenance.versions().items())
    machine = provenance.machine()
    lines = [
        "# Reliability, measured",
        "",
        "Written by `make storm` (`tests/kill/storm.py`), which kills real processes and compares",
        "the bytes of their records and the digest of their parameters with undisturbed runs.",
        "",
        f"- when: {datetime.now(UTC):%Y-%m-%d}, {seconds / 60:.0f} minutes",
        f"- command: `{' '.join(['python', 'tests/kill/storm.py', *sys.argv[1:]])}`",
        f"- machine: {machine['system']}, {machine['processor']}, {machine['cores']} cores",
        f"- versions: {versions}",
        "",
        "| claim | good | trials | |",
        "|---|--:|--:|---|",
    ]
    lines += [f"| {t.claim} | {t.trials - t.failures} | {t.trials} | {t.note} |" for t in tallies]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
