"""Looking on while a bench runs."""

from __future__ import annotations

import io
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import running
import synthetic_records as synthetic

from rlplastic import locks, store
from rlplastic.errors import UsageError
from rlplastic.metrics.study import Study
from rlplastic.reading import read
from rlplastic.watch import Scene, so_far, watch

CUE = f"{running.TINY}/Cue-observation"
HOLD = """
import pathlib, sys
from rlplastic import locks
guard = locks.claim(pathlib.Path(sys.argv[1]), sys.argv[2])
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two tasks, two arms, two seeds; one life of ``sam`` has only closed its first two phases."""
    folder = synthetic.write_results(
        tmp_path / "results", tasks=("Cart-a", "Cart-b"), seeds=2, phases=4, period=1000
    )
    (path,) = folder.glob("Cart-b/ppo/sam/1-*")
    (path / "done.json").unlink()
    rows = (path / "rows.jsonl").read_text().splitlines(keepends=True)
    kept = next(i for i, row in enumerate(rows) if '"kind":"phase","phase":1' in row)
    (path / "rows.jsonl").write_text("".join(rows[: kept + 3]))
    timing = (path / "timing.jsonl").read_text().splitlines(keepends=True)
    (path / "timing.jsonl").write_text("".join(timing[:2]))
    return folder


def open_cell(folder: Path) -> str:
    """The cell that has not ended."""
    (path,) = folder.glob("Cart-b/ppo/sam/1-*")
    return path.relative_to(folder).as_posix()


