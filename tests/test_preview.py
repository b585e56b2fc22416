"""`rlplastic preview` shows what the agent sees and is paid in each phase, and nothing else."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import running
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image

from rlplastic import preview, registry, store
from rlplastic import preview_panels as panels
from rlplastic.envs.tasks import Subject, find_subjects
from rlplastic.errors import UsageError
from rlplastic.preview_panels import Phase, colors

MOVED = Subject(
    name="CartPole-moved", base={"name": "CartPole"}, shifts=[{"name": "offset", "sigma": 1.0}]
)
SWAPPED = find_subjects("Toy-Shifted/Cue-reward")[0]


@pytest.fixture
def screen() -> Iterator[Subject]:
    with running.no_plugins():
        registry.add_plugin(running.DATA / "screen.py")
        yield Subject(
            name="s",
            base={"name": "Screen"},
            shifts=[{"name": "inversion"}],
            schedule={"name": "cyclic", "worlds": 2},
        )


def looked(subject: Subject, phases: int = 3, seed: int = 0) -> list[Phase]:
    return preview.look(subject, subject.timetable(1000, subject.phases), phases, seed)


def pixels(subject: Subject, phases: int, seed: int = 0) -> np.ndarray:
    timetable = subject.timetable(1000, subject.phases)
    png = preview.picture(subject, timetable, looked(subject, phases, seed), seed)
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def test_every_phase_starts_the_same_and_differs_by_its_world_alone() -> None:
    first, second, third = looked(MOVED)
    stream = MOVED.stream(1, MOVED.timetable(1000, 3), seed=0)
    for phase in (second, third):
        offset = stream.shifts[0].content(np.array([phase.world]))[0]
        np.testing.assert_allclose(phase.shown - first.shown, [offset] * 201, atol=1e-6)
        np.testing.assert_array_equal(phase.paid, first.paid)
        assert phase.words == f"offset ({', '.join(f'{number:.3g}' for number in offset)})"
    assert (first.words, first.world, first.shown.shape) == ("unshifted", 0, (201, 4))


def test_a_reward_shift_is_seen_in_what_is_paid() -> None:
    first, second, third = looked(SWAPPED)
    np.testing.assert_array_equal(second.paid, 1 - first.paid)
    np.testing.assert_array_equal(third.paid, first.paid)
    np.testing.assert_array_equal(second.shown, first.shown)
    assert second.words == "values (increments 0 1, to 1 0)"
    assert list(first.ends[:2]) == [10, 20]


@pytest.mark.parametrize(
    ("base", "shift", "unshifted", "words"),
    [
        (
            {"name": "MinAtarSwitch", "games": ["asterix", "breakout"]},
            {"name": "game", "units": [2.0, 1.0]},
            "unshifted; game (asterix)",
            "game (breakout)",
        ),
        (
            {"name": "AtariModes", "game": "pong"},
            {"name": "mode", "flavours": [[1, 1]]},
            "unshifted; mode (0, difficulty 0)",
            "mode (1, difficulty 1)",
        ),
        (
            {"name": "AtariModes", "game": "pong", "sticky": 0.25},
            {"name": "ale-sticky", "probabilities": [0.5]},
            "unshifted; ale-sticky (probability 0.25)",
            "ale-sticky (probability 0.5)",
        ),
        ({"name": "Gather"}, {"name": "window"}, "unshifted", "window (levels of world 1)"),
        ({"name": "Gather"}, {"name": "expand"}, "unshifted", "expand (levels of world 0, 1)"),
    ],
)
def test_a_world_is_called_what_it_is(base, shift, unshifted: str, words: str) -> None:
    cyclic = {"name": "cyclic", "worlds": 2}
    subject = Subject(name="s", base=base, shifts=[shift], schedule=cyclic)
    assert [phase.words for phase in looked(subject, 2)] == [unshifted, words]


def test_physical_constants_have_their_names() -> None:
    subject = Subject(name="p", base={"name": "CartPole"}, shifts=[{"name": "physics"}])
    first, second = looked(subject, 2)
    stream = subject.stream(1, subject.timetable(1000, 3), seed=0)
    assert first.words == "unshifted"
    stream.begin(1)
    pole = stream.base.envs[0].unwrapped
    for name, factor in {
        "gravity": pole.gravity / 9.8,
        "cart_mass": pole.masscart / 1.0,
        "pole_mass": pole.masspole / 0.1,
        "pole_length": pole.length / 0.5,
        "force": pole.force_mag / 10.0,
    }.items():
        assert f"{name}*{factor:.3g}" in second.words


def words_of(figure: Figure) -> dict[str, Bbox]:
    """Every text of a figure that is not a number at a tick, and where it is."""
    figure.canvas.draw()
    ticks = {
        id(label)
        for axis in figure.findobj(Axis)
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())
        for label in (tick.label1, tick.label2)
    }
    texts = [t for t in figure.findobj(Text) if t.get_text().strip() and id(t) not in ticks]
    return {f"{n}: {t.get_text()}": t.get_window_extent() for n, t in enumerate(texts)}


def overlaps(boxes: dict[str, Bbox]) -> list[tuple[str, str]]:
    return [(a, b) for a, b in itertools.combinations(boxes, 2) if boxes[a].overlaps(boxes[b])]


@pytest.mark.parametrize("shape", [(1, 84, 84), (4, 10, 10), (3,), (40,)])
@pytest.mark.parametrize("phases", [1, 5])
def test_no_text_of_a_picture_lies_on_another(shape: tuple[int, ...], phases: int) -> None:
    shifts = [
        {"name": "physics", "factor": 2.0, "parameters": []},
        *[{"name": "offset", "sigma": 1.5}] * phases,
    ]
    subject = Subject(name="crowded", base={"name": "CartPole"}, shifts=shifts, phases=phases)
    rng = np.random.default_rng(0)
    seen = [
        Phase(
            number=number,
            world=number,
            words="physics (gravity*0.5, mass*1.2, length*1.1)" if number else "unshifted",
            shown=rng.integers(0, 256, size=(101, *shape), dtype=np.uint8),
            paid=rng.choice([-1150.0, -575.0, 0.0, 575.0], size=100),
            ends=np.array([50]),
        )
        for number in range(phases)
    ]
    with panels.figure((0, 0)) as figure:
        preview.draw(figure, subject, subject.timetable(1000, phases), seen, 0)
        boxes = words_of(figure)
        assert overlaps(boxes) == []
        assert all(figure.bbox.containsx(box.x1) and box.y0 > 0 for box in boxes.values())
        head, *below = sorted((box for box in boxes.values()), key=lambda box: -box.y1)
        assert head.y0 - max(box.y1 for box in below) > 5 * figure.dpi / 72  # half a line
    text = " ".join(" ".join(boxes).split())
    assert "crowded: physics (factor 2) + offset (sigma 1.5)" in text
    assert "of 1,000 steps; seed 0" in text
    assert text.count(", world ") == phases
    assert "parameters" not in text


def test_of_stacked_frames_the_last_is_shown(screen: Subject) -> None:
    first, second = looked(screen, 2)
    assert first.shown.shape == (601, 1, 84, 84)
    np.testing.assert_array_equal(second.shown, 255 - first.shown)


def test_a_picture_has_a_column_a_phase_and_is_the_same_again(screen: Subject) -> None:
    for subject in (SWAPPED, screen):
        three, again = pixels(subject, 3), pixels(subject, 3)
        np.testing.assert_array_equal(three, again)
        assert not np.array_equal(three, pixels(subject, 3, seed=1))
    wide = pixels(SWAPPED, 5)
    column = round(preview.COLUMN * preview.DOTS)
    assert wide.shape[1] - pixels(SWAPPED, 4).shape[1] == column
    assert wide.shape[0] > 2 * column


def test_channels_are_told_apart_by_hue() -> None:
    frame = np.zeros((4, 2, 2), dtype=bool)
    frame[0, 0, 0] = frame[3, 1, 1] = True
    shown = colors(frame)
    assert shown.shape == (2, 2, 3)
    assert shown[0, 0].tolist() == [0x00, 0x72, 0xB2]
    assert shown[1, 1].tolist() == [0xCC, 0x79, 0xA7]
    assert shown[0, 1].tolist() == [0, 0, 0]
    rgb = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    assert colors(rgb)[0, 1].tolist() == [1, 5, 9]


@pytest.mark.parametrize("gif", [False, True])
def test_files_are_written_by_the_store_alone(
    gif: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, written = store.write_bytes, []
    monkeypatch.setattr(store, "write_bytes", lambda *args: written.append(args[0]) or real(*args))
    paths = preview.preview("Toy-Shifted/Cue-reward", out=tmp_path, phases=2, seed=0, gif=gif)
    assert paths == written == sorted(tmp_path.iterdir(), reverse=True)
    assert paths[0] == tmp_path / "Toy-Shifted-Cue-reward.png"
    if gif:
        moving = Image.open(paths[1])
        assert moving.n_frames > 10
        first = moving.convert("L").tobytes()
        moving.seek(moving.n_frames - 1)
        assert moving.convert("L").tobytes() != first


def test_the_command_prints_the_file_and_refuses_one_file_for_two_tasks(tmp_path: Path) -> None:
    out = tmp_path / "folder" / "one.png"
    done = running.rlplastic("preview", f"{running.TINY}/Cue*", "--out", out, "--phases", 2)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{out}\n", "")
    assert Image.open(out).size[0] > 500
    with pytest.raises(UsageError, match="2 tasks match"):
        preview.preview(running.TINY, out=tmp_path / "x.png", phases=2, seed=0, gif=False)
    assert not (tmp_path / "x.png").exists()
