"""What `rlplastic bench` and `rlplastic run` do, in order.

::

    plan -> check -> say -> (dry run: end) -> lock -> write the plan -> run -> report

Everything that can be refused is refused before the first byte is written.
"""

from __future__ import annotations

import errno
import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from rlplastic import locks, options, pool, progress, provenance, registry, store
from rlplastic.cell import Cell
from rlplastic.doctor import existing
from rlplastic.errors import UsageError
from rlplastic.listing import table
from rlplastic.plan import Plan, make_plan
from rlplastic.planfile import check_folder, write_plan
from rlplastic.request import Request
from rlplastic.status import ORDER, reason_of

if TYPE_CHECKING:
    from rlplastic.envs.stream import Stream

SHOWN_FAILURES = 10


def bench(
    request: Request,
    folder: Path,
    *,
    workers: int | None,
    dry_run: bool,
    quiet: bool,
    limits: pool.Limits = pool.Limits(),  # noqa: B008 - frozen
) -> int:
    """Run everything that a request asks for, and report; returns the exit code.

    Args:
        request: What to run.
        folder: Results folder; what is finished there is not run again.
        workers: Processes at a time; None: one a usable core.
        dry_run: Say what would be done, and write nothing.
        quiet: Plain lines instead of a live display.
        limits: Time and retries of a cell.
    """
    plan = prepare(make_plan(request), folder, request.device)
    left = pool.unfinished(plan.cells, folder)
    workers = min(workers or pool.usable_cores(), max(1, len(left)))
    if dry_run:
        print(_cells(plan, folder))
    print(_summary(plan, left, folder, workers))
    if dry_run:
        return 0
    statuses = execute(plan, folder, workers, quiet=quiet, limits=limits)
    return _close(folder, statuses)


def run(request: Request, folder: Path, *, fresh: bool, as_json: bool) -> int:
    """Run the one cell that a request asks for; returns the exit code."""
    plan = make_plan(request)
    if len(plan.tasks) > 1:
        raise UsageError(
            f"--env {request.env}: run takes one task, as {plan.name}/{next(iter(plan.tasks))}; "
            f"this names {len(plan.tasks)}"
        )
    reg = options.reg_label(options.parse_reg(request.regs[0]))
    agent = next(iter(plan.protocol["period"]))
    arm = [c for c in plan.cells if (c.agent, c.reg, c.fresh) == (agent, reg, fresh)]
    plan = prepare(replace(plan, cells=arm), folder, request.device)
    (cell,) = plan.cells
    out = sys.stderr if as_json else sys.stdout
    status = execute(plan, folder, 1, quiet=as_json, out=out)[cell.id]
    result = {
        "id": cell.id,
        "folder": str(folder / cell.id),
        "status": status,
        "reason": reason_of(folder / cell.id),
        "mean_return": _returns(folder, cell),
    }
    if as_json:
        print(json.dumps(result))
    else:
        print("\n".join(f"{key}: {_plain(value)}" for key, value in result.items() if value))
    return 0 if status == "done" else 1


def _plain(value: object) -> str:
    """A value as people read it: the mean returns as phase and number."""
    if not isinstance(value, Mapping):
        return str(value)
    known = {phase: "no whole episode" if v is None else f"{v:.4g}" for phase, v in value.items()}
    return ", ".join(f"phase {phase} {number}" for phase, number in known.items())


def prepare(plan: Plan, folder: Path, device: str) -> Plan:
    """The plan with its devices, after everything that is to run has been built once.

    Raises:
        UsageError: anything that cannot be run as written, or not into this folder.
    """
    try:
        if not existing(folder).is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{existing(folder).name} is not a folder")
        check_folder(plan, folder)
    except OSError as error:
        raise UsageError(f"--out {folder!s:.80}: {error.strerror}") from error
    left = {cell.id: cell for cell in _build_once(pool.unfinished(plan.cells, folder), device)}
    return replace(plan, cells=[left.get(cell.id, cell) for cell in plan.cells])


