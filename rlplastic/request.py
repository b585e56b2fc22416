"""What a bench is asked for, before a suite has been read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rlplastic import options, registry
from rlplastic.errors import UsageError, unknown


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user asked for, as written.

    Attributes:
        agents: Names of agents; empty: the suite's.
        regs: Interventions, as ``sam:rho=0.1``; empty: the suite's.
        env: Suite, or suite/patterns of tasks, separated by commas.
        budget: Name of the suite's budget.
        seeds: Seed indices; empty: the budget's.
        settings: ``agent.key=value`` overrides.
        device: Torch device.
        probes: ``full``, or ``default``: the cheap ones; empty: the suite's.
        evaluate: Episodes in each world at the end of each phase; 0: none.
        data: Name of the data set that the tasks show; empty: the suite's.
    """

    agents: Sequence[str]
    regs: Sequence[str]
    env: str
    budget: str = "small"
    seeds: Sequence[int] = ()
    settings: Sequence[str] = ()
    device: str = "cpu"
    probes: str = ""
    evaluate: int = 0
    data: str = ""


def split(env: str) -> tuple[str, str]:
    """Suite and pattern of ``Suite/pattern`` or ``path/to/suite.toml/pattern``."""
    path, toml, pattern = env.partition(".toml")
    if toml and pattern[:1] in ("", "/"):
        return path + toml, pattern[1:]
    suite, slash, pattern = env.partition("/")
    if slash and not pattern:
        raise UsageError(f"--env {env!r}: a pattern of tasks must follow the '/', as {suite}/*")
    return suite, pattern


def agents_of(request: Request) -> list[str]:
    """The agents asked for, each once; the random reference is not one of them."""
    agents = list(dict.fromkeys(request.agents))
    for agent in agents:
        if not registry.find("agent", agent).traits.get("learns", True):
            raise UsageError(
                f"--agent {agent}: it does not learn; the random reference runs beside every agent"
            )
    return agents


def arms_of(regs: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """The interventions of every arm by its label; `none` is always the first."""
    arms: dict[str, list[dict[str, Any]]] = {"none": []}
    for text in regs:
        specs = options.parse_reg(text)
        arms[options.reg_label(specs)] = specs
    return arms


def settings_of(request: Request) -> dict[str, dict[str, Any]]:
    """The overrides of each agent, by key."""
    settings: dict[str, dict[str, Any]] = {}
    for text in request.settings:
        key, equals, value = text.partition("=")
        agent, dot, name = key.partition(".")
        if not equals or not dot:
            raise UsageError(f"--set {text!r}: write agent.key=value, as dqn.learning_rate=1e-4")
        if agent not in request.agents:
            raise unknown(f"agent in --set {text!r}", agent, request.agents)
        fields = [field.name for field in registry.find("agent", agent).fields]
        if name not in fields:
            raise unknown(f"key in --set {text!r}", name, fields)
        if name in settings.setdefault(agent, {}):
            raise UsageError(f"--set {text!r}: {key!r} is given twice")
        settings[agent][name] = _value(value, text)
    return settings


def _value(value: str, text: str) -> Any:
    """A number or word stays text for the type to read; ``[64,64]`` is a list."""
    if not value.startswith("["):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise UsageError(f"--set {text!r}: {value!r} is not a list; write [64,64]") from None
