"""Do an agent and the phases it is to live through fit together?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from rlplastic import options
from rlplastic.errors import UsageError
from rlplastic.suite import Budget, Task

LATEST_START = 0.05  # of a period: no updates for longer, and the phase is not the agent's


def refuse_misfit(
    where: str, agent: str, config: Any, spec: Mapping[str, Any], episode: int = 0
) -> None:
    """Refuse an agent that a schedule gives no whole rollouts, or too little time to learn.

    Args:
        where: Suite and task, for the message.
        agent: Its name.
        config: Its configuration.
        spec: The schedule in full.
        episode: Steps of every episode, where all are of one length; 0: they are not.

    Raises:
        UsageError: names the value and the nearest valid one.
    """
    shortest = _shortest(where, agent, config.rollout, spec)
    if episode:
        _refuse_cut_episodes(where, agent, config, spec, episode)
    period = int(spec["period"])
    if getattr(config, "batch_size", 0) > period:
        raise UsageError(
            f"agent {agent!r}: batch_size = {config.batch_size} is more than a period has steps; "
            f"nearest valid: {period}"
        )
    starts, most = getattr(config, "learning_starts", 0), int(period * LATEST_START)
    if starts > most:
        raise UsageError(
            f"agent {agent!r}: learning_starts = {starts} is more than 5 % of the period of "
            f"{period} steps; nearest valid: --set {agent}.learning_starts={most}"
        )
    needed = max(starts, getattr(config, "batch_size", 0))
    if needed >= shortest:
        raise UsageError(
            f"{where}: a phase of schedule {spec['name']!r} can have only {shortest} steps, and "
            f"agent {agent!r} does not learn before step {needed} (learning_starts = {starts}, "
            f"batch_size = {getattr(config, 'batch_size', 0)}); valid: phases of more steps"
        )


def _refuse_cut_episodes(
    where: str, agent: str, config: Any, spec: Mapping[str, Any], episode: int
) -> None:
    """Refuse phases that end within an episode, where every episode has the same length.

    A cut one returns the share of its answers that it came to, which looks like worse answers; and
    where whole ones are beside it, it does not count, so the last answers of a phase would not.
    Random answers are as good at any time: one whole episode a phase is enough of them.

    Raises:
        UsageError: names the nearest minibatches that fit.
    """
    copies, steps = config.num_envs, _common(where, spec)
    if steps % (copies * episode) == 0 or (not config.learns and steps >= copies * episode):
        return
    fits = [n for n in range(1, steps // episode + 1) if steps % (n * episode) == 0]
    near = [n for n in fits if n < copies][-1:] + [n for n in fits if n > copies][:1]
    sizes = [f"--set {agent}.num_envs={n}" for n in near if config.learns]
    raise UsageError(
        f"{where}: agent {agent!r} with num_envs = {copies} has {steps / copies:g} minibatches in "
        f"phases of {steps} steps (period {spec['period']}). An episode is {episode} of them, so "
        "the boundary would cut one, whose return is no accuracy. Nearest valid: "
        + " or ".join([*sizes, f"phases of a multiple of {copies * episode} steps"])
    )


def _common(where: str, spec: Mapping[str, Any]) -> int:
    """The largest number of steps that the length of every phase of a schedule is a multiple of."""
    from rlplastic.envs.schedules import Drawn  # loads torch

    schedule = options.build("schedule", spec, where)
    if isinstance(schedule, Drawn):
        return int(schedule.step)
    return math.gcd(*(int(schedule.start(phase)) for phase in range(schedule.phases + 1)))


def _shortest(where: str, agent: str, rollout: int, spec: Mapping[str, Any]) -> int:
    """The shortest phase of a schedule in which every phase begins where a rollout does.

    Raises:
        UsageError: one does not.
    """
    from rlplastic.envs.schedules import Drawn  # loads torch

    schedule = options.build("schedule", spec, where)
    if isinstance(schedule, Drawn):
        if schedule.step % rollout:
            near = max(1, round(schedule.step / rollout)) * rollout
            raise UsageError(
                f"{where}: the lengths of schedule {spec['name']!r} are multiples of step = "
                f"{schedule.step}; for agent {agent!r} that is not a multiple of its rollout of "
                f"{rollout} steps; nearest that is: {near}"
            )
        return int(schedule.step)
    starts = [schedule.start(phase) for phase in range(schedule.phases + 1)]
    for phase, start in enumerate(starts):
        if start % rollout:
            near = max(1, round(start / rollout)) * rollout
            raise UsageError(
                f"{where}: phase {phase} of schedule {spec['name']!r} begins at step {start} with "
                f"period {spec['period']}; for agent {agent!r} that is not a multiple of its "
                f"rollout of {rollout} steps; nearest that is: {near}"
            )
    return min(int(end - start) for start, end in pairwise(starts))


def notes(
    budget: Budget, tasks: Mapping[str, Task], agents: Sequence[str], seeds: Sequence[int]
) -> list[str]:
    """What the user should know of a plan before it starts."""
    found = [f"too short for a verdict: {budget.too_short}"] if budget.too_short else []
    if len(seeds) < 6:
        found.append(f"{len(seeds)} seed{'s' * (len(seeds) != 1)}: no verdict below 6")
    for agent in agents:
        dull = [
            name
            for name, task in tasks.items()
            if agent in task.agents and not task.agents[agent].measurable
        ]
        if dull:
            found.append(f"not measurable for {agent}, shown but not counted: {', '.join(dull)}")
        unscaled = [name for name, task in tasks.items() if agent not in task.agents]
        if unscaled:
            found.append(f"no pilot of {agent}, so no scale and no score: {', '.join(unscaled)}")
    return found + _short(budget, tasks, agents)


def _short(budget: Budget, tasks: Mapping[str, Task], agents: Sequence[str]) -> list[str]:
    """A period must be at least twice the newborn's time to 80 %, or there is nothing to see."""
    found = []
    for agent in agents if not budget.too_short else ():
        pilots = {name: task.agents[agent] for name, task in tasks.items() if agent in task.agents}
        late = [
            name
            for name, pilot in pilots.items()
            if pilot.measurable and 2 * (pilot.newborn_t80 or 0) > budget.period[agent]
        ]
        if late:
            found.append(
                f"the period of {budget.period[agent]:,} steps is less than twice what a newborn "
                f"{agent} takes to 80 %: {', '.join(late)}"
            )
    return found