def execute(
    plan: Plan,
    folder: Path,
    workers: int,
    *,
    quiet: bool = False,
    out: TextIO | None = None,
    limits: pool.Limits = pool.Limits(),  # noqa: B008 - frozen
) -> dict[str, str]:
    """Run a plan's unfinished cells; returns each cell's status.

    Raises:
        Locked: another process is writing the plan of the folder, and does not end.
    """
    with locks.plan(folder):
        write_plan(plan, folder)
        tidy(plan, folder)
    left = pool.unfinished(plan.cells, folder)
    with progress.display_for(left, out or sys.stdout, quiet=quiet) as display:
        return pool.run_cells(plan.cells, folder, workers, display, limits)


def tidy(plan: Plan, folder: Path) -> None:
    """Remove what killed processes left: half-written files, checkpoints of finished cells."""
    store.sweep(folder, older=60.0)  # younger ones may be another process's report
    for cell in plan.cells:
        if store.status_of(folder / cell.id) in store.FINISHED:
            store.remove(folder / cell.id / "checkpoint")


# -- before --------------------------------------------------------------------------------------


def _build_once(cells: Sequence[Cell], device: str) -> list[Cell]:
    """Build every distinct stream, agent and probe once; returns the cells with their devices."""
    if not cells:
        return []
    import torch

    from rlplastic import runner

    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch sees no CUDA device; valid here: cpu, auto")
    for probe in registry.entries("probe").values():
        probe.load()
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        key = store.digest([cell.stream, cell.hyperparameters["num_envs"]])
        groups.setdefault(key, []).append(cell)
    built: set[str] = set()
    devices: dict[str, str] = {}
    for group in groups.values():
        with _refusing(group[0]), closing(runner.build_stream(group[0])) as stream:
            spaces = repr((stream.observation_space, stream.action_space))
            images = len(stream.observation_space.shape or ()) == 3
            for cell in group:
                key = store.digest([cell.agent, cell.hyperparameters, cell.intervention, spaces])
                if key not in built:
                    built.add(key)
                    _build_agent(cell, stream)
                # small networks are slower on a GPU than on one core
                automatic = "cuda" if images and torch.cuda.is_available() else "cpu"
                devices[cell.id] = automatic if cell.device == "auto" else cell.device
    return [replace(cell, device=devices[cell.id]) for cell in cells]


def _build_agent(cell: Cell, stream: Stream) -> None:
    from rlplastic import runner

    with _refusing(cell):
        config = options.make(registry.load("agent", cell.agent), cell.hyperparameters, cell.agent)
        interventions = runner.build_interventions(cell)
        # on the CPU and with a small replay memory, since it is thrown away
        horizon = min(cell.period, 1_000)
        agent = config.build(
            stream, seed=0, interventions=interventions, device="cpu", horizon=horizon
        )
        interventions.check(agent)


@contextmanager
def _refusing(cell: Cell) -> Iterator[None]:
    """Whatever goes wrong while a cell's parts are built is a reason to refuse it."""
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        first = str(error).strip().partition("\n")[0]
        raise UsageError(
            f"{cell.task} with agent {cell.agent} and {cell.reg} cannot be built: "
            f"{type(error).__name__}: {first}"
        ) from error


def _summary(plan: Plan, left: Sequence[Cell], folder: Path, workers: int) -> str:
    """What will be done, how long it takes and how much it writes."""
    done = len(plan.cells) - len(left)
    seconds, size = plan.seconds(left), plan.bytes(left)
    free = shutil.disk_usage(existing(folder)).free
    lines = [
        f"{plan.name}, budget {plan.protocol['budget']}: {len(plan.cells)} cells, "
        f"{done} already done, {len(left)} to run",
        f"{sum(cell.num_steps for cell in left):,} steps, about "
        f"{progress.duration(seconds / workers)} with {workers} at a time "
        f"({progress.duration(seconds)} on one core), about {size / 1e6:,.0f} MB in {folder}",
    ]
    if not left:
        lines = lines[:1]
    lines += [f"note: {note}" for note in (*plan.notes, *_other_versions(plan, folder))]
    if size > free:
        lines.append(f"note: the disk of {folder} has only {free / 1e6:,.0f} MB left")
    return "\n".join(lines)


