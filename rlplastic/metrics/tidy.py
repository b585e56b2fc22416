"""Everything that was computed, one number a row: what is written as results.csv."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from rlplastic.metrics.study import Study


class Row(NamedTuple):
    """One number, and what it is of. A text is empty where there is nothing to say.

    Attributes:
        task: Name of the task.
        agent: Name of the agent.
        arm: Its intervention, with ``+fresh`` for the newborns.
        seed: Seed of the cell.
        phase: Number of the phase; empty for what is of the whole life.
        step: The stream's clock at a measurement, or where the phase of a number ends.
        metric: Name of the metric, level, probe or evaluation.
        value: The number in full precision; empty where it is not defined.
        status: How the cell ended, and whether the number is defined.
    """

    task: str
    agent: str
    arm: str
    seed: int
    phase: str
    step: str
    metric: str
    value: str
    status: str


def rows(study: Study) -> Iterator[Row]:
    """Levels, metrics, probes, evaluations of lives and of their newborns, in the cells' order."""
    for (task, agent, arm, seed), record in study.records.items():
        if agent == "random":
            continue
        head = (task, agent, arm, seed)
        ends = {k: str(phase.end) for k, phase in study.layout(task, agent, seed).items()}
        case = study.case(task, agent, arm, seed)
        for k, curve in enumerate(case.life):
            if curve is not None and not (record.fresh and k == 0):
                for name in ("level", "end_level", "start_level"):
                    value = repr(float(getattr(curve, name)))
                    yield Row(*head, str(k), str(curve.end), name, value, record.status)
        for name in study.metrics if not record.fresh else ():
            values = study.score(name, *head)
            for k, number in enumerate(np.atleast_1d(values), start=1):
                value = repr(float(number)) if np.isfinite(number) else ""
                status = record.status if value else f"{record.status}: not defined"
                phase, step = (str(k), ends.get(k, "")) if values.ndim else ("", "")
                yield Row(*head, phase, step, name, value, status)
        for probe in record.probes:
            name, value = f"probe.{probe.name}.{probe.moment}", repr(probe.value)
            yield Row(*head, str(probe.phase), str(probe.step), name, value, record.status)
        for found in record.evaluations:
            name, value = f"evaluation.world_{found.world}", repr(found.value)
            phase = str(found.lived - 1) if found.lived else ""  # at its end; before all of them
            yield Row(*head, phase, str(found.step), name, value, record.status)
