"""Figures of a report, as SVG text that takes its colours from the page around it.

Each panel is one small figure: the page lays them out, so they stay legible on a phone. Text stays
text. Ink is ``currentColor`` and every hue a CSS variable with the hue as its fallback, so that one
file serves light and dark. matplotlib is imported on first use: a report of an empty folder, and
everything else in the package, does without.

One colour an intervention everywhere, from the palette of Okabe & Ito (2008), which all common
kinds of colour vision tell apart; ``none`` is grey, newborns are dashed, random is dotted, arms
that are told of the shift (oracles) have hollow markers and a dash-dotted line.
"""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rlplastic.aggregate import Estimate, mean_band
from rlplastic.record import FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, FAINT = "#010203", "#040506"  # stand-ins, replaced by CSS in `_svg`
GREY = "#7f7f7f"
OKABE_ITO = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442")
MARKERS = "osD^vP*"
SEED = 0
PANEL = (3.5, 2.3)  # inches

SETTINGS: dict[str, Any] = {
    "svg.hashsalt": "rlplastic",
    "svg.fonttype": "none",
    "text.parse_math": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "grid.alpha": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "font.family": "DejaVu Sans",
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.labelsize": 7.5,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "lines.linewidth": 1.5,
    "lines.solid_capstyle": "round",
}


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


def lines(
    name: str,
    title: str,
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    random: float | None = None,
    marked: bool = False,
) -> str:
    """Mean over seeds of each series, with a band of 95 % bootstrap intervals of that mean."""
    with _panel(title, x_label, y_label) as axes:
        for one in series:
            center, low, high = mean_band(one.values, np.random.default_rng(SEED))
            alone = len(one.x) == 1  # a line of one point would not be seen
            axes.plot(
                one.x,
                center,
                color=one.style.color,
                linestyle=(0, (3, 2)) if one.newborn else one.style.line,
                marker=one.style.marker if alone or (marked and not one.newborn) else None,
                markersize=3.5,
                markerfacecolor="none" if one.newborn else one.style.face,
                label=one.label,
            )
            if alone:
                axes.vlines(one.x, low, high, color=one.style.color, alpha=0.4)
            elif len(one.values) > 1:
                axes.fill_between(one.x, low, high, color=one.style.color, alpha=0.16, linewidth=0)
        if random is not None:
            axes.axhline(random, color=INK, linewidth=1, linestyle=":", label="random")
        if marked:
            axes.locator_params(axis="x", integer=True)
        axes.margins(x=0.02)
        return _svg(axes, name, f"{title}: {y_label} over {x_label}")


def intervals(
    name: str,
    title: str,
    rows: Mapping[str, tuple[Estimate, Style]],
    *,
    x_label: str,
    at: float,
) -> str:
    """One estimate a row with its 95 % interval, and a line at the value that means `no change`."""
    with _panel(title, x_label, height=0.75 + 0.27 * len(rows)) as axes:
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
        axes.set_yticks(range(len(rows)), list(rows)[::-1])
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
        return _svg(axes, name, f"{title}: {x_label}")


def steps(
    name: str,
    title: str,
    rows: Mapping[str, tuple[FloatArray, FloatArray, FloatArray, FloatArray, Style]],
    *,
    x_label: str,
    y_label: str,
) -> str:
    """Step functions on [0, 1], as (x, y, low, high, style), with the band from low to high."""
    with _panel(title, x_label, y_label) as axes:
        for label, (x, y, low, high, style) in rows.items():
            axes.step(x, y, where="post", color=style.color, label=label, linestyle=style.line)
            axes.fill_between(x, low, high, step="post", color=style.color, alpha=0.16, linewidth=0)
        axes.set_ylim(0, 1.02)
        axes.margins(x=0.01)
        return _svg(axes, name, f"{title}: {y_label} over {x_label}")


@contextmanager
def _panel(title: str, x_label: str, y_label: str = "", height: float = PANEL[1]) -> Iterator[Axes]:
    from matplotlib import style
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    # From matplotlib's defaults, so that a user's matplotlibrc changes no byte.
    with style.context(["default", SETTINGS]):
        figure = Figure(figsize=(PANEL[0], height), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots()
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.set_title(title, loc="left", fontweight="bold")
        yield axes


def _svg(axes: Axes, name: str, label: str) -> str:
    """The figure as an SVG element that can stand inside a page beside others."""
    figure: Any = axes.figure
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) > 1:  # below the axes, where it can cover no data
        columns = min(len(labels), max(1, 45 // (max(map(len, labels)) + 3)))
        extra = -(-len(labels) // columns) - 2  # the panel has room for two rows
        figure.set_figheight(figure.get_figheight() + 0.14 * max(0, extra))
        figure.legend(handles, labels, loc="outside lower center", ncols=columns)
    buffer = io.StringIO()
    with warnings.catch_warnings():
        # Text stays text: a glyph that this font lacks is drawn with the reader's.
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<(metadata|style)\b.*?</\1>", "", text, flags=re.DOTALL)
    text = re.sub(r"font-family: [^;\"]*; ", "", text)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r"\s*\n\s*", " ", text).replace("> <", "><")
    # Names inside one page must differ between its figures.
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)
    text = text.replace(INK, "currentColor").replace(FAINT, "var(--faint)")
    for hue in (*OKABE_ITO, GREY):
        text = text.replace(hue, f"var(--hue-{hue[1:]}, {hue})")
    return text.replace("<svg ", f'<svg role="img" aria-label="{html.escape(label)}" ', 1)
