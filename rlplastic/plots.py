"""Figures of a report, each one small panel: the page lays them out, so they fit a phone.

One colour an intervention everywhere, from the palette of Okabe & Ito (2008), which all common
kinds of colour vision tell apart; ``none`` is grey, newborns are dashed, random is dotted, arms
that are told of the shift (oracles) have hollow markers and a dash-dotted line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rlplastic.aggregate import Estimate, mean_band
from rlplastic.canvas import (
    GREY,
    INK,
    MOST_LETTERS,
    OKABE_ITO,
    PANEL,
    ROW,
    folded,
    panel,
    thin_ticks,
    to_svg,
)
from rlplastic.hover import POINTS, Slice, columns, places
from rlplastic.metrics.digits import show
from rlplastic.record import FloatArray

MARKERS = "osD^vP*"
SEED = 0
RESAMPLES = 2_000  # of a band, whose ends are drawn a pixel thin
WIDE = 4.6  # inches, of a panel that shows a whole life
STEPS = 20  # columns of a step function


@dataclass(frozen=True, kw_only=True)
class Style:
    """How an intervention is drawn, wherever it is."""

    color: str
    marker: str = "o"
    oracle: bool = False

    @property
    def line(self) -> str:
        """Line style of the arm itself; its newborns are dashed."""
        return "-." if self.oracle else "-"

    @property
    def face(self) -> str:
        """Fill of its markers: hollow for an oracle."""
        return "none" if self.oracle else self.color


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line of a panel: values [seeds x points] over x.

    Attributes:
        label: Name in the legend.
        style: How it is drawn.
        x: Positions.
        values: One row a seed.
        newborn: Whether to dash it.
    """

    label: str
    style: Style
    x: FloatArray
    values: FloatArray
    newborn: bool = False