def hold(folder: Path) -> subprocess.Popen[bytes]:
    """A process that has claimed that cell, as one that runs it has."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, folder, open_cell(folder)],
        env=running.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    return holder


def test_recovery_so_far_is_that_of_the_shifts_that_are_known(results: Path) -> None:
    study = Study(read(results))
    lines = so_far(study).splitlines()
    rows = {tuple(line.split()[:3]): line.split()[3:] for line in lines[1:-1]}
    assert [rows["Cart-b", "ppo", reg][0] for reg in ("none", "sam")] == ["6", "4"]
    gaps = [*study.score("gap", "Cart-b", "ppo", "sam", 0)]
    gaps += [study.score("gap", "Cart-b", "ppo", "sam", 1)[0]]
    assert rows["Cart-b", "ppo", "sam"][-2] == f"{1 - sum(gaps) / 4:.2f}"
    hits = [*study.score("recovered_80", "Cart-b", "ppo", "none", 0)]
    hits += [*study.score("recovered_80", "Cart-b", "ppo", "none", 1)]
    assert rows["Cart-b", "ppo", "none"][2:5] == [str(int(sum(hits))), "of", "6"]
    assert lines[-1] == "so far: means over the shifts that are known; no verdict"


def test_before_anything_is_known_it_says_so(tmp_path: Path) -> None:
    synthetic.write_plan(tmp_path, [synthetic.cell()])
    assert "n/a" in so_far(Study(read(tmp_path)))
    synthetic.write_plan(tmp_path, [])
    assert so_far(Study(read(tmp_path))) == "No arm is planned here."
    with pytest.raises(UsageError, match="not a results folder"):
        watch(tmp_path / "nothing", io.StringIO(), 0.1)


def test_where_nothing_runs_it_shows_once_and_leaves_and_touches_nothing(results: Path) -> None:
    locks.plan(results).release()
    guard = locks.claim(results, open_cell(results))
    assert guard is not None
    guard.release()
    before = running.contents(results)
    out = io.StringIO()
    watch(results, out, 0.1, quiet=0.5)
    assert "20 cells: 19 done, 1 unfinished\n\ntask " in out.getvalue()
    assert out.getvalue().endswith("nothing was running here\n")
    assert running.contents(results) == before


def test_asking_for_a_claim_writes_nothing_and_is_told_the_truth(results: Path) -> None:
    name = open_cell(results)
    assert not locks.is_claimed(results, name)
    assert not (results / ".locks").exists()
    holder = hold(results)
    before = running.contents(results)
    assert locks.is_claimed(results, name)
    holder.kill()
    holder.communicate()
    assert not locks.is_claimed(results, name)
    assert running.contents(results) == before


def test_it_leaves_at_once_where_all_is_finished(results: Path) -> None:
    (path,) = results.glob("Cart-b/ppo/sam/1-*")
    (path / "done.json").write_text('{"status": "done"}')
    watch(results, io.StringIO(), 60.0, quiet=60.0)


def test_a_line_for_each_phase_and_each_end_until_the_bench_ends(results: Path) -> None:
    (path,) = results.glob("Cart-b/ppo/sam/1-*")
    name = path.relative_to(results).as_posix()
    holder = hold(results)
    out = io.StringIO()
    looker = threading.Thread(target=watch, args=(results, out, 0.05, 3.0))
    looker.start()
    running.until(lambda: "cells:" in out.getvalue(), "it has begun to look")
    with (path / "timing.jsonl").open("a") as file:
        file.write('{"phase": 2, "seconds": 1.0, "steps": 1000}\n')
    running.until(lambda: f"{name}  phase 3/4" in out.getvalue(), "a closed phase is told")
    store.write_failure(path, "out of \x1b[31mmemory")
    running.until(lambda: f"{name}  failed out of  [31mmemory" in out.getvalue(), "the end is told")
    assert looker.is_alive()
    holder.kill()
    holder.communicate()
    looker.join(timeout=running.PATIENCE)
    assert not looker.is_alive()
    assert "20 cells: 19 done, 1 failed\n\ntask " in out.getvalue()
    assert "nothing was running" not in out.getvalue()
    assert "\x1b" not in out.getvalue()


def test_the_time_left_is_from_the_steps_made_while_it_looked(results: Path) -> None:
    holder = hold(results)
    scene = Scene(results)
    scene.look()
    assert "left" not in scene.head()
    (path,) = results.glob("Cart-b/ppo/sam/1-*")
    with (path / "rows.jsonl").open("a") as file:
        file.write('{"kind":"phase","phase":2,"end":3000}\n{"torn')
    assert scene._first is not None
    scene._first = (time.monotonic() - 60, scene._first[1])
    scene.look()
    (busy,) = scene.busy()
    assert (busy.step, busy.num_steps) == (3000, 4000)
    assert scene.head().endswith("; 1 min left")
    holder.kill()
    holder.communicate()


def test_a_real_bench_is_watched_to_its_end(tmp_path: Path) -> None:
    words = ["bench", "--env", CUE, "--budget", "short", "--reg", "sam", "--seeds", "1"]
    bench = subprocess.Popen(
        running.command(*words, "--workers", "1", "--out", tmp_path / "out"),
        env=running.environment(),
        stdout=subprocess.DEVNULL,
    )
    running.until(lambda: (tmp_path / "out" / "plan.json").exists(), "it has a plan")
    out = io.StringIO()
    watch(tmp_path / "out", out, 0.1, quiet=running.PATIENCE)  # ends, since all is finished
    assert bench.wait(timeout=running.PATIENCE) == 0
    assert "/dqn/sam/0-" in out.getvalue()
    assert "5 cells: 5 done\n" in out.getvalue()
    (row,) = [line.split() for line in out.getvalue().splitlines() if " sam  " in line]
    assert row[:4] == ["Cue-observation", "dqn", "sam", "2"]


def test_ctrl_c_at_a_terminal_leaves_it_as_it_was(results: Path) -> None:
    holder = hold(results)
    keyboard, terminal = pty.openpty()
    looker = subprocess.Popen(
        running.command("watch", results, "--every", "0.2"),
        env=running.environment(TERM="xterm", COLUMNS="120"),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    seen = bytearray()

    def listen() -> None:
        while True:
            try:
                chunk = os.read(keyboard, 65536)
            except OSError:
                return
            seen.extend(chunk)

    reader = threading.Thread(target=listen, daemon=True)
    reader.start()
    try:
        running.until(lambda: b"so far: means" in seen, "the view is there")
        looker.send_signal(signal.SIGINT)
        assert looker.wait(timeout=20) == 130
    finally:
        looker.kill()
        holder.kill()
        holder.communicate()
    reader.join(timeout=5)
    os.close(keyboard)
    text = seen.decode()
    assert "phase 3/4" in text
    assert "20 cells: 19 done, 1 unfinished" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l"), "the cursor stays hidden"
    assert "Traceback" not in text
