"""The cases of `rlplastic.benchmarks.speed`: what trains, for how long, and what is aimed at."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from rlplastic.benchmarks.speed_run import BARE, KEPT, NONE, OWN_ENV, SAM, SB3
from rlplastic.cell import Cell
from rlplastic.plan import make_plan
from rlplastic.request import Request

CONTROL, ATARI = "Control-Shifted/CartPole-stationary", "Atari-Shifted/Breakout-stationary"
MINATAR = "MinAtar-Shifted/MinAtarBreakout-stationary"
KINDS = (SB3, KEPT, OWN_ENV, NONE, BARE, SAM)
SETTLED = 1_000  # updates after which moments of Adam without a gradient have faded


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row of the comparison.

    Attributes:
        name: As on the command line.
        agent: ``dqn`` or ``ppo``.
        task: The suite's task.
        steps: Environment steps that are timed in a run.
        own: What stable-baselines3's wrappers are given; empty: that kind is left out.
        settings: Changes to the preset.
        updates: Made before anything is timed, at least.
        target: Least ratio of `none` to stable-baselines3; 0: none is set.
        sam: Largest ratio of SAM's updates to those of `none`; 0: none is set.
        sam_run: The same of whole runs.
    """

    name: str
    agent: str
    task: str
    steps: int
    own: str = ""
    settings: tuple[str, ...] = ()
    updates: int = SETTLED
    target: float = 0.0
    sam: float = 0.0
    sam_run: float = 0.0

    @property
    def kinds(self) -> list[str]:
        """The kinds that it has here."""
        return [kind for kind in KINDS if kind != OWN_ENV or (self.own and not self.lacks)]

    @property
    def lacks(self) -> str:
        """A package that stable-baselines3's own wrappers of this environment need, if any."""
        needed = "cv2" if "NoFrameskip" in self.own else ""
        return needed if needed and importlib.util.find_spec(needed) is None else ""


OWN_ATARI = "BreakoutNoFrameskip-v4"
EVERY_STEP = ("dqn.train_freq=1",)
SEPARATE = ("ppo.shared_extractor=false",)
CASES = {
    case.name: case
    for case in (
        Case(
            name="dqn-atari",
            agent="dqn",
            task=ATARI,
            steps=400,
            own=OWN_ATARI,
            updates=0,
            target=1.5,
            sam=1.9,
            sam_run=1.6,
        ),
        Case(
            name="ppo-atari",
            agent="ppo",
            task=ATARI,
            steps=1_024,
            own=OWN_ATARI,
            updates=0,
            target=1.35,
            sam=2.75,
        ),
        Case(
            name="ppo-atari-separate",
            agent="ppo",
            task=ATARI,
            steps=1_024,
            settings=SEPARATE,
            updates=0,
            sam=1.65,
        ),
        Case(name="dqn-minatar", agent="dqn", task=MINATAR, steps=3_000, target=2.3, sam=1.9),
        Case(
            name="dqn-minatar-every",
            agent="dqn",
            task=MINATAR,
            steps=1_000,
            settings=EVERY_STEP,
            target=1.8,
            sam=1.9,
        ),
        Case(name="ppo-minatar", agent="ppo", task=MINATAR, steps=6_144, target=1.45, sam=2.75),
        Case(
            name="ppo-minatar-separate",
            agent="ppo",
            task=MINATAR,
            steps=6_144,
            settings=SEPARATE,
            sam=1.65,
        ),
        Case(
            name="dqn-control",
            agent="dqn",
            task=CONTROL,
            steps=6_144,
            own="CartPole-v1",
            target=2.5,
            sam=1.8,
        ),
        Case(
            name="ppo-control",
            agent="ppo",
            task=CONTROL,
            steps=6_144,
            own="CartPole-v1",
            target=1.5,
            sam=1.65,
        ),
    )
}


def cell_of(case: Case, reg: str, budget: str = "small") -> Cell:
    """The case's cell with an intervention."""
    request = Request(
        agents=[case.agent],
        regs=[reg],
        env=case.task,
        budget=budget,
        seeds=range(1),
        settings=case.settings,
    )
    return next(c for c in make_plan(request).cells if (c.arm, c.agent) == (reg, case.agent))
