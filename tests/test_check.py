"""`rlplastic check` finds what is broken, each fault by the check that is there for it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import running
from gymnasium import spaces

from rlplastic import registry
from rlplastic.doctor import Check
from rlplastic.envs.check import CHECKS, examine
from rlplastic.envs.scalar import ShiftedEnv
from rlplastic.envs.stream import Stream
from rlplastic.envs.tasks import Subject, find_subjects, subject_of
from rlplastic.errors import UsageError

BROKEN = running.DATA / "broken.py"
CARTPOLE = Subject(
    name="CartPole-moved", base={"name": "CartPole"}, shifts=[{"name": "offset", "sigma": 1.0}]
)
SOUND = Subject(name="sound", base={"name": "CartPole"}, shifts=[{"name": "sound"}])


@pytest.fixture(autouse=True)
def broken() -> Iterator[None]:
    with running.no_plugins():
        registry.add_plugin(BROKEN)
        yield


def found(subject: Subject) -> dict[str, Check]:
    return {check.name: check for check in examine(subject, quick=True)}


@pytest.mark.parametrize(
    ("subject", "quick"), [(CARTPOLE, True), (CARTPOLE, False), (SOUND, True), (SOUND, False)]
)
def test_a_sound_task_passes_every_check(subject: Subject, quick: bool) -> None:
    checks = list(examine(subject, quick=quick))
    assert [check.name for check in checks] == list(CHECKS)
    assert not [check for check in checks if not check.ok]


def test_what_differs_between_processes_is_found() -> None:
    checks = examine(subject_of("shift", "hashes"), names=["determinism"])
    assert [check.ok for check in checks] == [True, False]


@pytest.mark.parametrize(
    ("kind", "name", "check", "words"),
    [
        ("schedule", "delayed", "builds", "phase 0 starts at step 16; valid: 0"),
        ("schedule", "abroad", "builds", "phase 0 is in world 1"),
        ("shift", "escapes", "spaces", r"phase 2, copy 0: observation is outside .* declared \["),
        ("shift", "draws", "determinism", "step 16, phase 1, copy 0: observation differs in 4 of"),
        ("shift", "writes", "inputs", r"read-only \(broken.py, line \d+\)"),
        ("shift", "remembers", "forgets", r"step 0 after a reset in phase 1, copy 0: .* past 1"),
        ("shift", "heavier", "base", "of phase 2, copy 0: observation differs"),
        ("shift", "counts", "begins", "phase 2, step 1, copy 0: observation differs"),
        ("shift", "mixes", "agree", "phase 1, copy 0: observation differs"),
        ("shift", "idle", "worlds", "worlds 0 and 1 show and pay the same in twice 375 steps"),
        ("shift", "twins", "worlds", "worlds 1 and 2 show and pay the same"),
        ("shift", "opens", "resources", r"2 times: open files from \d+ to"),
        ("shift", "starts", "resources", r"2 times: threads from \d+ to"),
        ("shift", "spawns", "resources", r"child processes from \d+ to"),
        ("environment", "Point", "gymnasium", "maximum and minimum values are equal"),
        ("environment", "Square", "sb3", "unconventional shape"),
    ],
)
def test_what_is_broken_is_found_and_said_where(
    kind: str, name: str, check: str, words: str
) -> None:
    check_found = found(subject_of(kind, name))[check]
    assert not check_found.ok
    assert re.search(words, check_found.text), check_found.text


def later(real: Callable[..., None], by: int) -> Callable[..., None]:
    def enter(self: Stream, phase: int) -> None:
        real(self, phase)
        self._next += by * self.ticks

    return enter


def with_phase(real: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, *args: {**real(self, *args), "phase": self.phase}


def with_space(real: Callable[..., None]) -> Callable[..., None]:
    def enter(self: Stream, phase: int) -> None:
        real(self, phase)
        self.observation_space = spaces.Box(-np.inf, 100.0 + phase, (4,), np.float32)

    return enter


def info_of_phase(real: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, action: (*real(self, action)[:4], {"phase": self.phase})


def never_truncated(real: Callable[..., Any]) -> Callable[..., Any]:
    def step(self: ShiftedEnv, action: Any) -> Any:
        observation, reward, terminated, truncated, info = real(self, action)
        return observation, reward, terminated or truncated, False, info

    return step


def keeping(real: Callable[..., Any]) -> Callable[..., Any]:
    def reset(self: ShiftedEnv, *, seed: int | None = None, options: Any = None) -> Any:
        kept = self._pending
        result = real(self, seed=seed)
        if seed is not None:
            self._pending = kept
        return result

    return reset


@pytest.mark.parametrize(
    ("owner", "method", "change", "check", "words"),
    [
        (Stream, "_enter", lambda real: later(real, 1), "timing", "step 16, .*phase 0; by the"),
        (Stream, "_enter", lambda real: later(real, -1), "timing", r"step 15, .*by the schedule"),
        (Stream, "_close", with_phase, "leaks", r"phase \d: infos tell \['phase'\]"),
        (
            Stream,
            "_enter",
            with_space,
            "leaks",
            r"step 16, phase 1: observation_space was Box\(.*, 100.0, ",
        ),
        (ShiftedEnv, "step", info_of_phase, "leaks", "must be empty: {'phase': 0}"),
        (ShiftedEnv, "step", never_truncated, "agree", "truncated is True and False"),
        (ShiftedEnv, "reset", keeping, "forgets", r"past \d: reset\(seed=7\), reset\(\)"),
    ],
)
def test_faults_of_streams_themselves_are_found(
    owner: type, method: str, change: Any, check: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, method, change(getattr(owner, method)))
    check_found = found(CARTPOLE)[check]
    assert not check_found.ok
    assert re.search(words, check_found.text), check_found.text


def test_parts_that_do_not_fit_are_one_failure() -> None:
    subject = Subject(name="x", base={"name": "CartPole"}, shifts=[{"name": "tiles"}])
    (check,) = examine(subject)
    assert (check.name, check.ok) == ("builds", False)
    assert "shift 'tiles' needs images" in check.text


@pytest.mark.parametrize(
    "schedule",
    [
        {"name": "random"},
        {"name": "gradual"},
        {"name": "once", "phases": 2},
        {"name": "cyclic", "worlds": 3},
        {"name": "list", "worlds": [0, 2, 1], "lengths": [1, 3, 2]},
        {"name": "list", "worlds": [2, 1, 0]},
    ],
    ids=lambda schedule: schedule["name"],
)
@pytest.mark.parametrize("notify", [False, True])
def test_every_schedule_passes_whether_the_agent_is_told_or_not(
    schedule: dict[str, Any], notify: bool
) -> None:
    schedule = dict(schedule)
    phases = schedule.pop("phases", 3)
    parts: dict[str, Any] = {"base": CARTPOLE.base, "shifts": CARTPOLE.shifts, "phases": phases}
    subject = Subject(name="x", **parts, schedule=schedule, keywords={"notify": notify})
    assert not [check for check in examine(subject, quick=True) if not check.ok]


def test_each_schedule_can_be_looked_at_with_its_defaults() -> None:
    for entry in registry.entries("schedule").values():
        if entry.name in ("cyclic", "list"):  # which worlds has to be said
            with pytest.raises(UsageError, match="worlds is missing|has 0 phases"):
                subject_of("schedule", entry.name)
        elif entry.path != BROKEN:
            assert subject_of("schedule", entry.name).short(2, 8).phases in (2, 3)


@pytest.mark.parametrize("boundary", ["episode", "step"])
def test_streams_without_truncation_are_timed_too(boundary: str) -> None:
    subject = Subject(
        name="x",
        base={"name": "CartPole"},
        shifts=[{"name": "offset"}],
        keywords={"boundary": boundary},
    )
    checks = found(subject)
    assert not [check for check in checks.values() if not check.ok]
    assert "not to be begun" in checks["begins"].text


@pytest.mark.parametrize(
    ("env", "names"),
    [
        (
            "Toy-Shifted/Cue-*",
            ["Toy-Shifted/Cue-observation", "Toy-Shifted/Cue-reward", "Toy-Shifted/Cue-stationary"],
        ),
        (f"{running.TINY}/Cue*", ["Tiny/Cue-observation"]),
        (
            "rlplastic/Corridor-Shifted-v0",
            [f"Toy-Shifted/Corridor-{track}" for track in ("observation", "reward", "stationary")],
        ),
    ],
)
def test_tasks_are_found_by_suite_file_pattern_and_id(env: str, names: list[str]) -> None:
    assert [subject.name for subject in find_subjects(env)] == names


def test_a_subject_of_an_id_is_checked_as_gymnasium_makes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = []
    make = gymnasium.make
    monkeypatch.setattr(
        gymnasium, "make", lambda *args, **more: made.append((args, more)) or make(*args, **more)
    )
    assert found(find_subjects("rlplastic/Cue-Shifted-v0")[1])["sb3"].ok
    assert made[-1] == (("rlplastic/Cue-Shifted-v0",), {"track": "reward"})


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ("rlplastic/Cu-Shifted-v0", "Did you mean 'rlplastic/Cue-Shifted-v0'"),
        ("Toy-Shiftd", "Did you mean 'Toy-Shifted'"),
        ("Toy-Shifted/Cue-rewrad", "unknown task of Toy-Shifted"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(env: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        find_subjects(env)


def test_a_shift_that_fits_nothing_or_needs_options_is_refused() -> None:
    with pytest.raises(UsageError, match="shift 'values': increments is missing"):
        subject_of("shift", "values")


def test_the_command_prints_a_table_and_leaves_with_1_where_something_is_broken(
    tmp_path: Path,
) -> None:
    good = running.rlplastic("check", "Toy-Shifted/Cue-reward", "--quick")
    assert (good.returncode, good.stderr) == (0, "")
    first, *rows, last = good.stdout.splitlines()
    assert first == "Toy-Shifted/Cue-reward"
    assert last == f"{len(CHECKS)} checks, 0 failed"
    assert [row.split()[:2] for row in rows if row[2] != " "] == [["ok", name] for name in CHECKS]
    source = BROKEN.read_text(encoding="utf-8")
    others = re.compile(r"^@(shift|schedule|environment)\(\"(?!mixes).*", re.MULTILINE)
    (tmp_path / "mixes.py").write_text(others.sub("", source), encoding="utf-8")
    bad = running.rlplastic("check", tmp_path / "mixes.py", "--quick")
    assert bad.returncode == 1
    assert bad.stdout.startswith("shift 'mixes' on CartPole\n")
    assert re.search(r"\n  FAILED  agree +step \d+, phase 1", bad.stdout)
    assert running.rlplastic("check").returncode == 2
