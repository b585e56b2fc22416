"""The agents are stable-baselines3's, byte for byte, where nothing is asked of them."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import stable_baselines3
import torch
from stable_baselines3.common.env_util import make_vec_env
from torch import nn

from rlplastic.agents.dqn import DQN
from rlplastic.agents.learner import Minibatch
from rlplastic.agents.networks import scope_of
from rlplastic.agents.ppo import PPO
from rlplastic.agents.replay import replay_class
from rlplastic.errors import Diverged, UsageError
from rlplastic.interventions import Intervention, Interventions
from rlplastic.interventions.sam import SAM

torch.set_num_threads(1)

DQN_SETTINGS = {
    "learning_starts": 100,
    "target_update_interval": 200,
    "buffer_size": 800,
    "train_freq": 2,
}
PPO_SETTINGS = {"n_steps": 64, "batch_size": 32, "n_epochs": 3, "ent_coef": 0.01}


def parameter_bytes(model) -> bytes:
    return b"".join(p.detach().numpy().tobytes() for p in model.policy.parameters())


def train(algorithm, env="CartPole-v1", steps=1200, num_envs=1, seed=3, **settings):
    torch.manual_seed(0)
    venv = make_vec_env(env, n_envs=num_envs, seed=seed)
    model = algorithm("MlpPolicy", venv, seed=seed, device="cpu", **settings)
    model.learn(steps)
    return model


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("env", "num_envs", "extra"),
    [("CartPole-v1", 1, {}), ("Acrobot-v1", 2, {}), ("CartPole-v1", 1, {"n_steps": 3})],
)
def test_dqn_without_intervention_has_the_bytes_of_stable_baselines3(env, num_envs, extra, seed):
    settings = {**DQN_SETTINGS, **extra}
    theirs = train(stable_baselines3.DQN, env, num_envs=num_envs, seed=seed, **settings)
    ours = train(DQN, env, num_envs=num_envs, seed=seed, **settings)
    assert ours.num_updates == theirs._n_updates > 100
    assert parameter_bytes(ours) == parameter_bytes(theirs)
    memory = replay_class(ours.observation_space, extra.get("n_steps", 1))
    more = {"n_steps": 3, "gamma": 0.99} if "n_steps" in extra else {}
    lean = train(
        DQN,
        env,
        num_envs=num_envs,
        seed=seed,
        replay_buffer_class=memory,
        replay_buffer_kwargs=more,
        **settings,
    )
    assert type(lean.replay_buffer) is memory
    assert parameter_bytes(lean) == parameter_bytes(theirs)


class Stacked(gymnasium.ObservationWrapper):
    """Four stacked frames of 36 x 36, of one grey each, padded with zeros at a reset."""

    def __init__(self, env):
        super().__init__(env)
        self.observation_space = gymnasium.spaces.Box(0, 255, (4, 36, 36), np.uint8)

    def reset(self, **kwargs):
        self.frames = np.zeros((4, 36, 36), np.uint8)
        return super().reset(**kwargs)

    def observation(self, observation):
        grey = np.clip(observation[2] * 500 + 128, 0, 255).astype(np.uint8)
        frame = np.full((1, 36, 36), grey)
        self.frames = np.concatenate([self.frames[1:], frame])
        return self.frames


@pytest.mark.parametrize("n_steps", [1, 3])
def test_dqn_with_frames_stored_once_has_the_bytes_of_stable_baselines3(n_steps):
    models = []
    for algorithm, memory in ((stable_baselines3.DQN, None), (DQN, replay_class)):
        venv = make_vec_env(lambda: Stacked(gymnasium.make("CartPole-v1")), n_envs=2, seed=0)
        kwargs = {"n_steps": n_steps, "gamma": 0.99} if memory and n_steps > 1 else {}
        chosen = memory and memory(venv.observation_space, n_steps)
        models.append(
            algorithm(
                "CnnPolicy",
                venv,
                seed=0,
                device="cpu",
                n_steps=n_steps,
                replay_buffer_class=chosen,
                replay_buffer_kwargs=kwargs,
                **{**DQN_SETTINGS, "buffer_size": 150, "train_freq": 8},
            )
        )
        models[-1].learn(300)
    assert models[1].num_updates == models[0]._n_updates > 10
    assert parameter_bytes(models[1]) == parameter_bytes(models[0])


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("env", "extra"),
    [
        ("CartPole-v1", {}),
        ("Pendulum-v1", {}),
        ("CartPole-v1", {"clip_range_vf": 0.2, "normalize_advantage": False}),
        ("CartPole-v1", {"target_kl": 0.003}),
    ],
)
def test_ppo_without_intervention_has_the_bytes_of_stable_baselines3(env, extra, seed):
    settings = {**PPO_SETTINGS, **extra}
    theirs = train(stable_baselines3.PPO, env, 512, 2, seed, **settings)
    ours = train(PPO, env, 512, 2, seed, **settings)
    assert ours._n_updates == theirs._n_updates > 0
    assert parameter_bytes(ours) == parameter_bytes(theirs)


def test_both_write_the_log_that_stable_baselines3_writes():
    for theirs, ours, settings in (
        (stable_baselines3.DQN, DQN, DQN_SETTINGS),
        (stable_baselines3.PPO, PPO, PPO_SETTINGS),
    ):
        logs = []
        for algorithm in (theirs, ours):
            model = train(algorithm, steps=256, **settings)
            logs.append({k: v for k, v in model.logger.name_to_value.items() if "train/" in k})
        assert logs[0].keys() == logs[1].keys()
        assert len(logs[0]) > 2
        for name, value in logs[0].items():
            assert logs[1][name] == pytest.approx(value, rel=1e-6), name


@pytest.mark.parametrize("every", [1, 2])
def test_dqn_with_sam_of_radius_zero_has_the_bytes_of_none(every):
    plain = train(DQN, **DQN_SETTINGS)
    zero = train(DQN, interventions=Interventions([SAM(rho=0.0, every=every)]), **DQN_SETTINGS)
    assert zero.interventions.members[0].state["sam_updates"] == -(-zero.num_updates // every)
    assert parameter_bytes(zero) == parameter_bytes(plain)


def test_ppo_with_sam_of_radius_zero_follows_none_within_rounding():
    settings = {**PPO_SETTINGS, "learning_rate": 1e-4}
    plain = train(PPO, steps=128, **settings)
    zero = train(PPO, steps=128, interventions=Interventions([SAM(rho=0.0)]), **settings)
    assert zero.interventions.members[0].state["sam_updates"] == zero.num_updates > 0
    for a, b in zip(plain.policy.parameters(), zero.policy.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def shared_ppo(**extra) -> PPO:
    """A PPO whose actor and critic share their first layers."""

    class Trunk(stable_baselines3.common.torch_layers.BaseFeaturesExtractor):
        def __init__(self, space):
            super().__init__(space, 16)
            self.net = nn.Sequential(nn.Linear(space.shape[0], 16), nn.Tanh())

        def forward(self, x):
            return self.net(x)

    return PPO(
        "MlpPolicy",
        make_vec_env("CartPole-v1", n_envs=2, seed=0),
        seed=0,
        device="cpu",
        policy_kwargs={"features_extractor_class": Trunk, "net_arch": [8]},
        **PPO_SETTINGS,
        **extra,
    )


@pytest.mark.parametrize("make", [shared_ppo, lambda: train(PPO, steps=64, **PPO_SETTINGS)])
def test_scopes_of_ppo_are_what_the_losses_reach(make):
    model = make()
    model.learn(128)
    terms = model.losses(model.last_batch)()
    for scope, term in (("critic", terms["critic"]), ("actor", terms["actor"])):
        parameters = list(model.policy.parameters())
        gradients = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
        reached = {id(p) for p, g in zip(parameters, gradients, strict=True) if g is not None}
        assert reached == {id(p) for p in model.scope(scope)}
    head = {id(p) for p in model.scope("head")}
    assert head == {id(p) for p in model.policy.value_net.parameters()}
    assert {id(p) for p in model.scope("backbone")} == {id(p) for p in model.scope("critic")} - head


def test_scopes_of_dqn_are_what_the_loss_reaches():
    model = train(DQN, steps=300, **DQN_SETTINGS)
    parameters = list(model.policy.parameters())
    loss = model.losses(model.last_batch)()["critic"]
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    reached = {id(p) for p, g in zip(parameters, gradients, strict=True) if g is not None}
    assert reached == {id(p) for p in model.scope("critic")}
    assert [p.shape for p in model.scope("head")] == [(2, 64), (2,)]
    with pytest.raises(UsageError, match="'actor' has no parameters"):
        model.scope("actor")


def test_an_unknown_scope_is_refused_with_the_valid_ones():
    with pytest.raises(UsageError, match="critic, head, backbone"):
        scope_of("critics", critic=(), head=(), actor=())


def test_updates_wait_for_learning_starts_again_after_the_replay_memory_was_cleared():
    model = train(DQN, steps=400, **DQN_SETTINGS)
    before = model.num_updates
    model.at_shift(1, "clear")
    assert model.replay_buffer.size() == 0
    model.learn(100, reset_num_timesteps=False)
    assert model.num_updates == before
    model.learn(20, reset_num_timesteps=False)
    assert model.num_updates == before + 10
    model.at_shift(2, "keep")
    assert model.replay_buffer.size() == 120


def test_after_a_shift_actions_are_not_uniformly_random_again():
    model = train(
        DQN, steps=400, exploration_final_eps=0.0, exploration_fraction=0.01, **DQN_SETTINGS
    )
    model.at_shift(1, "clear")
    observation = model.env.reset()
    model._last_obs = np.repeat(observation, 1, axis=0)
    greedy, _ = model.predict(model._last_obs, deterministic=True)
    for _ in range(20):
        action, _ = model._sample_action(model.learning_starts, None, 1)
        assert action == greedy


class Poison(Intervention):
    name = "poison"

    def gradient(self, agent, losses):
        terms = losses()
        (terms["critic"] * float("nan")).backward()
        return terms


def test_a_gradient_that_is_not_finite_is_a_divergence_and_leaves_the_weights():
    for algorithm, settings in ((DQN, DQN_SETTINGS), (PPO, PPO_SETTINGS)):
        venv = make_vec_env("CartPole-v1", seed=0)
        model = algorithm(
            "MlpPolicy",
            venv,
            seed=0,
            device="cpu",
            interventions=Interventions([Poison()]),
            **settings,
        )
        before = parameter_bytes(model)
        with pytest.raises(Diverged, match="gradient norm nan at update 1"):
            model.learn(300)
        assert parameter_bytes(model) == before


class Riches(gymnasium.RewardWrapper):
    """Pays what is finite in float64 and infinite in the learner's float32."""

    def reward(self, reward):
        return 1e39


