"""The plain learner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rlplastic.interventions import Intervention
from rlplastic.registry import intervention


@intervention("none")
@dataclass(frozen=True, kw_only=True)
class Nothing(Intervention):
    """Nothing: the agent as stable-baselines3 has it."""

    stacks: ClassVar[bool] = True
