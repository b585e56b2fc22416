"""How far a folder is, told from its files alone."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest
import running

from rlplastic import locks, store
from rlplastic.cell import Cell
from rlplastic.errors import UsageError
from rlplastic.plan import make_plan
from rlplastic.planfile import write_plan
from rlplastic.progress import Lines, Live, display_for, duration, plain
from rlplastic.request import Request
from rlplastic.status import read_status, reason_of, show_status


@pytest.fixture
def cells(tmp_path: Path) -> list[Cell]:
    """Five planned cells, of which none has begun."""
    env = f"{running.TINY}/Cue-observation"
    plan = make_plan(Request(agents=["dqn"], regs=["sam"], env=env, budget="tiny"))
    write_plan(plan, tmp_path)
    return plan.cells


@pytest.fixture
def every_kind(cells: list[Cell], tmp_path: Path) -> list[Cell]:
    """One cell of each status, in this order: done, diverged, failed, unfinished, pending."""
    for cell in cells[:4]:
        folder = store.CellFolder(tmp_path / cell.id)
        folder.begin({})
        folder.timing(phase=0, seconds=1.0, steps=256)
        folder.flush()
        if cell is cells[0]:
            folder.finish("done", reason="")
        if cell is cells[1]:
            folder.finish("diverged", reason="gradient norm nan")
    store.write_failure(tmp_path / cells[2].id, "ValueError: \x1b[31mred\nand more")
    return cells


def test_every_status_with_reason_and_phases(every_kind: list[Cell], tmp_path: Path) -> None:
    found = read_status(tmp_path)
    assert [(one.id, one.status, one.reason, one.phases, one.num_phases) for one in found] == [
        (every_kind[0].id, "done", "", 1, 1),
        (every_kind[1].id, "diverged", "gradient norm nan", 1, 2),
        (every_kind[2].id, "failed", "ValueError:  [31mred and more", 1, 1),
        (every_kind[3].id, "unfinished", "", 1, 2),
        (every_kind[4].id, "pending", "", 0, 1),
    ]
    assert [one.arm for one in found] == ["none", "none", "none+fresh", "sam", "sam+fresh"]


def test_the_status_as_text(every_kind: list[Cell], tmp_path: Path) -> None:
    text = show_status(tmp_path)
    lines = text.splitlines()
    assert lines[0] == (
        "Tiny, budget tiny: 5 cells: 1 done, 1 diverged, 1 failed, 1 unfinished, 1 pending"
    )
    assert lines[1] == "nothing is running; to continue:"
    assert lines[2].startswith("  ")
    table = [line.split() for line in lines if line.startswith(("agent ", "dqn ", "random "))]
    assert table == [
        ["agent", "arm", "done", "diverged", "failed", "unfinished", "pending"],
        ["random", "none", "1", "0", "0", "0", "0"],
        ["dqn", "none", "0", "1", "0", "0", "0"],
        ["dqn", "none+fresh", "0", "0", "1", "0", "0"],
        ["dqn", "sam", "0", "0", "0", "1", "0"],
        ["dqn", "sam+fresh", "0", "0", "0", "0", "1"],
    ]
    assert f"  {every_kind[3].id}  phase 1/2" in text
    guard = locks.claim(tmp_path, every_kind[3].id)
    running = show_status(tmp_path)
    assert guard is not None
    assert "1 cells are being run now" in running
    assert "\nrunning:\n" in running
    assert "\nunfinished:\n" not in running
    assert "\nunfinished:\n" in text


def test_asking_writes_nothing(every_kind: list[Cell], tmp_path: Path) -> None:
    before = running.contents(tmp_path)
    show_status(tmp_path)
    assert running.contents(tmp_path) == before


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"cells": []}'])
def test_what_is_no_plan_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="not a results folder"):
        show_status(tmp_path)
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(UsageError, match="cannot be read"):
        show_status(tmp_path)


def test_a_damaged_ending_has_no_reason(tmp_path: Path) -> None:
    for text in ("", "[]", "{"):
        (tmp_path / "failed.json").write_text(text)
        assert reason_of(tmp_path) == ""
    (tmp_path / "failed.json").write_text(json.dumps({"reason": "why"}))
    assert reason_of(tmp_path) == "why"


# -- progress --------------------------------------------------------------------------------


def test_durations_are_for_people() -> None:
    assert [duration(s) for s in (0, 0.4, 59.4, 59.6, 89, 91, 3570, 3600, 3660, 1e5)] == [
        "1 s",
        "1 s",
        "59 s",
        "1 min",
        "1 min",
        "2 min",
        "1 h",
        "1 h",
        "1 h 1 min",
        "27 h 47 min",
    ]


def test_plain_text_has_no_control_characters() -> None:
    assert plain("a\x1b[2Jb\r\n\x07c\u202ed") == "a [2Jb   c d"


def test_lines_count_the_cells_and_give_reasons(cells: list[Cell]) -> None:
    out = io.StringIO()
    with Lines(cells, out) as display:
        for cell in cells:
            display.began(cell)
        for cell in cells[:-1]:
            display.moved(cell, phase=1, step=100, speed=50.0)
        display.ended(cells[1], "failed", "it\x1bbroke")
        display.ended(cells[0], "done", "")
    first, second = out.getvalue().splitlines()
    assert first.startswith(f"[1/5] failed   {cells[1].id} (it broke) - ")
    assert first.endswith(" left")
    assert second.startswith(f"[2/5] done     {cells[0].id} - ")


def test_the_time_left_is_the_rest_of_the_steps_over_the_speed_so_far(cells: list[Cell]) -> None:
    tally = Lines(cells, io.StringIO())
    total = sum(cell.num_steps for cell in cells)
    assert tally.time_left() == ""  # nothing is known yet
    tally.began(cells[0])
    tally._began -= 100.0  # as if it had begun 100 seconds ago
    tally.moved(cells[0], phase=0, step=total // 4, speed=1.0)
    assert tally.time_left() == "5 min left"
    tally.moved(cells[0], phase=0, step=total // 2, speed=1.0)
    assert tally.time_left() == "2 min left"


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("terminal", "env", "quiet", "expected"),
    [
        (True, {}, False, Live),
        (True, {}, True, Lines),
        (True, {"NO_COLOR": "1"}, False, Lines),
        (True, {"TERM": "dumb"}, False, Lines),
        (False, {}, False, Lines),
    ],
)
def test_the_display_is_live_only_where_it_can_be(
    terminal: bool,
    env: dict[str, str],
    quiet: bool,
    expected: type,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in {"TERM": "xterm", **env}.items():
        monkeypatch.setenv(name, value)
    stream = Terminal() if terminal else io.StringIO()
    assert type(display_for([], stream, quiet=quiet)) is expected


def test_the_live_display_keeps_failures_in_view(
    cells: list[Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    stream = Terminal()
    with Live(cells, stream) as display:
        for cell in cells:
            display.began(cell)
        display.moved(cells[1], phase=1, step=300, speed=1234.5)
        display._live.refresh()
        display.ended(cells[1], "failed", "[red]it broke[/red]")
        display.ended(cells[0], "done", "")
    text = stream.getvalue()
    assert "0/5 cells" in text
    assert "phase 2/2" in text
    assert "300/512 steps" in text
    assert "1,234 steps/s" in text
    assert f"failed  {cells[1].id}  [red]it broke[/red]" in text
    assert f"done  {cells[0].id}" not in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    assert os.environ["TERM"] == "xterm"
