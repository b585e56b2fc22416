"""Foraging: what a step does, and the optimum that the suite states."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from rlplastic.envs.forage import VALUES, Forage, expected_return, moved_cells
from rlplastic.envs.schedules import Cyclic
from rlplastic.envs.shifts_reward import Values
from rlplastic.envs.stream import Stream
from rlplastic.errors import UsageError
from rlplastic.suitefile import load_suite

SWAPPED = (-1.0, 2.0, 0.1)
UP, RIGHT, DOWN, LEFT = range(4)


def placed(*cells, size=5, copies=1):
    """Copies whose bean, onion and banana lie at these (row, column) from the agent."""
    base = Forage(size=size).make(copies)
    base.reset(range(copies))
    base.places[:] = [row % size * size + column % size for row, column in cells]
    return base


def shown(frame, size=5):
    """(row, column) from the agent of each item, read from the observation."""
    frames = frame.reshape(len(VALUES), size, size)
    assert (frames.sum(axis=(1, 2)) == 1).all()
    return [tuple(int(i) - size // 2 for i in np.argwhere(one)[0]) for one in frames]


def test_a_step_moves_the_world_around_the_agent_and_eats_what_lies_there():
    base = placed((0, 1), (2, 0), (-1, -2))
    step = base.step(np.array([RIGHT]))
    assert step.reward == [2.0]
    bean, onion, banana = shown(step.final[0])
    assert (onion, banana) == (
        (2, -1),
        (-1, 2),
    )  # on a torus: three to the left is two to the right
    assert bean not in ((0, 0), onion, banana)
    for moves, place in (([UP], (1, 1)), ([DOWN], (-1, 1)), ([LEFT], (0, 2)), ([UP, UP], (2, 1))):
        base = placed((0, 1), (2, 2), (-1, -2))
        for move in moves:
            step = base.step(np.array([move]))
        assert shown(step.final[0])[0] == place
        assert step.reward == [0.0]


@pytest.mark.parametrize(("item", "value"), enumerate(VALUES))
def test_each_item_has_its_value_and_grows_on_every_free_cell(item, value):
    places = [(1, 1), (2, 2), (1, 2)]
    places[item] = (1, 0)
    base = placed(*places, size=3, copies=400)
    step = base.step(np.full(400, DOWN))
    assert (step.reward == value).all()
    others = [cell for i, cell in enumerate(shown(step.final[0], 3)) if i != item]
    grown = {shown(frame, 3)[item] for frame in step.final}
    assert grown == set(itertools.product((-1, 0, 1), repeat=2)) - {(0, 0), *others}


def test_an_episode_is_cut_after_a_hundred_steps_and_goes_on_elsewhere():
    base = Forage().make(2)
    base.reset([1, 2])
    for number in range(1, 201):
        step = base.step(np.array([UP, RIGHT]))
        assert step.truncated.all() == (number % 100 == 0)
        assert not step.terminated.any()
        same = (step.observation == step.final).all(axis=1)
        assert not same.any() if step.truncated.any() else same.all()


def test_a_seeded_reset_forgets_the_past_whatever_the_other_copies_do():
    def play(base, seeds, steps=150):
        rng = np.random.default_rng(0)
        trace = [base.reset(seeds)[0]]
        for _ in range(steps):
            actions = np.array([rng.integers(4), *np.zeros(base.num_copies - 1, int)])
            trace.append(base.step(actions).observation[0])
        return np.stack(trace)

    alone = Forage().make(1)
    first = play(alone, [5])
    np.testing.assert_array_equal(play(alone, [5]), first)
    np.testing.assert_array_equal(play(Forage().make(3), [5, 6, 7]), first)
    assert not np.array_equal(play(alone, [6]), first)


def look_ahead(places, steps, values, size=3):
    """Expected return of the best play, by trying everything out."""
    if steps == 0:
        return 0.0
    moved, worth = moved_cells(size), []
    for move in range(4):
        after = [int(moved[move, place]) for place in places]
        if 0 not in after:
            worth.append(look_ahead(after, steps - 1, values))
            continue
        item = after.index(0)
        free = set(range(1, size * size)) - set(after)
        grown = [[*after[:item], cell, *after[item + 1 :]] for cell in free]
        ahead = np.mean([look_ahead(places, steps - 1, values) for places in grown])
        worth.append(values[item] + ahead)
    return max(worth)


def test_the_optimum_is_what_trying_everything_out_finds():
    # one step, 3 x 3: the bean is beside the agent in half of all states, the banana in 4 of 7
    assert expected_return(3, VALUES, VALUES, 1) == pytest.approx(2 / 2 + 0.1 / 2 * 4 / 7)
    assert expected_return(3, VALUES, None, 1) == pytest.approx((2 - 1 + 0.1) / 8)
    starts = list(itertools.permutations(range(1, 9), 3))
    for values in (VALUES, SWAPPED):
        found = np.mean([look_ahead(places, 2, values) for places in starts])
        assert expected_return(3, values, values, 2) == pytest.approx(found)


def test_random_play_earns_what_is_computed():
    base, rng = Forage(size=5).make(64), np.random.default_rng(0)
    base.reset(range(64))
    paid = np.stack([base.step(rng.integers(4, size=64)).reward for _ in range(2000)])
    returns = paid.reshape(20, 100, 64).sum(axis=1)
    error = returns.std() / np.sqrt(returns.size)
    assert returns.mean() == pytest.approx(expected_return(5, VALUES, None, 100), abs=4 * error)


def test_a_good_policy_comes_close_to_the_optimum_and_none_is_above_it():
    """Straight to the bean, around the onion; from where it lies to the four moves by hand."""
    size, copies, moved = 5, 32, moved_cells(5)
    base = Forage(size=size).make(copies)
    base.reset(range(copies))
    total = np.zeros(copies)
    for _ in range(1000):
        rows, columns = np.divmod(base.places, size)
        rows, columns = (np.where(x > size // 2, x - size, x) for x in (rows, columns))
        actions = []
        for copy in range(copies):
            row, column = rows[copy, 0], columns[copy, 0]
            ways = ((DOWN, row), (UP, -row), (RIGHT, column), (LEFT, -column))
            wanted = [move for move, far in ways if far > 0]
            safe = [move for move in wanted if moved[move, base.places[copy, 1]] != 0]
            actions.append((safe or wanted)[0])
        total += base.step(np.array(actions)).reward
    earned, error = (total / 10).mean(), total.std() / 10 / np.sqrt(copies)
    optimum = expected_return(size, VALUES, VALUES, 100)
    assert 0.9 * optimum < earned < optimum + 3 * error


def test_the_best_policy_of_one_world_is_worse_than_random_in_the_other():
    best, chance, stale = (
        expected_return(5, SWAPPED, plays, 100) for plays in (SWAPPED, None, VALUES)
    )
    assert best == pytest.approx(expected_return(5, VALUES, VALUES, 100))
    assert stale < 0 < chance < best / 10


def test_the_suite_states_the_exact_levels():
    for task in load_suite("Forage-Swap").tasks.values():
        assert task.base == {"name": "Forage"}
        stated = task.normalise
        assert stated.high == task.reference
    assert stated.high == pytest.approx(expected_return(7, VALUES, VALUES, 100), rel=1e-3)
    assert stated.random == pytest.approx(expected_return(7, VALUES, None, 100), rel=1e-3)


def test_the_swap_pays_the_onion_and_charges_for_the_bean():
    base = Forage(size=5).make(1)
    shift = Values(increments=[2.0, -1.0], to=[-1.0, 2.0])
    stream = Stream(base, [shift], Cyclic(period=2, phases=3, worlds=2))
    stream.reset()
    paid = []
    for step in range(6):
        base.places[:] = [[5 + 2, 5, 5 + 3]] if step % 2 else [[5, 5 + 2, 5 + 3]]  # one row down
        paid.append(float(stream.step(np.array([DOWN]))[1][0]))
    assert paid == [2.0, -1.0, -1.0, 2.0, 2.0, -1.0]


def test_the_agent_needs_a_middle():
    with pytest.raises(UsageError, match=r"size = 6: must be odd"):
        Forage(size=6)
