"""One cell, or a team of them, in a fresh process: both sides of the pipe."""

from __future__ import annotations

import atexit
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
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from rlplastic import locks, registry, store
from rlplastic.cell import Cell
from rlplastic.progress import Display
from rlplastic.teams import Team

ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)
PATIENCE = 2.0  # seconds for what has been killed to be gone
TAKEN = "taken"  # another process has claimed the cell
APART = "apart"  # the process of its team has ended, which need not be the cell's fault


class Worker:
    """The parent's side of the process of one cell or of a team."""

    def __init__(
        self,
        context: BaseContext,
        cells: Team,
        folder: Path,
        source: dict[str, Any],
        seconds: float | None,
    ) -> None:
        self.cells = {cell.id: cell for cell in cells}
        self.folder = folder
        self.seconds = seconds
        self.taken: set[str] = set()
        self.output = b""
        self.failures: dict[str, dict[str, str]] = {}
        self._messages, messages = context.Pipe(duplex=False)
        self._printed, printed = context.Pipe(duplex=False)
        self.process: BaseProcess = context.Process(  # type: ignore[attr-defined]
            target=_work,
            args=(cells, folder, source, messages, printed),
            name=cells[0].id,
            daemon=True,
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
            late = {"reason": f"no end within {self.seconds:g} s (--cell-timeout)"}
            self.failures = dict.fromkeys(self.cells, late)
            self._deadline = None
            self.process.kill()

    def listen(self) -> Iterator[tuple[Cell, dict[str, Any]]]:
        """The next message of progress, if there is one, and whose; never blocks."""
        for channel in wait(self._open, timeout=0):
            try:
                if channel is self._printed:
                    self._print(os.read(self._printed.fileno(), 65536))
                    continue
                name, message = self._messages.recv()
            except (EOFError, OSError):  # closed, or killed in the middle of a message
                self._open.remove(channel)
                continue
            if "failure" in message:
                self.failures[name] = message["failure"]
            elif "taken" in message:
                self.taken.add(name)
            else:
                yield self.cells[name], message

    def tell(self, display: Display, cell: Cell, message: dict[str, Any]) -> None:
        """Pass a message of progress on."""
        if "note" in message:
            display.noted(cell, message["note"])
        else:
            display.moved(cell, **message)

    def _print(self, text: bytes) -> None:
        if not text:
            raise EOFError
        self.output = (self.output + text)[-store.TAIL :]

    def end(self) -> list[tuple[Cell, str, str]]:
        """How the cells of a process that has ended did end, and why; records failures."""
        code = self.process.exitcode or 0
        # Closing ends the worker even if it was its fork server that died. When it is gone, both
        # channels have come to their ends (unless a process that it started holds one).
        self.process.close()
        while self._open and wait(self._open, timeout=PATIENCE):
            deque(self.listen(), maxlen=0)
        self._messages.close()
        self._printed.close()
        return [(cell, *self._end_of(cell, code)) for cell in self.cells.values()]

    def _end_of(self, cell: Cell, code: int) -> tuple[str, str]:
        path = self.folder / cell.id
        status, failure = store.status_of(path), self.failures.get(cell.id, {})
        if status in store.FINISHED:
            return status, ""
        if cell.id in self.taken:
            return TAKEN, ""
        reason = failure.get("reason") or _death(code)
        if len(self.cells) > 1 and not failure:
            return APART, reason
        output = self.output.decode(errors="replace")
        store.write_failure(path, reason, output + failure.get("traceback", ""))
        return "failed", reason


def _death(code: int) -> str:
    """What the exit code of a process that said nothing tells."""
    if code >= 0:
        return f"exit code {code}"
    known = -code in set(signal.Signals)
    return f"killed by signal {-code}" + (f" ({signal.Signals(-code).name})" if known else "")


def context_of_workers() -> BaseContext:
    """How workers are started."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    # Everything of ours that planning has imported, so that a running plan does not change when
    # a file is edited. Plugins are read by each worker, and their digest is in the header.
    ours = [name for name in sys.modules if name.startswith("rlplastic.")]
    context = multiprocessing.get_context("forkserver")
    # Torch imports its compiler with the first optimizer: 1.5 s that every cell would spend.
    first = ("rlplastic.tied", "rlplastic.runner", "torch._dynamo")
    context.set_forkserver_preload([*first, *sorted(ours)])
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


def kill(workers: Sequence[Worker]) -> None:
    """End workers and fork server; what they have not finished goes on at its last checkpoint."""
    for worker in workers:
        worker.process.kill()
    end = time.monotonic() + PATIENCE
    for worker in workers:
        worker.process.join(timeout=max(0.0, end - time.monotonic()))
    pid = _server()
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # its status is left to its owner


def abandon() -> None:
    """End workers and fork server, and wait for none: for a process that leaves at once."""
    for worker in multiprocessing.active_children():
        worker.kill()
    pid = _server()
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


atexit.register(abandon)  # of an idle fork server: torch takes a second for its own way out


def _server() -> int | None:
    """The fork server's process.

    Busy with its imports it would not see for seconds that nobody needs it any more. It has no
    public handle; without this one it leaves a little later.
    """
    server = getattr(multiprocessing.forkserver, "_forkserver", None)
    pid: int | None = getattr(server, "_forkserver_pid", None)
    return pid


@contextmanager
def _inherited() -> Iterator[None]:
    """What a process started inside is born with: one thread a library, deaf to Ctrl-C.

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
    cells: Team, folder: Path, source: dict[str, Any], messages: Connection, printed: Connection
) -> None:
    """Run cells; an exception goes to the parent, since it alone records failures.

    The claims are this process's, not the parent's: they end when nobody writes any more.
    """
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    for descriptor in (1, 2):
        os.dup2(printed.fileno(), descriptor)
    faulthandler.enable(file=2)
    try:
        guards = {}
        for cell in cells:
            guard = locks.claim(folder, cell.id)
            if guard is not None and store.status_of(folder / cell.id) not in store.FINISHED:
                guards[cell.id] = guard
                continue
            if guard is not None:
                locks.let_go(guard, finished=True)
            messages.send((cell.id, {"taken": True}))
        mine = [cell for cell in cells if cell.id in guards]
        ended = _run(mine, folder, source, messages.send) if mine else []
        for cell, end in zip(mine, ended, strict=True):
            if isinstance(end, BaseException):
                messages.send((cell.id, {"failure": _told(end)}))
            else:
                locks.let_go(guards[cell.id], finished=True)
    except BaseException as error:
        if len(cells) > 1:
            raise  # whose fault it is will be seen when each is run alone
        messages.send((cells[0].id, {"failure": _told(error)}))


