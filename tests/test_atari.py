"""Streams on ALE: world 0 is ALE's own vector environment, frame by frame."""

from __future__ import annotations

import numpy as np
import pytest
from ale_py.vector_env import AtariVectorEnv
from gymnasium.vector import AutoresetMode

from rlplastic.envs.atari import Atari
from rlplastic.envs.schedules import Cyclic, Listed, Periodic
from rlplastic.envs.shifts_observation import Inversion, Tiles
from rlplastic.envs.shifts_reward import Values
from rlplastic.envs.stream import Stream
from rlplastic.errors import UsageError


def native(game: str, num_envs: int) -> AtariVectorEnv:
    return AtariVectorEnv(
        game,
        num_envs,
        num_threads=1,
        repeat_action_probability=0.25,
        reward_clipping=False,
        autoreset_mode=AutoresetMode.SAME_STEP,
    )


def test_world_0_is_ales_own_environment_with_stacking_and_ends():
    schedule = Listed(period=10**6, worlds=(0,))
    seen = []
    stream = Stream(
        Atari(game="breakout").make(2), [Tiles(tiles=6)], schedule, seed=1, listener=seen.append
    )
    env = native("breakout", 2)
    ours = stream.reset()
    theirs, _ = env.reset(seed=np.array(stream._derived_seeds(0), dtype=np.int32))
    rng = np.random.default_rng(0)
    ends, scores = 0, np.zeros(2)
    for _ in range(500):
        assert ours.dtype == theirs.dtype == np.uint8
        np.testing.assert_array_equal(ours, theirs)
        actions = rng.integers(0, 4, 2)
        ours, rewards, dones, infos = stream.step(actions)
        theirs, paid, terminated, truncated, info = env.step(actions)
        np.testing.assert_array_equal(rewards, paid)
        np.testing.assert_array_equal(dones, terminated | truncated)
        scores += paid
        for copy in np.flatnonzero(dones):
            np.testing.assert_array_equal(
                infos[copy]["terminal_observation"], info["final_obs"][copy]
            )
            assert seen[ends].task_return == scores[copy]
            scores[copy], ends = 0, ends + 1
    assert ends >= 3


def test_at_the_boundary_only_the_seed_of_the_phase_decides_what_comes():
    schedule = Periodic(period=40, phases=3)
    shown = []
    for pushes in (1, 3):
        stream = Stream(Atari(game="pong").make(2), [Tiles(tiles=6)], schedule, seed=8)
        stream.reset()
        rng = np.random.default_rng(pushes)
        for _ in range(20):
            obs, _, dones, infos = stream.step(rng.integers(0, 6, 2))
        assert dones.all()
        assert all(info["TimeLimit.truncated"] for info in infos)
        frames = [obs]
        frames += [stream.step(np.array([i % 6, 0]))[0] for i in range(10)]
        shown.append(np.stack(frames))
    begun = Stream(Atari(game="pong").make(2), [Tiles(tiles=6)], schedule, seed=8)
    begun.begin(1)
    frames = [begun.reset()] + [begun.step(np.array([i % 6, 0]))[0] for i in range(10)]
    np.testing.assert_array_equal(shown[0], shown[1])
    np.testing.assert_array_equal(shown[0], np.stack(frames))


def test_single_frames_are_shifted_before_they_are_stacked():
    schedule = Listed(period=10**6, worlds=(1,))
    stream = Stream(Atari(game="pong").make(1), [Inversion()], schedule, seed=2)
    env = native("pong", 1)
    ours = stream.reset()
    theirs, _ = env.reset(seed=np.array(stream._derived_seeds(0), dtype=np.int32))
    for _ in range(6):
        np.testing.assert_array_equal(ours, 255 - theirs)
        ours, *_ = stream.step(np.array([0]))
        theirs, *_ = env.step(np.array([0]))


def test_score_increments_are_exchanged_recorded_and_then_clipped():
    shift = Values(increments=[20.0, 25.0, 30.0], to=[-20.0, -25.0, -30.0])
    seen = []
    stream = Stream(
        Atari(game="space_invaders").make(4),
        [shift],
        Cyclic(period=4, phases=2, worlds=2),
        seed=0,
        clip_reward=True,
        listener=seen.append,
    )
    stream.begin(1)
    stream.reset()
    rng = np.random.default_rng(0)
    learned = [stream.step(rng.integers(0, 6, 4))[1] for _ in range(900)]
    assert set(np.unique(learned)) == {-1.0, 0.0, 1.0}
    assert any(episode.task_return < episode.base_return for episode in seen)
    for episode in seen:
        assert (episode.base_return - episode.task_return) % 10 == 0


def test_a_game_that_ale_does_not_have_is_refused_with_the_nearest():
    with pytest.raises(UsageError, match="'space_invader'. Did you mean 'space_invaders'"):
        Atari(game="space_invader")
