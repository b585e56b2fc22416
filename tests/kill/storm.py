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
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import running
import short_cells
import torch
import torch._dynamo  # or each process spends most of its life importing it
from scipy.stats import theilslopes
from short_cells import Outcome, cell_of

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


@dataclass
class Tally:
    """What a part of the storm has shown."""

    claim: str
    trials: int = 0
    failures: int = 0
    note: str = ""

    def count(self, good: bool, what: str = "") -> None:
        """One more trial."""
        self.trials += 1
        self.failures += not good
        if not good:
            print(f"FAILED: {self.claim}: {what}", file=sys.stderr, flush=True)


def forked(work: Callable[[], object]) -> int:
    """Start work in a process of its own, which has imported everything."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    os.setpgid(0, 0)
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        work()
        os._exit(0)
    finally:
        os._exit(1)


def ended(pid: int) -> int:
    """The exit code of a forked process; that of a signal is negative."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def whole(cell: Cell, path: Path) -> tuple[Outcome, float]:
    """An undisturbed run, and how long it took."""
    begin = time.monotonic()
    assert ended(forked(lambda: short_cells.run(cell, path))) == 0
    return short_cells.outcome(path), time.monotonic() - begin


def litter(path: Path) -> list[str]:
    """Files that a finished cell should not have."""
    kept = {"header.json", "rows.jsonl", "timing.jsonl", "tensorboard", "done.json"}
    return sorted(file.name for file in path.iterdir() if file.name not in kept)


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


# -- A1, C1, C3, H1, H2: whole benches -------------------------------------------------------------


def bench(folder: Path, *more: str, env: str = f"{running.TINY}/*") -> subprocess.Popen[bytes]:
    """The command line, in a session of its own."""
    words = ["bench", "--env", env, "--budget", "tiny", "--agent", "dqn,ppo", "--reg", "sam"]
    return subprocess.Popen(
        running.command(*words, "--out", str(folder), "--quiet", *more),
        env=running.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def benches(trials: int, seed: int) -> list[Tally]:
    """Benches that are stopped by signals, and two on one folder of which one is killed."""
    stops = Tally("C1, C3: Ctrl-C or SIGTERM: 130 or 143 within 5 s, no process left")
    same = Tally("A1: a bench killed again and again: every record the same")
    shared = Tally("H1, H2: two benches on one folder, one killed: each cell once, none lost")
    rng = random.Random(seed)  # noqa: S311
    slowest = 0.0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        begin = time.monotonic()
        assert bench(folder / "whole").wait() == 0
        seconds = time.monotonic() - begin
        right = running.rows(folder / "whole")
        for trial in range(trials):
            path = folder / f"cut{trial}"
            for signum, code in (
                (signal.SIGKILL, -9),
                (signal.SIGINT, 130),
                (signal.SIGTERM, 143),
            ):
                process = bench(path)
                time.sleep(rng.uniform(1.0, seconds))  # Python itself answers before
                if process.poll() is None:
                    asked = time.monotonic()
                    process.send_signal(signum)
                    stopped = process.wait()
                    while running.session(process.pid) and time.monotonic() < asked + 5:
                        time.sleep(0.02)
                    took = time.monotonic() - asked
                    slowest = max(slowest, took)
                    left = running.session(process.pid)
                    stops.count(stopped in (code, 0) and not left, f"{signum}: {stopped}, {left}")
            same.count(bench(path).wait() == 0 and running.rows(path) == right, f"trial {trial}")
            shutil.rmtree(path)

            one, two = bench(path), bench(path)
            time.sleep(rng.uniform(0, seconds))
            one.kill()
            one.wait()
            good = two.wait() == 0 and running.rows(path) == right
            shared.count(good and not list(path.glob(".locks/*")), f"trial {trial}")
            shutil.rmtree(path)
    stops.note = f"slowest {slowest:.2f} s"
    return [stops, same, shared]


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


# -- J1: memory ------------------------------------------------------------------------------------


def soak(seconds: float) -> Tally:
    """Resident memory of a cell that trains on and on; the slope over the last three quarters."""
    tally = Tally("J1: memory is flat while a cell trains")
    if seconds < 600:
        tally.note = "not run: below ten minutes it shows the start only"
        return tally
    cell = cell_of("ppo", "sam", env=CARTPOLE, period=8192)
    schedule = {**cell.stream["schedule"], "phases": 100_000}
    cell = replace(cell, stream={**cell.stream, "schedule": schedule})
    with tempfile.TemporaryDirectory() as folder:
        pid = forked(lambda: short_cells.run(cell, Path(folder) / "cell"))
        begin, sizes = time.monotonic(), []
        while time.monotonic() - begin < seconds:
            time.sleep(1.0)
            text = Path(f"/proc/{pid}/statm").read_text()
            sizes.append((time.monotonic() - begin, int(text.split()[1]) * 4096 / 2**20))
        os.kill(pid, signal.SIGKILL)
        ended(pid)
    times, memory = np.array(sizes[len(sizes) // 4 :]).T
    slope = float(theilslopes(memory, times).slope) * 3600
    tally.count(slope <= 1.0, f"{slope:.2f} MB an hour")
    tally.note = f"{slope:.2f} MB an hour over {seconds / 60:.0f} minutes, {memory[-1]:.0f} MB"
    return tally


# -- the program ----------------------------------------------------------------------------------


def main() -> int:
    """Run the storm and write its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=400, help="cells that are killed")
    parser.add_argument("--frames", type=int, default=12, help="cells on Atari that are killed")
    parser.add_argument("--benches", type=int, default=10, help="benches that are killed")
    parser.add_argument("--every", type=int, default=1, help="end at each so-many-eth call")
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
        lambda: full_disk([k * 2**10 for k in range(8, 200, 8)]),
        lambda: calls(some, options.every),
        lambda: benches(options.benches, options.seed),
        lambda: kills(FRAMES, options.frames, options.seed),
        lambda: kills(KINDS, options.kills, options.seed),
        lambda: soak(options.soak),
    ]
    tallies: list[Tally] = []
    for part in parts:
        found = part()
        for tally in found if isinstance(found, list) else [found]:
            print(f"{tally.trials - tally.failures} of {tally.trials}: {tally.claim}", flush=True)
            tallies.append(tally)
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
