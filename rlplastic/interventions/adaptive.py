"""A replay ratio that rises once the critic's units have settled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge

from rlplastic.interventions import Intervention, Learner
from rlplastic.registry import intervention


@intervention("adaptive-rr")
@dataclass(frozen=True, kw_only=True)
class AdaptiveReplayRatio(Intervention):
    """Adaptive replay ratio: more updates a step, once the share of active units has settled.

    With Φ the share of positive outputs among the critic's hidden units (FAU) on the minibatches,
    averaged over the `window` updates before each N-th (arXiv 2310.07418, Sec. 5, after the code of
    Guozheng-Ma/Adaptive-Replay-Ratio)::

        once |Φ_now - Φ_before| ≤ gap:  updates x factor, for the rest of the life

    The first Φ_before is that of the life's first update. The agent's own ratio is the low one:
    DQN's gradient steps are multiplied, and PPO's passes over a rollout, which is ours. It saves
    updates early, when lost plasticity does not come back, and does not look at shifts. With an
    activation that has no zero (tanh, leaky ReLU) Φ says which sign outputs have.

    Attributes:
        every: N, in updates (12,500: the code's 50 episodes on DeepMind Control).
        window: Updates that are averaged, at most N (250: one episode there).
        gap: Largest change of Φ that counts as none (0.001: the paper).
        factor: What updates are multiplied by (4, from 0.5 to 2 for each step: the paper).
    """

    agents: ClassVar[tuple[str, ...]] = ("dqn", "ppo")

    every: Annotated[int, Ge(1)] = 12_500
    window: Annotated[int, Ge(1)] = 250
    gap: Annotated[float, Ge(0)] = 0.001
    factor: Annotated[int, Ge(1)] = 4

    def check(self, agent: Learner) -> None:
        """The critic must have hidden units."""
        from rlplastic.interventions.redo import refuse_no_units

        refuse_no_units(self, agent, "critic")

    def begin(self, agent: Learner) -> None:
        """The low ratio."""
        self.state.update(before=-1.0, sum=0.0, count=0, switched=False)

    def repeats(self, agent: Learner, count: int) -> int:
        """Updates or passes of a training: more of them once it has settled."""
        return count * self.factor if self.state["switched"] else count

    def after_update(self, agent: Learner) -> None:
        """Note the share of active units; after each N-th update look whether it has settled."""
        state = self.state
        if state["switched"]:
            return
        left = -agent.num_updates % self.every  # until the next look
        if agent.num_updates > 1 and left >= self.window:
            return
        share = self.active_share(agent)
        if agent.num_updates == 1:
            state["before"] = share
        if left < self.window:
            state["sum"] += share
            state["count"] += 1
        if left == 0:
            now = state["sum"] / state["count"]
            state.update(switched=abs(now - state["before"]) <= self.gap, before=now)
            state.update(sum=0.0, count=0)

    @staticmethod
    def active_share(agent: Learner) -> float:
        """The share of positive outputs of the critic's hidden units on the last minibatch."""
        from rlplastic.interventions import surgery

        positive = outputs = 0.0
        for _, output in surgery.outputs(agent, surgery.movable(agent, "critic")):
            width = output.shape[1] * output.shape[2]
            positive += float((output > 0).float().mean()) * width
            outputs += width
        return positive / outputs
