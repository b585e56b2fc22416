"""An actor and a critic run by hand: what both read is computed once, their gradient apart.

See `rlplastic.agents.direct` for what that saves, and for the networks that it knows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rlplastic.agents.direct import Slopes, by_weight, chain_in, outputs, through, weights_of
from rlplastic.agents.surrogate import Surrogate, judged
from rlplastic.interventions import Part

Chain = list[nn.Module]


class Towers(NamedTuple):
    """The modules of an actor-critic in the order of its pass.

    Attributes:
        trunk: What both read; empty if there is none.
        actor: Behind it, to the logits.
        critic: Behind it, to the values.
    """

    trunk: Chain
    actor: Chain
    critic: Chain

    @property
    def learnt(self) -> bool:
        """True if every weight is learnt: there is a gradient for each."""
        return all(weight.requires_grad for chain in self for weight in weights_of(chain))

    def said(self, prepared: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``[batch, actions]`` and values ``[batch, 1]``; call it without gradients."""
        read = outputs(self.trunk, prepared)[-1]
        return outputs(self.actor, read)[-1], outputs(self.critic, read)[-1]

    def valued(self, prepared: Tensor) -> Tensor:
        """Values ``[batch, 1]`` alone; call it without gradients."""
        return outputs(self.critic, outputs(self.trunk, prepared)[-1])[-1]


def towers_in(trunk: list[Any], actor: list[Any], critic: list[Any]) -> Towers | None:
    """Of containers; None if a module is not known, or watched, or changes what both read."""
    chains = [chain_in(containers) for containers in (trunk, actor, critic)]
    if any(chain is None for chain in chains):
        return None
    found = Towers(*chains)  # type: ignore[arg-type]
    starts = [chain[0] for chain in found if chain]  # an activation would write into its input
    return found if all(type(first) in (nn.Linear, nn.Conv2d) for first in starts) else None


class Passed(NamedTuple):
    """One pass: what went into each module, the loss terms, and their gradients by what came out.

    Attributes:
        trunk: As `outputs` returns it.
        actor: The same; empty where only the critic was asked.
        critic: The same.
        terms: The loss terms.
        by_logits: The gradient of the policy's and the entropy term; empty likewise.
        by_values: Of the critic's term.
    """

    trunk: list[Tensor]
    actor: list[Tensor]
    critic: list[Tensor]
    terms: dict[str, Tensor]
    by_logits: Tensor | None
    by_values: Tensor


class ByHand:
    """The ``slopes`` of `rlplastic.interventions.Losses` for a minibatch of a PPO.

    Args:
        towers: All of whose weights are learnt.
        prepared: Observations as they take them.
        surrogate: The loss.
    """

    def __init__(self, towers: Towers, prepared: Tensor, surrogate: Surrogate) -> None:
        self._towers, self._prepared, self._surrogate = towers, prepared, surrogate
        self._first: Passed | None = None

    def look(self) -> dict[str, Tensor]:
        """The statistics for the log; their pass is kept for the first call."""
        with torch.no_grad():
            self._first, statistics = self._whole()
        return statistics

    def __call__(self, *which: Part) -> tuple[dict[str, Tensor], list[Slopes]]:
        """The terms at the current weights, and the gradient of these parts of their sum."""
        with torch.no_grad():
            passed, self._first = self._first, None
            if passed is None:
                passed = self._of_critic() if which == ("critic",) else self._whole()[0]
            return passed.terms, [self._slopes(passed, part) for part in which]

    def _whole(self) -> tuple[Passed, dict[str, Tensor]]:
        surrogate = self._surrogate
        trunk = outputs(self._towers.trunk, self._prepared)
        actor, critic = (outputs(chain, trunk[-1]) for chain in self._towers[1:])
        policy = judged(actor[-1], surrogate.actions)
        compared = surrogate.compared(policy.log_prob)
        value_loss = surrogate.value_loss(critic[-1])
        terms, statistics = surrogate.terms(compared, policy.entropy, value_loss)
        slopes = surrogate.by_logits(policy, compared), surrogate.by_values(critic[-1])
        return Passed(trunk, actor, critic, terms, *slopes), statistics

    def _of_critic(self) -> Passed:
        surrogate = self._surrogate
        trunk = outputs(self._towers.trunk, self._prepared)
        critic = outputs(self._towers.critic, trunk[-1])
        terms = {"critic": surrogate.vf_coef * surrogate.value_loss(critic[-1])}
        return Passed(trunk, [], critic, terms, None, surrogate.by_values(critic[-1]))

    def _slopes(self, passed: Passed, part: Part) -> Slopes:
        """The gradient of a part by each weight that it reaches."""
        trunk, actor, critic = self._towers
        further, found, below = bool(trunk), Slopes(), []
        if part != "critic" and passed.by_logits is not None:
            mine, g = through(actor, passed.actor, passed.by_logits, further=further)
            found |= by_weight(actor, mine)
            below.append(g)
        if part != "others":
            mine, g = through(critic, passed.critic, passed.by_values, further=further)
            found |= by_weight(critic, mine)
            below.append(g)
        if trunk:
            g = below[0] if len(below) == 1 else below[0].add_(below[1])
            found |= by_weight(trunk, through(trunk, passed.trunk, g, further=False)[0])
        return found
