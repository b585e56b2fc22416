"""What every suite's file must name: budgets, source, licence, what random play earns."""

from __future__ import annotations

import re

import pytest

from rlplastic.envs.schedules import bound, worlds_of
from rlplastic.options import build
from rlplastic.suite import Suite, full_schedule
from rlplastic.suitefile import load_suite, suite_files

ORIGINS = {  # words that the licence of a suite on these base environments must have
    "Atari": ("ale-py", "GPL-2", "imported"),
    "AtariModes": ("ale-py", "GPL-2", "imported"),
    "AtariSwitch": ("ale-py", "GPL-2", "imported"),
    "MinAtar": ("minatar", "GPL-3", "imported"),
    "MinAtarSwitch": ("minatar", "GPL-3", "imported"),
    "CartPole": ("Gymnasium", "MIT"),
    "LunarLander": ("Box2D", "zlib"),
    "Ant": ("MuJoCo", "Apache"),
}


@pytest.fixture(params=suite_files())
def suite(request) -> Suite:
    return load_suite(request.param)


def steps(suite: Suite, name: str, agent: str) -> int:
    """Steps that a budget takes of one life, over its tasks and seeds."""
    budget = suite.budgets[name]
    tasks = suite.select(budget.tasks).values()
    return budget.seeds * budget.period[agent] * sum(budget.phases_of(task) for task in tasks)


def test_a_suite_has_three_budgets_each_larger_than_the_one_before(suite):
    assert {"smoke", "small", "full"} <= set(suite.budgets)
    for agent in suite.budgets["small"].period:
        cost = [steps(suite, name, agent) for name in ("smoke", "small", "full")]
        assert cost == sorted(set(cost)), agent
    assert suite.budgets["smoke"].too_short  # it shows that everything runs, and no more
    for budget in suite.budgets.values():
        assert budget.seeds >= 6 or budget.too_short or suite.metric


def test_a_suite_says_whose_it_is_and_under_which_licences(suite):
    assert re.search(r"ours|arXiv \d{4}\.\d{5}|\w+ \d{4}\)", suite.source), suite.source
    assert suite.licence
    for task in suite.tasks.values():
        for word in ORIGINS.get(task.base["name"], ()):
            assert word in suite.licence, (task.base, word)


def test_random_play_is_measured_in_every_world_of_a_reward_task(suite):
    for name, task in suite.tasks.items():
        if task.track != "reward" or suite.family == "supervised":  # of answers, chance is known
            continue
        schedule = build("schedule", full_schedule(task.schedule, 100, 10), name)
        assert set(task.random) >= {str(world) for world in worlds_of(bound(schedule, 0))}, name
