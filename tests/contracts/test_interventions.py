"""Every intervention, whoever wrote it: the promises of the seam."""

from __future__ import annotations

import itertools
import json
import os
import re

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv

from rlplastic import registry
from rlplastic.agents.dqn import DQN
from rlplastic.agents.ppo import PPO
from rlplastic.errors import UsageError
from rlplastic.interventions import Interventions, overrides
from rlplastic.probes import measure

torch.set_num_threads(1)
HOOKS = (
    "wrap",
    "critic",
    "rebuild",
    "begin",
    "repeats",
    "minibatch",
    "weights",
    "before_update",
    "penalty",
    "gradient",
    "optimizer",
    "new_objective",
    "after_update",
    "at_shift",
)
LOOK = os.environ.get("RLPLASTIC_LOOK", "default")  # full: `make looks`
AGENTS = {
    "dqn": (DQN, {"learning_starts": 50, "target_update_interval": 100, "buffer_size": 500}),
    "ppo": (PPO, {"n_steps": 64, "batch_size": 32, "n_epochs": 2}),
}


def fits(entry, agent, seen="vectors"):
    return agent in (entry.traits.get("agents") or (agent,)) and seen in (
        entry.traits.get("observations") or (seen,)
    )


def slots(entry):
    """The hooks that an intervention has."""
    return frozenset(hook for hook in HOOKS if overrides(entry.load(), hook))


def chosen_pairs():
    """One pair for each two hooks; with RLPLASTIC_ALL_PAIRS all pairs (`make pairs`)."""
    entries = [e for e in registry.entries("intervention").values() if e.name != "none"]
    every = list(itertools.combinations(entries, 2))
    if os.environ.get("RLPLASTIC_ALL_PAIRS"):
        return every
    found, covered = [], set()
    for one, two in every:
        if not any(fits(one, agent) and fits(two, agent) for agent in AGENTS):
            continue
        meetings = {frozenset(pair) for pair in itertools.product(slots(one), slots(two))}
        if not meetings <= covered:
            covered |= meetings
            found.append((one, two))
    return found


def cases(seen):
    """Every intervention with every agent that it fits where that is what is seen."""
    return [
        pytest.param(entry, agent, id=f"{entry.name}-{agent}")
        for entry in registry.entries("intervention").values()
        for agent in AGENTS
        if fits(entry, agent, seen)
    ]


CASES = cases("vectors")

ZERO = {  # the options whose zero turns an intervention off
    entry.name: field.name
    for entry in registry.entries("intervention").values()
    for field in entry.fields
    if field.name in ("rho", "strength") and "Ge(0)" in field.annotation
}
PAIRS = [
    pytest.param(one, two, agent, id=f"{one.name}+{two.name}-{agent}")
    for one, two in chosen_pairs()
    for agent in AGENTS
    if fits(one, agent) and fits(two, agent)
]


def look(names, _):
    """What a life does now and then, in the middle of training."""
    if names["self"].last_batch is not None and names["self"].num_timesteps % 64 == 0:
        assert measure(names["self"], LOOK)
    return True


def trained(entry, agent, steps=192, seed=0, options=None, second=None, callback=None):
    algorithm, settings = AGENTS[agent]
    entries = [entry] if second is None else [entry, second]
    members = Interventions([e.load()(**(options or {})) for e in entries], agent)
    model = algorithm(
        "MlpPolicy",
        make_vec_env("CartPole-v1", seed=seed),
        seed=seed,
        device="cpu",
        interventions=members,
        **settings,
    )
    members.check(model)
    return model.learn(steps, callback)


@pytest.mark.parametrize(("entry", "agent"), CASES)
def test_it_trains_and_stays_finite(entry, agent):
    model = trained(entry, agent)
    assert model.num_updates > 0
    assert all(torch.isfinite(p).all() for p in model.policy.parameters())


class Frames(gymnasium.Env):
    """Noise of the smallest size that NatureCNN takes."""

    observation_space = gymnasium.spaces.Box(0, 255, (4, 36, 36), np.uint8)
    action_space = gymnasium.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._frame(), {}

    def step(self, action):
        done = bool(self.np_random.random() < 0.1)
        return self._frame(), float(action), done, False, {}

    def _frame(self):
        return self.np_random.integers(0, 256, (4, 36, 36), np.uint8)


