"""Named presets of the size of a minibatch, relative to the agent's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Gt, Le

from rlplastic.interventions import Intervention, Learner
from rlplastic.registry import intervention


def resize(agent: Any, factor: float) -> None:
    """Multiply the size of an agent's minibatches, as nearly as its data allow.

    PPO's becomes the largest divisor of a rollout that is not above it, and at least 2; DQN's is at
    most the replay memory.
    """
    wanted = max(round(agent.batch_size * factor), 1)
    if hasattr(agent, "n_epochs"):
        rollout = agent.n_steps * agent.n_envs
        sizes = [size for size in range(2, rollout + 1) if rollout % size == 0]
        wanted = max((size for size in sizes if size <= wanted), default=sizes[0])
    else:
        wanted = min(wanted, agent.buffer_size)
    agent.batch_size = wanted


@intervention("small-batch")
@dataclass(frozen=True, kw_only=True)
class SmallBatch(Intervention):
    """Learn from smaller minibatches: part of the regime that is to find wide minima.

    The agent's size of a minibatch times the factor. arXiv 2006.06958 finds small minibatches,
    with dropout and a large but decaying step size, to forget less; its minibatches are 10 to 64.
    DQN makes as many updates, PPO more: as many passes over a rollout. Supervised agents learn from
    all that is shown at once, so theirs is `--set mlp.num_envs=...`.

    Attributes:
        factor: Of the agent's own size (ours: ¼); 1 is none.
    """

    agents: ClassVar[tuple[str, ...]] = ("dqn", "ppo")

    factor: Annotated[float, Gt(0), Le(1)] = 0.25

    def begin(self, agent: Learner) -> None:
        """Set the size, for the whole life."""
        resize(agent, self.factor)


@intervention("large-batch")
@dataclass(frozen=True, kw_only=True)
class LargeBatch(Intervention):
    """Learn from larger minibatches: the opposite of ``small-batch``.

    The agent's size of a minibatch times the factor (arXiv 2006.06958), for PPO at most a rollout,
    for DQN at most the replay memory. DQN makes as many updates, PPO fewer.

    Attributes:
        factor: Of the agent's own size (ours: 4); 1 is none.
    """

    agents: ClassVar[tuple[str, ...]] = ("dqn", "ppo")

    factor: Annotated[float, Ge(1)] = 4.0

    def begin(self, agent: Learner) -> None:
        """Set the size, for the whole life."""
        resize(agent, self.factor)