def _told(error: BaseException) -> dict[str, str]:
    """What the parent is told of an exception."""
    first = str(error).strip().partition("\n")[0]
    reason = f"{type(error).__name__}: {first}" if first else type(error).__name__
    return {"reason": reason, "traceback": "".join(traceback.format_exception(error))}


def _leave_with_parent() -> None:
    """End this process when its parent ends, even if that was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()  # its sentinel is a pipe whose other end the parent alone holds
    os._exit(1)


def _run(
    cells: Sequence[Cell], folder: Path, source: dict[str, Any], tell: Callable[[Any], None]
) -> Sequence[str | Exception]:
    from rlplastic import runner  # heavy; the fork server has it already

    for file in cells[0].plugins:
        registry.add_plugin(file)

    def job(cell: Cell) -> runner.Job:
        header = {
            "oracle": runner.build_interventions(cell).oracle,
            "provenance": {
                **source,
                "plugins": {
                    file: hashlib.sha256(Path(file).read_bytes()).hexdigest()
                    for file in cell.plugins
                },
                "started": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            },
            "runtime": cell.runtime,
        }
        return runner.Job(
            cell=cell,
            folder=store.CellFolder(folder / cell.id),
            header=header,
            progress=lambda message: tell((cell.id, message)),
        )

    return runner.run_together([job(cell) for cell in cells])