@pytest.mark.parametrize(("entry", "agent"), cases("images"))
def test_it_trains_convolutions_too(entry, agent):
    algorithm, settings = AGENTS[agent]
    small = {"buffer_size": 64, "learning_starts": 8} if agent == "dqn" else {"n_steps": 16}
    members = Interventions([entry.load()()], agent)
    venv = DummyVecEnv([Frames])
    venv.seed(0)
    model = algorithm(
        "CnnPolicy",
        venv,
        seed=0,
        device="cpu",
        interventions=members,
        channels_last=True,
        policy_kwargs={"net_arch": []},  # as Atari's presets: the outputs read the 512 features
        **{**settings, **small, "batch_size": 8},
    )
    members.check(model)
    model.learn(48)
    members.at_shift(model, 1)
    model.learn(16, reset_num_timesteps=False)
    assert model.num_updates > 4
    assert all(torch.isfinite(p).all() for p in model.policy.parameters())


@pytest.mark.parametrize(("entry", "agent"), CASES)
def test_the_same_seed_gives_the_same_bytes_though_probes_look_on(entry, agent):
    one, two = (trained(entry, agent, callback=callback) for callback in (None, look))
    if agent == "dqn":  # or the bootstrap target has masks, and looking at it changes it
        assert not any(module.training for module in one.q_net_target.modules())
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


SOURCE = re.compile(r"arXiv \d{4}\.\d{4,5}|Nature 20\d\d|stable-baselines3's `|as ``")


@pytest.mark.parametrize("entry", registry.entries("intervention").values(), ids=lambda e: e.name)
def test_its_page_says_what_it_is(entry):
    assert entry.summary.endswith(".")
    assert entry.name == "none" or SOURCE.search(entry.doc), f"{entry.name} names no source"
    for field in entry.fields:
        assert field.default, f"{entry.name}: option {field.name} has no default"
        assert f"{field.name}:" in entry.doc, f"{entry.name}: option {field.name} is not documented"


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("name", ZERO)
def test_strength_zero_is_none(name, agent):
    entry = registry.find("intervention", name)
    if not fits(entry, agent):
        pytest.skip(f"{name} does not fit {agent}")
    zero = trained(entry, agent, options={ZERO[name]: 0.0})
    none = trained(registry.find("intervention", "none"), agent)
    rounded = overrides(entry.load(), "gradient")  # a sum in another order
    for a, b in zip(zero.policy.parameters(), none.policy.parameters(), strict=True):
        tolerance = 1e-6 if rounded else 0.0
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance)
    strong = trained(entry, agent)
    pairs = zip(strong.policy.parameters(), none.policy.parameters(), strict=True)
    assert not all(torch.equal(a, b) for a, b in pairs)


def test_the_two_that_each_make_the_gradient_are_in_the_pairs_and_refused():
    assert any("gradient" in slots(p.values[0]) & slots(p.values[1]) for p in PAIRS)


NEED_ADAM = {"adamrel", "betas", "wd"}


NO_BLOCKS = {  # change the hidden layers, or need the last of them
    *("crelu", "dropout", "fourier", "inject", "inject-at-shift", "layernorm", "leaky", "moe"),
    *("nap", "pfo", "rational", "spectralnorm", "unitnorm"),
}


def exclude_each_other(one, two):
    """Both make the gradient, bring an optimizer, or replace the activations; or one needs Adam."""
    replace = {one.name, two.name} <= {"crelu", "fourier", "leaky", "rational"}
    names = {one.name, two.name}
    without_adam = names & {"sgd", "upgd"} and names & NEED_ADAM
    blocks = "simba" in names and bool(names & NO_BLOCKS)
    mixture = "moe" in names and bool(names & {"inject", "inject-at-shift"})
    decay_twice = names == {"adamw", "wd"}
    shared = {"gradient", "optimizer", "critic"} & slots(one) & slots(two)
    return replace or bool(without_adam) or bool(shared) or decay_twice or blocks or mixture


@pytest.mark.parametrize(("one", "two", "agent"), PAIRS)
def test_two_together_train_or_are_refused_with_the_reason(one, two, agent):
    if exclude_each_other(one, two):
        with pytest.raises(UsageError, match="exclude each other|choose one|needs Adam"):
            trained(one, agent, second=two)
        return
    model = trained(one, agent, second=two)
    assert model.num_updates > 0
    assert all(torch.isfinite(p).all() for p in model.policy.parameters())
    model.interventions.at_shift(model, 1)
    known = {id(p) for group in model.policy.optimizer.param_groups for p in group["params"]}
    assert {id(p) for p in model.scope("all")} <= known
