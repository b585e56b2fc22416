"""Many cells, each in its own fresh process, and nothing left behind however it ends.

A worker is forked from a *fork server*: one process that has imported torch and all of our code
and has run nothing. So a cell starts in milliseconds, in a process as clean as a new one, and
files that are edited while a bench runs do not change it. Where there is no fork server, workers
are spawned.

========================  ====================================================================
an exception in a cell    that cell is ``failed``, with reason and traceback; the others go on
a worker dies             that cell is ``failed``, with the signal and its last output
a cell does not end       with a time limit it is ``failed``; with retries it is tried again
the parent is stopped     the workers are killed; the same command continues
the parent dies           each worker notices that the pipe to it has closed, and leaves
another bench runs here   each cell is run by the process that has claimed it, and by no other
========================  ====================================================================

An unfinished cell goes on at its last checkpoint, so there is nothing that a killed worker would
have to save. The parent alone writes ``failed.json``: a worker whose parent is gone records
nothing.
"""

from __future__ import annotations

import faulthandler
import hashlib
import multiprocessing
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import signal
import sys
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from rlplastic import locks, provenance, registry, store
from rlplastic.cell import Cell
from rlplastic.progress import Display

ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)
PATIENCE = 2.0  # seconds for what has been killed to be gone
ELSEWHERE = 1.0  # seconds between looks at the cells that another process is running
TAKEN = "taken"
TAIL = 4000  # characters of a failed worker's output that are kept


