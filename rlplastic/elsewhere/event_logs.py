"""TensorBoard event files with one point an episode."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from rlplastic.elsewhere.logged import AVERAGE, GUESSES, Logged
from rlplastic.errors import UsageError, unknown


def read_events(
    path: Path, names: Mapping[str, str], columns: Mapping[str, str]
) -> Iterator[Logged]:
    """The points of the tag of returns, with the lengths of the same episodes if there are any."""
    scalars = _scalars(path)
    if not scalars:
        raise UsageError(f"{path}: holds no scalars, or is no event file")
    tag = _tag("return", path, scalars, columns)
    if tag is None:
        averages = [name for name in scalars if AVERAGE.search(name)]
        shown = f" {averages[0]} is a moving mean." if averages else ""
        raise UsageError(
            f"{path}: no tag has one point an episode; it has: {', '.join(sorted(scalars)[:12])}\n"
            f"Name it: --columns return=TAG.{shown} A moving mean reaches back over the shifts: "
            "if it is\nnamed it is shown and not scored. stable-baselines3's monitor.csv has the "
            "episodes themselves."
        )
    average = bool(AVERAGE.search(tag))
    beside = None if average else _tag("length", path, scalars, columns)
    lengths: list[tuple[int, float]] = scalars[beside] if beside else []
    for at, (step, value) in enumerate(scalars[tag]):
        where = f"{path}: tag {tag!r}, point {at + 1}"
        if not math.isfinite(value):
            raise UsageError(f"{where}: {value} is not a finite number")
        length = None
        if lengths:
            if at >= len(lengths) or lengths[at][0] != step or lengths[at][1] < 1:
                raise UsageError(f"{where}: tag {beside!r} has no length for it at step {step}")
            length = round(lengths[at][1])
        log = str(path.parent)
        yield Logged(
            where=where, log=log, names=names, value=value, length=length, end=step, average=average
        )


def _tag(
    key: str, path: Path, scalars: Mapping[str, object], columns: Mapping[str, str]
) -> str | None:
    if key in columns:
        if columns[key] not in scalars:
            raise unknown(f"tag in {path}", columns[key], scalars)
        return columns[key]
    return next((guess for guess in GUESSES[key] if guess in scalars), None)


def _scalars(path: Path) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of every scalar, by tag."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util import tensor_util

    found: dict[str, list[tuple[int, float]]] = {}
    try:
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if value.HasField("tensor") and value.tensor.dtype in (1, 2):  # float32, float64
                    array = tensor_util.make_ndarray(value.tensor)
                    if array.size == 1:
                        point = (int(event.step), float(array.item()))
                        found.setdefault(value.tag, []).append(point)
    except Exception as error:  # whatever a damaged file makes protobuf raise
        raise UsageError(f"{path}: is a damaged event file: {error!s:.80}") from error
    return found
