"""All numbers of a report as Parquet: the rows of results.csv, with types."""

from __future__ import annotations

from collections.abc import Iterable

from rlplastic.errors import UsageError
from rlplastic.metrics.tidy import Row

WHOLE, REAL = ("seed", "phase", "step"), ("value",)


def to_parquet(rows: Iterable[Row]) -> bytes:
    """The content of a Parquet file: whole numbers, floats and texts; null where a CSV is empty.

    Raises:
        UsageError: pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise UsageError(
            "--parquet: needs pyarrow, which is not installed.\n"
            "pip install 'rlplastic[parquet]', or read results.csv, which has the same rows."
        ) from None
    columns = dict(zip(Row._fields, zip(*rows, strict=True), strict=False))
    arrays = {}
    for name in Row._fields:
        values = columns.get(name, ())
        if name in WHOLE:
            whole = [int(value) if value != "" else None for value in values]
            arrays[name] = pyarrow.array(whole, pyarrow.int64())
        elif name in REAL:
            real = [float(value) if value != "" else None for value in values]
            arrays[name] = pyarrow.array(real, pyarrow.float64())
        else:
            arrays[name] = pyarrow.array(values, pyarrow.string())
    buffer = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.table(arrays), buffer)
    return bytes(buffer.getvalue())
