"""Two results folders, or two arms of one, side by side.

Cell seeds derive from (seed, task) alone, so the worlds of a seed are the same in both folders and
differences are paired by seed. Folders are compared only where the question was the same: tasks
with the same stream, replay and scale. Their hyper-parameters may differ; that they do is often why
one compares.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlplastic.aggregate import estimate, probability_of_improvement
from rlplastic.errors import UsageError
from rlplastic.listing import table
from rlplastic.metrics.digits import show
from rlplastic.metrics.study import REFERENCE, Study
from rlplastic.metrics.summary import SEED
from rlplastic.progress import plain
from rlplastic.reading import read
from rlplastic.record import FloatArray
from rlplastic.significance import effect_size, sign_flip

HEAD = ["score", "first", "second", "second - first", "effect size", "P(second > first)", "p"]


@dataclass(frozen=True, kw_only=True)
class Side:
    """One arm of one agent in one folder."""

    study: Study
    agent: str
    reg: str


def show_comparison(first: str, second: str) -> str:
    """S and P of two sides, and their paired difference, as text.

    Args:
        first: ``FOLDER`` or ``FOLDER:ARM``. Without an arm every arm that both folders have.
        second: The same, or ``:ARM`` for another arm of the first folder (whose own is then
            ``none`` unless it is given).

    Raises:
        UsageError: An arm is not there, or the folders share no task that asks the same question.
    """
    one, first_arm = _split(first)
    two, second_arm = _split(second)
    studies = (Study(read(Path(one))), Study(read(Path(two or one))))
    agents = [a for a in studies[0].results.agents if a in studies[1].results.agents]
    if not agents:
        raise UsageError(f"{first} and {second}: no agent is in both.")
    parts = []
    for agent in agents:
        for left, right in _arms(studies, agent, first_arm, second_arm):
            sides = (
                Side(study=studies[0], agent=agent, reg=left),
                Side(study=studies[1], agent=agent, reg=right),
            )
            parts.append(_compared(sides))
    return "\n\n".join(parts)


def _split(text: str) -> tuple[str, str]:
    """FOLDER and ARM; a folder that is there may have a colon in its own name."""
    if Path(text).exists():
        return text, ""
    folder, colon, arm = text.partition(":")
    while colon and folder and not Path(folder).exists() and ":" in arm:
        more, _, arm = arm.partition(":")
        folder = f"{folder}:{more}"
    return folder, arm


def _arms(
    studies: tuple[Study, Study], agent: str, first: str, second: str
) -> list[tuple[str, str]]:
    known = [study.results.regs(agent) for study in studies]
    if not (first or second):
        return [(reg, reg) for reg in known[0] if reg in known[1]]
    same = studies[0].results.folder == studies[1].results.folder
    chosen = (first or (REFERENCE if same else second), second or first)
    for reg, regs in zip(chosen, known, strict=True):
        if reg not in regs:
            raise UsageError(f"{agent} has no arm {reg!r} there.\nValid: {', '.join(regs)}")
    return [chosen]


def _compared(sides: tuple[Side, Side]) -> str:
    tasks = _same_tasks(sides)
    names = [f"{side.study.results.folder}:{side.reg}" for side in sides]
    title = f"{sides[0].agent}: {names[0]} | {names[1]}"
    rows, counts = [], []
    for score in ("S", "P"):
        left, right = _paired(sides, score, tasks)
        counts.append(len(left))
        rows.append([score, *_row(left, right)])
    seeds = " and ".join(dict.fromkeys(str(count) for count in counts))
    lines = [f"{seeds} paired seeds x {len(tasks)} tasks: {', '.join(tasks)}"]
    changed = _changed(sides, tasks)
    if changed:
        lines.append(f"They differ in: {', '.join(changed)}")
    shown = table([HEAD, *rows])
    return "\n".join([plain(title), *map(plain, lines), *map(plain, shown.splitlines())])


def _row(left: FloatArray, right: FloatArray) -> list[str]:
    if not left.size:
        return ["n/a: no paired seed"] * 2 + ["n/a"] * 4
    size = effect_size(right - left)
    improvement = probability_of_improvement(right, left, SEED)
    return [
        show(estimate(left, "iqm", SEED)),
        show(estimate(right, "iqm", SEED)),
        show(estimate(right, "iqm", SEED, minus=left), signed=True),
        "n/a" if np.isnan(size) else f"{size:+.2f}",
        show(improvement),
        f"{sign_flip(right - left, np.random.default_rng(SEED)):.3f}",
    ]


def _same_tasks(sides: tuple[Side, Side]) -> list[str]:
    """Headline tasks that ask both sides the same question.

    Raises:
        UsageError: There is none.
    """
    one, two = (side.study for side in sides)
    agent = sides[0].agent
    shared = [
        task
        for task in one.results.tasks
        if one.in_headline(task, agent) and two.in_headline(task, agent)
    ]
    same = [t for t in shared if _question(sides[0], t) == _question(sides[1], t)]
    if not same:
        why = "differ in stream, replay or scale" if shared else "share no measurable task"
        raise UsageError(f"{one.results.folder} and {two.results.folder} {why}: {agent}")
    return same


def _question(side: Side, task: str) -> tuple[Any, ...]:
    cells = [r.cell for r in side.study.results.of(agent=side.agent, task=task)]
    asked = cells[0] if cells else {}
    scale = side.study.facts(task, side.agent).get("scale")
    return asked.get("stream"), asked.get("replay"), scale


def _changed(sides: tuple[Side, Side], tasks: list[str]) -> list[str]:
    """Hyper-parameters in which the sides differ, as ``key: one | two``."""
    found: list[Mapping[str, Any]] = []
    for side in sides:
        cells = side.study.results.of(agent=side.agent, task=tasks[0])
        found.append(cells[0].cell.get("hyperparameters", {}))
    keys = sorted(found[0].keys() | found[1].keys())
    return [
        f"{key}: {found[0].get(key, '-')} | {found[1].get(key, '-')}"
        for key in keys
        if found[0].get(key) != found[1].get(key)
    ]


def _paired(
    sides: tuple[Side, Side], score: str, tasks: list[str]
) -> tuple[FloatArray, FloatArray]:
    """Scores [seeds x tasks] of both sides on the seeds that both have."""
    found = []
    for side in sides:
        ended = [side.study.complete(task, side.agent) for task in tasks]
        seeds = sorted(set(ended[0]).intersection(*itertools.islice(ended, 1, None)))
        found.append(side.study.matrix(score, side.agent, side.reg, tasks, seeds))
    (left, ours), (right, theirs) = found
    both = [seed for seed in ours if seed in theirs]
    return (
        left[[ours.index(seed) for seed in both]],
        right[[theirs.index(seed) for seed in both]],
    )
