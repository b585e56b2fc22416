"""A picture of a task before a night is spent on it: what the agent sees and is paid in each phase.

Every phase is entered with the same seed and played with the same random actions, so that what
differs between two columns is the world. Below them the schedule of the suite's budget ``small``,
over the whole run. matplotlib and the streams are imported on first use.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rlplastic import preview_panels as panels
from rlplastic import store
from rlplastic.errors import UsageError
from rlplastic.preview_panels import Phase

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rlplastic.envs.schedules import Schedule
    from rlplastic.envs.shifts import Shift
    from rlplastic.envs.tasks import Subject

Array = NDArray[Any]
STEPS = {True: 600, False: 200}  # played in each phase: of images, of vectors
HOLD = 3  # steps for which a random action is kept: it gets farther
FEW = 8  # numbers of a world's content that are written out
GIF_STEPS, GIF_MILLISECONDS = 60, 120
COLUMN, DOTS = 2.0, 150  # inches, dots per inch
LETTERS = 16  # of the heading in an inch


def preview(env: str, *, out: Path | None, phases: int, seed: int, gif: bool) -> list[Path]:
    """Write a picture of each task of `env`, and a GIF beside it; returns the files.

    Args:
        env: See `rlplastic.envs.tasks.find_subjects`.
        out: A ``.png`` file for a single task, or a folder; default: the present one.
        phases: How many phases to show, the first included.
        seed: Of the stream, the resets and the actions.
        gif: Whether to write an animation too.

    Raises:
        UsageError: no such task; a file for several tasks.
    """
    from rlplastic.envs.tasks import find_subjects

    subjects = find_subjects(env)
    folder = out or Path()
    if folder.suffix == ".png" and len(subjects) > 1:
        raise UsageError(
            f"--out {str(out)!r}: {len(subjects)} tasks match {env!r}; name one, or a folder"
        )
    written = []
    for subject in subjects:
        name = "".join(c if c.isalnum() or c in "-_." else "-" for c in subject.name)
        path = folder if folder.suffix == ".png" else folder / f"{name}.png"
        timetable = subject.timetable(subject.period, subject.phases, seed=seed)
        seen = look(subject, timetable, min(phases, timetable.phases), seed)
        written.append(store.write_bytes(path, picture(subject, timetable, seen, seed)))
        if gif:
            written.append(store.write_bytes(path.with_suffix(".gif"), animation(subject, seen)))
    return written


def look(subject: Subject, timetable: Schedule, phases: int, seed: int) -> list[Phase]:
    """Enter each of the first phases in the same way, and look."""
    from rlplastic.envs.schedules import Listed
    from rlplastic.envs.traces import play

    # a world as it is in full, also where it comes little by little
    worlds = [timetable.world(number) for number in range(phases)]
    endless = Listed(period=2**40, worlds=worlds)
    stream = subject.stream(1, endless, seed=seed, clip_reward=False, notify=False)
    steps = STEPS[len(stream.observation_space.shape or ()) == 3]
    last, found = stream.base.stack, []
    for number, world in enumerate(worlds):
        stream.begin(number)
        sights = play(stream, steps, seed=seed, seeds=[seed], hold=HOLD)
        first, *rest = ((s.observation[0], s.reward[0], s.done[0]) for s in sights)
        shown = np.stack([first[0], *(seen for seen, _, _ in rest)])
        found.append(
            Phase(
                number=number,
                world=world,
                words=_words(stream.shifts, world),
                shown=shown[:, -(shown.shape[1] // last) :],
                paid=np.array([paid for _, paid, _ in rest]),
                ends=np.flatnonzero([done for _, _, done in rest]) + 1,
            )
        )
    stream.close()
    return found


def picture(subject: Subject, timetable: Schedule, seen: Sequence[Phase], seed: int) -> bytes:
    """The picture of a task, as PNG."""
    with panels.figure((0, 0)) as figure:
        draw(figure, subject, timetable, seen, seed)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=DOTS, metadata={"Software": None})
    return buffer.getvalue()


def draw(
    figure: Figure, subject: Subject, timetable: Schedule, seen: Sequence[Phase], seed: int
) -> None:
    """Draw the picture of a task on an empty figure, which gets the size that it needs."""
    images = seen[0].shown.ndim == 4
    flat = seen[0].shown.reshape(len(seen[0].shown), -1).shape[1]
    rows = 1 if images or flat > panels.LINES else flat
    tall = COLUMN * (0.9 if images else 0.75) if rows == 1 else 0.55 * rows
    ratios = [*[tall / rows] * rows, 0.85, 0.55]
    wide = max(3, len(seen)) * COLUMN + 0.6
    head = _head(subject, timetable, seed, round(wide * LETTERS))
    below = max(len(panels.wrapped(one.words)) for one in seen)
    figure.set_size_inches(wide, sum(ratios) + 1.6 + 0.13 * (head.count("\n") + below))
    grid = figure.add_gridspec(len(ratios), len(seen), height_ratios=ratios)
    for column, phase in enumerate(seen):
        places = [figure.add_subplot(grid[row, column]) for row in range(rows + 1)]
        panels.title(places[0], phase, below)
        if images:
            panels.image(places[0], phase, seen)
        elif flat > panels.LINES:
            panels.strip(places[0], phase, seen)
        else:
            panels.lines(places[:-1], phase, seen)
        panels.payment(places[-1], phase, seen)
        if column == 0:
            places[-1].set_ylabel("sum of rewards")
    panels.timeline(figure.add_subplot(grid[-1, :]), timetable, seen)
    figure.suptitle(head, x=0.01, ha="left", fontsize=8.5)


def animation(subject: Subject, seen: Sequence[Phase]) -> bytes:
    """The first steps of every phase side by side, as an animated GIF."""
    from PIL import Image

    images = seen[0].shown.ndim == 4
    with panels.figure((max(3, len(seen)) * COLUMN, COLUMN + 0.7)) as figure:
        places = figure.subplots(1, len(seen), squeeze=False)[0]
        drawn = []
        for axes, phase in zip(places, seen, strict=True):
            axes.set_title(f"phase {phase.number}, world {phase.world}", loc="left")
            if images:
                axes.set_axis_off()
                drawn.append(
                    axes.imshow(panels.colors(phase.shown[0]), vmin=0, vmax=255, cmap="gray")
                )
            else:
                axes.set_ylim(*panels.limits([one.shown[: GIF_STEPS + 1] for one in seen]))
                values = phase.shown[0].reshape(-1)
                drawn.append(axes.bar(range(len(values)), values, color=panels.hue(phase.world)))
        stages = []
        for step in range(min(GIF_STEPS, *(len(phase.paid) for phase in seen)) + 1):
            figure.suptitle(f"{subject.name}, step {step}", x=0.01, ha="left")
            for thing, phase in zip(drawn, seen, strict=True):
                if images:
                    thing.set_data(panels.colors(phase.shown[step]))
                else:
                    for bar, value in zip(thing, phase.shown[step].reshape(-1), strict=True):
                        bar.set_height(value)
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", dpi=80)
            figure.set_layout_engine("none")  # the first frame's is kept
            stages.append(Image.open(buffer).convert("RGB"))
    out = io.BytesIO()
    first, *others = stages
    first.save(out, "GIF", save_all=True, append_images=others, duration=GIF_MILLISECONDS, loop=0)
    return out.getvalue()


# -- words -----------------------------------------------------------------------------------


def _words(shifts: Sequence[Shift], world: int) -> str:
    from rlplastic import options
    from rlplastic.envs.shifts import Shift

    if not shifts:
        return "nothing shifts"
    if world == 0:
        known = [f"{shift.name} ({shift.words(0)})" for shift in shifts if shift.words(0)]
        return "; ".join(["unshifted", *known])
    said = []
    for shift in shifts:
        if words := shift.words(world):
            said.append(f"{shift.name} ({words})")
        elif type(shift).draw is not Shift.draw:
            content = shift.content(np.array([world]))[0].reshape(-1)
            numbers = ", ".join(f"{number:.3g}" for number in content[:FEW])
            said.append(f"{shift.name} ({numbers}{', ...' if len(content) > FEW else ''})")
        else:
            said.append(_spoken(options.spec_of(shift)))
    return "; ".join(said)


def _spoken(spec: Mapping[str, Any]) -> str:
    """A shift and its options: ``region (dimension 0, threshold 0)``."""
    shown = {key: _short(value) for key, value in spec.items() if key != "name"}
    options = ", ".join(f"{key} {value}" for key, value in shown.items() if value)
    return f"{spec['name']} ({options})" if options else str(spec["name"])


def _short(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " ".join(_short(one) if np.isscalar(one) else f"[{_short(one)}]" for one in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _head(subject: Subject, timetable: Schedule, seed: int, width: int) -> str:
    shifts = " + ".join(_spoken(spec) for spec in subject.shifts)
    kind = subject.schedule["name"]
    lengths = {timetable.start(k + 1) - timetable.start(k) for k in range(timetable.phases)}
    steps = " to ".join(f"{length:,}" for length in sorted({min(lengths), max(lengths)}))
    told = "; the agent is told of the world" if subject.keywords.get("notify") else ""
    said = (
        f"{subject.name}: {shifts or 'no shift'}{told}",
        f"{timetable.phases} phases, {kind}, of {steps} steps; seed {seed}; "
        "the same start and the same random actions in each phase",
    )
    return "\n".join(textwrap.fill(one, width) for one in said)
