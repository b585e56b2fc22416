"""The panels of `rlplastic.preview`: one function draws one axes."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rlplastic.canvas import GREY, OKABE_ITO, SETTINGS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from rlplastic.envs.schedules import Schedule

Array = NDArray[Any]
SEEN = 100  # steps of which the observations are drawn
MOMENT = 40  # the step whose image is shown
LINES = 6  # dimensions that are drawn as lines; more as a strip of colours
UNBROKEN = "\N{NO-BREAK SPACE}"
TITLE_LINES = 4  # below the number of a phase
INK, FAINT = "#222222", "#d9d9d9"
COLORS: dict[str, Any] = {
    key: INK for key in ("text.color", "axes.labelcolor", "xtick.color", "ytick.color")
} | {
    "axes.edgecolor": GREY,
    "grid.color": FAINT,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
}


@dataclass(frozen=True, kw_only=True)
class Phase:
    """What one phase of a stream shows and pays.

    Attributes:
        number: Which phase.
        world: The world it is in.
        words: What the shifts do there, in words.
        shown: Observations, first the one of the reset: ``[steps + 1, ...]``.
        paid: Rewards after the shifts, before any clipping: ``[steps]``.
        ends: Steps at which an episode ended.
    """

    number: int
    world: int
    words: str
    shown: Array
    paid: Array
    ends: Array


def image(axes: Axes, phase: Phase, seen: Sequence[Phase]) -> None:
    """The last frame at one moment: grey, RGB, or one hue a channel."""
    step = min(MOMENT, *(len(one.paid) for one in seen))
    axes.imshow(colors(phase.shown[step]), vmin=0, vmax=255, cmap="gray")
    axes.set_anchor("N")  # the title is where the layout has left room for it
    if phase is seen[0]:
        axes.set_ylabel(f"frame after {step} steps")
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)


def colors(frame: Array) -> Array:
    """A frame ``[channels, height, width]`` as ``[height, width]`` or ``[height, width, 3]``."""
    if len(frame) == 1:
        grey: Array = frame[0]
        return grey
    if len(frame) == 3 and frame.dtype == np.uint8:
        return frame.transpose(1, 2, 0)
    from matplotlib.colors import to_rgb

    top = float(frame.max()) or 1.0
    out = np.zeros((*frame.shape[1:], 3))
    for channel, plane in enumerate(frame):
        hue = np.array(to_rgb(OKABE_ITO[channel % len(OKABE_ITO)]))
        out = np.maximum(out, plane[..., None] / top * hue)
    return (255 * out).astype(np.uint8)


def lines(places: Sequence[Axes], phase: Phase, seen: Sequence[Phase]) -> None:
    """One small panel a dimension, with the same axes in every phase; dotted: the first phase."""
    for dimension, axes in enumerate(places):
        values = [one.shown[: SEEN + 1].reshape(-1, len(places))[:, dimension] for one in seen]
        axes.plot(values[0], color=GREY, linewidth=0.8, linestyle=":")
        axes.plot(values[seen.index(phase)], color=hue(phase.world), linewidth=1.0)
        axes.set_ylim(*limits(values))
        axes.locator_params(axis="y", nbins=2)
        axes.margins(x=0.01)
        axes.tick_params(labelbottom=axes is places[-1], labelleft=phase is seen[0])
        for end in phase.ends[phase.ends <= SEEN]:
            axes.axvline(end, color=FAINT, linewidth=0.7, zorder=0)
        if phase is seen[0]:
            axes.set_ylabel(f"obs[{dimension}]", rotation=0, ha="right", va="center")


def strip(axes: Axes, phase: Phase, seen: Sequence[Phase]) -> None:
    """Dimensions downwards, steps to the right, one scale of colours for all phases."""
    values = [one.shown[: SEEN + 1].reshape(len(one.shown[: SEEN + 1]), -1) for one in seen]
    most = max(float(np.abs(one).max()) for one in values) or 1.0
    axes.imshow(
        values[seen.index(phase)].T,
        aspect="auto",
        cmap="PuOr_r",
        vmin=-most,
        vmax=most,
        interpolation="nearest",
    )
    axes.grid(visible=False)
    axes.tick_params(labelleft=phase is seen[0])
    if phase is seen[0]:
        axes.set_ylabel(f"observation\n(orange: +{most:.2g})")


def payment(axes: Axes, phase: Phase, seen: Sequence[Phase]) -> None:
    """The sum of rewards so far, what it comes to, and how often each value was paid."""
    sums = [np.concatenate([[0.0], np.cumsum(one.paid)]) for one in seen]
    axes.plot(sums[0], color=GREY, linewidth=0.8, linestyle=":")
    axes.plot(sums[seen.index(phase)], color=hue(phase.world), linewidth=1.4)
    axes.set_ylim(*limits(sums))
    axes.margins(x=0.01)
    axes.locator_params(axis="both", nbins=4)
    axes.tick_params(labelleft=phase is seen[0])
    axes.set_xlabel(f"step; sum {phase.paid.sum():.4g}\n{_payments(phase.paid)}")


def _payments(paid: Array) -> str:
    values, counts = np.unique(np.round(paid, 6) + 0.0, return_counts=True)  # no -0
    if len(values) > 5:
        return f"{len(values)} values, {paid.min():.3g} to {paid.max():.3g}"
    pairs = zip(values, counts, strict=True)
    said = ", ".join(f"{n} times {v:.4g}".replace(" ", UNBROKEN) for v, n in pairs)
    return textwrap.fill(said, 34)


def timeline(axes: Axes, timetable: Schedule, seen: Sequence[Phase]) -> None:
    """Every phase of the run as a bar in its world's colour."""
    from rlplastic.envs.schedules import Ramped

    starts = [timetable.start(number) for number in range(timetable.phases + 1)]
    for number, (begin, end) in enumerate(itertools.pairwise(starts)):
        world = timetable.world(number)
        shown = number < len(seen)
        axes.barh(
            0,
            end - begin,
            left=begin,
            color=hue(world),
            alpha=0.9 if shown else 0.35,
            edgecolor="white",
        )
        if number and isinstance(timetable, Ramped):  # how much is left of the world before
            clock = np.linspace(begin, end, 100, endpoint=False)
            mix = np.array([timetable.mix(int(step)) for step in clock])
            before = hue(timetable.world(number - 1))
            for color, alpha in (("white", 1.0), (before, 0.9 if shown else 0.35)):
                axes.fill_between(clock, 0.8 * mix - 0.4, 0.4, color=color, alpha=alpha, lw=0)
        if end - begin > starts[-1] / 30:
            axes.text(
                (begin + end) / 2,
                0,
                f"{world}",
                ha="center",
                va="center",
                color="white" if shown else INK,
            )
    axes.set(yticks=[], xlim=(0, starts[-1]), ylim=(-0.5, 0.5))
    pale = "; pale phases are not shown above" if len(seen) < timetable.phases else ""
    axes.set_xlabel(f"step of the run, over all copies; the numbers are worlds{pale}")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False)


