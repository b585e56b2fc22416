"""Whole benches that are stopped or share a folder (A1, C1 to C3, H1, H2 of the crash suite)."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import running
from tally import Tally

SIGNALS = ((signal.SIGKILL,), (signal.SIGINT,), (signal.SIGTERM,), (signal.SIGTERM, signal.SIGINT))
LEAVES = (5.0, 1.0)  # seconds after the first signal, and after a second


def bench(folder: Path, env: str = f"{running.TINY}/Cue-observation") -> subprocess.Popen[bytes]:
    """The command line, in a session of its own."""
    words = ["bench", "--env", env, "--budget", "tiny", "--agent", "dqn,ppo", "--reg", "sam"]
    return subprocess.Popen(
        running.command(*words, "--out", str(folder), "--quiet"),
        env=running.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def undisturbed(folder: Path) -> tuple[dict[str, bytes], float]:
    """The records of a bench, and how long it took."""
    begin = time.monotonic()
    assert bench(folder).wait() == 0
    return running.rows(folder), time.monotonic() - begin


def running_still(path: Path, rng: random.Random, seconds: float) -> subprocess.Popen[bytes]:
    """A bench at a random moment of its life; one that was over too soon begins anew."""
    while True:
        process = bench(path)
        time.sleep(1.0)  # Python itself answers before
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, rng.uniform(0, seconds - 1.0)))
        if process.poll() is None:
            return process
        assert process.returncode == 0
        shutil.rmtree(path)
        seconds = max(1.0, 0.8 * seconds)  # the rest of an old bench is shorter than a whole one


def attempts(trials: int) -> Iterator[tuple[Path, dict[str, bytes], float]]:
    """A folder for each trial, removed after it; what a bench records, and in how many seconds."""
    with tempfile.TemporaryDirectory() as temporary:
        right, seconds = undisturbed(Path(temporary) / "whole")
        for trial in range(trials):
            path = Path(temporary) / f"trial{trial}"
            yield path, right, seconds
            shutil.rmtree(path)


def signals(trials: int, seed: int) -> list[Tally]:
    """A bench that is stopped four times at random moments, and then let to its end."""
    stops = Tally("C1, C3: Ctrl-C or SIGTERM: 130 or 143 within 5 s, no process left")
    twice = Tally("C2: a second one: gone within 1 s, no process left")
    same = Tally("A1: a bench stopped again and again: every record the same")
    slowest = {1: 0.0, 2: 0.0}
    rng = random.Random(seed)  # noqa: S311
    for path, right, seconds in attempts(trials):
        for sent in SIGNALS:
            process = running_still(path, rng, seconds)
            for number, signum in enumerate(sent):
                time.sleep(0.05 * number)
                process.send_signal(signum)
            asked, limit = time.monotonic(), LEAVES[len(sent) - 1]
            while running.session(process.pid) and time.monotonic() < asked + 2 * limit:
                process.poll()
                time.sleep(0.01)
            took, left = time.monotonic() - asked, running.session(process.pid)
            code = process.wait()
            slowest[len(sent)] = max(slowest[len(sent)], took)
            # as a shell sees it: on Python's way out signals do what they do by default
            code = 128 - code if code < 0 else code
            expected = {0, *(128 + signum for signum in sent)}
            good = code in expected and not left and took <= limit
            tally = stops if len(sent) == 1 else twice
            tally.count(good, f"{sent}: {code} after {took:.2f} s, left {left}")
        same.count(bench(path).wait() == 0 and running.rows(path) == right, path.name)
    stops.note, twice.note = (f"slowest {slowest[count]:.2f} s" for count in (1, 2))
    return [stops, twice, same]


def shared(trials: int, seed: int, processes: int = 4) -> Tally:
    """Benches that divide a folder's cells among them, all but one killed on the way."""
    tally = Tally("H1, H2: benches on one folder, all but one killed: no cell twice, none lost")
    rng = random.Random(seed)  # noqa: S311
    for path, right, seconds in attempts(trials):
        *victims, last = [bench(path) for _ in range(processes)]
        for victim in victims:
            time.sleep(rng.uniform(0, seconds / 2))
            victim.kill()
            victim.wait()
        good = last.wait() == 0 and running.rows(path) == right
        tally.count(good and not list(path.glob(".locks/*")), path.name)
    tally.note = f"{processes} benches each; {len(right) * tally.trials} cells"
    return tally
