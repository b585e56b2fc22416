"""`rlplastic preview` shows what the agent sees and is paid in each phase, and nothing else."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import running
from PIL import Image

from rlplastic import preview, registry, store
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
