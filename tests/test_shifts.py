"""Each shift, by hand: what it shows, pays and does; how its strength is set; what it refuses."""

from __future__ import annotations

import math

import gymnasium
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlplastic import options
from rlplastic.envs import orders
from rlplastic.envs.copies import Copies, Transition
from rlplastic.envs.moments import Draws, Moment
from rlplastic.envs.schedules import Cyclic, Listed
from rlplastic.envs.shifts import Shift
from rlplastic.envs.shifts_action import ActionInversion, ActionPermutation, DeadAction, Sticky
from rlplastic.envs.stream import Stream
from rlplastic.errors import UsageError

Box, Discrete = gymnasium.spaces.Box, gymnasium.spaces.Discrete


class Tape(Copies):
    """Shows how many steps each copy has taken in its episode, notes the actions that it gets."""

    def __init__(self, copies=2, shows=None, takes=None, ends_at=(10**9,), pays=None):
        self.num_copies = copies
        self.observation_space = Box(-1e6, 1e6, (2,), np.float32) if shows is None else shows
        self.action_space = Discrete(4) if takes is None else takes
        self.ends_at = np.broadcast_to(ends_at, copies)
        self.pays = pays or (lambda age: age)
        self.done = []

    def show(self):
        space = self.observation_space
        step = self.age.reshape(-1, *(1,) * len(space.shape)).astype(space.dtype)
        return np.zeros((self.num_copies, *space.shape), space.dtype) + step

    def reset(self, seeds=None):
        self.age = np.zeros(self.num_copies)
        return self.show()

    def step(self, actions):
        self.done.append(np.array(actions))
        self.age += 1
        final, reward, ended = self.show(), self.pays(self.age.copy()), self.age == self.ends_at
        self.age[ended] = 0
        never = np.zeros_like(ended)
        return Transition(self.show(), reward.astype(np.float64), ended, never, final)


def stream_of(base, *shifts, worlds=(1,), period=12 * 10**9, **more):
    return Stream(base, shifts, Listed(period=period, worlds=worlds), **more)


def bind(shift, base=None, seed=3):
    return shift.bind(Tape() if base is None else base, seed, 0)


def steps(stream, number, actions=None):
    """Observations, rewards and ends of so many steps."""
    for step in range(number):
        given = np.zeros(stream.num_envs, int) if actions is None else actions[step]
        yield stream.step(given)


# What random and remembering shifts are given


class Diary(Shift):
    """Notes the moments it is called for, and counts the steps of each episode."""

    on = "observation"
    name = "diary"

    def memory(self, copies):
        return {"count": np.zeros(copies)}

    def reward(self, reward, world, observation):
        now = self.now
        self.kept("count")[now.copies] += 1
        self.__dict__.setdefault("notes", []).append(
            (now.event, now.copies.tolist(), now.last.tolist(), now.step)
        )
        return self.kept("count")[now.copies] + 0.0 * reward

    def observation(self, frames, world):
        drawn = [rng.random() for rng in self.generators()]
        return np.stack([frames[:, 0], np.array(drawn, frames.dtype)], axis=1)


def test_a_shift_is_told_which_copies_it_is_called_for_and_which_end():
    stream = stream_of(
        Tape(3, ends_at=(2, 3, 10)), Diary(), worlds=(0, 1), period=6, boundary="episode"
    )
    stream.reset()
    rewards = [reward.tolist() for _, reward, _, _ in steps(stream, 5)]
    # phase 1 begins after two steps: copy 0 enters it then, copy 1 one step later, copy 2 never
    notes = stream.shifts[0].__dict__["notes"][1:]  # the first is of the rehearsal
    assert notes == [
        ("reward", [0], [False], 3),
        ("reward", [0, 1], [True, False], 4),
        ("reward", [0, 1], [False, False], 5),
    ]
    assert rewards == [[1, 1, 1], [2, 2, 2], [1, 3, 3], [2, 1, 4], [1, 2, 5]]


@pytest.mark.parametrize("boundary", ["truncate", "episode", "step"])
def test_memory_is_cleared_when_an_episode_or_a_world_begins(boundary):
    stream = stream_of(Tape(1, ends_at=5), Diary(), worlds=(1, 2), period=3, boundary=boundary)
    stream.reset()
    rewards = [float(reward[0]) for _, reward, _, _ in steps(stream, 7)]
    assert (
        rewards
        == {
            "truncate": [1, 2, 3, 1, 2, 3, 1],
            "episode": [1, 2, 3, 4, 5, 1, 2],
            "step": [1, 2, 3, 1, 2, 1, 2],
        }[boundary]
    )
    lasts = [last for _, _, (last,), _ in stream.shifts[0].__dict__["notes"][1:]]
    assert (
        np.flatnonzero(lasts).tolist()
        == {
            "truncate": [2, 5],
            "episode": [4],
            "step": [2, 4],
        }[boundary]
    )
    stream.reset()
    assert [float(reward[0]) for _, reward, _, _ in steps(stream, 2)] == [1, 2]