@pytest.mark.filterwarnings("ignore:overflow")
def test_an_infinite_loss_is_a_divergence_even_where_its_gradient_is_finite():
    venv = make_vec_env(lambda: Riches(gymnasium.make("CartPole-v1")), seed=0)
    model = DQN("MlpPolicy", venv, seed=0, device="cpu", **DQN_SETTINGS)
    before = parameter_bytes(model)
    with pytest.raises(Diverged, match="loss inf at update 1"):
        model.learn(300)
    assert parameter_bytes(model) == before


class Dropped(nn.Sequential):
    """An activation that drops half of the units."""

    def __init__(self):
        super().__init__(nn.Tanh(), nn.Dropout(0.5))


@pytest.mark.parametrize("algorithm", [DQN, PPO])
def test_an_agents_own_dropout_mask_is_the_same_in_both_passes(algorithm):
    settings = DQN_SETTINGS if algorithm is DQN else PPO_SETTINGS
    kwargs = {"activation_fn": Dropped}
    model = train(algorithm, steps=300, policy_kwargs=kwargs, **settings)
    model.policy.set_training_mode(True)
    losses = model.losses(model.last_batch)
    assert losses()["critic"].item() == losses("critic")["critic"].item()
    again = model.losses(model.last_batch)
    assert again()["critic"].item() != losses()["critic"].item()  # a new mask for the next update


