"""What a learner has kept, and what it already can: its policy, frozen, in every world of its life.

Before a life and at the end of each of its phases the policy plays some episodes in each world that
the stream visits, on copies of its own: nothing is learnt from them. It acts as it does while it
trains, since that is what every other return of the record is of, and in each world all arms of a
seed meet the same first states. Like a probe it never changes training, which goes on to the same
bytes. Continual World (arXiv 2105.10919) and CORA (arXiv 2110.10067) define forgetting and transfer
on such evaluations; see `rlplastic.metrics.evaluated`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from stable_baselines3.common.utils import set_random_seed

from rlplastic import options
from rlplastic.agents.resume import generators, set_generators
from rlplastic.cell import Cell
from rlplastic.envs.episodes import Episode
from rlplastic.envs.schedules import worlds_of
from rlplastic.envs.stream import Stream
from rlplastic.errors import Diverged


def evaluate(cell: Cell, stream: Stream, agent: Any, lived: int) -> Iterator[tuple[int, float]]:
    """Each world of a stream, and the agent's mean return in it over `cell.evaluate` episodes.

    A world whose observations or rewards the policy drives to infinity is left out.

    Args:
        cell: Whose life it is.
        stream: Where it lives.
        agent: The learner, between two updates.
        lived: Phases that are over: what is drawn depends on it.
    """
    longest = max(
        stream.schedule.start(phase + 1) - stream.schedule.start(phase)
        for phase in range(stream.schedule.phases)
    )
    base = options.build("environment", cell.stream["base"], f"task {cell.task!r}")
    seed = cell.random_seed("evaluation", lived)
    with _looking_on(agent):
        for world in sorted(set(worlds_of(stream.schedule))):
            set_random_seed(seed)
            agent.action_space.seed(seed)
            frozen = stream.at(world, base.make(cell.evaluate), seed=lived)
            try:
                returns = played(agent, frozen, longest // stream.num_envs)
            except Diverged:
                continue
            finally:
                frozen.close()
            yield world, float(np.mean(returns))


def played(agent: Any, world: Stream, most: int) -> list[float]:
    """The return of the first episode of each copy, at most so many steps of it."""
    returns: dict[int, float] = {}

    def ended(episode: Episode) -> None:
        if not math.isfinite(episode.task_return):
            raise Diverged(f"return {episode.task_return} in an evaluation")
        returns.setdefault(episode.copy, episode.task_return)

    world.listener = ended
    normaliser = agent.get_vec_normalize_env()
    seen = world.reset()
    for _ in range(most):
        shown = seen if normaliser is None else normaliser.normalize_obs(seen)
        seen, *_ = world.step(agent.predict(shown)[0])
        if len(returns) == world.num_envs:
            break
    world.close_episodes()
    return list(returns.values())


@contextmanager
def _looking_on(agent: Any) -> Iterator[None]:
    """The agent's generators and the modes of its modules are put back in the end."""
    drawn = generators(agent)
    modes = [(module, module.training) for module in agent.policy.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        set_generators(agent, drawn)
