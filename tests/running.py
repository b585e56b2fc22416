"""Starts the command line in real processes, and looks at what they leave behind."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

from rlplastic import registry

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # begun in the background of a shell: what is started here must answer Ctrl-C all the same
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(__file__).resolve().parent / "data"
TINY = str(DATA / "Tiny.toml")
FAULTS = str(DATA / "faults.py")
PATIENCE = 120.0  # seconds until a test gives up; never a measured claim


def environment(**changes: str) -> dict[str, str]:
    """This process's environment, with the checkout importable from everywhere."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("RLPLASTIC_")}
    return {**clean, "PYTHONPATH": str(ROOT), "COLUMNS": "100", **changes}


def rlplastic(
    *words: object, cwd: Path | None = None, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    return subprocess.run(
        command(*words),
        cwd=cwd,
        env=environment(**env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A bench that has been run: its folder, exit code and output."""

    folder: Path
    returncode: int
    stdout: str
    stderr: str


def bench_once(factory: pytest.TempPathFactory, name: str, *words: object) -> Bench:
    """Run a bench once for all test processes, without a terminal and with closed stdin."""
    base = factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    shared.mkdir(exist_ok=True)
    with FileLock(shared / "lock"):
        if not (shared / "result.json").exists():
            done = subprocess.run(
                ["sh", "-c", 'exec "$@" <&-', "sh", *command("bench", *words, "--out", "results")],
                cwd=shared,
                env=environment(TERM="dumb"),
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
            facts = {key: getattr(done, key) for key in ("returncode", "stdout", "stderr")}
            (shared / "result.json").write_text(json.dumps(facts))
    return Bench(folder=shared / "results", **json.loads((shared / "result.json").read_text()))


def command(*words: object) -> list[str]:
    """The words that start the command line."""
    return [sys.executable, "-m", "rlplastic", *map(str, words)]


def until(happened: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    """Wait for something to happen."""
    end = time.monotonic() + patience
    while not happened():
        if time.monotonic() > end:
            raise AssertionError(f"not within {patience:.0f} s: {what}")
        time.sleep(0.02)


def session(leader: int) -> list[int]:
    """The living processes of a session, whoever their parents are by now."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] != "Z" and int(fields[3]) == leader:
                found.append(int(entry.name))
    return found


def contents(folder: Path, pattern: str = "**/*") -> dict[str, tuple[str, int]]:
    """Digest and time of the last change of every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
        )
        for path in sorted(folder.glob(pattern))
        if path.is_file()
    }


def rows(folder: Path) -> dict[str, bytes]:
    """The record of every cell of a results folder."""
    return {
        path.parent.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.glob("*/*/*/*/rows.jsonl"))
    }


@contextmanager
def no_plugins() -> Iterator[None]:
    """Forgets, at the end, every plugin that was added meanwhile."""
    registered, modules = dict(registry._registered), set(sys.modules)
    files = list(registry._plugins)
    try:
        yield
    finally:
        registry._plugins[:] = files
        kept = {
            key: thing
            for key, thing in registry._registered.items()
            if not thing.__module__.startswith("rlplastic_plugin_")
        }  # a module that was imported meanwhile will not be imported, and registered, again
        registry._registered.clear()
        registry._registered.update(kept | registered)
        for name in set(sys.modules) - modules:
            if name.startswith("rlplastic_plugin_"):
                del sys.modules[name]
        registry.entries.cache_clear()
        registry._read.cache_clear()


def write_plugin(folder: Path, source: str, name: str = "plugin.py") -> Path:
    """A plugin of this source below the imports that any plugin needs."""
    path = folder / name
    head = (
        "from dataclasses import dataclass\n"
        "from rlplastic import registry\n"
        "from rlplastic.interventions import Intervention\n"
    )
    path.write_text(head + textwrap.dedent(source))
    return path