def styles(regs: Sequence[str], oracles: Sequence[str] = ()) -> dict[str, Style]:
    """The style of each intervention; the same set always gets the same ones."""
    others = [reg for reg in sorted(regs) if reg != "none"]
    found = {"none": Style(color=GREY)}
    for i, reg in enumerate(others):
        marker = MARKERS[(i + i // len(OKABE_ITO)) % len(MARKERS)]
        color = OKABE_ITO[i % len(OKABE_ITO)]
        found[reg] = Style(color=color, marker=marker, oracle=reg in oracles)
    return found


@dataclass(frozen=True, kw_only=True)
class Band:
    """One line of a panel with its interval at each position.

    Attributes:
        label: Name in the legend.
        style: How it is drawn.
        x: Positions.
        center: Values.
        low: Lower ends; NaN where there is no interval.
        high: Upper ends.
        newborn: Whether to dash it.
    """

    label: str
    style: Style
    x: FloatArray
    center: FloatArray
    low: FloatArray
    high: FloatArray
    newborn: bool = False


def lines(
    name: str,
    title: str,
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    random: float | None = None,
    marked: bool = False,
    shifts: Sequence[float] = (),
) -> str:
    """Mean over seeds of each series, with a band of 95 % bootstrap intervals of that mean."""
    bands = []
    for one in series:
        center, low, high = mean_band(one.values, SEED, RESAMPLES)
        if len(one.values) < 2:
            low = high = np.full_like(center, np.nan)
        bands.append(
            Band(
                label=one.label,
                style=one.style,
                x=one.x,
                center=center,
                low=low,
                high=high,
                newborn=one.newborn,
            )
        )
    return curves(
        name,
        title,
        bands,
        x_label=x_label,
        y_label=y_label,
        random=random,
        marked=marked,
        shifts=shifts,
    )


def curves(
    name: str,
    title: str,
    bands: Sequence[Band],
    *,
    x_label: str,
    y_label: str,
    random: float | None = None,
    marked: bool = False,
    shifts: Sequence[float] = (),
) -> str:
    """Lines with bands; of a whole life, with a mark at each of its shifts."""
    with panel(title, x_label, y_label, width=WIDE if shifts else PANEL[0]) as axes:
        for shift in shifts:
            axes.axvline(shift, color=INK, linewidth=0.6, alpha=0.35)
        for one in bands:
            alone = len(one.x) == 1  # a line of one point would not be seen
            axes.plot(
                one.x,
                one.center,
                color=one.style.color,
                linestyle=(0, (3, 2)) if one.newborn else one.style.line,
                marker=one.style.marker if alone or (marked and not one.newborn) else None,
                markersize=3.5,
                markerfacecolor="none" if one.newborn else one.style.face,
                label=one.label,
            )
            if np.isnan(one.low).any():
                continue
            if alone:
                axes.vlines(one.x, one.low, one.high, color=one.style.color, alpha=0.4)
            else:
                axes.fill_between(
                    one.x, one.low, one.high, color=one.style.color, alpha=0.16, linewidth=0
                )
        if random is not None:
            axes.axhline(random, color=INK, linewidth=1, linestyle=":", label="random")
        thin_ticks(axes, whole=marked or bool(shifts))
        axes.margins(x=0.02)
        return to_svg(axes, name, f"{title}: {y_label} over {x_label}", _columns(bands, x_label))


def _columns(bands: Sequence[Band], x_label: str) -> list[Slice]:
    """What all lines are at a position, for the positions of the longest of them."""
    x = max((band.x for band in bands), key=len, default=np.empty(0))
    kept = x[places(len(x))] if len(x) else x
    texts = []
    for position in kept:
        said = [f"{x_label}: {position:,.4g}"]
        for band in bands:
            (at,) = np.nonzero(band.x == position)
            if at.size:
                center, low, high = (float(y[at[0]]) for y in (band.center, band.low, band.high))
                said.append(f"{band.label}: {show(Estimate(point=center, low=low, high=high))}")
        texts.append("\n".join(said))
    return columns(kept, texts) if texts else []


def intervals(
    name: str,
    title: str,
    rows: Mapping[str, tuple[Estimate, Style]],
    *,
    x_label: str,
    at: float,
) -> str:
    """One estimate a row with its 95 % interval, and a line at the value that means `no change`."""
    labels = [folded(label, MOST_LETTERS) for label in rows]
    each = max([0.27, *((label.count("\n") + 1.5) * ROW / POINTS for label in labels)])
    with panel(title, x_label, height=0.75 + each * len(rows)) as axes:
        for place, (estimate, style) in enumerate(reversed(list(rows.values()))):
            if not np.isnan(estimate.low):
                ends = [estimate.low, estimate.high]
                axes.plot(ends, [place] * 2, color=style.color, linewidth=5, alpha=0.35)
            axes.plot(
                estimate.point,
                place,
                color=style.color,
                marker=style.marker,
                markersize=5.5,
                markerfacecolor=style.face,
            )
        axes.axvline(at, color=INK, linewidth=0.9, linestyle=":")
        axes.set_yticks(range(len(rows)), labels[::-1])
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
        said = [f"{label}: {show(estimate)}" for label, (estimate, _) in rows.items()]
        tips = [
            Slice(low=place - 0.5, high=place + 0.5, text=text, upright=False)
            for place, text in enumerate(reversed(said))
        ]
        return to_svg(axes, name, f"{title}: {x_label}", tips)


def steps(
    name: str,
    title: str,
    rows: Mapping[str, tuple[FloatArray, FloatArray, FloatArray, FloatArray, Style]],
    *,
    x_label: str,
    y_label: str,
) -> str:
    """Step functions on [0, 1], as (x, y, low, high, style), with the band from low to high."""
    with panel(title, x_label, y_label) as axes:
        for label, (x, y, low, high, style) in rows.items():
            axes.step(x, y, where="post", color=style.color, label=label, linestyle=style.line)
            axes.fill_between(x, low, high, step="post", color=style.color, alpha=0.16, linewidth=0)
        axes.set_ylim(0, 1.02)
        axes.margins(x=0.01)
        x = np.linspace(axes.get_xlim()[0], axes.get_xlim()[1], STEPS + 1)[1:]
        texts = [_stepped(rows, position, x_label) for position in x]
        return to_svg(axes, name, f"{title}: {y_label} over {x_label}", columns(x, texts))


def _stepped(
    rows: Mapping[str, tuple[FloatArray, FloatArray, FloatArray, FloatArray, Style]],
    position: float,
    x_label: str,
) -> str:
    """What every step function is at a position."""
    said = [f"{x_label}: {position:.2f}"]
    for label, (x, y, low, high, _) in rows.items():
        at = max(0, int(np.searchsorted(x, position, side="right")) - 1)
        said.append(f"{label}: {y[at]:.0%} [{low[at]:.0%}, {high[at]:.0%}]")
    return "\n".join(said)
