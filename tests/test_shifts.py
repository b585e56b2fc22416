"""Each shift, by hand: what it shows, pays and does; how its strength is set; what it refuses."""

from __future__ import annotations

import math
import tracemalloc

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
from rlplastic.envs.shifts_images import Blur, Brightness, Channels, Occlusion, Pixels, Rotations
from rlplastic.envs.shifts_observation import Permutation, Scale
from rlplastic.envs.shifts_reward import RewardDelay, RewardNoise, RewardOffset, Sparse, Values
from rlplastic.envs.shifts_sensor import Delay, Dropout, Noise
from rlplastic.envs.stream import Stream
from rlplastic.errors import UsageError

Box, Discrete = gymnasium.spaces.Box, gymnasium.spaces.Discrete
FRAMES = Box(0, 255, (3, 6, 6), np.uint8)
ONE, TWO = np.ones(1, int), np.full(1, 2)


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


def test_numbers_drawn_ahead_are_those_of_the_step_whatever_the_order_of_asking():
    def ask(draws, step, copies=(0, 1, 2), event="action", what="random"):
        rows = np.array(copies)
        return draws.one(Moment(rows, step, event, np.zeros(len(rows), bool)), what)

    forward, backward = Draws([5, 6, 7], 0), Draws([5, 6, 7], 0)
    there = np.array([ask(forward, step) for step in range(200)])
    back = np.array([ask(backward, step) for step in range(199, -1, -1)])[::-1]
    np.testing.assert_array_equal(there, back)
    assert len(np.unique(there)) == 600
    np.testing.assert_array_equal(ask(forward, 70, copies=(2, 0)), there[70, [2, 0]])
    np.testing.assert_array_equal(ask(Draws([9, 6], 0), 130, copies=(1,)), there[130, [1]])
    forward.at(Moment(np.array([0]), 70, "action", np.zeros(1, bool)))[0].random(9)
    np.testing.assert_array_equal(ask(forward, 199), there[199])
    others = [ask(forward, 70, event="reward"), ask(Draws([5, 6, 7], 1), 70)]
    assert not np.isin(others, there).any()
    normal = np.array([ask(forward, step, what="standard_normal") for step in range(2000)])
    assert normal.std() == pytest.approx(1.0, abs=0.04)
    assert normal.mean() == pytest.approx(0.0, abs=0.05)


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


# Vectors


def test_features_are_permuted_by_the_worlds_order_within_the_union_of_their_bounds():
    low, high = np.array([-1, -2, 0, 0], np.float32), np.array([1, 2, 9, np.inf], np.float32)
    base = Tape(shows=Box(low, high))
    for share, worlds, moved in ((1.0, 10, 4), (0.5, 7, 2)):
        bound = bind(Permutation(share=share), base)
        assert bound.worlds == worlds
        given = np.array([[0.5, 1.5, 7.0, 100.0]], np.float32)
        for world in range(1, worlds):
            seen = bound.observation(given, np.array([world]))
            assert seen.dtype == np.float32
            assert sorted(seen[0]) == sorted(given[0])
            assert (seen != given).sum() == moved
            np.testing.assert_array_equal(seen[0], given[0][bound.content(np.array([world]))[0]])
            assert bound.space(base.observation_space).contains(seen[0])
    assert bound.space(base.observation_space) == Box(-2.0, np.inf, (4,), np.float32)


def test_scaled_observations_by_hand_and_their_spread():
    bound = bind(Scale(sigma=0.5))
    factors = bound.content(ONE)[0]
    seen = bound.observation(np.array([[1.0, -4.0], [0.0, 2.0]], np.float32), np.ones(2, int))
    np.testing.assert_allclose(
        seen, [[factors[0], -4 * factors[1]], [0, 2 * factors[1]]], rtol=1e-6
    )
    assert seen.dtype == np.float32
    logs = np.log([bound.content(np.array([world]))[0] for world in range(1, 1500)])
    assert np.mean(logs) == pytest.approx(0.0, abs=0.03)
    assert np.std(logs) == pytest.approx(0.5, abs=0.02)


