"""Every task of every suite, and every shift that no suite uses, passes `rlplastic check`."""

from __future__ import annotations

import os

import gymnasium
import pytest
import running

import rlplastic.envs
from rlplastic import registry
from rlplastic.envs.check import examine
from rlplastic.envs.tasks import PREFIX, Subject, find_subjects, subject_of
from rlplastic.suitefile import load_suite, suite_files

SCREEN = running.DATA / "screen.py"  # images at a fraction of what a game costs
GAME = "Atari-Shifted/Gopher-observation"  # examined completely; of other games what is theirs
OWN = ("spaces", "base", "worlds")
assert rlplastic.envs.__doc__  # which registers them
ALL = "RLPLASTIC_ALL_GAMES" in os.environ  # `make games`
STATED = {
    (suite, name.partition("-")[0]) for suite in suite_files() for name in load_suite(suite).tasks
}


def looked_at(env_id: str) -> bool:
    """An id of ours; of the games that a suite makes when asked, only with `make games`."""
    if not env_id.startswith(PREFIX):
        return False
    keywords = gymnasium.registry[env_id].kwargs
    return ALL or (keywords["suite"], keywords["base"]) in STATED


IDS = [env_id for env_id in gymnasium.registry if looked_at(env_id)]


def subjects() -> list[Subject]:
    """Tasks as their registered ids make them where they have one, then shifts by themselves."""
    named = [find_subjects(env) for env in IDS]
    named += [find_subjects(suite) for suite in suite_files()]
    found = {task.name: task for tasks in reversed(named) for task in tasks}
    used = {shift["name"] for task in found.values() for shift in task.shifts}
    with running.no_plugins():
        registry.add_plugin(SCREEN)
        alone = [
            subject_of("shift", name) for name in registry.entries("shift") if name not in used
        ]
    return [*found.values(), *alone]


def costly(subject: Subject) -> bool:
    return subject.base["name"].startswith("Atari") and subject.name != GAME and not ALL


def one_of_each() -> list[Subject]:
    """A costly task for each base environment and combination of shifts."""
    found: dict[tuple[str, ...], Subject] = {}
    for subject in filter(costly, SUBJECTS):
        key = subject.base["name"], *(shift["name"] for shift in subject.shifts)
        found.setdefault(key, subject)
    return list(found.values())


SUBJECTS = subjects()


def faults(subject: Subject, *names: str) -> list[str]:
    """What is wrong with a task, if anything is."""
    with running.no_plugins():
        registry.add_plugin(SCREEN)
        checks = list(examine(subject, quick=True, names=names))
    if "pip install 'rlplastic[" in checks[0].text:  # an extra that is not installed here
        pytest.skip(checks[0].text)
    return [f"{check.name}: {check.text}" for check in checks if not check.ok]


@pytest.mark.parametrize("subject", [s for s in SUBJECTS if not costly(s)], ids=lambda s: s.name)
def test_a_stream_keeps_its_promises(subject: Subject) -> None:
    assert faults(subject) == []


@pytest.mark.parametrize("subject", one_of_each(), ids=lambda s: s.name)
def test_another_game_shows_its_own_frames_and_worlds(subject: Subject) -> None:
    assert faults(subject, *OWN) == []


COSTLY_IDS = {subject.env_id: subject for subject in SUBJECTS if costly(subject) and subject.env_id}


@pytest.mark.parametrize("env_id", COSTLY_IDS)
def test_the_checkers_accept_every_registered_game(env_id: str) -> None:
    """On one of its tracks; every other id is examined completely, on all of them."""
    assert faults(COSTLY_IDS[env_id], "gymnasium", "sb3") == []


def test_every_registered_id_and_every_shift_is_here() -> None:
    assert {subject.env_id for subject in SUBJECTS} >= set(IDS)
    used = {shift["name"] for subject in SUBJECTS for shift in subject.shifts}
    assert used == set(registry.entries("shift"))