def test_what_is_drawn_depends_on_seed_copy_and_step_alone():
    vector = stream_of(Tape(3), Diary(), seed=4)
    drawn = np.stack([vector.reset(), *(obs for obs, *_ in steps(vector, 4))])[..., 1]
    assert len(np.unique(drawn)) == drawn.size
    for copy in range(3):
        alone = stream_of(Tape(1), Diary(), seed=4, ticks=3, first_copy=copy)
        again = np.stack([alone.reset(), *(obs for obs, *_ in steps(alone, 4))])[..., 1]
        np.testing.assert_array_equal(again[:, 0], drawn[:, copy])
    np.testing.assert_array_equal(vector.reset([7, 8, 9]), vector.reset([7, 8, 9]))
    assert not np.array_equal(vector.reset(), vector.reset())  # an unseeded one goes on
    other = stream_of(Tape(3), Diary(), seed=5)
    assert not np.isin(other.reset()[:, 1], drawn).any()
    twice = stream_of(Tape(1), Diary(), Diary(), seed=4)
    twice.reset()
    first, second = (shift.generators()[0].random() for shift in twice.shifts)
    assert first != second  # two shifts of a stream draw differently


def test_generators_stand_where_the_moment_says_whatever_was_drawn_before():
    def first(draws, step, event="reward"):
        never = np.zeros(1, dtype=bool)
        return draws.at(Moment(np.array([1]), step, event, never))[0].random()

    plain, used = Draws([5, 6], 0), Draws([5, 6], 0)
    used.at(Moment(np.array([0, 1]), 2, "action", np.zeros(2, bool)))[1].integers(7, size=33)
    assert first(plain, 3) == first(used, 3)
    assert (
        len({first(plain, step, event) for step in range(4) for event in ("action", "first")}) == 8
    )


def test_a_phase_begun_draws_what_the_phase_come_to_does():
    def make():
        return stream_of(Tape(2), Diary(), worlds=(0, 1, 2), period=8, seed=1)

    arrived, begun = make(), make()
    arrived.reset()
    *_, (obs, _, _, _) = steps(arrived, 8)
    begun.begin(2)
    np.testing.assert_array_equal(obs, begun.reset())
    for a, b in zip(steps(arrived, 3), steps(begun, 3), strict=True):
        np.testing.assert_array_equal(a[0], b[0])


# Actions


def test_an_order_of_two_actions_is_their_exchange():
    base = Tape(1, takes=Discrete(2, start=5))
    stream = Stream(base, [ActionPermutation()], Cyclic(period=2, phases=3, worlds=2))
    stream.reset()
    list(steps(stream, 6, np.array([[5], [6]] * 3)))
    assert np.concatenate(base.done).tolist() == [5, 6, 6, 5, 5, 6]
    with pytest.raises(UsageError, match="has 2 worlds"):
        stream_of(base, ActionPermutation(), worlds=(0, 1, 2))


@given(places=st.integers(2, 40), share=st.floats(0.001, 1), seed=st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_orders_are_bijections_that_move_exactly_the_share(places, share, seed):
    moved = orders.moving(places, share)
    order = orders.draw(np.random.default_rng(seed), places, moved)
    assert sorted(order) == list(range(places))
    assert (order != np.arange(places)).sum() == moved
    assert moved == max(2, round(share * places))


@pytest.mark.parametrize(("places", "moved"), [(2, 2), (4, 2), (4, 3), (4, 4), (5, 3)])
def test_every_order_is_drawn_and_counted(places, moved):
    drawn = {tuple(orders.draw(np.random.default_rng(seed), places, moved)) for seed in range(1500)}
    assert len(drawn) == orders.number_of(places, moved)


def test_actions_are_permuted_by_the_worlds_order_and_every_order_has_a_world():
    for share, worlds in ((1.0, 10), (0.5, 7)):  # 9 derangements of 4; 6 exchanges of two
        bound = bind(ActionPermutation(share=share))
        assert bound.worlds == worlds
        found = {
            tuple(bound.action(np.arange(4), np.full(4, w)).tolist()) for w in range(1, worlds)
        }
        assert len(found) == worlds - 1
        assert (0, 1, 2, 3) not in found
    mixed = bound.action(np.array([0, 1]), np.array([2, 1]))
    assert mixed.tolist() == [
        bound.content(np.array([2]))[0][0],
        bound.content(np.array([1]))[0][1],
    ]


def test_sticky_repeats_what_was_done_last_at_its_rate_and_never_at_a_beginning():
    base = Tape(2, ends_at=50)
    stream = stream_of(base, Sticky(probability=0.3), seed=2)
    stream.reset()
    chosen = np.random.default_rng(0).integers(4, size=(4000, 2))
    list(steps(stream, 4000, chosen))
    done = np.stack(base.done)
    np.testing.assert_array_equal(done[::50], chosen[::50])
    for step in range(4000):
        for copy in range(2):
            assert done[step, copy] in {chosen[step, copy], done[step - 1, copy]}
    other = done != chosen
    # of the steps that are not the first, 0.3 stick, and 3/4 of those to another action
    assert other.sum() / (8000 * 0.98) == pytest.approx(0.3 * 0.75, abs=0.015)
    assert not np.array_equal(other[:, 0], other[:, 1])


def test_sticky_takes_continuous_actions_whole():
    base = Tape(1, takes=Box(-1, 1, (3,), np.float32))
    stream = stream_of(base, Sticky(probability=0.9))
    stream.reset()
    chosen = np.random.default_rng(0).uniform(-1, 1, (40, 1, 3)).astype(np.float32)
    list(steps(stream, 40, chosen))
    done = np.concatenate(base.done)
    assert done.dtype == np.float32
    assert len(np.unique(done, axis=0)) < 15
    assert {tuple(row) for row in done} <= {tuple(row) for row in chosen[:, 0]}


def test_inverted_actions_by_hand():
    base = Tape(2, takes=Box(np.array([-1, 0], np.float32), np.array([1, 4], np.float32)))
    bound = bind(ActionInversion(), base)
    assert bound.worlds == 2
    actions = np.array([[0.25, 1.0], [-1.0, 4.0]], np.float32)
    inverted = bound.action(actions, np.ones(2, int))
    np.testing.assert_array_equal(inverted, [[-0.25, 3.0], [1.0, 0.0]])
    assert inverted.dtype == np.float32
    half = bind(ActionInversion(share=0.5), base)
    assert half.worlds == 3  # one of the two dimensions
    both = [half.action(actions, np.full(2, world)).tolist() for world in (1, 2)]
    assert sorted(both) == [[[-0.25, 1.0], [1.0, 4.0]], [[0.25, 3.0], [-1.0, 0.0]]]


@given(st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=6))
def test_an_action_inverted_twice_is_the_action(values):
    bound = bind(ActionInversion(), Tape(takes=Box(-2, 2, (len(values),), np.float32)))
    actions, worlds = np.array([values], np.float32), np.ones(1, int)
    np.testing.assert_array_equal(bound.action(bound.action(actions, worlds), worlds), actions)


