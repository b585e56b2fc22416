"""MinAtar: world 0 is the package's own game, and a reset forgets the past, which it did not."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import stable_baselines3
import torch
from gymnasium.utils.env_checker import check_env
from minatar import Environment

from rlplastic.agents.dqn import DQN
from rlplastic.agents.features import SmallCNN, features_for
from rlplastic.agents.ppo import PPO
from rlplastic.benchmarks.minatar_levels import level
from rlplastic.envs.minatar import GAMES, MinAtar, MinAtarEnv
from rlplastic.envs.schedules import Cyclic, Listed
from rlplastic.envs.shifts_reward import Side
from rlplastic.envs.stream import Stream
from rlplastic.errors import UsageError

torch.set_num_threads(1)


def game(name="breakout", *, sticky=0.1, ramping=True, minimal=True):
    return MinAtarEnv(name, sticky=sticky, ramping=ramping, minimal=minimal)


def play(env, steps, seed):
    rng = np.random.default_rng(seed)
    shown = []
    for _ in range(steps):
        frame, reward, terminated, _, _ = env.step(rng.integers(env.action_space.n))
        shown.append((frame.tobytes(), reward, terminated))
        if terminated:
            shown.append(env.reset()[0].tobytes())
    return shown


@pytest.mark.parametrize("name", GAMES)
@pytest.mark.parametrize("minimal", [True, False])
def test_world_0_is_the_packages_own_game(name, minimal):
    schedule = Listed(period=10**6, worlds=(0,))
    stream = Stream(MinAtar(game=name, minimal=minimal).make(1), [], schedule, seed=4)
    theirs = Environment(name)
    actions = theirs.minimal_action_set() if minimal else range(6)
    ours = stream.reset()
    theirs.seed(stream._derived_seeds(0)[0])
    theirs.reset()
    rng = np.random.default_rng(0)
    ends = 0
    for _ in range(3000):
        assert ours.dtype == np.uint8
        np.testing.assert_array_equal(ours[0], 255 * theirs.state().transpose(2, 0, 1))
        action = rng.integers(len(actions))
        ours, paid, dones, _ = stream.step(np.array([action]))
        reward, ended = theirs.act(actions[action])
        assert (paid[0], dones[0]) == (reward, ended)
        if ended:
            ends += 1
            theirs.last_action = 0  # the mended fault: it sticks to the next episode
            theirs.reset()
    assert ends >= 1


def test_what_the_package_forgets_to_forget_is_forgotten():
    env = game(sticky=1.0)  # every action is the one before it, and the first of all does nothing
    env.reset(seed=0)
    assert env.game.act(1)
    env.game.last_action = 1  # as an episode in which the paddle went left would leave it
    for reset in ({"seed": 0}, {}):
        before = env.reset(**reset)[0]
        for _ in range(3):
            after = env.step(1)[0]
        np.testing.assert_array_equal(before[0], after[0])


@pytest.mark.parametrize("name", GAMES)
def test_a_reset_with_a_seed_forgets_the_past(name):
    fresh = game(name)
    expected = [fresh.reset(seed=5)[0].tobytes(), *play(fresh, 400, 9)]
    for past in range(5):
        env = game(name)
        env.reset(seed=past)
        play(env, 50 * past + 1, past)
        assert [env.reset(seed=5)[0].tobytes(), *play(env, 400, 9)] == expected


@pytest.mark.parametrize("name", GAMES)
@pytest.mark.parametrize("minimal", [True, False])
def test_gymnasiums_checker_accepts_every_game(name, minimal):
    check_env(game(name, minimal=minimal), skip_render_check=True)


def test_without_ramping_a_game_does_not_get_harder():
    for ramping, changed in ((True, True), (False, False)):
        env = game("asterix", ramping=ramping)
        env.reset(seed=0)
        speed = env.game.env.spawn_speed
        for _ in range(250):
            env.game.env.terminal = False  # the player would not live to see it
            env.step(0)
        assert (env.game.env.spawn_speed != speed) == changed


def test_a_game_that_minatar_does_not_have_is_refused_with_the_nearest():
    with pytest.raises(UsageError, match="'space-invaders'. Did you mean 'space_invaders'"):
        MinAtar(game="space-invaders")


def test_a_side_pays_where_the_player_is():
    shift = Side(channel=1, outside=-1.0).bind(MinAtar(game="asterix").make(1), 0, 0)
    frames = np.zeros((3, 4, 10, 10), np.uint8)
    frames[:, 0, 5, 9] = 255  # others do not count
    frames[[0, 1, 2], 1, 5, [0, 4, 5]] = 255
    for world, expected in ((1, [2, 2, -2]), (2, [-2, -2, 2])):
        paid = shift.reward(np.full(3, 2.0), np.full(3, world), frames)
        assert paid.tolist() == expected


def test_the_best_policy_of_one_side_is_not_that_of_the_other():
    own, blind = (level("asterix", 1, heeded, -1.0, steps=8_000) for heeded in (1, 0))
    assert own > blind + 5


def test_a_side_without_such_a_channel_is_refused():
    base = MinAtar(game="breakout").make(1)
    with pytest.raises(UsageError, match="needs frames with a channel 4"):
        Stream(base, [Side(channel=4)], Cyclic(period=8, phases=2, worlds=3))


def test_the_network_is_the_papers():
    extractor = SmallCNN(gymnasium.spaces.Box(0, 255, (4, 10, 10), np.uint8))
    shapes = [tuple(p.shape) for p in extractor.parameters()]
    assert shapes == [(16, 4, 3, 3), (16,), (128, 16 * 8 * 8), (128,)]
    out = extractor(torch.zeros(2, 4, 10, 10))
    assert out.shape == (2, 128)
    assert (out >= 0).all()


@pytest.mark.parametrize("shape", [(4,), (1, 36, 36), (4, 84, 84)])
def test_where_stable_baselines3s_own_extractor_fits_it_stays(shape):
    assert features_for(gymnasium.spaces.Box(0, 255, shape, np.uint8)) == {}


@pytest.mark.parametrize(
    ("theirs", "ours", "settings"),
    [
        (stable_baselines3.DQN, DQN, {"learning_starts": 50, "buffer_size": 500}),
        (stable_baselines3.PPO, PPO, {"n_steps": 64, "batch_size": 32, "n_epochs": 2}),
    ],
)
def test_agents_on_small_frames_have_the_bytes_of_stable_baselines3(theirs, ours, settings):
    found = []
    for algorithm in (theirs, ours):
        schedule = Listed(period=10**6, worlds=(0,))
        stream = Stream(MinAtar(game="breakout").make(2), [], schedule, seed=1)
        kwargs = {"net_arch": [], **features_for(stream.observation_space)}
        model = algorithm(
            "CnnPolicy", stream, seed=2, device="cpu", policy_kwargs=kwargs, **settings
        )
        model.learn(256)
        found.append(b"".join(p.detach().numpy().tobytes() for p in model.policy.parameters()))
        assert model._n_updates > 1
    assert found[0] == found[1]
