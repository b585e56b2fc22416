"""What cannot be meant is refused before training, with the reason: every intervention."""

from __future__ import annotations

import itertools
import re

import pytest
import torch
from stable_baselines3.common.env_util import make_vec_env
from test_agents import DQN_SETTINGS

from rlplastic import options, registry
from rlplastic.agents.dqn import DQN
from rlplastic.errors import UsageError
from rlplastic.interventions import Interventions, overrides

torch.set_num_threads(1)
ENTRIES = registry.entries("intervention")
AGENTS = [name for name, entry in registry.entries("agent").items() if entry.traits.get("learns")]
NARROW = [
    name
    for name, entry in ENTRIES.items()
    if entry.traits.get("agents") and set(AGENTS) - set(entry.traits["agents"])
]
BOUNDED = [
    (name, field.name, float(bound[2]), bound[1])
    for name, entry in ENTRIES.items()
    for field in entry.fields
    if (bound := re.search(r"\b(Ge|Gt)\(([-0-9.]+)\)", field.annotation))
]
WITH_ACTOR = [
    name
    for name, entry in ENTRIES.items()
    if any(field.name == "scope" and "actor" in field.annotation for field in entry.fields)
    and "dqn" in entry.traits.get("agents", ("dqn",))
]


def made_and_checked(interventions):
    env = make_vec_env("CartPole-v1")
    interventions.check(DQN("MlpPolicy", env, **DQN_SETTINGS, interventions=interventions))


def test_there_is_something_to_refuse():
    assert len(NARROW) > 10
    assert len(BOUNDED) > 50
    assert len(WITH_ACTOR) > 10


@pytest.mark.parametrize("name", NARROW)
def test_an_agent_that_it_does_not_fit(name):
    fits = ENTRIES[name].traits["agents"]
    assert set(fits) < set(AGENTS)
    member = registry.load("intervention", name)()
    for agent in set(AGENTS) - set(fits):
        with pytest.raises(UsageError, match=f"--reg {name}: does not fit agent '{agent}'") as said:
            Interventions([member], agent)
        assert fits[0] in str(said.value)
    for agent in fits:
        Interventions([member], agent)


@pytest.mark.parametrize(("name", "option", "least", "kind"), BOUNDED)
def test_a_value_out_of_range(name, option, least, kind):
    below = least if kind == "Gt" else least - 1
    text = f"{name}:{option}={below:g}"
    with pytest.raises(UsageError, match=f"--reg '{re.escape(text)}'") as said:
        options.parse_reg(text)
    assert option in str(said.value)
    assert "greater than" in str(said.value)


@pytest.mark.parametrize("name", WITH_ACTOR)
def test_a_scope_that_has_no_parameters(name):
    member = registry.load("intervention", name)(scope="actor")
    with pytest.raises(UsageError, match="scope 'actor' has no (parameters|hidden units)"):
        made_and_checked(Interventions([member], "dqn"))


@pytest.mark.parametrize("hook", ["gradient", "optimizer", "critic"])
def test_two_for_a_hook_that_holds_one(hook):
    kinds = [registry.load("intervention", name) for name in ENTRIES]
    members = [kind() for kind in kinds if overrides(kind, hook)]
    assert len(members) > 3
    for one, two in itertools.combinations(members, 2):
        with pytest.raises(UsageError, match="exclude each other, since each"):
            Interventions([one, two])