def test_dead_actions_do_what_stands_for_nothing():
    bound = bind(DeadAction(dead=2, instead=1))
    assert bound.worlds == 1 + math.comb(3, 2)
    seen = [tuple(bound.action(np.arange(4), np.full(4, w)).tolist()) for w in (1, 2, 3)]
    assert sorted(seen) == [(0, 1, 1, 1), (1, 1, 1, 3), (1, 1, 2, 1)]
    base = Tape(takes=Box(np.array([-1, 0], np.float32), np.array([1, 4], np.float32)))
    bound = bind(DeadAction(), base)
    assert bound.worlds == 3
    seen = [bound.action(np.array([[0.5, 3.5]], np.float32), np.array([w])) for w in (1, 2)]
    assert sorted(one[0].tolist() for one in seen) == [[0.0, 3.5], [0.5, 2.0]]


# What does not fit, and what breaks the rules


@pytest.mark.parametrize(
    ("shift", "base", "words"),
    [
        (ActionPermutation(), Tape(takes=Box(-1, 1, (2,))), "at least two discrete actions"),
        (ActionInversion(), Tape(), "continuous actions with bounds"),
        (ActionInversion(), Tape(takes=Box(-np.inf, np.inf, (2,))), "actions with bounds"),
        (DeadAction(), Tape(takes=Discrete(2)), "at least 3 actions, so that 1 dead leave"),
        (DeadAction(dead=3), Tape(), "at least 5 actions"),
        (DeadAction(instead=4), Tape(), "have an action 4"),
        (DeadAction(), Tape(takes=Box(-1, 1, (1,))), "at least 2 dimensions"),
    ],
)
def test_a_shift_that_does_not_fit_says_what_it_needs(shift, base, words):
    with pytest.raises(UsageError, match=words) as error:
        stream_of(base, shift)
    assert f"shift {shift.name!r} needs" in str(error.value)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"name": "sticky", "probability": 1.0}, "probability = 1.0: input should be less than 1"),
        ({"name": "action-permutation", "share": 0.0}, "greater than 0"),
        ({"name": "dead-action", "dead": 0}, "greater than or equal to 1"),
    ],
)
def test_strengths_out_of_range_are_refused(spec, words):
    with pytest.raises(UsageError, match=words):
        options.build("shift", spec, "test")


def test_an_action_that_the_base_does_not_take_is_found_before_the_first_step():
    class Beyond(Shift):
        on = "action"
        name = "beyond"

        def action(self, action, world):
            return action + 1

    class Lost(Beyond):
        def action(self, action, world):
            return action.astype(np.float64)

    with pytest.raises(UsageError, match=r"action\(\) leaves Discrete\(4\) in world 1"):
        stream_of(Tape(), Beyond())
    with pytest.raises(UsageError, match=r"action\(\) was given int64 \(2,\) and returned float64"):
        stream_of(Tape(), Lost())
    with pytest.raises(UsageError, match="leaves Box"):
        stream_of(Tape(takes=Box(-1, 1, (2,), np.float32)), Beyond())
    stream_of(Tape(), Beyond(), worlds=(0,))  # never done