def _other_versions(plan: Plan, folder: Path) -> list[str]:
    """What finished cells were made with, where it is not what the others will be made with."""
    now, found = provenance.versions(), Counter[str]()
    for cell in plan.cells:
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            header = store.read_json(folder / cell.id / "header.json")
            then = header["provenance"]["versions"]
            if store.status_of(folder / cell.id) in store.FINISHED:
                found.update(f"{n} {v}" for n, v in then.items() if now.get(n, v) != v)
    return [
        f"{count} finished cells were made with {there}, not {now[there.partition(' ')[0]]}"
        for there, count in sorted(found.items())
    ]


def _cells(plan: Plan, folder: Path) -> str:
    """A line for each task, agent and arm."""
    groups: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in plan.cells:
        groups.setdefault((cell.task, cell.agent, cell.arm), []).append(cell)
    rows = [("task", "agent", "arm", "steps of a cell", "done", "seeds")]
    for group, cells in groups.items():
        done = len(cells) - len(pool.unfinished(cells, folder))
        seeds = ", ".join(str(cell.seed) for cell in cells)
        least, most = min(c.num_steps for c in cells), max(c.num_steps for c in cells)
        steps = f"{least:,}" + f" to {most:,}" * (most > least)  # where a schedule draws
        rows.append((*group, steps, f"{done}/{len(cells)}", seeds))
    return table(rows)


# -- after ---------------------------------------------------------------------------------------


def _close(folder: Path, statuses: Mapping[str, str]) -> int:
    """Say how the cells ended, write the report; returns the exit code."""
    from rlplastic.report import write_report

    bad = [name for name, status in statuses.items() if status != "done"]
    counts = Counter(statuses.values())
    print(", ".join(f"{counts[status]} {status}" for status in ORDER if counts[status]))
    for name in bad[:SHOWN_FAILURES]:
        print(f"{statuses[name]}: {name}: {reason_of(folder / name)}")
    if len(bad) > SHOWN_FAILURES:
        print(f"... and {len(bad) - SHOWN_FAILURES} more: rlplastic status {folder}")
    report = write_report(folder)
    print(_scores(report.with_suffix(".md").read_text(encoding="utf-8")), end="")
    print(f"report: {report}")
    print(f"tensorboard --logdir {folder}")
    return 1 if bad else 0


def _scores(report: str) -> str:
    """Verdict and table of scores of each agent: what its section of report.md opens with."""
    shown = ""
    for section in report.split("\n## ")[1:]:
        agent, _, rest = section.partition("\n")
        lines = rest.partition("\n### ")[0].splitlines()
        verdict = " ".join(line.strip("*") for line in lines if line.startswith("**"))
        rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
        if rows:
            del rows[1]  # the rule below the head
            shown += f"\n{agent}: {verdict}\n{table(rows)}\n\n"
    return shown


def _returns(folder: Path, cell: Cell) -> dict[str, float | None]:
    """Mean return of the whole episodes begun in each phase; None where there was none."""
    from rlplastic.reading import read

    slot = (cell.task, cell.agent, cell.arm, cell.seed)
    episodes = read(folder).records[slot].episodes
    means: dict[str, float | None] = {}
    for phase in range(int(cell.fresh), cell.num_phases):
        whole = episodes.where((episodes.phase == phase) & ~episodes.cut)
        means[str(phase)] = float(whole.returns.mean()) if len(whole) else None
    return means
