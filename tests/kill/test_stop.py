"""A bench that is stopped, in every way, and goes on; on real processes, really killed."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import running

from rlplastic import locks, pool, store, worker
from rlplastic.plan import make_plan
from rlplastic.progress import Lines
from rlplastic.request import Request

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")

ENV = f"{running.TINY}/Cue-observation"
LEAVES = 5.0  # seconds that a stopped bench, and all that it started, may take to be gone


def bench(folder: Path, budget: str, *more: str) -> list[str]:
    words = ["bench", "--env", ENV, "--budget", budget, "--workers", "2", "--out", str(folder)]
    return running.command(*words, *more)


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a bench in a session of its own; at the end nothing of it may be alive."""
    started: list[subprocess.Popen[str]] = []

    def popen(words: list[str], **env: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            words,
            env=running.environment(**env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield popen
    for process in started:
        for pid in running.session(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.communicate()


def statuses(folder: Path) -> list[str]:
    plan = json.loads((folder / "plan.json").read_text())
    return [store.status_of(folder / cell["id"]) for cell in plan["cells"]]


def half_way(folder: Path, since: float) -> bool:
    """A cell that has not ended has closed a phase by now, so there is something to lose."""
    closed = [
        path.parent
        for path in folder.glob("*/dqn/*/*/timing.jsonl")
        if path.stat().st_size and path.stat().st_mtime > since
    ]
    return any(store.status_of(cell) == "unfinished" for cell in closed)


def gone(leader: int) -> None:
    running.until(lambda: not running.session(leader), f"session {leader} is gone", LEAVES)


def test_a_bench_that_is_killed_and_stopped_ends_as_if_it_had_not_been(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    folder = tmp_path / "stopped"
    finished: dict[str, tuple[str, int]] = {}
    for signum, to_all, code in (
        (signal.SIGKILL, False, -9),
        (signal.SIGINT, True, 130),
    ):
        now = time.time()
        process = start(bench(folder, "short", "--seeds", "1", "--reg", "none"))
        running.until(lambda t=now: half_way(folder, t), f"half-way before signal {signum}")
        (os.killpg if to_all else os.kill)(process.pid, signum)
        _, errors = process.communicate(timeout=LEAVES)
        assert process.returncode == code
        gone(process.pid)
        assert "failed" not in statuses(folder)
        ended = running.contents(folder, "**/done.json")
        assert ended
        assert finished.items() <= ended.items(), "a finished cell was touched"
        finished = ended
        if signum != signal.SIGKILL:
            assert errors == "stopped; the same command continues\n"
        plan = json.loads((folder / "plan.json").read_text())
        assert not any(locks.is_claimed(folder, cell["id"]) for cell in plan["cells"])

    process = start(bench(folder, "short", "--seeds", "1", "--reg", "none"))
    _, errors = process.communicate(timeout=running.PATIENCE)
    assert (process.returncode, errors) == (0, "")
    assert finished.items() <= running.contents(folder, "**/done.json").items()
    assert not list(folder.glob("**/.*json*")), "temporary files are left"

    request = Request(agents=["dqn"], regs=["none"], env=ENV, budget="short", seeds=[0])
    cells = make_plan(request).cells
    with Lines(cells, sys.stdout) as display:
        pool.run_cells(cells, tmp_path / "whole", 2, display)
    assert len(running.rows(folder)) == len(cells) == 3
    assert running.rows(folder) == running.rows(tmp_path / "whole")


def test_ctrl_c_typed_at_a_terminal(tmp_path: Path) -> None:
    """The line discipline sends it to every process of the foreground group, as in real life."""
    keyboard, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, b"\x18\x00\x64\x00\x00\x00\x00\x00")
    process = subprocess.Popen(
        bench(tmp_path, "endless"),
        env=running.environment(TERM="xterm"),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(terminal)
    seen = bytearray()
    reader = threading.Thread(target=_read_all, args=(keyboard, seen), daemon=True)
    reader.start()
    try:
        running.until(lambda: b"steps/s" in seen, "the live display shows speeds")
        os.write(keyboard, b"\x03")
        assert process.wait(timeout=LEAVES) == 130
        gone(process.pid)
    finally:
        for pid in running.session(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.wait()
    reader.join(timeout=5)
    os.close(keyboard)
    text = seen.decode()
    assert "/5 cells" in text
    assert "phase 1/2" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l"), "the cursor stays hidden"
    assert "Traceback" not in text
    assert "stopped; the same command continues" in text


def _read_all(descriptor: int, seen: bytearray) -> None:
    while True:
        try:
            chunk = os.read(descriptor, 65536)
        except OSError:  # the other side is closed
            return
        if not chunk:
            return
        seen.extend(chunk)


def test_a_worker_that_says_nothing_leaves_with_its_killed_parent(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    process = start(bench(tmp_path, "tiny", "--reg", "hangs", "--plugin", running.FAULTS))
    arms = [f"Cue-observation/dqn/{arm}/*/header.json" for arm in ("hangs", "hangs+fresh")]
    running.until(lambda: all(any(tmp_path.glob(arm)) for arm in arms), "two workers hang")
    time.sleep(1)
    assert len(running.session(process.pid)) == 5  # parent, tracker, server, two workers
    process.kill()
    gone(process.pid)


@pytest.mark.parametrize("twice", [False, True])
def test_ctrl_c_while_everything_is_still_being_imported(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]], twice: bool
) -> None:
    """The fork server spends seconds with imports, on a slow disk minutes: it is not waited for."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, time\n"
        "if any('forkserver' in word for word in sys.orig_argv): time.sleep(600)\n"
    )
    path = f"{running.ROOT}:{tmp_path}"
    process = start(bench(tmp_path / "results", "endless"), PYTHONPATH=path)
    running.until(lambda: len(running.session(process.pid)) == 3, "the fork server is started")
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    if twice:
        os.kill(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=LEAVES)
    if twice:  # at once, or on Python's way out, where signals do what they do by default
        assert process.returncode in (130, 143, -signal.SIGTERM)
    else:
        assert (process.returncode, errors) == (130, "stopped; the same command continues\n")
    gone(process.pid)


def test_a_fork_server_that_is_importing_ends_with_its_killed_parent(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import pathlib, sys, time\n"
        "class Slow:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch':\n"
        f"            pathlib.Path({str(tmp_path / 'importing')!r}).touch()\n"
        "            time.sleep(600)\n"
        "if any('forkserver' in word for word in sys.orig_argv): sys.meta_path.insert(0, Slow())\n"
    )
    path = f"{running.ROOT}:{tmp_path}"
    process = start(bench(tmp_path / "results", "endless"), PYTHONPATH=path)
    running.until((tmp_path / "importing").exists, "the fork server imports torch")
    process.kill()
    gone(process.pid)


def test_a_second_signal_does_not_wait_for_a_process_that_hangs(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    process = start(bench(tmp_path, "endless"))
    running.until(
        lambda: len(list(tmp_path.glob("*/dqn/*/*/header.json"))) == 2, "two workers train"
    )
    server = _fork_server(process.pid)
    os.kill(server, signal.SIGSTOP)  # it can no longer say that the workers have ended
    os.kill(process.pid, signal.SIGTERM)
    running.until(
        lambda: len(running.session(process.pid)) <= 3, "the first signal has killed the workers"
    )
    assert process.poll() is None, "it did not wait for the server, so this proves nothing"
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(timeout=worker.PATIENCE / 2) == 143
    gone(process.pid)


def _fork_server(leader: int) -> int:
    for pid in running.session(leader):
        if b"multiprocessing.forkserver" in Path(f"/proc/{pid}/cmdline").read_bytes():
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            if children:
                return pid
    raise AssertionError("no fork server")
