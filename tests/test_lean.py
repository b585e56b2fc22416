"""What is left out of PPO's passes and updates changes no byte."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import stable_baselines3
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.policies import ActorCriticCnnPolicy, ActorCriticPolicy
from torch import nn

from rlplastic.agents.policies import LeanCnnPolicy, LeanPolicy
from rlplastic.agents.ppo import PPO
from rlplastic.agents.rollout import Rollout

VECTORS = spaces.Box(-1, 1, (5,), np.float32)
FRAMES = spaces.Box(0, 255, (4, 36, 36), np.uint8)
ACTIONS = spaces.Discrete(3)


def twins(ours, theirs, space, **settings):
    torch.manual_seed(0)
    first = ours(space, ACTIONS, lambda _: 1e-3, **settings)
    second = theirs(space, ACTIONS, lambda _: 1e-3, **settings)
    second.load_state_dict(first.state_dict())
    return first, second


def same(left, right):
    return left.shape == right.shape and left.detach().equal(right.detach())


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(
    ("ours", "theirs", "space", "activation"),
    [
        (LeanPolicy, ActorCriticPolicy, VECTORS, nn.Tanh),
        (LeanPolicy, ActorCriticPolicy, VECTORS, nn.LeakyReLU),
        (LeanPolicy, ActorCriticPolicy, VECTORS, nn.ELU),  # one that is not known there
        (LeanCnnPolicy, ActorCriticCnnPolicy, FRAMES, nn.ReLU),
    ],
)
def test_passes_and_gradients_are_those_of_stable_baselines3(
    ours, theirs, space, activation, shared
):
    settings = {"activation_fn": activation, "share_features_extractor": shared}
    lean, plain = twins(ours, theirs, space, **settings)
    assert lean.lean
    obs = torch.as_tensor(np.stack([space.sample() for _ in range(6)]))
    before = obs.clone()
    drawn = []
    for policy in (lean, plain):
        torch.manual_seed(3)
        drawn.append(policy(obs))
    assert all(same(a, b) for a, b in zip(*drawn, strict=True))
    actions = torch.tensor([0, 1, 2, 2, 1, 0])
    found = lean.evaluated(lean.prepared(obs), actions)
    wanted = plain.evaluate_actions(obs, actions)
    assert all(same(a, b) for a, b in zip(found, wanted, strict=True))
    assert same(lean.valued(lean.prepared(obs)), plain.predict_values(obs))
    for values, log_prob, entropy in (found, wanted):
        (values.square().mean() + (log_prob.exp() * 2).mean() + entropy.mean()).backward()
    for a, b in zip(lean.parameters(), plain.parameters(), strict=True):
        assert same(a.grad, b.grad)
    assert obs.equal(before)


def test_a_module_with_a_hook_is_called():
    lean, _ = twins(LeanPolicy, ActorCriticPolicy, VECTORS)
    seen = []
    lean.value_net.register_forward_hook(lambda *_: seen.append(1))
    lean.valued(torch.zeros(2, 5))
    assert seen == [1]


def test_logits_that_are_not_finite_are_refused():
    lean, _ = twins(LeanPolicy, ActorCriticPolicy, VECTORS)
    with torch.no_grad():
        lean.action_net.bias[1] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        lean(torch.zeros(2, 5))


@pytest.mark.parametrize("actions", [ACTIONS, spaces.Box(-1, 1, (2,), np.float32)])
def test_advantages_and_minibatches_are_those_of_stable_baselines3(actions):
    drawn = []
    for kind in (RolloutBuffer, Rollout):
        rng = np.random.default_rng(0)
        rollout = kind(7, VECTORS, actions, "cpu", gamma=0.97, gae_lambda=0.9, n_envs=3)
        for _ in range(7):
            chosen = rng.integers(3, size=3) if actions is ACTIONS else rng.normal(size=(3, 2))
            numbers = torch.as_tensor(rng.normal(size=(3, 1)).astype(np.float32))
            obs = rng.normal(size=(3, 5)).astype(np.float32)
            rollout.add(
                obs, chosen, rng.normal(size=3), rng.random(3) < 0.3, numbers, numbers[:, 0]
            )
        rollout.compute_returns_and_advantage(numbers, np.array([True, False, True]))
        np.random.seed(0)
        drawn.append([*rollout.get(4), *rollout.get(), rollout._get_samples(np.array([3, 1]))])
    assert len(drawn[0]) == 8
    for theirs, ours in zip(*drawn, strict=True):
        for name, values in theirs._asdict().items():
            assert same(getattr(ours, name), values), name


def test_scopes_follow_the_optimizers_parameters():
    model = PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, device="cpu")
    before = model.scope("head")
    before.clear()
    assert len(model.scope("head")) == 2
    model.policy.value_net = nn.Linear(64, 1)
    model.policy.optimizer = torch.optim.Adam(model.policy.parameters())
    assert model.scope("head")[0] is model.policy.value_net.weight


def test_a_saved_agent_is_loaded_and_a_stock_one_too(tmp_path):
    model = PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, device="cpu")
    model.learn(16)
    model.save(tmp_path / "agent")
    again = PPO.load(tmp_path / "agent", env=gymnasium.make("CartPole-v1"), device="cpu")
    obs = np.zeros((1, 4), np.float32)
    assert again.predict(obs, deterministic=True)[0] == model.predict(obs, deterministic=True)[0]
    again.learn(16)
    stock = stable_baselines3.PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, device="cpu")
    stock.save(tmp_path / "stock")
    PPO.load(tmp_path / "stock", env=gymnasium.make("CartPole-v1"), device="cpu").learn(16)