def test_a_dropout_mask_is_the_same_in_both_passes():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 64), nn.Dropout(0.5), nn.Linear(64, 1))
    inputs = torch.randn(8, 4)
    batch = Minibatch(net, lambda names: {"critic": net(inputs).square().mean()})
    first, second = batch()["critic"], batch("critic")["critic"]
    assert first.item() == second.item()
    other = Minibatch(net, lambda names: {"critic": net(inputs).square().mean()})
    assert other()["critic"].item() != first.item()


@pytest.mark.parametrize("algorithm", [DQN, PPO])
def test_fused_adam_and_channels_last_change_no_number_beyond_rounding(algorithm):
    settings = DQN_SETTINGS if algorithm is DQN else PPO_SETTINGS
    models = []
    for fused in (False, True):
        venv = make_vec_env(lambda: Stacked(gymnasium.make("CartPole-v1")), seed=0)
        kwargs = {"optimizer_kwargs": {"fused": fused, "eps": 1e-5}}
        models.append(
            algorithm(
                "CnnPolicy",
                venv,
                seed=0,
                device="cpu",
                policy_kwargs=kwargs,
                channels_last=fused,
                **{**settings, "learning_rate": 1e-5},
            )
        )
        models[-1].learn(128)
    assert models[0].num_updates > 0
    for a, b in zip(models[0].policy.parameters(), models[1].policy.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=2e-5)


def test_an_agent_can_be_saved_and_loaded_as_any_of_stable_baselines3(tmp_path):
    for algorithm, settings in ((DQN, DQN_SETTINGS), (PPO, PPO_SETTINGS)):
        model = train(algorithm, steps=256, **settings)
        model.save(tmp_path / "model.zip")
        loaded = algorithm.load(tmp_path / "model.zip", device="cpu")
        assert parameter_bytes(loaded) == parameter_bytes(model)
