"""The world changes exactly when the schedule says, and the boundary is seen as it should be."""

from __future__ import annotations

import itertools

import gymnasium
import numpy as np
import pytest
import torch
from bases import Counter, Frames, steps
from hypothesis import given, settings
from hypothesis import strategies as st

import rlplastic.envs
from rlplastic.agents.dqn import DQN
from rlplastic.agents.ppo import PPO
from rlplastic.envs.control import CartPole, MountainCar
from rlplastic.envs.copies import GymCopies
from rlplastic.envs.scalar import ShiftedEnv, SingleCopy
from rlplastic.envs.schedules import Cyclic, Listed, Periodic, phase_at
from rlplastic.envs.shifts import Shift
from rlplastic.envs.shifts_observation import Flips, Inversion, Offset, Tiles
from rlplastic.envs.shifts_reward import Goal, Region, Sign, TargetScale, Values
from rlplastic.envs.stream import Stream
from rlplastic.envs.toy import Corridor, Cue
from rlplastic.errors import UsageError

torch.set_num_threads(1)


@given(
    copies=st.integers(1, 8),
    per_phase=st.integers(1, 12),
    phases=st.integers(1, 5),
    ends_at=st.integers(1, 15),
)
@settings(max_examples=150, deadline=None)
def test_every_copy_is_truncated_at_the_last_step_of_each_phase_and_only_there(
    copies, per_phase, phases, ends_at
):
    schedule = Periodic(period=per_phase * copies, phases=phases)
    seen = []
    stream = Stream(Counter(copies, ends_at), [], schedule, seed=7, listener=seen.append)
    stream.reset()
    since = 0
    for step, (obs, _, dones, infos) in enumerate(steps(stream, per_phase * (phases + 1)), 1):
        since += 1
        boundary = step <= per_phase * phases and step % per_phase == 0
        ended = since == ends_at
        assert dones.all() == (boundary or ended) == dones.any()
        assert stream.phase == min(step // per_phase, phases - 1)
        assert stream.phase == phase_at(schedule, stream.clock)
        if boundary:
            key = step // per_phase
            assert (obs[:, 1] == np.array(stream._derived_seeds(key)) % 1000).all()
        for info in infos:
            if dones.any():
                # a real termination wins over the boundary
                assert info["TimeLimit.truncated"] == (not ended)
                assert info["terminal_observation"][0] == since
                assert info["episode"]["l"] == since
        since = 0 if dones.any() else since
    for episode in seen:
        assert (
            episode.end - episode.begin == episode.length * copies == episode.task_return * copies
        )
        assert episode.phase == phase_at(schedule, episode.begin)
        assert episode.cut == (episode.length < ends_at)


def test_at_the_boundary_the_old_world_shows_the_end_and_the_new_one_the_beginning():
    stream = Stream(Counter(2), [Offset(sigma=3.0)], Periodic(period=10, phases=3), seed=1)
    stream.reset()
    *_, (obs, _, dones, infos) = steps(stream, 5)
    assert dones.all()
    assert infos[0]["terminal_observation"][0] == 5  # world 0: not moved
    first = obs - [[0, seed % 1000] for seed in stream._derived_seeds(1)]
    offset = stream.shifts[0].content(np.array([1]))[0]
    np.testing.assert_allclose(first, [offset, offset])
    *_, (obs, _, dones, infos) = steps(stream, 5)
    np.testing.assert_allclose(
        infos[1]["terminal_observation"],
        [5 + offset[0], stream._derived_seeds(1)[1] % 1000 + offset[1]],
    )
    other = stream.shifts[0].content(np.array([2]))[0]
    assert not np.allclose(other, offset)
    np.testing.assert_allclose(obs[0], np.array([0, stream._derived_seeds(2)[0] % 1000]) + other)


def test_the_last_phase_ends_in_its_own_world():
    stream = Stream(Counter(), [Offset()], Periodic(period=4, phases=2), seed=1)
    stream.reset()
    *_, (obs, _, dones, _) = steps(stream, 8)
    assert dones.all()
    assert stream.phase == 1
    offset = stream.shifts[0].content(np.array([1]))[0]
    np.testing.assert_allclose(obs[0], np.array([0, stream._derived_seeds(2)[0] % 1000]) + offset)
    assert not any(dones.any() for _, _, dones, _ in steps(stream, 20))


@pytest.mark.parametrize("boundary", ["truncate", "episode", "step"])
def test_a_stream_begun_at_a_phase_is_one_that_came_there_by_itself(boundary):
    def make():
        base = CartPole().make(4)
        schedule = Periodic(period=40, phases=4)
        return Stream(base, [Offset()], schedule, seed=5, boundary=boundary)

    arrived, begun = make(), make()
    arrived.reset()
    actions = np.random.default_rng(0).integers(2, size=(30, 4))
    for action in actions[:20]:
        obs, *_ = arrived.step(action)
    begun.begin(2)
    first = begun.reset()
    assert begun.phase == arrived.phase == 2
    if boundary == "truncate":
        np.testing.assert_array_equal(obs, first)
        for action in actions[20:]:
            for a, b in zip(arrived.step(action)[:3], begun.step(action)[:3], strict=True):
                np.testing.assert_array_equal(a, b)
    else:
        assert (begun.worlds == 2).all()


def test_world_0_is_gymnasiums_own_environment_byte_for_byte():
    for base, gym_id in ((CartPole(), "CartPole-v1"), (MountainCar(), "MountainCar-v0")):
        shifts = [Offset(), Goal()] if gym_id == "MountainCar-v0" else [Offset(), Region()]
        stream = Stream(base.make(1), shifts, Listed(period=10_000, worlds=(0,)), seed=3)
        env = gymnasium.make(gym_id)
        theirs, _ = env.reset(seed=stream._derived_seeds(0)[0])
        ours = stream.reset()
        rng = np.random.default_rng(0)
        for _ in range(700):
            assert ours[0].tobytes() == theirs.tobytes()
            assert ours.dtype == theirs.dtype
            action = rng.integers(env.action_space.n)
            ours, rewards, dones, infos = stream.step(np.array([action]))
            theirs, reward, terminated, truncated, _ = env.step(action)
            assert (rewards[0], dones[0]) == (reward, terminated or truncated)
            if dones[0]:
                assert infos[0]["terminal_observation"].tobytes() == theirs.tobytes()
                assert infos[0]["TimeLimit.truncated"] == (not terminated)
                theirs, _ = env.reset()


@pytest.mark.parametrize("boundary", ["truncate", "episode", "step"])
def test_scalar_environments_are_the_copies_of_the_vectorised_one(boundary):
    schedule = Periodic(period=120, phases=4)
    shifts = [Offset(), Region()]
    vector = Stream(CartPole().make(3), shifts[:1], schedule, seed=9, boundary=boundary)
    scalars = [
        ShiftedEnv(
            SingleCopy(CartPole().make(1)),
            shifts[:1],
            schedule,
            copies=3,
            copy=i,
            seed=9,
            boundary=boundary,
        )
        for i in range(3)
    ]
    observations = vector.reset()
    for env, observation in zip(scalars, observations, strict=True):
        np.testing.assert_array_equal(env.reset()[0], observation)
    rng = np.random.default_rng(0)
    for _ in range(160):
        actions = rng.integers(2, size=3)
        observations, rewards, dones, infos = vector.step(actions)
        for i, env in enumerate(scalars):
            obs, reward, terminated, truncated, _ = env.step(actions[i])
            assert (reward, terminated or truncated) == (rewards[i], dones[i])
            if dones[i]:
                assert truncated == infos[i]["TimeLimit.truncated"]
                np.testing.assert_array_equal(obs, infos[i]["terminal_observation"])
                obs, _ = env.reset()
            np.testing.assert_array_equal(obs, observations[i])


def test_a_real_gymnasium_environment_can_be_wrapped():
    env = ShiftedEnv(gymnasium.make("CartPole-v1"), [Offset()], Periodic(period=50, phases=3))
    obs, _ = env.reset(seed=1)
    again, _ = env.reset(seed=1)
    np.testing.assert_array_equal(obs, again)
    ends = 0
    for step in range(1, 151):
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        ends += step % 50 == 0 and (terminated or truncated)
        if terminated or truncated:
            env.reset()
    assert ends == 3


def test_ids_work_with_the_module_named_in_the_id():
    env = gymnasium.make("rlplastic.envs:rlplastic/Cue-Shifted-v0", track="reward", period=20)
    assert isinstance(env.unwrapped, ShiftedEnv)
    assert rlplastic.envs.__doc__
    with pytest.raises(UsageError, match="unknown track of Cue 'rewards'. Did you mean 'reward'"):
        gymnasium.make("rlplastic/Cue-Shifted-v0", track="rewards")
    with pytest.raises(UsageError, match="unknown option 'boundry'. Did you mean 'boundary'"):
        gymnasium.make("rlplastic/Cue-Shifted-v0", boundry="step")


def test_the_frozen_environment_of_a_world_shows_that_world_for_ever():
    stream = Stream(Counter(), [Offset()], Periodic(period=4, phases=9), seed=2)
    frozen = stream.at(3, Counter(2, ends_at=3))
    offset = stream.shifts[0].content(np.array([3]))[0]
    np.testing.assert_allclose(frozen.reset()[:, 0], [offset[0]] * 2)
    assert stream.phase == 0
    for obs, _, dones, infos in steps(frozen, 30):
        where = infos[0]["terminal_observation"] if dones[0] else obs[0]
        assert where[0] - offset[0] == pytest.approx(round(where[0] - offset[0]))
    assert frozen.phase == 0
    assert (frozen.worlds == 3).all()


def test_an_evaluation_has_the_worlds_of_its_stream_and_resets_of_its_own():
    stream = Stream(CartPole().make(1), [Offset()], Periodic(period=50, phases=3), seed=2)
    frozen = [stream.at(1, CartPole().make(5), seed=seed) for seed in (0, 0, 1)]
    offset = stream.shifts[0].content(np.array([1]))[0]
    firsts = [one.reset() for one in frozen]
    np.testing.assert_array_equal(firsts[0], firsts[1])
    assert not np.allclose(firsts[0], firsts[2])
    for first in firsts:
        assert (np.abs(first - offset) <= 0.051).all()  # CartPole starts within 0.05 of zero
    stream.begin(1)
    assert not np.allclose(firsts[0][0], stream.reset()[0])


def test_an_explicit_reset_enters_the_world_of_the_present_phase():
    stream = Stream(
        Counter(), [Sign()], Cyclic(period=4, phases=2, worlds=2), boundary="episode", seed=0
    )
    stream.reset()
    list(steps(stream, 5))
    assert (stream.phase, stream.worlds[0]) == (1, 0)
    stream.reset()
    assert stream.worlds[0] == 1


def test_seeding_from_outside_changes_nothing():
    a, b = (Stream(CartPole().make(2), [Offset()], Periodic(period=20, phases=2)) for _ in "ab")
    b.seed(1234)
    np.testing.assert_array_equal(a.reset(), b.reset())


def test_with_boundary_episode_each_copy_changes_at_its_own_reset():
    stream = Stream(
        Counter(2, ends_at=7), [Sign()], Cyclic(period=10, phases=4, worlds=2), boundary="episode"
    )
    stream.reset()
    rewards = [float(reward[0]) for _, reward, _, _ in steps(stream, 20)]
    # phases change after steps 5, 10 and 15; the copies restart after 7 (phase 1) and 14 (phase 2)
    assert rewards == [1.0] * 7 + [-1.0] * 7 + [1.0] * 6


def test_the_episodes_in_progress_at_the_end_of_a_life_are_recorded_as_cut():
    episodes = []
    schedule = Cyclic(period=10, phases=4, worlds=2)
    stream = Stream(
        Counter(2, ends_at=7), [Sign()], schedule, boundary="episode", listener=episodes.append
    )
    stream.reset()
    list(steps(stream, 10))
    stream.close_episodes()
    stream.close_episodes()  # there are none any more
    assert [(e.copy, e.length, e.cut, e.phase, e.end) for e in episodes] == [
        (0, 7, False, 0, 14),
        (1, 7, False, 0, 14),
        (0, 3, True, 1, 20),
        (1, 3, True, 1, 20),
    ]
    stream.begin(1)
    stream.reset()
    list(steps(stream, 7))
    assert [(e.length, e.cut, e.phase) for e in episodes[4:]] == [(7, False, 1)] * 2


def test_with_boundary_step_every_copy_changes_in_mid_episode():
    stream = Stream(
        Counter(2, ends_at=7), [Sign()], Cyclic(period=10, phases=4, worlds=2), boundary="step"
    )
    stream.reset()
    outcomes = list(steps(stream, 20))
    assert [float(r[0]) for _, r, _, _ in outcomes] == [1.0] * 5 + [-1.0] * 5 + [1.0] * 5 + [
        -1.0
    ] * 5
    assert [i + 1 for i, (_, _, done, _) in enumerate(outcomes) if done.any()] == [7, 14]


# Rewards


def test_returns_are_recorded_after_the_shift_and_before_clipping_and_scaling():
    seen = []
    stream = Stream(
        Counter(1, ends_at=4, pays=3.0),
        [Sign(), TargetScale(factor=5.0)],
        Cyclic(period=8, phases=2, worlds=2),
        clip_reward=True,
        listener=seen.append,
    )
    stream.reset()
    rewards = [float(reward[0]) for _, reward, _, _ in steps(stream, 16)]
    assert rewards == [1.0] * 8 + [-5.0] * 8
    assert [(e.task_return, e.base_return) for e in seen] == [(12, 12)] * 2 + [(-12, 12)] * 2


def test_values_are_exchanged_and_others_stay():
    shift = Values(increments=[5.0, 20.0], to=[-5.0, 50.0])
    paid = shift.reward(np.array([5.0, 20.0, 200.0, 0.0]), np.ones(4, int), np.zeros((4, 1)))
    np.testing.assert_array_equal(paid, [-5, 50, 200, 0])


def test_a_region_pays_on_one_side_only():
    shift = Region(dimension=0, threshold=0.0)
    observation = np.array([[-1.0], [1.0], [-1.0], [1.0]])
    paid = shift.reward(np.ones(4), np.array([1, 1, 2, 2]), observation)
    np.testing.assert_array_equal(paid, [1, 0, 0, 1])


def test_the_goal_moves_at_the_boundary():
    stream = Stream(Corridor().make(1), [Goal()], Cyclic(period=3, phases=2, worlds=2), seed=0)
    stream.reset()
    right = [float(stream.step(np.array([1]))[1][0]) for _ in range(3)]
    moved = [float(stream.step(np.array([1]))[1][0]) for _ in range(3)]
    assert (right, moved) == ([0, 0, 1], [0, 0, 0])
    left = [float(stream.step(np.array([0]))[1][0]) for _ in range(3)]
    assert left == [0, 0, 1]


def test_the_best_policy_of_one_cue_world_earns_nothing_in_the_other():
    for shift in (Inversion(), Values(increments=[0.0, 1.0], to=[1.0, 0.0])):
        seen = []
        schedule = Cyclic(period=20, phases=3, worlds=2)
        stream = Stream(Cue().make(2), [shift], schedule, seed=4, listener=seen.append)
        obs = stream.reset()
        for _ in range(30):
            obs, *_ = stream.step((obs[:, 0] > 0).astype(int))
        assert [e.task_return for e in seen] == [10, 10, 0, 0, 10, 10]


# Images


def test_each_frame_is_shifted_before_stacking_and_padded_with_the_image_of_zero():
    stream = Stream(Frames(), [Inversion()], Listed(period=8, worlds=(0, 1)), seed=0)
    obs = stream.reset()
    assert obs.shape == (2, 3, 4, 4)
    assert (obs[:, :2] == 0).all()
    *_, (obs, _, _, infos) = steps(stream, 4)
    final = infos[0]["terminal_observation"]  # world 0: frames 2, 3, 4
    assert [int(frame[0, 0]) for frame in final] == [2, 3, 4]
    assert (obs[:, :2] == 255).all()  # padding in world 1: 255 - 0
    assert [int(frame[0, 0]) for frame in obs[0]] == [255, 255, 255]
    ((obs, *_),) = steps(stream, 1)
    assert [int(frame[0, 0]) for frame in obs[0]] == [255, 255, 254]


def test_a_stack_restarts_with_its_copy():
    stream = Stream(Frames(ends_at=3), [], Periodic(period=10**6, phases=1))
    stream.reset()
    *_, (obs, _, dones, infos) = steps(stream, 3)
    assert dones.all()
    assert [int(frame[0, 0]) for frame in infos[1]["terminal_observation"]] == [1, 2, 3]
    assert (obs[:, :2] == 0).all()
    ((obs, *_),) = steps(stream, 1)
    assert [int(frame[0, 0]) for frame in obs[0]] == [0, 0, 1]


@pytest.mark.parametrize("shift", [Tiles(tiles=2), Flips(), Inversion()])
def test_image_shifts_are_bijections_of_the_pixels(shift):
    base = Frames()
    bound = shift.bind(base, 3, 0)
    base.reset()
    frames = base.show()
    shown = bound.observation(frames, np.ones(2, int))
    assert shown.shape == frames.shape
    assert shown.dtype == frames.dtype
    assert not np.array_equal(shown, frames)
    undone = np.sort(255 - shown if isinstance(shift, Inversion) else shown, axis=None)
    np.testing.assert_array_equal(undone, np.sort(frames, axis=None))


def test_flips_are_their_axes():
    frames = np.arange(16).reshape(1, 1, 4, 4).repeat(3, axis=0)
    shown = Flips().observation(frames, np.array([1, 2, 3]))
    np.testing.assert_array_equal(shown[0, 0], np.fliplr(frames[0, 0]))
    np.testing.assert_array_equal(shown[1, 0], np.flipud(frames[0, 0]))
    np.testing.assert_array_equal(shown[2, 0], np.rot90(frames[0, 0], 2))


def test_tiles_move_whole():
    bound = Tiles(tiles=2).bind(Frames(), 3, 0)
    frames = np.arange(16, dtype=np.uint8).reshape(1, 1, 4, 4)
    shown = bound.observation(frames, np.array([1]))[0, 0]
    order = bound.content(np.array([1]))[0]
    tiles = [frames[0, 0, r : r + 2, c : c + 2] for r in (0, 2) for c in (0, 2)]
    for place, (r, c) in enumerate([(0, 0), (0, 2), (2, 0), (2, 2)]):
        np.testing.assert_array_equal(shown[r : r + 2, c : c + 2], tiles[order[place]])


# Worlds


def test_consecutive_worlds_differ_and_none_is_the_unshifted_one():
    for seed in range(20):
        bound = Tiles(tiles=2).bind(Frames(), seed, 0)  # 24 orders: equal draws would happen
        orders = [tuple(bound.content(np.array([w]))[0]) for w in range(1, 24)]
        # all differ, so consecutive ones do whatever the schedule, also where it starts again
        assert {*orders, (0, 1, 2, 3)} == set(itertools.permutations(range(4)))
        fresh = Tiles(tiles=2).bind(Frames(), seed, 0)
        assert tuple(fresh.content(np.array([23]))[0]) == orders[-1]
    with pytest.raises(UsageError, match="has 24 worlds"):
        Stream(Frames(), [Tiles(tiles=2)], Periodic(period=10, phases=25))


def test_contents_depend_on_seed_and_world_alone_and_memory_does_not_grow():
    a, b = (Offset().bind(Counter(), 5, 0) for _ in "ab")
    forward = [a.content(np.array([w]))[0] for w in range(1, 50)]
    backward = [b.content(np.array([w]))[0] for w in range(49, 0, -1)][::-1]
    np.testing.assert_array_equal(forward, backward)
    assert len(a.__dict__["_contents"]) <= 4
    other = Offset().bind(Counter(), 6, 0).content(np.array([1]))[0]
    assert not np.allclose(other, forward[0])
    mixed = a.content(np.array([3, 1]))
    np.testing.assert_array_equal(mixed, [forward[2], forward[0]])


class Broken(Shift):
    """A shift whose methods are replaced."""

    on = "observation"
    name = "broken"


@pytest.mark.parametrize(
    ("method", "change", "words"),
    [
        ("observation", lambda s, frames, world: frames[:, :1], r"was given float64 \(2, 2\) and"),
        ("observation", lambda s, frames, world: frames.astype(np.float32), "returned float32"),
        ("observation", lambda s, frames, world: frames * 1e9, "its space\\(\\) must return"),
        (
            "reward",
            lambda s, reward, world, seen: reward[:1],
            r"reward\(\) was given float64 \(2",
        ),
        ("target", lambda s, reward, world: 1.0, "target"),
    ],
)
def test_a_shift_is_tried_before_anything_is_trained(method, change, words):
    broken = type("Broken", (Broken,), {method: change})
    with pytest.raises(UsageError, match=words) as error:
        Stream(Counter(2), [broken()], Periodic(period=10, phases=3))
    assert "shift 'broken'" in str(error.value)
    Stream(Counter(2), [broken()], Listed(period=10, worlds=(0,)))  # never shown


# What cannot be


def plain(**keywords):
    return Stream(Counter(), [Offset()], Periodic(period=4, phases=2), **keywords)


def one_of(**keywords):
    periodic = Periodic(period=4, phases=2)
    return ShiftedEnv(SingleCopy(CartPole().make(1)), [Offset()], periodic, **keywords)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Stream(Counter(), [Sign()], Periodic(period=4, phases=3)), "worlds = 2"),
        (lambda: Stream(Counter(3), [], Periodic(period=4, phases=2)), "nearest valid: 6"),
        (
            lambda: Stream(Counter(), [Tiles()], Periodic(period=4, phases=2)),
            "'tiles' needs images",
        ),
        (
            lambda: Stream(Frames(), [Tiles(tiles=3)], Periodic(period=4, phases=2)),
            "nearest.*: [24]",
        ),
        (lambda: Stream(Frames(), [Offset()], Periodic(period=4, phases=2)), "vector of floats"),
        (lambda: Stream(Counter(), [Goal()], Periodic(period=4, phases=2)), "several goals"),
        (
            lambda: Stream(
                Corridor().make(1), [Goal()], Cyclic(period=4, phases=2, worlds=2), boundary="step"
            ),
            "needs boundary 'truncate'",
        ),
        (lambda: Cyclic(period=4, phases=2, worlds=2, first=1), "fewer than two"),
        (lambda: Stream(Counter(), [Offset()], Listed(period=4, worlds=(0, 1, 1))), "must differ"),
        (lambda: Stream(Counter(), [], Periodic(period=4, phases=2)).begin(2), "phases 0 to 1"),
        (lambda: plain(boundary="trunc"), "'trunc'. Did you mean 'truncate'"),
        (lambda: plain(seed=-1), "seed = -1; valid: a whole number, 0 or more"),
        (lambda: plain(seed=0.5), "seed = 0.5; valid"),
        (lambda: plain(reward_scale=0.0), "reward_scale = 0.0; valid: a finite number above 0"),
        (lambda: plain(reward_scale=float("nan")), "reward_scale = nan; valid"),
        (lambda: plain(reward_scale=float("inf")), "reward_scale = inf; valid"),
        (lambda: plain(notify=[0, 5]), r"notify = \[0, 5\]; valid: all of the worlds \[0, 1\]"),
        (lambda: GymCopies(CartPole, 0), "0 copies of an environment; valid: 1 or more"),
        (lambda: one_of(copies=0), "copies = 0; valid: a whole number, 1 or more"),
        (lambda: one_of(copies=1.5), "copies = 1.5; valid: a whole number"),
        (lambda: one_of(copies="2"), "copies = .2.; valid: a whole number"),
        (lambda: plain(reward_scale="a"), "reward_scale = 'a'; valid"),
        (lambda: one_of(copies=2, copy=2), "copy = 2; valid: a whole number, 0 to 1"),
        (lambda: one_of(copies=2, copy=-1), "copy = -1; valid: a whole number, 0 to 1"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(make, words):
    with pytest.raises(UsageError, match=words):
        make()


# Learners across the boundary


def test_the_replay_memory_bootstraps_from_the_old_worlds_last_observation():
    stream = Stream(Counter(2, ends_at=10**9), [Offset()], Periodic(period=20, phases=3), seed=1)
    model = DQN("MlpPolicy", stream, seed=0, device="cpu", learning_starts=1000, buffer_size=200)
    model.learn(60)
    buffer = model.replay_buffer
    offset = stream.shifts[0].content(np.array([1]))[0]
    for row, moved in ((9, 0.0), (19, offset)):
        # the transition of the last step of the phase: done, but not a termination
        assert buffer.dones[row].all()
        assert buffer.timeouts[row].all()
        np.testing.assert_allclose(
            buffer.next_observations[row, 0, 0] - np.atleast_1d(moved)[0], 10
        )
        sample = buffer._get_samples(np.array([row]))
        assert (sample.dones == 0).all()
    np.testing.assert_allclose(buffer.observations[10, 0, 0] - offset[0], 0, atol=1e-6)


def test_advantages_bootstrap_from_the_old_worlds_last_observation():
    stream = Stream(Counter(2), [Offset()], Periodic(period=16, phases=2), seed=1)
    model = PPO("MlpPolicy", stream, seed=0, device="cpu", n_steps=16, batch_size=16, n_epochs=1)
    finals = []
    step_wait = stream.step_wait

    def spy():
        result = step_wait()
        finals.extend(i["terminal_observation"] for i in result[3] if "terminal_observation" in i)
        return result

    stream.step_wait = spy
    weights = [p.detach().clone() for p in model.policy.parameters()]
    model.learn(32)
    buffer = model.rollout_buffer
    with torch.no_grad():
        for parameter, before in zip(model.policy.parameters(), weights, strict=True):
            parameter.copy_(before)
        values = model.policy.predict_values(torch.tensor(np.array(finals[:2])))
    assert [final[0] for final in finals[:2]] == [8.0, 8.0]  # world 0, eight steps in
    np.testing.assert_allclose(
        buffer.rewards[7], 1.0 + model.gamma * values.numpy().flatten(), rtol=1e-5
    )
    np.testing.assert_allclose(buffer.rewards[8], 1.0)
    # nothing of the new world flows back over the boundary
    flat = [7, 16 + 7]  # the buffer is flattened for training, copy by copy
    deltas = buffer.rewards[7] - buffer.values[flat].flatten()
    np.testing.assert_allclose(buffer.advantages[flat].flatten(), deltas, rtol=1e-4, atol=1e-5)


def test_gym_copies_restart_with_what_their_generators_give_next():
    copies, env = GymCopies(lambda: gymnasium.make("CartPole-v1"), 1), gymnasium.make("CartPole-v1")
    copies.reset([5])
    env.reset(seed=5)
    for _ in range(60):
        step = copies.step(np.array([1]))
        obs, _, terminated, truncated, _ = env.step(1)
        np.testing.assert_array_equal(step.final[0], obs)
        if terminated or truncated:
            obs, _ = env.reset()
        np.testing.assert_array_equal(step.observation[0], obs)
