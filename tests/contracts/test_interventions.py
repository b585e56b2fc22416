"""Every intervention, whoever wrote it: the promises of the seam."""

from __future__ import annotations

import json

import pytest
import torch
from stable_baselines3.common.env_util import make_vec_env

from rlplastic import registry
from rlplastic.agents.dqn import DQN
from rlplastic.agents.ppo import PPO
from rlplastic.interventions import Interventions

torch.set_num_threads(1)
AGENTS = {
    "dqn": (DQN, {"learning_starts": 50, "target_update_interval": 100, "buffer_size": 500}),
    "ppo": (PPO, {"n_steps": 64, "batch_size": 32, "n_epochs": 2}),
}
CASES = [
    pytest.param(entry, agent, id=f"{entry.name}-{agent}")
    for entry in registry.entries("intervention").values()
    for agent in AGENTS
    if agent in entry.traits.get("agents", ()) or not entry.traits.get("agents")
]


def trained(entry, agent, steps=192, seed=0):
    algorithm, settings = AGENTS[agent]
    members = Interventions([entry.load()()], agent)
    model = algorithm(
        "MlpPolicy",
        make_vec_env("CartPole-v1", seed=seed),
        seed=seed,
        device="cpu",
        interventions=members,
        **settings,
    )
    members.check(model)
    return model.learn(steps)


@pytest.mark.parametrize(("entry", "agent"), CASES)
def test_it_trains_and_stays_finite(entry, agent):
    model = trained(entry, agent)
    assert model.num_updates > 0
    assert all(torch.isfinite(p).all() for p in model.policy.parameters())


@pytest.mark.parametrize(("entry", "agent"), CASES)
def test_the_same_seed_gives_the_same_bytes(entry, agent):
    one, two = (trained(entry, agent) for _ in range(2))
    for a, b in zip(one.policy.parameters(), two.policy.parameters(), strict=True):
        assert a.detach().numpy().tobytes() == b.detach().numpy().tobytes()


@pytest.mark.parametrize(("entry", "agent"), CASES)
def test_every_trainable_parameter_is_in_the_optimizer(entry, agent):
    model = trained(entry, agent)
    known = {id(p) for group in model.policy.optimizer.param_groups for p in group["params"]}
    assert {id(p) for p in model.scope("all")} <= known


@pytest.mark.parametrize(("entry", "agent"), CASES)
def test_its_state_makes_the_round_trip(entry, agent):
    model = trained(entry, agent)
    state = model.interventions.state_dict()
    other = Interventions([entry.load()()], agent)
    other.load_state_dict(state)
    torch.testing.assert_close(other.state_dict(), state, rtol=0, atol=0)
    numbers = {k: v for k, v in state[entry.name].items() if isinstance(v, int | float)}
    assert json.loads(json.dumps(numbers)) == numbers


@pytest.mark.parametrize("entry", registry.entries("intervention").values(), ids=lambda e: e.name)
def test_its_page_says_what_it_is(entry):
    assert entry.summary.endswith(".")
    for field in entry.fields:
        assert field.default, f"{entry.name}: option {field.name} has no default"
        assert f"{field.name}:" in entry.doc, f"{entry.name}: option {field.name} is not documented"
