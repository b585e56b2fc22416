"""From logged episodes to runs: which cell each belongs to, and in which phase it began."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlplastic.cell import Cell
from rlplastic.elsewhere.logged import Logged
from rlplastic.elsewhere.placing import Row, place
from rlplastic.errors import UsageError
from rlplastic.record import Slot
from rlplastic.suite import FOLDER

NEWBORN = "+fresh"
RANDOM = "random"
Life = tuple[int | None, list[Row]]  # the phase of a newborn whose steps began at 0, and its rows


@dataclass(frozen=True, kw_only=True)
class Import:
    """What the user asked for.

    Attributes:
        files: CSV files, event files, or folders of them.
        shifts: Clock at each shift, ascending.
        end: Clock at the end of the last phase; None: the last step of all runs.
        patterns: See `rlplastic.foreign.read_logs`.
        columns: See `rlplastic.foreign.read_logs`.
        names: What holds for a run where neither its path nor a column says otherwise.
        plain: The arm that stands for ``none``.
        copies: Copies that were stepped together; None: as many as a log tells apart.
        worlds: World of each phase; empty: a new one after each shift.
        scale: C by task; the key ``""`` is for all tasks.
        random: Mean return of a random policy by task; the key ``""`` is for all tasks.
        time_limit: Steps of the longest episode; None: as the newborns' episodes are.
    """

    files: Sequence[Path]
    shifts: Sequence[int]
    end: int | None = None
    patterns: Sequence[str] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    plain: str = "none"
    copies: int | None = None
    worlds: Sequence[int] = ()
    scale: Mapping[str, float] = field(default_factory=dict)
    random: Mapping[str, float] = field(default_factory=dict)
    time_limit: int | None = None


@dataclass(frozen=True, kw_only=True)
class Run:
    """One cell that is to be written.

    Attributes:
        cell: Its identity.
        rows: Episodes and closed phases.
        layout: The phases that it was to have.
        missing: Why it is not complete; empty if it is.
        logs: Where it was read from.
    """

    cell: Cell
    rows: list[Row]
    layout: list[Row]
    missing: str
    logs: list[str]


def runs_of(request: Import, logged: Sequence[Logged]) -> tuple[list[Run], int]:
    """A run for each task, agent, arm and seed, and how many episodes began after the end."""
    groups: dict[Slot, dict[int | None, list[Logged]]] = {}
    for one in logged:
        slot, life = _slot(request, one), one.names.get("phase")
        lives = groups.setdefault(slot, {})
        lives.setdefault(None if life is None else int(life), []).append(one)
    for by_life in groups.values():
        for ones in by_life.values():
            _refuse_two_logs(ones)
    placed: dict[Slot, list[Life]] = {
        slot: [(phase, place(ones, request.copies)) for phase, ones in by_life.items()]
        for slot, by_life in groups.items()
    }
    layout = _layout(request, [life for every in placed.values() for life in every])
    if not any(arm == "none" for _, agent, arm, _ in placed if agent != RANDOM):
        arms = sorted({arm for _, agent, arm, _ in placed if agent != RANDOM})
        raise UsageError(
            f"no arm is called none; --none says which is the plain agent's: {', '.join(arms)}"
        )
    runs, left_out = [], 0
    for slot in sorted(placed):
        logs = sorted({one.log for ones in groups[slot].values() for one in ones})
        run, late = _run(slot, placed[slot], layout, logs)
        runs.append(run)
        left_out += late
    return runs, left_out


def _slot(request: Import, one: Logged) -> Slot:
    """(task, agent, arm, seed) of an episode."""
    task, agent = (one.names.get(key, key).replace("/", "-") for key in ("task", "agent"))
    for kind, name in (("task", task), ("agent", agent)):
        if not FOLDER.fullmatch(name):
            raise UsageError(
                f"{one.where}: {kind} {name!r:.60}: a name has letters, digits, '.', '_' and '-' "
                "only, and at most 100"
            )
    arm = one.names.get("arm", "none")
    reg = arm.removesuffix(NEWBORN)
    fresh = arm.endswith(NEWBORN) or "phase" in one.names
    reg = "none" if reg == request.plain else reg
    if not reg or not reg.isprintable() or len(reg) > 100:
        raise UsageError(f"{one.where}: arm {arm!r:.60}: not a name of at most 100 characters")
    seed = one.names.get("seed", "0")
    if not (seed.isascii() and seed.isdigit() and len(seed) < 16):
        raise UsageError(f"{one.where}: seed {seed!r:.60} is not a whole number from 0 on")
    if agent == RANDOM:
        return task, agent, "none", int(seed)
    return task, agent, reg + NEWBORN * fresh, int(seed)


def _refuse_two_logs(ones: Sequence[Logged]) -> None:
    """One copy of one life is one log; two would be two runs under one name."""
    logs: dict[str, str] = {}
    for one in ones:
        copy = one.names.get("copy", "")
        if not (copy.isascii() and (copy.isdigit() or not copy) and len(copy) < 16):
            raise UsageError(f"{one.where}: copy {copy!r:.60} is not a whole number from 0 on")
        if logs.setdefault(copy, one.log) != one.log:
            raise UsageError(
                f"{logs[copy]} and {one.log} would be one run: same task, agent, arm and seed.\n"
                "Say which is which: --pattern '{arm}/{seed}.csv', a column, or one import each"
            )


def _layout(request: Import, lives: Sequence[Life]) -> list[Row]:
    """The phases: number, world, begin and end."""
    shifts = list(request.shifts)
    last = [row["end"] for phase, rows in lives if phase is None for row in rows]
    end = max(last, default=0) if request.end is None else request.end
    if not shifts or shifts != sorted(set(shifts)) or shifts[0] < 1:
        raise UsageError(f"--shifts {shifts}: steps that rise, as 100000,200000")
    if shifts[-1] >= end:
        whose = "the last logged step" if request.end is None else "--end"
        raise UsageError(f"--shifts {shifts[-1]}: not before {whose}, {end}")
    worlds = list(request.worlds) or list(range(len(shifts) + 1))
    if len(worlds) != len(shifts) + 1:
        raise UsageError(
            f"--worlds: {len(worlds)} worlds are named, {len(shifts)} shifts make "
            f"{len(shifts) + 1} phases"
        )
    begins, ends = [0, *shifts], [*shifts, end]
    return [
        {"phase": k, "world": worlds[k], "begin": begins[k], "end": ends[k]}
        for k in range(len(begins))
    ]


def _run(slot: Slot, lives: Sequence[Life], layout: list[Row], logs: list[str]) -> tuple[Run, int]:
    """A run's rows by phase, and how many of its episodes began after its end."""
    task, agent, arm, seed = slot
    reg = arm.removesuffix(NEWBORN)
    own = layout[int(arm != reg) :]
    rows: list[Row] = []
    closed: set[int] = set()
    late, reached = 0, 0
    for phase, episodes in lives:
        _refuse_phase(phase, episodes, agent, layout)
        start = 0 if phase is None else layout[phase]["begin"]
        mine = own if phase is None else [layout[phase]]
        kept, beyond = _phased(episodes, start, mine)
        rows += kept
        late += beyond
        # An episode is logged when it ends: one as long as the longest may have been on its way.
        longest = max(row["end"] - row["begin"] for row in episodes)
        last = start + max(row["end"] for row in episodes)
        closed |= {part["phase"] for part in mine if part["end"] <= last + longest}
        reached = max(reached, last)
    if agent == RANDOM:  # it does not learn, so that any part of a life will do
        closed = {part["phase"] for part in layout if part["begin"] < reached}
        own = [part for part in layout if part["phase"] in closed]
    cut_short = [part for part in own if part["phase"] not in closed]
    missing = ""
    if cut_short:
        phase, end = cut_short[0]["phase"], cut_short[0]["end"]
        missing = f"its log ends at step {reached:,}, phase {phase} at {end:,}"
    rows = sorted(
        (row for row in rows if row["phase"] in closed), key=lambda row: (row["end"], row["copy"])
    )
    rows += [{"kind": "phase", **part, "updates": 0} for part in own if part["phase"] in closed]
    cell = Cell(
        suite="elsewhere",
        task=task,
        agent=agent,
        reg=reg,
        fresh=arm != reg,
        seed=seed,
        stream=_stream(task, layout),
        hyperparameters={},
        # Under a name that no registry has: what it cost there is not known here.
        intervention=[] if reg == "none" else [{"name": f"elsewhere:{reg}"}],
        replay="not known",
    )
    return Run(cell=cell, rows=rows, layout=own, missing=missing, logs=logs), late


