"""Transitions are collected as stable-baselines3 does: acts, memory, generators, callbacks."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import stable_baselines3
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from rlplastic.agents.acting import set_mode
from rlplastic.agents.dqn import DQN
from rlplastic.agents.replay import replay_class

torch.set_num_threads(1)

VECTORS = spaces.Box(-1, 1, (3,), np.float32)
FRAMES = spaces.Box(0, 255, (2, 40, 40), np.uint8)


class Drawn(gymnasium.Env):
    """Episodes of drawn lengths, of one step too, that end in either way or in both at once."""

    def __init__(self, space, seed):
        self.observation_space, self.action_space = space, spaces.Discrete(3)
        self.rng = np.random.default_rng(seed)
        self.often = self.rng.uniform(0.02, 0.6)
        self.render_mode = None

    def show(self):
        shape, dtype = self.observation_space.shape, self.observation_space.dtype
        return (self.rng.random(shape) * self.observation_space.high).astype(dtype)

    def reset(self, *, seed=None, options=None):
        return self.show(), {}

    def step(self, action):
        terminated, truncated = self.rng.random(2) < self.often
        return self.show(), float(action) + self.rng.normal(), bool(terminated), bool(truncated), {}


class Seen(BaseCallback):
    """Keeps what callbacks are shown; may end the training."""

    def __init__(self, end=None):
        super().__init__()
        self.end = end
        self.shown, self.moments = [], []

    def _on_rollout_start(self):
        self.moments.append(("start", self.num_timesteps))

    def _on_rollout_end(self):
        self.moments.append(("end", self.num_timesteps))

    def _on_step(self):
        names = ("actions", "buffer_actions", "new_obs", "rewards", "dones")
        counts = ("num_collected_steps", "num_collected_episodes", "learning_starts")
        self.shown.append([self.locals[name].tobytes() for name in names])
        self.shown.append([self.locals[name] for name in counts])
        self.shown.append([sorted(info) for info in self.locals["infos"]])
        assert self.locals["self"] is self.model
        assert self.locals["env"] is self.training_env
        return self.num_timesteps != self.end


def trained(algorithm, space, copies, seed, end=None, watched=True, **settings):
    torch.manual_seed(0)
    envs = [lambda i=i: Drawn(space, [seed, i]) for i in range(copies)]
    venv = DummyVecEnv([lambda e=e: Monitor(e()) for e in envs] if watched else envs)
    model = algorithm(
        "CnnPolicy" if space is FRAMES else "MlpPolicy",
        venv,
        seed=seed,
        device="cpu",
        learning_starts=12,
        target_update_interval=20,
        exploration_final_eps=0.3,
        buffer_size=60,
        batch_size=8,
        **settings,
    )
    seen = Seen(end)
    model.learn(120 * copies, callback=seen, log_interval=3)
    return model, seen


def same_life(theirs, ours):
    (one, seen_one), (two, seen_two) = theirs, ours
    assert seen_one.shown == seen_two.shown
    assert seen_one.moments == seen_two.moments
    for name in ("num_timesteps", "_n_calls", "_n_updates", "_episode_num", "exploration_rate"):
        assert getattr(one, name) == getattr(two, name), name
    assert [e["r"] for e in one.ep_info_buffer] == [e["r"] for e in two.ep_info_buffer]
    for left, right in zip(one.policy.parameters(), two.policy.parameters(), strict=True):
        assert left.detach().numpy().tobytes() == right.detach().numpy().tobytes()
    states = [model.action_space.np_random.bit_generator.state for model in (one, two)]
    assert states[0] == states[1]
    theirs, ours = one.replay_buffer, two.replay_buffer
    assert (theirs.pos, theirs.full) == (ours.pos, ours.full)
    for name in ("actions", "rewards", "dones", "timeouts"):
        assert getattr(theirs, name).tobytes() == getattr(ours, name).tobytes(), name
    steps, copies = np.indices((theirs.buffer_size if theirs.full else theirs.pos, theirs.n_envs))
    for name in ("observations", "next_observations"):
        kept = [getattr(m, name)[steps.ravel(), copies.ravel()] for m in (theirs, ours)]
        assert np.array_equal(*kept), name
    assert one._last_obs.tobytes() == two._last_obs.tobytes()


def generators():
    state = np.random.get_state()
    return state[1].tobytes(), state[2], torch.get_rng_state().numpy().tobytes()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("watched", [True, False])
@pytest.mark.parametrize("copies", [1, 3])
def test_a_life_is_that_of_stable_baselines3(copies, watched, seed):
    after, lives = [], []
    for algorithm, memory in (
        (stable_baselines3.DQN, None),
        (DQN, None),
        (DQN, replay_class(VECTORS, 1)),
    ):
        settings = {"replay_buffer_class": memory, "train_freq": 4, "watched": watched}
        lives.append(trained(algorithm, VECTORS, copies, seed, **settings))
        after.append(generators())
    assert lives[0][0]._n_updates > 20
    for ours in (1, 2):
        same_life(lives[0], lives[ours])
        assert after[ours] == after[0]
    assert lives[1][0]._transitions == 120 * copies


@pytest.mark.parametrize("copies", [1, 2])
def test_a_life_on_frames_is_that_of_stable_baselines3(copies):
    settings = {"train_freq": 8}
    theirs = trained(stable_baselines3.DQN, FRAMES, copies, 0, **settings)
    ours = trained(DQN, FRAMES, copies, 0, replay_buffer_class=replay_class(FRAMES, 1), **settings)
    same_life(theirs, ours)


def test_rollouts_of_whole_episodes_are_those_of_stable_baselines3():
    settings = {"train_freq": (2, "episode")}
    lives = [trained(kind, VECTORS, 1, 5, **settings) for kind in (stable_baselines3.DQN, DQN)]
    same_life(*lives)
    assert lives[0][0]._n_updates > 5


@pytest.mark.parametrize("end", [10, 51])
def test_a_callback_ends_a_life_where_it_ends_that_of_stable_baselines3(end):
    settings = {"train_freq": 4, "end": end}
    lives = [trained(kind, VECTORS, 1, 2, **settings) for kind in (stable_baselines3.DQN, DQN)]
    same_life(*lives)
    assert lives[1][0].num_timesteps == end


class Own(torch.nn.Dropout):
    """Stays in the evaluation mode, whatever it is told."""

    def train(self, mode=True):
        return super().train(False)


@pytest.mark.parametrize("own", [False, True])
def test_every_module_gets_the_mode_that_stable_baselines3_sets(own):
    settings = {"learning_starts": 10, "buffer_size": 100, "device": "cpu"}
    ours, theirs = (
        kind("MlpPolicy", DummyVecEnv([lambda: Drawn(VECTORS, 0)]), **settings)
        for kind in (DQN, stable_baselines3.DQN)
    )
    for agent in (ours, theirs):
        agent.q_net.q_net.append(Own() if own else torch.nn.Dropout())
        agent.q_net_target.q_net.append(torch.nn.Dropout())
    for training in (True, False, True):
        set_mode(ours.policy, training=training)
        theirs.policy.set_training_mode(training)
        modes = [[m.training for m in agent.policy.modules()] for agent in (ours, theirs)]
        assert modes[0] == modes[1]
        assert training in modes[0]


@pytest.mark.parametrize("name", ["critic", "all"])
def test_the_parameters_of_a_known_network_are_in_torchs_order(name):
    for policy, space in (("MlpPolicy", VECTORS), ("CnnPolicy", FRAMES)):
        env = DummyVecEnv([lambda space=space: Drawn(space, 0)])
        agent = DQN(policy, env, buffer_size=100, device="cpu")
        known = list(agent.q_net.parameters())
        found = agent.scope(name)
        assert len(found) == len(known)
        assert all(a is b for a, b in zip(found, known, strict=True))
