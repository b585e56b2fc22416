"""Spectral normalisation of the last hidden layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlplastic.interventions import Intervention, Learner
from rlplastic.registry import intervention

if TYPE_CHECKING:
    from torch import nn


@intervention("spectralnorm")
@dataclass(frozen=True, kw_only=True)
class SpectralNormalisation(Intervention):
    """Divide the weights of the last hidden layer by their largest singular value: W / σ(W).

    arXiv 1802.05957; of a deep Q-network's layers the one below the output is the one to divide
    (arXiv 2105.05246). σ comes from one power iteration a pass, and the gradient goes through it.
    What is learnt, penalised or reset is W before the division; the target network divides its own
    W, with the vector of the network it is a copy of. In an actor-critic both networks.
    """

    def rebuild(self, policy: nn.Module) -> None:
        """Replace the last hidden layer of every path."""
        from rlplastic.agents.rebuild import divide_last_hidden

        divide_last_hidden(policy)

    def begin(self, agent: Learner) -> None:
        """Let the power iterations settle."""
        from rlplastic.agents.modules import SpectralLinear

        for layer in agent.policy.modules():
            if isinstance(layer, SpectralLinear):
                layer.settle()

    def new_objective(self, agent: Learner) -> None:
        """A new target network has the vectors of the network that it is a copy of."""
        from rlplastic.agents.modules import SpectralLinear
        from rlplastic.agents.networks import target_copy

        if not agent.targets():
            return
        for layer in agent.policy.q_net.modules():
            twin = target_copy(agent.policy, layer)
            if isinstance(twin, SpectralLinear):
                twin.left.copy_(layer.left)