def test_noise_on_vectors_has_the_spread_of_each_dimension():
    base = Tape(2)
    base.spread = np.array([1.0, 10.0])
    stream = stream_of(base, Noise(sigma=0.2), seed=1)
    stream.reset()
    seen = np.stack([obs - base.show() for obs, *_ in steps(stream, 3000)])
    np.testing.assert_allclose(seen.std(axis=(0, 1)), [0.2, 2.0], rtol=0.05)
    np.testing.assert_allclose(seen.mean(axis=(0, 1)), [0, 0], atol=0.12)
    flat = seen[..., 0]
    assert abs(np.corrcoef(flat[:, 0], flat[:, 1])[0, 1]) < 0.08  # copies
    assert abs(np.corrcoef(flat[1:, 0], flat[:-1, 0])[0, 1]) < 0.08  # steps


# Images


def test_noise_on_bytes_is_gaussian_cut_at_the_ends():
    base = Tape(1, shows=Box(0, 255, (1, 40, 40), np.uint8))
    bound = bind(Noise(sigma=0.1), base)
    moves = bound.observation(np.full((1, 1, 40, 40), 128, np.uint8), ONE).astype(int) - 128
    assert moves.std() == pytest.approx(25.5, rel=0.06)
    assert abs(moves.mean()) < 2
    assert np.mean(np.abs(moves) < 25.5) == pytest.approx(0.683, abs=0.04)
    for end in (0, 255):
        seen = bound.observation(np.full((1, 1, 40, 40), end, np.uint8), ONE)
        assert seen.dtype == np.uint8
        assert np.mean(seen == end) == pytest.approx(0.5, abs=0.05)  # no byte goes round


@pytest.mark.parametrize("shift", [Pixels(), Pixels(share=0.1), Channels(), Rotations()])
def test_images_whose_parts_change_place_lose_nothing(shift):
    base = Tape(shows=FRAMES)
    bound = bind(shift, base)
    frames = np.arange(2 * 108, dtype=np.uint8).reshape(2, 3, 6, 6)
    seen = bound.observation(frames, np.array([1, 2]))
    assert seen.dtype == np.uint8
    assert not np.array_equal(seen, frames)
    for one, two in zip(seen, frames, strict=True):
        np.testing.assert_array_equal(np.sort(one, axis=None), np.sort(two, axis=None))
        if not isinstance(shift, Channels):  # within each channel, in the same way
            np.testing.assert_array_equal(one[1].astype(int) - one[0], 36)


def test_the_share_of_pixels_is_the_share_that_moves():
    base = Tape(shows=FRAMES)
    frames = np.arange(108, dtype=np.uint8).reshape(1, 3, 6, 6)
    for share, moved in ((1.0, 36), (0.25, 9), (0.01, 2)):
        seen = bind(Pixels(share=share), base).observation(frames, ONE)
        assert (seen != frames).sum() == 3 * moved


def test_memory_of_a_permutation_does_not_grow_with_the_phases():
    bound = bind(Pixels(), Tape(1, shows=Box(0, 255, (1, 84, 84), np.uint8)))
    frames = np.zeros((1, 1, 84, 84), np.uint8)
    held = []
    tracemalloc.start()
    for world in range(1, 201):
        bound.observation(frames, np.array([world]))
        held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    with pytest.raises(ValueError, match="read-only"):  # all rows of a world share it
        bound.content(np.ones(2, int))[0, 0] = 1
    order = bound.content(ONE)[0].nbytes
    assert held[199] - held[9] < order  # 190 orders later, not even one more is held


def test_channels_by_hand():
    bound = bind(Channels(), Tape(shows=FRAMES))
    assert bound.worlds == 3  # both cycles of three
    frames = np.arange(3, dtype=np.uint8).reshape(1, 3, 1, 1) * np.ones((1, 3, 6, 6), np.uint8)
    seen = [bound.observation(frames, world)[0, :, 2, 2].tolist() for world in (ONE, TWO)]
    assert sorted(seen) == [[1, 2, 0], [2, 0, 1]]


