"""What the suites say of their small reward tasks, computed exactly by dynamic programming.

Of each: the best policy of a world earns what the suite states, and the wrong thing in the other.
Foraging has its own, in ``test_forage.py``.
"""

from __future__ import annotations

import numpy as np
import pytest

from rlplastic.envs.control import MountainCarWithGoals
from rlplastic.envs.gather import LIMIT, MOVES, SIZE, layout_of
from rlplastic.envs.toy import CorridorEnv
from rlplastic.suitefile import load_suite


def gathered(level, pays, plays):
    """What the best policy for the values `plays` earns where `pays` are paid, and at home.

    They are signs of the level's own values. By backward induction over which items are left
    (bits) and where the agent is.
    """
    walls, values = layout_of(level)
    cells = np.flatnonzero(values)
    left = np.arange(2 ** len(cells))
    there = np.arange(SIZE * SIZE).reshape(SIZE, SIZE)
    ways = []
    for down, right in MOVES:
        ahead = np.roll(there, (-down, -right), axis=(0, 1))
        ways.append(np.where(walls.ravel()[ahead], there, ahead).ravel())
    worth = np.zeros((2, len(left), SIZE * SIZE))
    for _ in range(LIMIT):
        arrived = worth.copy()
        for bit, cell in enumerate(cells):
            has = left[left & 2**bit > 0]
            for which, sign in enumerate((pays, plays)):
                value = sign * float(values.ravel()[cell])
                arrived[which, has, cell] = value + worth[which, has ^ 2**bit, cell]
        options = np.stack([arrived[:, :, way] for way in ways])
        best = options[:, 1].argmax(axis=0)
        worth = np.take_along_axis(options, best[None, None], axis=0)[0]
    return tuple(worth[:, -1, there[SIZE // 2, SIZE // 2]])


@pytest.mark.parametrize("world", [1, -1])
def test_the_best_gatherer_earns_what_the_suite_says_and_loses_it_after_the_swap(world):
    """In level 0; the other nine of world 0 have been looked at once and are no different."""
    task = load_suite("Gather-Shifted").tasks["Gather-reward"]
    assert task.shifts[0]["to"] == [-value for value in task.shifts[0]["increments"]]
    assert task.reference == 3.75
    assert gathered(0, pays=-world, plays=world) == (-3.75, 3.75)


def corridor(goal, policy):
    """What a policy earns: the goal of the world that it is best in, or uniformly random play."""
    size, limit = CorridorEnv.size, CorridorEnv.limit
    chances, earned = np.zeros(size), 0.0
    chances[size // 2] = 1.0
    right = 0.5 if policy is None else float(policy > size // 2)
    for _ in range(limit):
        moved = np.zeros(size)
        moved[1:] += right * chances[:-1]
        moved[:-1] += (1 - right) * chances[1:]
        earned += moved[goal]
        moved[[0, -1]] = 0.0  # the episode is over
        chances = moved
    return earned


def test_the_best_walker_of_one_corridor_earns_nothing_in_the_other():
    task = load_suite("Toy-Shifted").tasks["Corridor-reward"]
    for goal, other in ((6, 0), (0, 6)):
        assert corridor(goal, goal) == task.reference == 1.0
        assert corridor(goal, other) == 0.0
        assert corridor(goal, None) == pytest.approx(task.normalise.random, abs=5e-4)


def test_the_best_answer_to_one_cue_earns_nothing_in_the_other_world():
    """Each step is a problem by itself: ten of them, of two cues as likely as each other."""
    task = load_suite("Toy-Shifted").tasks["Cue-reward"]
    pays = np.array([np.eye(2), 1.0 - np.eye(2)])  # [world, cue, answer]
    (shift,) = task.shifts
    assert dict(zip(shift["increments"], shift["to"], strict=True)) == {0.0: 1.0, 1.0: 0.0}
    best = pays.argmax(axis=2)
    earned = [[10 * w[[0, 1], policy].mean() for policy in best] for w in pays]
    assert earned == [[task.reference, 0.0], [0.0, task.reference]]
    assert 10 * pays.mean() == task.normalise.random


PLACES, SPEEDS = np.linspace(-1.2, 0.6, 181), np.linspace(-0.07, 0.07, 71)


def driven(goal):
    """The best action in each cell of a grid, by value iteration with Gymnasium's own formulas."""
    place, speed = np.meshgrid(PLACES, SPEEDS, indexing="ij")
    ways = []
    for action in range(3):
        after = np.clip(speed + (action - 1) * 0.001 - 0.0025 * np.cos(3 * place), -0.07, 0.07)
        there = np.clip(place + after, -1.2, 0.6)
        after = np.where((there <= -1.2) & (after < 0), 0.0, after)
        row, column = (there + 1.2) / 1.8 * 180, (after + 0.07) / 0.14 * 70
        i, j = np.clip(row.astype(int), 0, 179), np.clip(column.astype(int), 0, 69)
        over = there <= -1.1 if goal else (there >= 0.5) & (after >= 0)
        ways.append((i, j, row - i, column - j, over))
    worth = np.zeros_like(place)
    for _ in range(200):
        options = []
        for i, j, down, right, over in ways:
            upper = (1 - right) * worth[i, j] + right * worth[i, j + 1]
            lower = (1 - right) * worth[i + 1, j] + right * worth[i + 1, j + 1]
            options.append(np.where(over, 0.0, (1 - down) * upper + down * lower) - 1.0)
        worth = np.max(options, axis=0)
    return np.argmax(options, axis=0)


def mean_return(goal, policy, episodes=20):
    env, returns = MountainCarWithGoals(), []
    env.set_goal(goal)
    for episode in range(episodes):
        (place, speed), _ = env.reset(seed=episode)
        steps, over = 0, False
        while not over and steps < 200:
            (place, speed), _, over, _, _ = env.step(policy(place, speed))
            steps += 1
        returns.append(-steps)
    return np.mean(returns)


def test_the_best_driver_up_one_hill_never_gets_up_the_other():
    def looked_up(best):
        return lambda place, speed: int(
            best[np.abs(PLACES - place).argmin(), np.abs(SPEEDS - speed).argmin()]
        )

    policies = [looked_up(driven(goal)) for goal in (0, 1)]
    earned = [[mean_return(goal, policy) for policy in policies] for goal in (0, 1)]
    assert earned[0][0] > -110 > -199 > earned[0][1]
    assert earned[1][1] > -85 > -199 > earned[1][0]
    swing = [mean_return(goal, lambda place, speed: 2 if speed >= 0 else 0) for goal in (0, 1)]
    assert min(swing) > -130  # what the suite says of it: good in both, best in none
    assert swing[0] < earned[0][0]
    assert swing[1] < earned[1][1]
