"""Which data set the tasks of a suite show, and what chance is among its classes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from rlplastic import options, registry
from rlplastic.errors import UsageError
from rlplastic.suite import Task

TOLERANCE = 0.05  # points of accuracy: a suite may write a third as 33.3


def with_data(suite: str, tasks: Mapping[str, Task], data: str) -> dict[str, Task]:
    """The tasks with other data (`--data`), and with what chance is among the classes of these.

    A scale that is the distance from chance to the best follows it. One that was measured, on the
    suite's own data, is left out, and so no score is given on it.

    Raises:
        UsageError: no such data set, it is not there, or a task that shows none.
    """
    return {
        name: _with_data(f"task {name!r} of {suite}", task, data) for name, task in tasks.items()
    }


def _with_data(where: str, task: Task, data: str) -> Task:
    base = {**task.base, "data": data}
    fields = [field.name for field in registry.find("environment", base["name"]).fields]
    if "data" not in fields:
        raise UsageError(
            f"--data {data}: {where} has base environment {base['name']!r}, which shows no data "
            "set; valid for tasks of 'Images', as those of MNIST-Permuted"
        )
    chance = options.build("environment", base, f"--data {data}").chance
    task = replace(task, base=base, random={})
    before = task.normalise
    if before is None:
        return replace(task, agents={})
    agents = {
        agent: replace(pilot, scale=before.high - chance)
        for agent, pilot in task.agents.items()
        if not pilot.stream and math.isclose(pilot.scale, before.high - before.random)
    }
    return replace(task, normalise=replace(before, random=chance), agents=agents)


def refuse_wrong_chance(suite: str, tasks: Mapping[str, Task]) -> None:
    """Refuse a task whose 0 of performance is not what chance is among its classes.

    Raises:
        UsageError: names both numbers.
    """
    for name, task in tasks.items():
        where = f"suite {suite!r}, task {name!r}"
        base = options.build("environment", task.base, where)
        chance = getattr(base, "chance", None)
        if chance is None or task.normalise is None:
            continue
        if abs(task.normalise.random - chance) > TOLERANCE:
            raise UsageError(
                f"{where}: normalise.random = {task.normalise.random:g}, but chance among the "
                f"{round(100 / chance)} classes of {base.used} that it shows is {chance:.4g} %; "
                f"write random = {chance:.4g}, and scales of {task.normalise.high - chance:.4g}"
            )
