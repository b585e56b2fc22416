"""One panel of a report as SVG: the axes it is drawn on, and the text that comes of them.

Ink is ``currentColor`` and every hue a CSS variable with the hue as its fallback, so that one file
serves light and dark; text stays text. matplotlib is imported on first use: a report of an empty
folder, and everything else in the package, does without.
"""

from __future__ import annotations

import html
import io
import re
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from rlplastic.hover import POINTS, Slice, overlay

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Drawing = Callable[[], str]  # makes an SVG element; can be pickled
INK, FAINT = "#1d1f24", "#d4d5d3"  # on paper; in a page replaced by CSS, as nothing else has them
GREY = "#7f7f7f"
OKABE_ITO = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442")
PANEL = (3.5, 2.3)  # inches
PRINTS: dict[
    str, dict[str, Any]
] = {  # ending of a file -> how matplotlib writes it, the same bytes on any day
    "pdf": {"metadata": {"CreationDate": None, "Creator": None, "Producer": None}},
    "png": {"metadata": {"Software": None}, "dpi": 200},
}
LETTER, BOLD, ROW = 4.8, 6.2, 10.0  # points, of a letter's width, in a title, and a line's height
MOST_LETTERS = 24  # of a label beside the axes: half of a panel is left to them
LEGEND_LETTERS = 42  # of a line of the legend
MOST_TICKS = 6  # along x, of which each may be five characters wide

SETTINGS: dict[str, Any] = {
    "svg.hashsalt": "rlplastic",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,  # letters stay letters, which journals ask for
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


@contextmanager
def panel(
    title: str,
    x_label: str,
    y_label: str = "",
    *,
    width: float = PANEL[0],
    height: float = PANEL[1],
) -> Iterator[Axes]:
    """Empty axes under a title, in inches."""
    from matplotlib import style
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    # From matplotlib's defaults, so that a user's matplotlibrc changes no byte.
    with style.context(["default", SETTINGS]):
        lines = textwrap.wrap(title, int(width * POINTS / BOLD), break_on_hyphens=False) or [""]
        figure = Figure(figsize=(width, height + (len(lines) - 1) * ROW / POINTS))
        FigureCanvasSVG(figure)
        axes = figure.subplots()
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.set_title("\n".join(lines), loc="left", fontweight="bold")
        yield axes


_printed: ContextVar[dict[str, bytes] | None] = ContextVar("printed", default=None)


@contextmanager
def prints() -> Iterator[dict[str, bytes]]:
    """While it is open, each figure that is drawn is also put there, as PDF and as PNG.

    By the names of their files. Both are on white, in the colours that a page has when it is light.
    """
    files: dict[str, bytes] = {}
    token = _printed.set(files)
    try:
        yield files
    finally:
        _printed.reset(token)


def drawn(drawing: Drawing, *, printed: bool) -> tuple[str, dict[str, bytes]]:
    """A figure, and what `prints` has of it if it is to be printed too."""
    if not printed:
        return drawing(), {}
    with prints() as files:
        return drawing(), files


def thin_ticks(axes: Axes, *, whole: bool) -> None:
    """Few and short labels along x, so that they keep apart in a panel: 80k for 80,000."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=MOST_TICKS, integer=whole))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))


def short(value: float) -> str:
    """A number as a tick shows it.

    >>> [short(v) for v in (0.5, 400, 9500, 20000, 2500000)]
    ['0.5', '400', '9500', '20k', '2.5M']
    """
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= 10 * size or (abs(value) >= size and letter == "M"):
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def folded(label: str, letters: int) -> str:
    """A name on as many lines as it needs: whole, as two arms may differ in their last letter.

    >>> folded("sam:rho=0.1+layernorm+l2init", 12).splitlines()
    ['sam:rho=0.1+', 'layernorm+', 'l2init']
    """
    lines, line = [], ""
    for part in re.findall(r"[^+]*\+|[^+]+", label):
        if line and len(line) + len(part) > letters:
            lines.append(line)
            line = ""
        line += part
        while len(line) > letters:
            lines.append(line[:letters])
            line = line[letters:]
    return "\n".join([*lines, line] if line else lines)


def _legend(axes: Axes) -> int:
    """A legend below the axes, where it can cover no data; the number of its rows."""
    figure: Any = axes.figure
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) < 2:
        return 0
    columns = min(len(labels), max(1, 45 // (max(map(len, labels)) + 3)))
    labels = [folded(label, LEGEND_LETTERS) for label in labels]
    rows: int = -(-sum(label.count("\n") + 1 for label in labels) // columns)
    extra = max(0, rows - 2)  # the panel has room for two
    figure.set_figheight(figure.get_figheight() + extra * ROW / POINTS)
    figure.legend(
        handles, labels, loc="lower center", ncols=columns, borderaxespad=0.3, labelspacing=0.3
    )
    return rows


def _lay_out(axes: Axes, legend_rows: int) -> None:
    """Give the axes what labels, title and legend leave of the figure.

    From the number of letters: matplotlib's own layouts draw all text to measure it, which takes
    longer than the figure, and readers see it in a font of theirs.
    """
    figure: Any = axes.figure
    ticks = axes.yaxis
    low, high = sorted(axes.get_ylim())
    seen = [place for place in ticks.get_majorticklocs() if low <= place <= high]
    shown = "\n".join(ticks.get_major_formatter().format_ticks(seen))
    longest = max(map(len, shown.splitlines()), default=0)
    width, height = (float(side) * POINTS for side in figure.get_size_inches())
    left = longest * LETTER + 7 + (ROW + 4) * bool(axes.get_ylabel())
    figure.subplots_adjust(
        left=left / width,
        right=1 - 12 / width,  # half of the last label of x
        bottom=(2 * ROW + 9 + legend_rows * ROW + 4 * bool(legend_rows)) / height,
        top=1 - ((1 + axes.get_title("left").count("\n")) * ROW + 10) / height,
    )


def to_svg(axes: Axes, name: str, label: str, tips: Sequence[Slice] = ()) -> str:
    """The figure as an SVG element that can stand inside a page beside others."""
    figure: Any = axes.figure
    _lay_out(axes, legend_rows=_legend(axes))
    buffer = io.StringIO()
    with warnings.catch_warnings():
        # Text stays text: a glyph that this font lacks is drawn with the reader's.
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        if (files := _printed.get()) is not None:
            for ending, how in PRINTS.items():
                copy = io.BytesIO()
                figure.savefig(copy, format=ending, facecolor="white", **how)
                files[f"{name}.{ending}"] = copy.getvalue()
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
    text = text.replace("</svg>", f"{overlay(axes, tips)}</svg>")
    return text.replace("<svg ", f'<svg role="img" aria-label="{html.escape(label)}" ', 1)
