"""`rlplastic import`: what was run elsewhere becomes a plan and one record a run.

The shifts are the user's word. Everything else is read or given, and what is neither is absent:
without newborns there is no S, without a random level no P, without a scale neither. All is read
and checked before the first byte is written.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from rlplastic import locks, provenance, store
from rlplastic.elsewhere.logs import read_logs
from rlplastic.elsewhere.runs import NEWBORN, RANDOM, Import, Run, runs_of
from rlplastic.errors import UsageError, unknown
from rlplastic.listing import table
from rlplastic.metrics.verdict import IMPORTED
from rlplastic.plan import Plan
from rlplastic.planfile import check_folder, write_plan


def import_runs(request: Import, folder: Path) -> str:
    """Write the runs into a results folder; returns what was found, as text.

    Raises:
        UsageError: Anything that cannot be used; nothing has been written then.
    """
    logged = read_logs(request.files, request.patterns, request.columns, request.names)
    if not logged:
        raise UsageError(f"{request.files[0]}: not one episode in {len(request.files)} file(s)")
    runs, left_out = runs_of(request, logged)
    plan = _plan(request, runs, average=any(one.average for one in logged))
    _refuse_other(plan, runs, folder)
    with locks.plan(folder):
        write_plan(plan, folder)
        for run in runs:
            if store.status_of(folder / run.cell.id) not in store.FINISHED:
                _write(run, folder / run.cell.id)
    return _told(request, plan, runs, left_out)


# -- files -----------------------------------------------------------------------------------------


def _plan(request: Import, runs: Sequence[Run], *, average: bool) -> Plan:
    """What analysis must know of the runs; constants that were not given stay away."""
    cells = [run.cell for run in runs]
    agents = sorted({cell.agent for cell in cells} - {RANDOM})
    tasks = sorted({cell.task for cell in cells})
    for option, levels in (("--scale", request.scale), ("--random", request.random)):
        for task in levels:
            if task and task not in tasks:
                raise unknown(f"task in {option}", task, tasks)
    if any(not scale > 0 for scale in request.scale.values()):
        raise UsageError("--scale: a return above 0, what a newborn gains over a random policy")
    ends = cells[0].stream["schedule"]["ends"]
    lengths = {end - begin for begin, end in pairwise([0, *ends])}
    return Plan(
        name="elsewhere",
        protocol={
            "suite": "elsewhere",
            "budget": IMPORTED,
            "replay": "not known",
            "boundary": "not known",
            "clip_reward": None,
            "phases": len(ends),
            "period": dict.fromkeys(agents, lengths.pop()) if len(lengths) == 1 else {},
            "settings": {},
            "frame_skip": None,
            "too_short": "",
        },
        tasks={
            task: _constants(request, task, [r for r in runs if r.cell.task == task], average)
            for task in tasks
        },
        cells=cells,
    )


def _constants(request: Import, task: str, runs: Sequence[Run], average: bool) -> dict[str, Any]:
    scale = request.scale.get(task, request.scale.get(""))
    random = request.random.get(task, request.random.get(""))
    worlds = {part["world"] for run in runs for part in run.layout}
    learners = sorted({run.cell.agent for run in runs} - {RANDOM})
    facts = {
        "scale": scale,
        "scale_source": "given at import",
        "measurable": not average,
        "note": "points of a moving mean, which reaches back over the shifts" if average else "",
    }
    constants: dict[str, Any] = {
        "base": task,
        "track": "",
        "time_limit": request.time_limit,
        "normalise": None,
        "random": {} if random is None else dict.fromkeys(map(str, sorted(worlds)), random),
        "reference": None,
        "reference_source": "",
        "agents": {} if scale is None and not average else dict.fromkeys(learners, facts),
        "averages": average,
    }
    if scale is not None and random is not None:
        high = {"high": random + scale, "high_name": "random + C"}
        constants["normalise"] = {"random": random, **high, "source": "given at import"}
    return constants


def _refuse_other(plan: Plan, runs: Sequence[Run], folder: Path) -> None:
    """A folder that is there must hold this very import, perhaps not yet all of it."""
    old = check_folder(plan, folder)
    if old is None:
        return
    ids = {entry["id"] for entry in old["cells"]}
    if ids != {cell.id for cell in plan.cells} or old["tasks"] != plan.tasks:
        raise UsageError(f"{folder} holds another import: choose another --out, or remove it")
    for run in runs:
        path = folder / run.cell.id
        if store.status_of(path) in store.FINISHED:
            content = "".join(store.line(row) for row in run.rows).encode()
            if (path / "rows.jsonl").read_bytes() != content:
                raise UsageError(f"{path} holds other episodes: choose another --out")


def _write(run: Run, path: Path) -> None:
    folder = store.CellFolder(path)
    folder.begin(
        {
            "schema": store.SCHEMA,
            "id": run.cell.id,
            "cell": run.cell.identity,
            "layout": run.layout,
            "oracle": False,
            "provenance": {"command": provenance.command(), "logs": _digests(run.logs)},
            "runtime": {},
        }
    )
    for row in run.rows:
        folder.row(**row)
        if row["kind"] == "phase":
            folder.timing(phase=row["phase"], steps=row["end"] - row["begin"])
    if run.missing:
        folder.close()
        store.write_failure(path, run.missing)
    else:
        last = run.layout[-1]
        folder.finish("done", reason="", step=last["end"], phase=last["phase"])


def _digests(logs: Sequence[str]) -> dict[str, str]:
    """SHA-256 of each log that is a file, by its name."""
    files = [Path(log) for log in logs if Path(log).is_file()]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# -- words -----------------------------------------------------------------------------------------


def _told(request: Import, plan: Plan, runs: Sequence[Run], left_out: int) -> str:
    """What was found, and what cannot be said from it."""
    ends = [part["end"] for part in max((run.layout for run in runs), key=len)]
    counts = Counter((run.cell.task, run.cell.agent, run.cell.arm) for run in runs)
    episodes: Counter[tuple[str, str, str]] = Counter()
    for run in runs:
        group = (run.cell.task, run.cell.agent, run.cell.arm)
        episodes[group] += sum(row["kind"] == "episode" for row in run.rows)
    rows = [("task", "agent", "arm", "seeds", "episodes")]
    rows += [(*group, str(n), f"{episodes[group]:,}") for group, n in counts.items()]
    lines = [f"{len(ends)} phases, which end at {', '.join(f'{end:,}' for end in ends)}"]
    lines += [table(rows)]
    lines += [f"not complete: {run.cell.slot}: {run.missing}" for run in runs if run.missing]
    arms = {run.cell.arm for run in runs if run.cell.agent != RANDOM}
    lone = sorted(arm for arm in arms if arm + NEWBORN not in arms and not arm.endswith(NEWBORN))
    if lone:
        lines.append(f"no newborns beside {', '.join(lone)}: no plasticity S there")
    if "none" in lone:
        lines.append("no newborns of none: no recovery to a newborn's level")
    if not request.random and RANDOM not in {run.cell.agent for run in runs}:
        lines.append("no random level (--random, or runs of agent random): no performance P")
    if not request.scale:
        lines.append("no scale (--scale): no S, P or drop, which are in units of it")
    if any(task["averages"] for task in plan.tasks.values()):
        lines.append("a moving mean reaches back over the shifts: shown, not scored")
    if left_out:
        lines.append(f"{left_out:,} episodes began after the end of their last phase: left out")
    return "\n".join(lines)
