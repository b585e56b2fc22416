"""Churn reduction: what an update does to observations that are not in its minibatch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge, Gt

from rlplastic.errors import UsageError
from rlplastic.interventions import Intervention, Learner
from rlplastic.registry import intervention

if TYPE_CHECKING:
    from torch import Tensor

FIRST = 50.0  # the weight in a DQN's first updates (the code)
UPDATES = 0.999  # decay of the running means, for each update
ROLLOUTS = 0.98  # for each rollout


@intervention("cchain")
@dataclass(frozen=True, kw_only=True)
class ChurnReduction(Intervention):
    """Keep the outputs for a reference batch near those of the network before the last update.

    C-CHAIN (Tang et al., ICML 2025; bluecontra/C-CHAIN), after CHAIN (arXiv 2409.04792)::

        DQN    λ mean (Q(s) - Q_old(s))²            over all actions
               λ = s ρ mean|loss| / mean churn, 50 s in the first updates
        PPO    λ mean -Σ π_old(a|s) log π(a|s)      of a Gaussian, (μ(s) - μ_old(s))²
               λ = s max(1, ρ mean|loss| / mean churn), s before the eleventh rollout

    The reference batch is as large as a minibatch and drawn for itself, from the replay memory or
    the rollout. It is drawn when its old outputs are computed, one update before it is used, so
    that no second network is needed. The loss is DQN's critic loss at an update, and PPO's policy
    and entropy loss on average over a rollout. All means are running ones, of 1,000 updates or 50
    rollouts (the code: windows of 50,000 updates, or of 50 rollouts, which it begins anew when the
    world shifts).

    Attributes:
        strength: s; 0 is none.
        ratio_q: ρ of DQN, the penalty's size relative to the loss (0.01: the code).
        warmup: Updates of a DQN with the fixed λ (10,000: the code). Without them a young network,
            whose loss is large and whose churn the penalty makes smaller still, can be held where
            it is: DQN's preset learnt nothing of CartPole in 20,000 updates.
        ratio_policy: ρ of PPO (1e4: the code, on classic control; the cross-entropy it is relative
            to holds the entropy, which has no gradient).
        lag: Updates between the old network and the present one (1: the code, whose index 2 counts
            the present network).
    """

    agents: ClassVar[tuple[str, ...]] = ("dqn", "ppo")
    cost: ClassVar[float] = 2.0

    strength: Annotated[float, Ge(0)] = 1.0
    ratio_q: Annotated[float, Gt(0)] = 0.01
    warmup: Annotated[int, Ge(0)] = 10_000
    ratio_policy: Annotated[float, Gt(0)] = 1e4
    lag: Annotated[int, Ge(1)] = 1

    def check(self, agent: Learner) -> None:
        """A policy must be categorical or Gaussian."""
        kind = type(getattr(agent.policy, "action_dist", None)).__name__
        if kind not in ("NoneType", "CategoricalDistribution", "DiagGaussianDistribution"):
            raise UsageError(f"--reg cchain: no churn is defined of a {kind}")

    def begin(self, agent: Learner) -> None:
        """No reference batch has been drawn."""
        self.state.update(loss=0.0, churn=0.0, observations=[], outputs=[])
        if hasattr(agent.policy, "get_distribution"):
            self.state.update(losses=0.0, churns=0.0, count=0, rollouts=0, weight=1.0)

    def new_objective(self, agent: Learner) -> None:
        """The last rollout of PPO is over: its means, and λ for the next."""
        state = self.state
        if not state.get("count"):
            return
        for mean, total, sign in (("loss", "losses", abs), ("churn", "churns", float)):
            state[mean] += (1 - ROLLOUTS) * (sign(state[total] / state["count"]) - state[mean])
        state["rollouts"] += 1
        state.update(losses=0.0, churns=0.0, count=0)
        if state["rollouts"] >= 10:
            # a running mean's correction for its start is the same in both
            state["weight"] = max(self.ratio_policy * state["loss"] / (state["churn"] + 1e-8), 1.0)

    def before_update(self, agent: Learner) -> None:
        """Draw the reference batch that will be used `lag` updates from now."""
        import torch

        self.__dict__["_weight"] = None
        size = len(agent.last_batch.observations)
        observations = agent.reference(size, self.generator)
        with torch.no_grad():
            outputs = self._outputs(agent, observations)
        keep = self.lag + 1
        self.state["observations"] = [*self.state["observations"], observations][-keep:]
        self.state["outputs"] = [*self.state["outputs"], outputs][-keep:]

    def penalty(self, agent: Learner) -> Tensor | None:
        """λ times the churn; nothing in the first updates of a life."""
        if len(self.state["outputs"]) <= self.lag:
            return None
        churn = self._churn(agent, self.state["observations"][0], self.state["outputs"][0])
        if self.__dict__["_weight"] is None:  # the same in both passes of an update
            self.__dict__["_weight"] = self._weigh(agent, float(churn.detach()))
        weighed: Tensor = self.__dict__["_weight"] * churn
        return weighed

    def _weigh(self, agent: Learner, churn: float) -> float:
        """Take note of the sizes of loss and churn; λ."""
        state, terms = self.state, agent.last_terms
        if "weight" in state:
            state["losses"] += sum(float(terms[name]) for name in terms if name != "critic")
            state["churns"] += churn
            state["count"] += 1
            return self.strength * float(state["weight"])
        state["loss"] += (1 - UPDATES) * (abs(float(terms["critic"])) - state["loss"])
        state["churn"] += (1 - UPDATES) * (churn - state["churn"])
        if agent.num_updates < self.warmup:
            return self.strength * FIRST
        weight: float = self.strength * self.ratio_q * state["loss"] / (state["churn"] + 1e-8)
        return weight

    @staticmethod
    def _outputs(agent: Learner, observations: Tensor) -> Tensor:
        """Q-values, log-probabilities of all actions, or means of actions: ``[batch, outputs]``."""
        if not hasattr(agent.policy, "get_distribution"):
            return agent.values(observations)
        found: Any = agent.policy.get_distribution(observations).distribution
        outputs: Tensor = found.logits if hasattr(found, "logits") else found.mean
        return outputs

    def _churn(self, agent: Learner, observations: Tensor, old: Tensor) -> Tensor:
        new = self._outputs(agent, observations)
        if hasattr(agent.policy, "get_distribution") and _categorical(agent):
            return -(old.exp() * new).sum(dim=1).mean()
        return (new - old).square().mean()


def _categorical(agent: Learner) -> bool:
    """True if the policy's distribution is over a finite number of actions."""
    return type(agent.policy.action_dist).__name__ == "CategoricalDistribution"
