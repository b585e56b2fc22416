"""How large the critic's outputs are."""

from __future__ import annotations

from typing import Any

import torch

from rlplastic.registry import probe


@probe("value_magnitude")
def value_magnitude(agent: Any, batch: Any) -> float:
    """Mean absolute output of the critic on the batch: Q of all actions (DQN), or V (PPO)."""
    with torch.no_grad():
        return float(agent.values(batch.observations).abs().mean())
