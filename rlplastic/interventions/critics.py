"""The critic's loss as an intervention: named presets of the agents' options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from annotated_types import Ge

from rlplastic.interventions import Intervention
from rlplastic.registry import intervention


@intervention("mse")
@dataclass(frozen=True, kw_only=True)
class SquaredError(Intervention):
    """Train the critic with the squared error, which is PPO's own loss.

    `agent.critic = "mse"`: the mean of (v - target)² (arXiv 1707.06347, Eq. 9).
    """

    agents: ClassVar[tuple[str, ...]] = ("dqn", "ppo")

    def critic(self) -> dict[str, Any]:
        """The options."""
        return {"kind": "mse"}


@intervention("huber")
@dataclass(frozen=True, kw_only=True)
class HuberLoss(Intervention):
    """Train the critic with the Huber loss, linear beyond 1, which is DQN's own.

    `agent.critic = "huber"`: with e the error, the mean of e² / 2 where |e| < 1, else |e| - 1/2. It
    bounds the gradient of large errors, as the clipped errors of Mnih et al., Nature 2015, are.
    """

    agents: ClassVar[tuple[str, ...]] = ("dqn", "ppo")

    def critic(self) -> dict[str, Any]:
        """The options."""
        return {"kind": "huber"}


@intervention("twohot")
@dataclass(frozen=True, kw_only=True)
class TwoHot(Intervention):
    """Train the critic by cross-entropy to its target's weights on the two nearest bins.

    `agent.critic = "twohot"`: the outputs become distributions over bins, whose mean is the value.
    In arXiv 2303.01486 such outputs help plasticity, at some cost in performance; against targets
    of a large mean, arXiv 2402.18762. What is beyond the bins counts as their end.

    Attributes:
        bins: Number of bins (51: arXiv 1707.06887).
        low: Centre of the first bin (-10: arXiv 1707.06887, for clipped rewards).
        high: Centre of the last bin (10: arXiv 1707.06887, for clipped rewards).
    """

    agents: ClassVar[tuple[str, ...]] = ("dqn", "ppo")

    bins: Annotated[int, Ge(2)] = 51
    low: float = -10.0
    high: float = 10.0

    def critic(self) -> dict[str, Any]:
        """The options."""
        return {"kind": "twohot", "bins": self.bins, "low": self.low, "high": self.high}


@intervention("hlgauss")
@dataclass(frozen=True, kw_only=True)
class HLGauss(Intervention):
    """Train the critic by cross-entropy to a normal distribution around its target, over bins.

    `agent.critic = "hlgauss"`: N(target, σ²) with σ of 0.75 bins, integrated over each bin and
    normalised (arXiv 2403.03950, Sec. 3.1). The outputs become distributions over bins, whose mean
    is the value. What is beyond the bins counts as their end.

    Attributes:
        bins: Number of bins (51, as C51; the paper's DQN too).
        low: Lower edge of the first bin (-10: arXiv 2403.03950, for clipped rewards).
        high: Upper edge of the last bin (10: arXiv 2403.03950, for clipped rewards).
    """

    agents: ClassVar[tuple[str, ...]] = ("dqn", "ppo")

    bins: Annotated[int, Ge(2)] = 51
    low: float = -10.0
    high: float = 10.0

    def critic(self) -> dict[str, Any]:
        """The options."""
        return {"kind": "hlgauss", "bins": self.bins, "low": self.low, "high": self.high}


@intervention("c51")
@dataclass(frozen=True, kw_only=True)
class C51(Intervention):
    """Train the critic on the distribution of returns, projected onto fixed bins.

    `dqn.critic = "c51"`: r + γ z for the bins z of the target network's best next action, by mean,
    is projected onto the bins, and the loss is the cross-entropy (arXiv 1707.06887, Algorithm 1).

    Attributes:
        bins: Number of bins (51: the paper).
        low: First bin (-10: the paper, for clipped rewards).
        high: Last bin (10: the paper, for clipped rewards).
    """

    agents: ClassVar[tuple[str, ...]] = ("dqn",)

    bins: Annotated[int, Ge(2)] = 51
    low: float = -10.0
    high: float = 10.0

    def critic(self) -> dict[str, Any]:
        """The options."""
        return {"kind": "c51", "bins": self.bins, "low": self.low, "high": self.high}