def title(axes: Axes, phase: Phase, below: int) -> None:
    """Number and world, and below them what the shifts do, in as many lines in every column."""
    text = f"phase {phase.number}, world {phase.world}"
    axes.set_title(text, loc="left", fontweight="bold", pad=6 + 8.5 * below)
    said = wrapped(phase.words)
    axes.annotate(
        "\n".join([*said, *[""] * (below - len(said))]),
        (0, 1),
        xytext=(0, 3),
        xycoords="axes fraction",
        textcoords="offset points",
        va="bottom",
        fontsize=6.5,
    )


def wrapped(words: str) -> list[str]:
    """What the shifts do, cut into the lines that a column has room for."""
    rows = textwrap.wrap(words, 36)
    return rows if len(rows) <= TITLE_LINES else [*rows[: TITLE_LINES - 1], "..."]


def hue(world: int) -> str:
    """Grey for the unshifted world; the others take turns."""
    return GREY if world == 0 else OKABE_ITO[(world - 1) % (len(OKABE_ITO) - 1)]


def limits(values: Sequence[Array]) -> tuple[float, float]:
    """One range for all, with a margin."""
    low, high = min(float(v.min()) for v in values), max(float(v.max()) for v in values)
    room = 0.08 * (high - low) or 1.0
    return low - room, high + room


@contextmanager
def figure(size: tuple[float, float]) -> Iterator[Figure]:
    """A white figure in the style of a report's, whatever the user's matplotlibrc says."""
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with style.context(["default", {**SETTINGS, **COLORS}]):
        canvas = FigureCanvasAgg(Figure(figsize=size, layout="constrained"))
        yield canvas.figure
