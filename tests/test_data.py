"""What the learner is shown: running normalisers, and shifted images."""

from __future__ import annotations

import pytest
import stable_baselines3
import torch
import torch.nn.functional as F
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize
from test_agents import DQN_SETTINGS, PPO_SETTINGS, parameter_bytes, train
from test_resets import small_cnn

from rlplastic.agents.dqn import DQN
from rlplastic.agents.ppo import PPO
from rlplastic.errors import UsageError
from rlplastic.interventions import Interventions
from rlplastic.interventions.augment import RandomShift
from rlplastic.interventions.norms import ObservationNormaliser, RewardNormaliser

torch.set_num_threads(1)
BOTH = pytest.mark.parametrize("algorithm", [DQN, PPO])


def settings_of(algorithm):
    return DQN_SETTINGS if algorithm is DQN else PPO_SETTINGS


@BOTH
@pytest.mark.parametrize("which", ["observations", "rewards", "both"])
def test_normalisers_are_those_of_stable_baselines3(algorithm, which):
    observations, rewards = which != "rewards", which != "observations"
    base = stable_baselines3.DQN if algorithm is DQN else stable_baselines3.PPO
    torch.manual_seed(0)
    venv = make_vec_env("CartPole-v1", n_envs=2, seed=3)
    settings = {**settings_of(algorithm), "gamma": 0.9}
    theirs = base(
        "MlpPolicy",
        VecNormalize(venv, norm_obs=observations, norm_reward=rewards, clip_obs=2.0, gamma=0.9),
        seed=3,
        device="cpu",
        **settings,
    )
    theirs.learn(600)
    members = [ObservationNormaliser(clip=2.0)] * observations + [RewardNormaliser()] * rewards
    ours = train(algorithm, steps=600, num_envs=2, interventions=Interventions(members), **settings)
    assert ours.num_updates > 50
    assert parameter_bytes(ours) == parameter_bytes(theirs)
    plain = train(algorithm, steps=600, num_envs=2, **settings)
    assert parameter_bytes(ours) != parameter_bytes(plain)


@BOTH
def test_statistics_are_in_the_state_and_a_newborn_has_none(algorithm):
    members = [ObservationNormaliser(), RewardNormaliser()]
    model = train(
        algorithm, steps=300, interventions=Interventions(members), **settings_of(algorithm)
    )
    state = model.interventions.state_dict()
    assert state["obsnorm"]["count"] > 300
    assert state["obsnorm"]["mean"].shape == (4,)
    assert state["rewnorm"]["var"] > 0
    newborn = train(
        algorithm,
        steps=0,
        interventions=Interventions([ObservationNormaliser(), RewardNormaliser()]),
        **settings_of(algorithm),
    )
    assert newborn.interventions.state_dict()["obsnorm"]["count"] < 2
    newborn.interventions.load_state_dict(state)
    x = model.env.get_original_obs()
    assert (newborn.env.normalize_obs(x) == model.env.normalize_obs(x)).all()
    assert (newborn.env.normalize_reward(x) == model.env.normalize_reward(x)).all()
    assert (newborn.env.returns == model.env.returns).all()


def test_an_environment_that_is_given_by_position_or_by_name_is_wrapped_once():
    import gymnasium

    env = gymnasium.make("CartPole-v1")
    one = PPO(
        "MlpPolicy", env, interventions=Interventions([ObservationNormaliser()]), device="cpu"
    )
    two = PPO(
        policy="MlpPolicy",
        env="CartPole-v1",
        interventions=Interventions([ObservationNormaliser()]),
        device="cpu",
    )
    for model in (one, two):
        assert model.get_vec_normalize_env() is model.env
        assert not isinstance(model.env.venv, VecNormalize)


def test_reference_observations_are_normalised_like_the_minibatch():
    model = train(
        DQN, steps=300, interventions=Interventions([ObservationNormaliser()]), **DQN_SETTINGS
    )
    drawn = model.reference(2000, torch.Generator().manual_seed(0))
    memory = model.replay_buffer
    everything = model.env.normalize_obs(memory.observations[: memory.size(), 0])
    assert (drawn.min(dim=0)[0].numpy() == everything.min(axis=0)).all()


def test_images_are_shifted_as_padding_and_cropping_does():
    shift = RandomShift(pad=2)
    model = small_cnn(shift)
    images = torch.arange(2 * 3 * 6 * 7).reshape(2, 3, 6, 7).to(torch.float32)
    shift.generator.manual_seed(4)
    moves = torch.randint(-2, 3, (2, 2, 1), generator=torch.Generator().manual_seed(4))
    found = shift.shifted(images)
    padded = F.pad(images, (2, 2, 2, 2), mode="replicate")
    assert moves[:, :, 0].unique().numel() > 1
    for i in range(2):
        y, x = 2 + int(moves[0, i]), 2 + int(moves[1, i])
        assert torch.equal(found[i], padded[i, :, y : y + 6, x : x + 7])
    assert model.last_batch.observations.dtype == torch.uint8
    assert model.last_batch.observations.is_contiguous(memory_format=torch.channels_last)


def test_shifts_of_no_pixel_are_none_and_both_images_shift_on_their_own():
    model = small_cnn(shift := RandomShift(pad=0))
    batch = model.replay_buffer.sample(8)
    same = shift.minibatch(model, batch)
    for a, b in zip(batch, same, strict=True):
        assert a is b or torch.equal(a, b)
    object.__setattr__(shift, "pad", 4)
    twice = batch._replace(next_observations=batch.observations)
    moved = shift.minibatch(model, twice)
    assert not torch.equal(moved.observations, batch.observations)
    assert not torch.equal(moved.observations, moved.next_observations)
    assert moved.rewards is batch.rewards


def test_what_it_does_not_fit_is_refused():
    for member, model in (
        (RandomShift(), train(DQN, steps=0, **DQN_SETTINGS)),
        (ObservationNormaliser(), small_cnn()),
    ):
        with pytest.raises(UsageError, match=r"does not fit (vectors|images); it fits"):
            Interventions([member]).check(model)
    with pytest.raises(UsageError, match="does not fit agent 'ppo'"):
        Interventions([RandomShift()], "ppo")