def _refuse_phase(
    phase: int | None, episodes: Sequence[Row], agent: str, layout: Sequence[Row]
) -> None:
    first = 0 if agent == RANDOM else 1
    if phase is not None and not first <= phase < len(layout):
        raise UsageError(
            f"{episodes[0]['where']}: phase {phase}: newborns begin at phases {first} to "
            f"{len(layout) - 1}; phase 0 of an arm is its newborn's"
        )


def _phased(episodes: Sequence[Row], start: int, phases: Sequence[Row]) -> tuple[list[Row], int]:
    """Rows with the phase and world in which they began, and how many began after the last."""
    begins = [part["begin"] for part in phases]
    kept = []
    for row in episodes:
        begin = start + row["begin"]
        at = bisect_right(begins, begin) - 1
        if at < 0:
            raise UsageError(
                f"{row['where']}: a newborn's episode begins at step {begin}, before the first "
                f"shift ({begins[0]}).\nIf the steps of each newborn count from 0, its path must "
                "say which shift it was born at: {phase}"
            )
        if begin < phases[-1]["end"]:
            moved = {"phase": phases[at]["phase"], "world": phases[at]["world"], "begin": begin}
            kept.append({"kind": "episode", **row, **moved, "end": start + row["end"]})
    for row in kept:
        del row["where"]
    return kept, len(episodes) - len(kept)


def _stream(task: str, layout: Sequence[Row]) -> dict[str, Any]:
    return {
        "base": {"name": task},
        "shifts": [],
        "schedule": {
            "name": "list",
            "period": max(part["end"] - part["begin"] for part in layout),
            "worlds": [part["world"] for part in layout],
            "ends": [part["end"] for part in layout],
        },
        "boundary": "not known",
        "clip_reward": False,
    }
