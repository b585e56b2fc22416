"""Locks between real processes."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import running

from rlplastic import locks
from rlplastic.errors import UsageError

CELL = "task/dqn/none/0-12345678"
HOLD = """
import sys
from pathlib import Path
from rlplastic import locks
guard = {what}
print("held" if guard else "taken", flush=True)
sys.stdin.read()
"""
WHAT = {
    "plan": "locks.plan(Path(sys.argv[1]))",
    "claim": f"locks.claim(Path(sys.argv[1]), {CELL!r})",
}


@contextmanager
def process(folder: Path, what: str, says: str = "held") -> Iterator[subprocess.Popen[bytes]]:
    """Another process that holds a lock until it is killed."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD.format(what=WHAT[what]), folder],
        env=running.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == f"{says}\n".encode()
        yield holder
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()


def test_a_cell_is_claimed_by_one_process_and_free_when_that_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    assert not locks.is_claimed(folder, CELL)
    assert not folder.exists()
    with process(folder, "claim"):
        assert locks.is_claimed(folder, CELL)
        assert locks.claim(folder, CELL) is None
        assert not locks.is_claimed(folder, CELL + "0")
        with process(folder, "claim", "taken"):
            pass
        assert locks.is_claimed(folder, CELL)
    assert not locks.is_claimed(folder, CELL)
    guard = locks.claim(folder, CELL)
    assert guard is not None
    assert locks.is_claimed(folder, CELL)
    locks.let_go(guard, finished=False)
    assert not locks.is_claimed(folder, CELL)


def test_a_finished_cell_leaves_no_lock_behind(tmp_path: Path) -> None:
    guard = locks.claim(tmp_path, CELL)
    assert guard is not None
    locks.let_go(guard, finished=True)
    assert not list((tmp_path / ".locks").iterdir())


def test_a_plan_that_another_process_writes(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(locks, "PATIENCE", 0.2)
    with (
        process(tmp_path, "plan"),
        pytest.raises(locks.Locked, match="another rlplastic process"),
    ):
        locks.plan(tmp_path)
    locks.plan(tmp_path).release()


def test_asking_does_not_keep_others_from_claiming(tmp_path: Path) -> None:
    guard = locks.claim(tmp_path, CELL)
    assert guard is not None
    locks.let_go(guard, finished=False)
    code = (
        "import sys; from pathlib import Path; from rlplastic import locks\n"
        "print('asking', flush=True)\n"
        f"while True: locks.is_claimed(Path(sys.argv[1]), {CELL!r})"
    )
    words = [sys.executable, "-c", code, str(tmp_path)]
    asking = [
        subprocess.Popen(words, env=running.environment(), stdout=subprocess.PIPE) for _ in range(2)
    ]
    try:
        for asker in asking:
            assert asker.stdout is not None
            assert asker.stdout.readline() == b"asking\n"
        for _ in range(300):  # without patience, one in four fails
            guard = locks.claim(tmp_path, CELL)
            assert guard is not None
            locks.let_go(guard, finished=False)
    finally:
        for asker in asking:
            asker.kill()
            asker.communicate()


def test_a_folder_that_cannot_be_made_is_bad_usage(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for lock in (locks.plan, lambda folder: locks.claim(folder, CELL)):
        with pytest.raises(UsageError, match="cannot be written"):
            lock(tmp_path / "file" / "results")