def usable_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def unfinished(cells: Sequence[Cell], folder: Path) -> list[Cell]:
    """The cells that are still to be run: all but the done and the diverged."""
    return [c for c in cells if store.status_of(folder / c.id) not in store.FINISHED]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a cell is allowed.

    Attributes:
        seconds: Time of an attempt, after which it is ended as failed; None: any.
        retries: Attempts after one that failed.
    """

    seconds: float | None = None
    retries: int = 0


def run_cells(
    cells: Sequence[Cell],
    folder: Path,
    workers: int,
    display: Display,
    limits: Limits = Limits(),
) -> dict[str, str]:
    """Run all unfinished cells; finished ones are not touched.

    Results do not depend on the number of workers. A cell that another process is running is left
    to it, and taken over if that process ends without having finished it.

    Args:
        cells: In the order in which they are started.
        folder: Results folder.
        workers: Processes at a time.
        display: Told what happens.
        limits: Of each cell.

    Returns:
        The status of every cell: ``done``, ``diverged`` or ``failed``.
    """
    crew = Crew(unfinished(cells, folder), folder, display, limits)
    try:
        while crew.busy:
            crew.fill(workers)
            crew.listen()
    except BaseException:
        _kill(crew.running)
        raise
    return {cell.id: store.status_of(folder / cell.id) for cell in cells}


class Crew:
    """The workers of one call, and the cells that wait for one."""

    def __init__(
        self, cells: Sequence[Cell], folder: Path, display: Display, limits: Limits
    ) -> None:
        self.folder, self.display, self.limits = folder, display, limits
        self.running: list[Worker] = []
        self._waiting = deque(cells)
        self._elsewhere: list[Cell] = []  # run by another process
        self._attempts: Counter[str] = Counter()
        self._began = time.time()
        self._looked = 0.0
        if cells:
            self._source = _source()
            self._context = _context()

    @property
    def busy(self) -> bool:
        """True until every cell has ended, here or elsewhere."""
        return bool(self._waiting or self.running or self._elsewhere)

    def fill(self, workers: int) -> None:
        """Start cells while there are places for them."""
        if self._elsewhere and time.monotonic() - self._looked > ELSEWHERE:
            self._look_elsewhere()
        while self._waiting and len(self.running) < workers:
            cell = self._waiting.popleft()
            if locks.is_claimed(self.folder, cell.id):
                self._leave(cell)
                continue
            worker = Worker(self._context, cell, self.folder, self._source, self.limits.seconds)
            self.running.append(worker)
            self.display.began(cell)

    def listen(self) -> None:
        """Wait until something happens; pass on what workers say, and end those that are over."""
        channels = [channel for worker in self.running for channel in worker.channels]
        wait(channels, timeout=self._patience())
        for worker in tuple(self.running):
            for message in worker.listen():
                worker.tell(self.display, message)
            worker.watch_time()
            if not worker.process.is_alive():
                self.running.remove(worker)
                self._end(worker)

    def _patience(self) -> float | None:
        """Seconds after which there is something to do even if no worker says anything."""
        times = [worker.time_left for worker in self.running if worker.time_left is not None]
        times += [ELSEWHERE] * bool(self._elsewhere)
        return max(0.0, min(times)) if times else None

    def _end(self, worker: Worker) -> None:
        status, reason = worker.end()
        cell = worker.cell
        if status == TAKEN:
            self.display.left(cell)
            self._leave(cell)
            return
        self._attempts[cell.id] += 1
        if status == "failed" and self._attempts[cell.id] <= self.limits.retries:
            self.display.left(cell)
            again = f"attempt {self._attempts[cell.id] + 1} of {self.limits.retries + 1}"
            self.display.noted(cell, f"{again}, since it failed: {reason}")
            self._waiting.append(cell)
            return
        self.display.ended(cell, status, reason)

    def _leave(self, cell: Cell) -> None:
        self._elsewhere.append(cell)
        self.display.noted(cell, "is run by another process")

    def _look_elsewhere(self) -> None:
        """Which of the cells that others run have ended, or lost the process that ran them."""
        self._looked = time.monotonic()
        for cell in tuple(self._elsewhere):
            if locks.is_claimed(self.folder, cell.id):
                continue
            self._elsewhere.remove(cell)
            path = self.folder / cell.id
            status = store.status_of(path)
            if status in store.FINISHED or store.failed_since(path, self._began):
                self.display.began(cell)
                self.display.ended(cell, status, "by another process")
            else:
                self._waiting.append(cell)


class Worker:
    """The parent's side of one cell's process."""

    def __init__(
        self,
        context: BaseContext,
        cell: Cell,
        folder: Path,
        source: dict[str, Any],
        seconds: float | None,
    ) -> None:
        self.cell = cell
        self.path = folder / cell.id
        self.seconds = seconds
        self.taken = False
        self.output = b""
        self.failure: dict[str, str] = {}
        self._messages, messages = context.Pipe(duplex=False)
        self._printed, printed = context.Pipe(duplex=False)
        self.process: BaseProcess = context.Process(  # type: ignore[attr-defined]
            target=_work, args=(cell, folder, source, messages, printed), name=cell.id, daemon=True
        )
        _start(self.process, context)
        self._deadline = None if seconds is None else time.monotonic() + seconds
        messages.close()
        printed.close()
        self._open: list[Any] = [self._messages, self._printed]

    @property
    def channels(self) -> list[Any]:
        """What becomes ready when the worker says something or ends."""
        return [self.process.sentinel, *self._open]

    @property
    def time_left(self) -> float | None:
        """Seconds until it is ended; None if it may take any time."""
        return None if self._deadline is None else self._deadline - time.monotonic()

    def watch_time(self) -> None:
        """End it if its time is over."""
        if self.time_left is not None and self.time_left <= 0 and self.process.is_alive():
            self.failure = {"reason": f"no end within {self.seconds:g} s (--cell-timeout)"}
            self._deadline = None
            self.process.kill()

    def listen(self) -> Iterator[dict[str, Any]]:
        """The next message of progress, if there is one; never blocks."""
        for channel in wait(self._open, timeout=0):
            try:
                if channel is self._printed:
                    self._print(os.read(self._printed.fileno(), 65536))
                    continue
                message = self._messages.recv()
            except (EOFError, OSError):  # closed, or killed in the middle of a message
                self._open.remove(channel)
                continue
            if "failure" in message:
                self.failure = message["failure"]
            elif "taken" in message:
                self.taken = True
            else:
                yield message

    def tell(self, display: Display, message: dict[str, Any]) -> None:
        """Pass a message of progress on."""
        if "note" in message:
            display.noted(self.cell, message["note"])
        else:
            display.moved(self.cell, **message)

    def _print(self, text: bytes) -> None:
        if not text:
            raise EOFError
        self.output = (self.output + text)[-TAIL:]

    def end(self) -> tuple[str, str]:
        """How the cell of a process that has ended did end, and why; records a failure."""
        code = self.process.exitcode or 0
        # Closing ends the worker even if it was its fork server that died. When it is gone, both
        # channels have come to their ends (unless a process that it started holds one).
        self.process.close()
        while self._open and wait(self._open, timeout=PATIENCE):
            deque(self.listen(), maxlen=0)
        self._messages.close()
        self._printed.close()
        status, reason = store.status_of(self.path), ""
        if self.taken and status not in store.FINISHED:
            return TAKEN, reason
        if status not in store.FINISHED:
            status, reason = "failed", self.failure.get("reason") or _death(code)
            output = self.output.decode(errors="replace")
            store.write_failure(self.path, reason, output + self.failure.get("traceback", ""))
        return status, reason


def _death(code: int) -> str:
    """What the exit code of a process that said nothing tells."""
    if code >= 0:
        return f"exit code {code}"
    known = -code in set(signal.Signals)
    return f"killed by signal {-code}" + (f" ({signal.Signals(-code).name})" if known else "")


def _source() -> dict[str, Any]:
    """Where the results come from: the same for all cells of a call."""
    return {
        "command": provenance.command(),
        "versions": provenance.versions(),
        "code": provenance.code(),
        "git": provenance.commit(),
        "machine": provenance.machine(),
    }


def _context() -> BaseContext:
    """How workers are started."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    # Everything of ours that planning has imported, so that a running plan does not change when
    # a file is edited. Plugins are read by each worker, and their digest is in the header.
    ours = [name for name in sys.modules if name.startswith("rlplastic.")]
    context = multiprocessing.get_context("forkserver")
    # Torch imports its compiler with the first optimizer: 1.5 s that every cell would spend.
    context.set_forkserver_preload(["rlplastic.runner", "torch._dynamo", *sorted(ours)])
    return context