def test_rotations_are_quarters_to_the_left_and_four_are_none():
    bound = bind(Rotations(), Tape(shows=Box(0, 255, (1, 2, 2), np.uint8)))
    frames = np.array([[[[1, 2], [3, 4]]]], np.uint8)
    turned = [bound.observation(frames, np.array([w]))[0, 0].tolist() for w in (1, 2, 3)]
    assert turned == [[[2, 4], [1, 3]], [[4, 3], [2, 1]], [[3, 1], [4, 2]]]
    for _ in range(4):
        frames = bound.observation(frames, ONE)
    assert frames[0, 0].tolist() == [[1, 2], [3, 4]]


def test_brightness_is_monotone_loses_levels_and_says_so():
    base = Tape(shows=FRAMES)
    bound = bind(Brightness(), base)
    tables = np.array([bound.content(np.array([world]))[0] for world in range(1, 400)])
    assert (np.diff(tables.astype(int), axis=1) >= 0).all()
    kept = [len(np.unique(table)) for table in tables]
    assert min(kept) >= 148  # as its description says
    assert min(kept) < 200
    frames = np.arange(108, dtype=np.uint8).reshape(1, 3, 6, 6)
    np.testing.assert_array_equal(bound.observation(frames, ONE), tables[0][frames])
    only = bind(Brightness(brightness=0.2, contrast=1.0), base)
    assert only.worlds == 103
    moves = [only.content(np.array([w]))[0][128] - 128.0 for w in range(1, 103)]
    assert sorted(moves) == [*range(-51, 0), *range(1, 52)]


def test_occlusion_hides_a_rectangle_of_its_size_in_every_place():
    bound = bind(Occlusion(share=0.5), Tape(shows=FRAMES))
    assert bound.worlds == 1 + 16
    frames = np.full((1, 3, 6, 6), 9, np.uint8)
    found = set()
    for world in range(1, 17):
        hidden = bound.observation(frames, np.array([world])) == 127
        assert hidden.sum() == 3 * 9
        _, _, down, across = np.nonzero(hidden)
        assert (np.ptp(down), np.ptp(across)) == (2, 2)
        found.add((down.min(), across.min()))
    assert len(found) == 16
    assert (frames == 9).all()


def test_blur_by_hand():
    base = Tape(shows=Box(0, 255, (1, 4, 4), np.uint8))
    frames = np.zeros((1, 1, 4, 4), np.uint8)
    frames[0, 0, 1, 1] = 168
    seen = bind(Blur(passes=1), base).observation(frames, ONE)
    assert seen[0, 0].tolist() == [
        [11, 21, 11, 0],  # 10.5 is rounded
        [21, 42, 21, 0],
        [11, 21, 11, 0],
        [0, 0, 0, 0],
    ]
    frames[:] = 255  # the largest sum does not overflow, and the edge is repeated
    assert (bind(Blur(passes=9), base).observation(frames, ONE) == 255).all()
    frames[:] = 0
    frames[0, 0, 0, 0] = 160
    assert bind(Blur(passes=1), base).observation(frames, ONE)[0, 0, :2, :2].tolist() == [
        [90, 30],
        [30, 10],
    ]


# Lost and late observations


def test_an_observation_delayed_is_the_one_of_so_many_steps_ago():
    stream = stream_of(Tape(2, ends_at=(6, 4)), Delay(steps=2), worlds=(1,), period=14)
    seen, ends = [stream.reset()[:, 0]], []
    for obs, _, _, infos in steps(stream, 8):
        seen.append(obs[:, 0])
        ends += [info["terminal_observation"][0] for info in infos if info]
    first, second = np.array(seen).T.tolist()
    # the end of the phase after step 7 restarts both
    assert first == [0, 0, 0, 1, 2, 3, 0, 0, 0]
    assert second == [0, 0, 0, 1, 0, 0, 0, 0, 0]
    assert ends == [2, 4, 0, 1]


