"""Everything that was computed, one number a row: what is written as results.csv."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rlplastic.metrics.study import Study


def rows(study: Study) -> Iterator[tuple[str, str, str, int, str, str, str, str]]:
    """(task, agent, arm, seed, phase, metric, value, status) of everything that was computed."""
    for (task, agent, arm, seed), record in study.records.items():
        if agent == "random":
            continue
        head = (task, agent, arm, seed)
        case = study.case(task, agent, arm, seed)
        for phase, curve in enumerate(case.life):
            if curve is not None and not (record.fresh and phase == 0):
                for name in ("level", "end_level", "start_level"):
                    yield *head, str(phase), name, repr(float(getattr(curve, name))), record.status
        for name in study.metrics if not record.fresh else ():
            values = study.score(name, *head)
            for phase, value in enumerate(np.atleast_1d(values), start=1):
                shown = repr(float(value)) if np.isfinite(value) else ""
                status = record.status if shown else f"{record.status}: not defined"
                yield *head, str(phase) if values.ndim else "", name, shown, status
        for probe in record.probes:
            name = f"probe.{probe.name}.{probe.moment}"
            yield *head, str(probe.phase), name, repr(probe.value), record.status
