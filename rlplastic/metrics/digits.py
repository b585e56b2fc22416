"""Estimates as text: each with the digits that its interval leaves, a column with the same ones.

Digits that noise decides are not printed. Cells that are read against each other share their
number of decimals, so that a column lines up: as many as its narrowest interval asks for, but at
most one more than the widest does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from rlplastic.aggregate import Estimate

PLAIN = 2  # decimals where no interval says how many
DUST = 1e-9  # of a number: a narrower interval comes from rounding


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A cell that holds an estimate.

    Attributes:
        value: The number and its interval.
        signed: Whether to print a plus.
        bare: Whether to leave the interval out; the digits are still those that it allows.
        after: Words that follow.
    """

    value: Estimate
    signed: bool = False
    bare: bool = False
    after: str = ""

    @property
    def uncertainty(self) -> float:
        """Half the width of the interval; NaN without one, 0 where rounding made it."""
        half = (self.value.high - self.value.low) / 2
        return 0.0 if half <= DUST * max(1.0, abs(self.value.point)) else half

    def text(self, digits: int) -> str:
        """The cell with so many decimals."""
        point, low, high = (
            f"{_zero(number, digits):{sign}.{digits}f}"
            for number, sign in (
                (self.value.point, "+" * self.signed),
                (self.value.low, ""),
                (self.value.high, ""),
            )
        )
        alone = np.isnan(self.value.low)
        interval = "" if self.bare else " (one seed)" if alone else f" [{low}, {high}]"
        return f"{point}{interval}{self.after}"


Cell = str | Shown


def show(value: Estimate, *, signed: bool = False) -> str:
    """A number with its interval, rounded to what the interval leaves of it.

    >>> show(Estimate(point=0.87321, low=0.81, high=0.93))
    '0.87 [0.81, 0.93]'
    >>> show(Estimate(point=0.5, low=float("nan"), high=float("nan")))
    '0.50 (one seed)'
    """
    return fit([Shown(value=value, signed=signed)])[0]


def fit(cells: Sequence[Cell]) -> list[str]:
    """Cells that are read against each other, with the same number of decimals.

    >>> wide, narrow = Estimate(point=0.5, low=0.4, high=0.6), Estimate(point=1, low=0.98, high=1)
    >>> fit(["arm", Shown(value=wide), Shown(value=narrow)])
    ['arm', '0.500 [0.400, 0.600]', '1.000 [0.980, 1.000]']
    """
    digits = shared(cell.uncertainty for cell in cells if isinstance(cell, Shown))
    return [cell if isinstance(cell, str) else cell.text(digits) for cell in cells]


def fit_columns(rows: Sequence[Sequence[Cell]]) -> list[list[str]]:
    """Rows of equal length as text, each column with digits of its own."""
    columns = [fit(column) for column in zip(*rows, strict=True)]
    return [list(row) for row in zip(*columns, strict=True)]


def decimals(uncertainty: float) -> int:
    """Decimal places that an uncertainty leaves: two figures of it below 3, else one.

    >>> [decimals(u) for u in (0.06, 0.015, 4.0, 0.0)]
    [2, 3, 0, 2]
    """
    if not uncertainty > 0:
        return PLAIN
    power = int(np.floor(np.log10(uncertainty)))
    return min(6, max(0, -power + int(uncertainty / 10.0**power < 3)))


def shared(uncertainties: Iterable[float]) -> int:
    """Decimal places of a column: what the narrowest asks for, within one of the widest.

    >>> shared([0.06, 0.0001]), shared([40.0, 0.06]), shared([0.0, float("nan")])
    (3, 1, 2)
    """
    needed = [decimals(one) for one in uncertainties if one > 0]
    return min(max(needed), min(needed) + 1) if needed else PLAIN


def _zero(value: float, digits: int) -> float:
    """The value, or 0 where rounding would print -0.00."""
    return 0.0 if round(value, digits) == 0 else value