def test_a_delay_longer_than_the_episode_shows_its_first_frame_only():
    stream = stream_of(Tape(1, shows=FRAMES, ends_at=3), Delay(steps=5))
    assert (np.stack([stream.reset(), *(obs for obs, *_ in steps(stream, 9))]) == 0).all()


def test_a_lost_frame_is_replaced_by_the_last_that_was_shown():
    stream = stream_of(Tape(2, ends_at=10**8), Dropout(probability=0.4), seed=6)
    stream.reset()
    seen = np.stack([obs[:, 0] for obs, *_ in steps(stream, 4000)])
    now = np.arange(1, 4001)[:, None]
    lost = seen != now
    np.testing.assert_array_equal(seen[1:][lost[1:]], seen[:-1][lost[1:]])
    assert lost.mean() == pytest.approx(0.4, abs=0.02)
    assert np.mean(lost[:, 0] & lost[:, 1]) == pytest.approx(0.16, abs=0.02)


def test_a_lost_frame_may_be_blank_and_then_even_the_first():
    base = Tape(1, shows=Box(3, 255, (2,), np.uint8), ends_at=2)
    base.show = lambda: np.full((1, 2), 7, np.uint8)
    stream = stream_of(base, Dropout(probability=0.5, shows="blank"))
    seen = np.concatenate([stream.reset(), *(obs for obs, *_ in steps(stream, 600))])
    assert set(np.unique(seen)) == {3, 7}  # 3 is the nearest to 0 in the space
    assert np.mean(seen[::2] == 3) == pytest.approx(0.5, abs=0.1)  # firsts
    kept = stream_of(base, Dropout(probability=0.5))
    assert (np.concatenate([kept.reset(), *(obs for obs, *_ in steps(kept, 50))]) == 7).all()


def test_the_padding_of_a_stack_leaves_no_trace_in_what_is_remembered():
    base = Tape(1, shows=Box(0, 255, (1, 2, 2), np.uint8), ends_at=4)
    base.stack = 3
    base.show = lambda: np.full((1, 1, 2, 2), 50 + int(base.age[0]), np.uint8)
    stream = stream_of(base, Delay(steps=1))
    seen = [stream.reset()] + [obs for obs, *_ in steps(stream, 6)]
    assert [one[0, :, 0, 0].tolist() for one in seen] == [
        [0, 0, 50],
        [0, 50, 50],
        [50, 50, 51],
        [50, 51, 52],
        [0, 0, 50],  # the next episode
        [0, 50, 50],
        [50, 50, 51],
    ]


# Rewards


def paid(stream, number):
    return np.array([reward for _, reward, _, _ in steps(stream, number)]).T.tolist()


def test_the_constant_of_a_world_is_added_to_every_reward():
    stream = stream_of(
        Tape(2, pays=np.zeros_like), RewardOffset(sigma=2.0), worlds=(0, 1, 2), period=4
    )
    stream.reset()
    one, two = (float(stream.shifts[0].content(world)[0]) for world in (ONE, TWO))
    np.testing.assert_allclose(paid(stream, 6), [[0, 0, one, one, two, two]] * 2, rtol=1e-6)
    bound = bind(RewardOffset(sigma=2.0))
    drawn = [float(bound.content(np.array([world]))[0]) for world in range(1, 1500)]
    assert np.std(drawn) == pytest.approx(2.0, abs=0.1)


def test_noise_on_rewards():
    stream = stream_of(Tape(2, pays=np.ones_like), RewardNoise(sigma=0.5), seed=3)
    stream.reset()
    first, second = np.array(paid(stream, 4000))
    for one in (first, second):
        assert one.mean() == pytest.approx(1.0, abs=0.03)
        assert one.std() == pytest.approx(0.5, abs=0.02)
        assert abs(np.corrcoef(one[1:], one[:-1])[0, 1]) < 0.05
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.05


