"""How far a results folder is: cells by status, phases, and why some have failed.

Reads JSON only and writes nothing, so it can be asked at any time, also while a bench runs.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlplastic import locks, store
from rlplastic.errors import UsageError
from rlplastic.listing import table
from rlplastic.progress import plain

LARGEST_TIMING = 2**20  # bytes; more would be thousands of phases
LAST_BYTES = 4096  # of a record: more than its longest row
ORDER = ("done", "diverged", "failed", "unfinished", "pending")


@dataclass(frozen=True, kw_only=True)
class CellStatus:
    """How far a cell is.

    Attributes:
        id: Its folder below the results folder.
        task: Name of the task.
        agent: Name of the agent.
        arm: Its arm, as ``sam+fresh``.
        status: One of `ORDER`.
        reason: Why it diverged or failed.
        phases: Closed phases.
        num_phases: Phases that it takes.
        step: Its last recorded step; rows reach the disk in bunches, so it may be some behind.
        num_steps: Steps that it takes.
    """

    id: str
    task: str
    agent: str
    arm: str
    status: str
    reason: str
    phases: int
    num_phases: int
    step: int
    num_steps: int


def read_status(folder: Path) -> list[CellStatus]:
    """The status of every planned cell, in the order of the plan.

    Raises:
        UsageError: there is no plan in the folder, or it cannot be read.
    """
    return [_status(folder, entry["id"], entry["cell"]) for entry in _plan(folder)["cells"]]


def reason_of(path: Path) -> str:
    """Why a cell ended as it did, in one line; empty if nothing is known."""
    for name in ("done.json", "failed.json"):
        with suppress(OSError, ValueError, AttributeError):
            ending = store.read_json(path / name)
            return plain(str(ending.get("reason", "")))
    return ""


def show_status(folder: Path) -> str:
    """The status of a results folder as text."""
    plan = _plan(folder)
    cells = read_status(folder)
    counts = Counter(cell.status for cell in cells)
    shown = ", ".join(f"{counts[status]} {status}" for status in ORDER if counts[status])
    ended = counts["done"] + counts["diverged"] == len(cells)
    running = {c.id for c in cells if c.status == "unfinished" and locks.is_claimed(folder, c.id)}
    lines = [f"{plan['name']}, budget {plan['protocol']['budget']}: {len(cells)} cells: {shown}"]
    if running:
        lines.append(f"{len(running)} cells are being run now")
    elif not ended:
        lines += ["nothing is running; to continue:", *(f"  {c}" for c in plan["commands"])]
    lines += ["", _summary(cells)]
    for status in ("failed", "diverged", "running", "unfinished"):
        found = [c for c in cells if ("running" if c.id in running else c.status) == status]
        if found:
            lines += ["", f"{status}:", table([_line(cell) for cell in found])]
    return "\n".join(lines)


def _plan(folder: Path) -> dict[str, Any]:
    path = folder / "plan.json"
    try:
        plan: dict[str, Any] = store.read_json(path)
        _ = plan["name"], plan["commands"], plan["protocol"]["budget"], plan["cells"]
        return plan
    except FileNotFoundError:
        raise UsageError(
            f"{folder}: not a results folder, since it has no plan.json.\n"
            "Give the folder that `rlplastic bench` printed, as results/<name>"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from error


def _status(folder: Path, name: str, cell: dict[str, Any]) -> CellStatus:
    path = folder / name
    schedule = cell["stream"]["schedule"]
    fresh = bool(cell["fresh"])
    closed = b""
    with suppress(OSError), (path / "timing.jsonl").open("rb") as file:
        closed = file.read(LARGEST_TIMING)  # a line for each phase
    num_phases = int(schedule.get("phases") or len(schedule["worlds"])) - fresh
    begin, end = _span(path, fresh) or (0, num_phases * int(schedule["period"]))
    return CellStatus(
        id=name,
        task=cell["task"],
        agent=cell["agent"],
        arm=cell["reg"] + "+fresh" * fresh,
        status=store.status_of(path),
        reason=reason_of(path),
        phases=closed.count(b"\n"),
        num_phases=num_phases,
        step=max(0, _last_step(path / "rows.jsonl") - begin),
        num_steps=end - begin,
    )


def _span(path: Path, fresh: bool) -> tuple[int, int] | None:
    """Clock at the two ends of a cell; None before it has begun, or if the header is broken."""
    with suppress(OSError, ValueError, KeyError, IndexError, TypeError):
        layout = store.read_json(path / "header.json")["layout"]
        return int(layout[int(fresh)]["begin"]), int(layout[-1]["end"])
    return None


def _last_step(path: Path) -> int:
    """Clock at the end of the last whole row of a record; 0 without any."""
    with suppress(OSError, ValueError, KeyError, IndexError, TypeError):
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LAST_BYTES))
            row = store.parse_json(file.read().split(b"\n")[-2])
        return int(row["end"] if "end" in row else row["step"])
    return 0


def _summary(cells: list[CellStatus]) -> str:
    """A line for each agent and arm, all tasks and seeds together."""
    groups: dict[tuple[str, str], Counter[str]] = {}
    for cell in cells:
        groups.setdefault((cell.agent, cell.arm), Counter())[cell.status] += 1
    used = [status for status in ORDER if any(counts[status] for counts in groups.values())]
    rows = [("agent", "arm", *used)]
    rows += [(*group, *(str(counts[s]) for s in used)) for group, counts in groups.items()]
    return table(rows)


def _line(cell: CellStatus) -> tuple[str, ...]:
    return f"  {cell.id}", f"phase {cell.phases}/{cell.num_phases}", cell.reason