def _start(process: BaseProcess, context: BaseContext) -> None:
    if context.get_start_method() != "forkserver":
        with _inherited():
            process.start()
        return
    multiprocessing.resource_tracker.ensure_running()  # first, as it unblocks Ctrl-C
    for _ in range(3):
        with _inherited():
            multiprocessing.forkserver.ensure_running()
        try:
            process.start()  # waits for the server's imports, where Ctrl-C must get through
            return
        except (EOFError, ConnectionError):
            time.sleep(0.1)  # it has been killed just now; the next call notices
    raise OSError("no worker can be started: the fork server ends at once")


def _kill(workers: Sequence[Worker]) -> None:
    """End workers and fork server; what they have not finished goes on at its last checkpoint."""
    for worker in workers:
        worker.process.kill()
    end = time.monotonic() + PATIENCE
    for worker in workers:
        worker.process.join(timeout=max(0.0, end - time.monotonic()))
    # Busy with its imports, the server would not see for seconds that nobody needs it any more.
    # It has no public handle; without this one it leaves a little later.
    server = getattr(multiprocessing.forkserver, "_forkserver", None)
    pid = getattr(server, "_forkserver_pid", None)
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # its status is left to its owner


@contextmanager
def _inherited() -> Iterator[None]:
    """What a process started inside is born with: one thread a library, and deaf to Ctrl-C.

    Ctrl-C reaches every process of a terminal; the parent alone answers it. Blocked signals stay
    blocked in children and in what they execute, so there is no moment at which it gets through.
    """
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


# -- in the worker ---------------------------------------------------------------------------


def _work(
    cell: Cell, folder: Path, source: dict[str, Any], messages: Connection, printed: Connection
) -> None:
    """Run one cell; an exception goes to the parent, since it alone records failures.

    The claim is this process's, not the parent's: it ends when nobody writes any more.
    """
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    for descriptor in (1, 2):
        os.dup2(printed.fileno(), descriptor)
    faulthandler.enable(file=2)
    path = folder / cell.id
    try:
        guard = locks.claim(folder, cell.id)
        if guard is None or store.status_of(path) in store.FINISHED:
            messages.send({"taken": True})
            return
        _run(cell, path, source, messages.send)
        locks.let_go(guard, finished=True)
    except BaseException as error:
        first = str(error).strip().partition("\n")[0]
        reason = f"{type(error).__name__}: {first}" if first else type(error).__name__
        messages.send({"failure": {"reason": reason, "traceback": traceback.format_exc()}})


def _leave_with_parent() -> None:
    """End this process when its parent ends, even if that was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()  # its sentinel is a pipe whose other end the parent alone holds
    os._exit(1)


def _run(
    cell: Cell, path: Path, source: dict[str, Any], tell: Callable[[dict[str, Any]], None]
) -> None:
    from rlplastic import runner  # heavy; the fork server has it already

    for file in cell.plugins:
        registry.add_plugin(file)
    header = {
        "oracle": runner.build_interventions(cell).oracle,
        "provenance": {
            **source,
            "plugins": {
                file: hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in cell.plugins
            },
            "started": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        },
        "runtime": cell.runtime,
    }
    runner.run_cell(cell, store.CellFolder(path), header, tell)