@pytest.mark.parametrize(
    ("shift", "expected"),
    [
        # 1, 2, 3, ... in episodes of five steps and of two, cut by the phase after seven
        (RewardDelay(steps=2), [[0, 0, 1, 2, 3 + 4 + 5, 0, 1 + 2], [0, 3, 0, 3, 0, 3, 1]]),
        (RewardDelay(steps=9), [[0, 0, 0, 0, 15, 0, 3], [0, 3, 0, 3, 0, 3, 1]]),
        (Sparse(every=3), [[0, 0, 6, 0, 9, 0, 3], [0, 3, 0, 3, 0, 3, 1]]),
        (Sparse(every=0), [[0, 0, 0, 0, 15, 0, 3], [0, 3, 0, 3, 0, 3, 1]]),
    ],
)
def test_late_rewards_are_all_paid_by_the_end(shift, expected):
    episodes = []
    stream = stream_of(
        Tape(2, ends_at=(5, 2)), shift, worlds=(1,), period=14, listener=episodes.append
    )
    stream.reset()
    assert paid(stream, 7) == expected
    assert [e.task_return for e in episodes] == [e.base_return for e in episodes]
    assert len(episodes) == 6


@given(
    pays=st.lists(st.integers(-9, 9), min_size=30, max_size=30),
    ends=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    period=st.integers(1, 12),
    late=st.one_of(
        st.builds(RewardDelay, steps=st.integers(1, 7)),
        st.builds(Sparse, every=st.sampled_from([0, 2, 3, 5])),
    ),
    boundary=st.sampled_from(["truncate", "step"]),
)
@settings(max_examples=60, deadline=None)
def test_no_reward_is_lost_or_made_by_paying_late(pays, ends, period, late, boundary):
    episodes, base = [], Tape(2, ends_at=ends)
    base.pays = lambda age: np.full(2, float(pays[len(base.done) % 30]))
    worlds = tuple(range(2)) * 6
    stream = stream_of(
        base, late, worlds=worlds, period=2 * period, boundary=boundary, listener=episodes.append
    )
    stream.reset()
    list(steps(stream, 60))
    for episode in episodes:
        assert episode.task_return == episode.base_return


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
        (Permutation(), Tape(shows=Discrete(5)), "a vector of at least two features"),
        (Permutation(), Tape(shows=FRAMES), r"for images: pixels, tiles"),
        (Permutation(), Tape(shows=Box(-1, 1, (1,))), "at least two features"),
        (Scale(), Tape(shows=FRAMES), "for images: brightness"),
        (Pixels(), Tape(), "needs images"),
        (Channels(), Tape(shows=Box(0, 255, (1, 4, 4), np.uint8)), "at least two channels"),
        (Rotations(), Tape(), "needs images"),
        (Rotations(), Tape(shows=Box(0, 255, (1, 4, 5), np.uint8)), "square images"),
        (Brightness(), Tape(shows=Box(0, 1, (1, 4, 4), np.uint8)), "bytes from 0 to 255"),
        (Brightness(brightness=0, contrast=1), Tape(shows=FRAMES), "to change anything"),
        (Blur(), Tape(shows=Box(0, 1, (1, 4, 4), np.float32)), "bytes from 0 to 255"),
        (Occlusion(share=0.9), Tape(shows=Box(0, 1, (1, 2, 2), np.float32)), "a smaller share"),
        (Noise(), Tape(shows=Box(0, 9, (2,), np.int64)), "a vector of floats, or images of bytes"),
        (Noise(sigma=1e-4), Tape(shows=FRAMES), "0.0001 moves none"),
        (Delay(), Tape(shows=Discrete(5)), "arrays of numbers"),
        (Sparse(every=1), Tape(), "every = 0 or at least 2"),
        (Values(increments=(1.0, 1.0), to=(2.0, 3.0)), Tape(), "increments that differ"),
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
        ({"name": "noise", "sigma": 0.0}, "greater than 0"),
        ({"name": "pixels", "share": 1.5}, "less than or equal to 1"),
        ({"name": "delay", "steps": 0}, "greater than or equal to 1"),
        ({"name": "dropout", "shows": "nothing"}, "'last' or 'blank'"),
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
