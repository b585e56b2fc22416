"""What a figure says where it is pointed at, in the browser's own tooltips.

Each figure is overlaid with slices that cannot be seen: a column for each position of a curve, a
row for each estimate. A slice is a ``<rect>`` with a ``<title>``, which browsers show without any
script, so the page keeps its policy that nothing may run. It costs some kilobytes a figure; the
plotting libraries that could be embedded need script, and up to megabytes in a file that is to be
mailed. Where there is no pointer, the tables have the same numbers.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rlplastic.record import FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POINTS = 72.0  # an inch; the unit of matplotlib's SVG
MOST_COLUMNS = 24


@dataclass(frozen=True, kw_only=True)
class Slice:
    """A part of a panel, from edge to edge, between two values of one of its axes.

    Attributes:
        low: Where it begins, in data.
        high: Where it ends.
        text: What it says; may have several lines.
        upright: Whether it is a column, between two values of x.
    """

    low: float
    high: float
    text: str
    upright: bool = True


def columns(x: FloatArray, texts: Sequence[str]) -> list[Slice]:
    """One column around each position, up to the middle of the next."""
    middles = (x[1:] + x[:-1]) / 2
    step = float(np.diff(x).mean()) if len(x) > 1 else 1.0
    edges = [x[0] - step / 2, *middles, x[-1] + step / 2]
    return [
        Slice(low=float(edges[i]), high=float(edges[i + 1]), text=text)
        for i, text in enumerate(texts)
    ]


def places(number: int) -> list[int]:
    """Indices of the positions that get a column: all, or as many as can be pointed at."""
    return sorted({int(i) for i in np.linspace(0, number - 1, min(number, MOST_COLUMNS)).round()})


def overlay(axes: Axes, slices: Sequence[Slice]) -> str:
    """The slices as SVG, for a figure that has been drawn."""
    if not slices:
        return ""
    width, height = (float(side) * POINTS for side in axes.figure.get_size_inches())  # type: ignore[union-attr]
    box = axes.get_position()
    left, right = box.x0 * width, box.x1 * width
    top, bottom = (1 - box.y1) * height, (1 - box.y0) * height

    def at(value: float, limits: tuple[float, float], begin: float, end: float) -> float:
        share = (value - limits[0]) / (limits[1] - limits[0])
        return begin + min(1.0, max(0.0, share)) * (end - begin)

    rects = []
    for one in slices:
        x, y, far, low = left, top, right, bottom
        if one.upright:
            x, far = (at(v, axes.get_xlim(), left, right) for v in (one.low, one.high))
        else:
            low, y = (at(v, axes.get_ylim(), bottom, top) for v in (one.low, one.high))
        rects.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{far - x:.1f}" height="{low - y:.1f}">'
            f"<title>{html.escape(one.text)}</title></rect>"
        )
    return f'<g class="tips" fill="transparent">{"".join(rects)}</g>'
