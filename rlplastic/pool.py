"""Many cells, each in its own fresh process, and nothing left behind however it ends.

A worker is forked from a *fork server*: one process that has imported torch and all of our code
and has run nothing. So a cell starts in milliseconds, in a process as clean as a new one, and
files that are edited while a bench runs do not change it. Where there is no fork server, workers
are spawned.

========================  ====================================================================
an exception in a cell    that cell is ``failed``, with reason and traceback; the others go on
a worker dies             that cell is ``failed``, with the signal and its last output
the parent is stopped     the workers are killed; the same command continues
the parent dies           each worker notices that the pipe to it has closed, and leaves
========================  ====================================================================

An unfinished cell starts again from nothing, so there is nothing that a killed worker would have
to save. The parent alone writes ``failed.json``: a worker whose parent is gone records nothing.
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
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from rlplastic import provenance, registry, store
from rlplastic.cell import Cell
from rlplastic.progress import Display

ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)
PATIENCE = 2.0  # seconds for what has been killed to be gone
TAIL = 4000  # characters of a failed worker's output that are kept


def usable_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def unfinished(cells: Sequence[Cell], folder: Path) -> list[Cell]:
    """The cells that are still to be run: all but the done and the diverged."""
    return [c for c in cells if store.status_of(folder / c.id) not in store.FINISHED]


def run_cells(
    cells: Sequence[Cell], folder: Path, workers: int, display: Display
) -> dict[str, str]:
    """Run all unfinished cells; finished ones are not touched.

    Results do not depend on the number of workers.

    Args:
        cells: In the order in which they are started.
        folder: Results folder; the caller holds its lock.
        workers: Processes at a time.
        display: Told what happens.

    Returns:
        The status of every cell: ``done``, ``diverged`` or ``failed``.
    """
    waiting = deque(unfinished(cells, folder))
    running: list[Worker] = []
    if waiting:
        source = _source()
        context = _context()
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                cell = waiting.popleft()
                running.append(Worker(context, cell, folder / cell.id, source))
                display.began(cell)
            wait([channel for worker in running for channel in worker.channels])
            for worker in tuple(running):
                for message in worker.listen():
                    display.moved(worker.cell, **message)
                if not worker.process.is_alive():
                    running.remove(worker)
                    display.ended(worker.cell, *worker.end())
    except BaseException:
        _kill(running)
        raise
    return {cell.id: store.status_of(folder / cell.id) for cell in cells}


class Worker:
    """The parent's side of one cell's process."""

    def __init__(
        self, context: BaseContext, cell: Cell, path: Path, source: dict[str, Any]
    ) -> None:
        self.cell = cell
        self.path = path
        self.output = b""
        self.failure: dict[str, str] = {}
        self._messages, messages = context.Pipe(duplex=False)
        self._printed, printed = context.Pipe(duplex=False)
        self.process: BaseProcess = context.Process(  # type: ignore[attr-defined]
            target=_work, args=(cell, path, source, messages, printed), name=cell.id, daemon=True
        )
        _start(self.process, context)
        messages.close()
        printed.close()
        self._open: list[Any] = [self._messages, self._printed]

    @property
    def channels(self) -> list[Any]:
        """What becomes ready when the worker says something or ends."""
        return [self.process.sentinel, *self._open]

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
            else:
                yield message

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
    """End workers and fork server; what they have not finished starts again from nothing."""
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
    cell: Cell, path: Path, source: dict[str, Any], messages: Connection, printed: Connection
) -> None:
    """Run one cell; an exception goes to the parent, since it alone records failures."""
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    for descriptor in (1, 2):
        os.dup2(printed.fileno(), descriptor)
    faulthandler.enable(file=2)
    try:
        _run(cell, path, source, messages.send)
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
