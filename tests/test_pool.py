"""Many cells in worker processes: nothing here is mocked, and what is killed is killed."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from multiprocessing import forkserver
from pathlib import Path

import pytest
import running

from rlplastic import locks, pool, registry, store
from rlplastic.cell import Cell
from rlplastic.plan import make_plan
from rlplastic.request import Request

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")


class Told:
    """A display that remembers, and may do something when a cell tells of its progress."""

    def __init__(self) -> None:
        self.began_in: list[str] = []
        self.ends: dict[str, tuple[str, str]] = {}
        self.most = 0
        self.moves: list[tuple[str, int, int]] = []
        self.notes: list[tuple[str, str]] = []

    def began(self, cell: Cell) -> None:
        self.began_in.append(cell.id)
        self.most = max(self.most, len(self.began_in) - len(self.ends))

    def moved(self, cell: Cell, *, phase: int, step: int, speed: float) -> None:
        self.moves.append((cell.id, phase, step))

    def left(self, cell: Cell) -> None:
        self.began_in.remove(cell.id)

    def noted(self, cell: Cell, text: str) -> None:
        self.notes.append((cell.id, text))

    def ended(self, cell: Cell, status: str, reason: str) -> None:
        self.ends[cell.id] = status, reason


def cells_of(budget: str = "tiny", seeds: Sequence[int] = (), agent: str = "dqn") -> list[Cell]:
    env = f"{running.TINY}/Cue-observation"
    request = Request(agents=[agent], regs=["sam"], env=env, budget=budget, seeds=seeds)
    return make_plan(request).cells


def process_of(cell_id: str) -> int:
    (pid,) = [p.pid for p in multiprocessing.active_children() if p.name == cell_id]
    assert pid is not None
    return pid


def server() -> int:
    pid = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    assert isinstance(pid, int)
    return pid


def proc_status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


@pytest.fixture(autouse=True)
def _no_children_are_left() -> Iterator[None]:
    yield
    assert multiprocessing.active_children() == []


def test_a_cells_bytes_do_not_depend_on_the_number_of_workers_or_the_order(tmp_path: Path) -> None:
    cells = cells_of()
    assert len(cells) == 5
    one, two = Told(), Told()
    expected = {cell.id: "done" for cell in cells}
    assert pool.run_cells(cells, tmp_path / "one", 1, one) == expected
    assert pool.run_cells(cells[::-1], tmp_path / "two", 2, two) == expected
    assert (one.most, two.most) == (1, 2)
    assert one.began_in == [cell.id for cell in cells]
    assert two.ends == {cell.id: ("done", "") for cell in cells}
    records = running.rows(tmp_path / "one")
    assert set(records) == set(expected)
    assert all(record.count(b'"kind":"phase"') in (1, 2) for record in records.values())
    assert running.rows(tmp_path / "two") == records


def test_finished_cells_are_not_touched_and_failed_ones_are_run_again(tmp_path: Path) -> None:
    cells = cells_of()[:3]
    pool.run_cells(cells, tmp_path, 2, Told())
    failed, interrupted, done = (tmp_path / cell.id for cell in cells)
    (failed / "done.json").unlink()
    store.write_failure(failed, "an old reason")
    (interrupted / "done.json").unlink()
    (interrupted / "litter").write_text("of a killed attempt")
    before = running.contents(done)
    rows = running.rows(tmp_path)
    told = Told()
    assert set(pool.run_cells(cells, tmp_path, 2, told).values()) == {"done"}
    assert set(told.began_in) == {cells[0].id, cells[1].id}
    assert running.contents(done) == before
    assert running.rows(tmp_path) == rows
    assert not (failed / "failed.json").exists()
    assert not (interrupted / "litter").exists()
    again = Told()
    pool.run_cells(cells, tmp_path, 2, again)
    assert again.began_in == []


def test_a_killed_worker_fails_its_cell_alone_and_the_next_call_runs_it(tmp_path: Path) -> None:
    cells = cells_of("short", seeds=[0])
    victim = cells[1].id

    class Killer(Told):
        def moved(self, cell: Cell, *, phase: int, step: int, speed: float) -> None:
            if cell.id == victim:
                os.kill(process_of(victim), signal.SIGKILL)

    told = Killer()
    statuses = pool.run_cells(cells, tmp_path, 2, told)
    assert statuses == {cell.id: "failed" if cell.id == victim else "done" for cell in cells}
    assert told.ends[victim] == ("failed", "killed by signal 9 (SIGKILL)")
    failure = json.loads((tmp_path / victim / "failed.json").read_text())
    assert failure["reason"] == "killed by signal 9 (SIGKILL)"
    again = Told()
    assert set(pool.run_cells(cells, tmp_path, 2, again).values()) == {"done"}
    assert again.began_in == [victim]


def test_a_killed_fork_server_leaves_no_second_writer_and_is_replaced(tmp_path: Path) -> None:
    cells = cells_of("short", seeds=[0])
    killed: list[int] = []

    class Killer(Told):
        def moved(self, cell: Cell, *, phase: int, step: int, speed: float) -> None:
            if not killed and cell.agent == "dqn":  # random play ends before it can be killed
                killed.append(process_of(cell.id))
                os.kill(server(), signal.SIGKILL)

        def ended(self, cell: Cell, status: str, reason: str) -> None:
            super().ended(cell, status, reason)
            if status == "failed":
                assert not Path(f"/proc/{killed[0]}").exists() or (
                    proc_status(killed[0])["State"].startswith("Z")
                ), "the worker still lives while its cell counts as failed"

    told = Killer()
    statuses = pool.run_cells(cells, tmp_path, 1, told)
    assert killed
    assert sorted(statuses.values()) == ["done"] * 4 + ["failed"]
    assert set(pool.run_cells(cells, tmp_path, 2, Told()).values()) == {"done"}


def test_a_worker_has_one_thread_a_library_and_does_not_hear_ctrl_c(tmp_path: Path) -> None:
    cells = cells_of("endless", agent="ppo")[1:2]
    seen: dict[str, str] = {}

    class Enough(Exception):
        pass

    class Looker(Told):
        def moved(self, cell: Cell, *, phase: int, step: int, speed: float) -> None:
            pid = process_of(cell.id)
            seen.update(proc_status(pid))
            seen["environment"] = Path(f"/proc/{pid}/environ").read_text()
            seen["server"] = proc_status(server())["Threads"]
            os.kill(pid, signal.SIGINT)
            self.moves.append((cell.id, phase, step))
            if len(self.moves) == 2:  # it has survived the first
                raise Enough

    environment = dict(os.environ)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with pytest.raises(Enough):
        pool.run_cells(cells, tmp_path, 1, Looker())
    for name in ("OMP", "MKL", "OPENBLAS", "NUMEXPR"):
        assert f"{name}_NUM_THREADS=1\0" in seen["environment"] + "\0"
    assert seen["server"] == "1", "forking a process with threads is not safe"
    # the one that trains, the one that waits for the parent's end, and TensorBoard's writer
    assert int(seen["Threads"]) <= 3
    assert int(seen["SigBlk"], 16) >> (signal.SIGINT - 1) & 1
    assert dict(os.environ) == environment
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask
    assert store.status_of(tmp_path / cells[0].id) == "unfinished"


def test_an_exception_in_the_parent_ends_the_workers(tmp_path: Path) -> None:
    pids: list[int] = []

    class Interrupting(Told):
        def moved(self, cell: Cell, *, phase: int, step: int, speed: float) -> None:
            pids.extend(p.pid for p in multiprocessing.active_children() if p.pid)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pool.run_cells(cells_of("endless")[1:3], tmp_path, 2, Interrupting())
    assert len(pids) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert not list(tmp_path.glob("**/failed.json"))


def test_a_world_that_a_plugin_defines_reaches_every_worker(tmp_path: Path) -> None:
    source = """
    from rlplastic.envs.toy import Cue

    @registry.environment("Mine")
    @dataclass(frozen=True, kw_only=True)
    class Mine(Cue):
        "The cue under another name."
    """
    suite = tmp_path / "Mine.toml"
    suite.write_text(Path(running.TINY).read_text().replace('"Cue"', '"Mine"'))
    with running.no_plugins():
        registry.add_plugin(running.write_plugin(tmp_path, source))
        env = f"{suite}/Cue-observation"
        request = Request(agents=["dqn"], regs=["none"], env=env, budget="tiny")
        cells = make_plan(request).cells
        assert [cell.agent for cell in cells] == ["random", "dqn", "dqn"]
        statuses = pool.run_cells(cells, tmp_path / "results", 2, Told())
    assert set(statuses.values()) == {"done"}


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    cells = cells_of()[:1]
    pool.run_cells(cells, tmp_path / "first", 1, Told())
    before = len(os.listdir("/proc/self/fd"))
    for attempt in range(3):
        pool.run_cells(cells, tmp_path / str(attempt), 1, Told())
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_header_says_where_the_numbers_come_from(tmp_path: Path) -> None:
    cell = cells_of()[0]
    os.environ["PLANTED_TOKEN"] = "secret-of-the-environment"  # noqa: S105
    try:
        pool.run_cells([cell], tmp_path, 1, Told())
    finally:
        del os.environ["PLANTED_TOKEN"]
    text = (tmp_path / cell.id / "header.json").read_text()
    header = json.loads(text)
    assert header["id"] == cell.id
    assert header["cell"] == cell.identity
    assert header["runtime"] == cell.runtime
    assert header["oracle"] is False
    source = header["provenance"]
    assert {"command", "versions", "git", "machine", "started", "plugins"} <= set(source)
    assert source["versions"]["torch"] != "not installed"
    assert "secret" not in text


def fault_cells(reg: str) -> list[Cell]:
    env = f"{running.TINY}/Cue-observation"
    with running.no_plugins():
        registry.add_plugin(running.FAULTS)
        request = Request(agents=["dqn"], regs=[reg], env=env, budget="tiny")
        return [c for c in make_plan(request).cells if c.agent == "dqn"]


def test_a_cell_that_hangs_is_ended_and_the_others_go_on(tmp_path: Path) -> None:
    cells = fault_cells("hangs")
    told = Told()
    statuses = pool.run_cells(cells, tmp_path, 2, told, pool.Limits(seconds=20.0))
    hung = [cell.id for cell in cells if cell.reg == "hangs"]
    assert len(hung) == 2
    assert statuses == {c.id: "failed" if c.id in hung else "done" for c in cells}
    assert all(
        told.ends[name] == ("failed", "no end within 20 s (--cell-timeout)") for name in hung
    )


def test_a_cell_that_fails_is_tried_again_as_often_as_asked(tmp_path: Path) -> None:
    cells = fault_cells("raises")
    told = Told()
    pool.run_cells(cells, tmp_path, 2, told, pool.Limits(retries=2))
    for cell in cells:
        notes = [text for name, text in told.notes if name == cell.id]
        if cell.reg == "none":
            assert notes == []
            continue
        assert told.ends[cell.id][0] == "failed"
        assert [note[:14] for note in notes] == ["attempt 2 of 3", "attempt 3 of 3"]


def test_a_killed_worker_goes_on_at_its_last_checkpoint(tmp_path: Path) -> None:
    cells = [c for c in cells_of("short", seeds=[0]) if c.arm == "sam"]
    pool.run_cells(cells, tmp_path / "whole", 1, Told())

    class Killer(Told):
        """Kills once, in the last phase."""

        def moved(self, cell: Cell, *, phase: int, step: int, speed: float) -> None:
            if not self.notes and list(tmp_path.glob("cut/*/*/*/*/checkpoint/*.json")):
                os.kill(process_of(cell.id), signal.SIGKILL)

    told = Killer()
    pool.run_cells(cells, tmp_path / "cut", 1, told, pool.Limits(retries=1))
    if told.notes:  # a fast machine may have ended it before it told of its second phase
        assert "attempt 2 of 2" in told.notes[0][1]
        assert "goes on at phase" in told.notes[1][1]
    assert running.rows(tmp_path / "cut") == running.rows(tmp_path / "whole")


def test_a_cell_that_another_process_runs_is_left_to_it(tmp_path: Path) -> None:
    cells = [c for c in cells_of("short", seeds=[0]) if c.agent == "dqn"]
    mine = Told()
    guard = locks.claim(tmp_path, cells[0].id)
    assert guard is not None
    done: list[dict[str, str]] = []
    thread = threading.Thread(
        target=lambda: done.append(pool.run_cells(cells[:2], tmp_path, 1, mine))
    )
    thread.start()
    running.until(lambda: cells[1].id in mine.ends, "the other cell has ended")
    thread.join(timeout=2 * pool.ELSEWHERE)
    assert thread.is_alive(), "it waits for the one that is claimed"
    assert mine.notes == [(cells[0].id, "is run by another process")]
    assert store.status_of(tmp_path / cells[0].id) == "pending"
    locks.let_go(guard, finished=False)  # whoever had it is gone, and has not finished it
    thread.join(timeout=running.PATIENCE)
    assert done == [{cell.id: "done" for cell in cells[:2]}]
    assert mine.ends[cells[0].id] == ("done", "")


def test_it_ends_when_another_process_finishes_the_last_cell(tmp_path: Path) -> None:
    cells = [c for c in cells_of("tiny") if c.agent == "dqn"][:1]
    pool.run_cells(cells, tmp_path / "whole", 1, Told())
    mine, folder = Told(), tmp_path / "shared"
    guard = locks.claim(folder, cells[0].id)
    assert guard is not None
    thread = threading.Thread(target=lambda: pool.run_cells(cells, folder, 1, mine), daemon=True)
    thread.start()
    running.until(lambda: mine.notes, "it has seen that the cell is claimed")
    shutil.copytree(tmp_path / "whole" / cells[0].id, folder / cells[0].id)
    locks.let_go(guard, finished=False)  # killed after its last word: the claim's file is left
    thread.join(timeout=running.PATIENCE)
    assert not thread.is_alive()
    assert mine.ends == {cells[0].id: ("done", "by another process")}
    assert not list((folder / ".locks").iterdir())
