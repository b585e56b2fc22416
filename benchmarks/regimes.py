"""Forgetting and curvature of training regimes, on all images: the suite Training-Regimes.

::

    python -m rlplastic.benchmarks.regimes --seeds 5

A bench of the suite measures both on what the agent is shown: its curvature is that of the loss on
one minibatch, which depends on how many examples that has, and its retention is of the first and
the last 25 minibatches of a phase, which are more examples where a minibatch has more. Regimes that
differ in the minibatch cannot be compared so. Here each life is the suite's own (``smoke``), and at
the shifts its network is asked about all images of a task, which it is not trained on then:

==============  ===============================================================================
accuracy        in %, at the end of a task, of that task
forgetting      points of it that are gone when the task comes back, before it is trained on
hessian_top     largest eigenvalue of the Hessian of the loss on all images, at a task's end
moved           distance of the weights at a task's end to those at its beginning
==============  ===============================================================================

Printed are means over the tasks, with their mean over seeds and a 95 % bootstrap interval, and the
paired difference to the first regime.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from torch import Tensor

from rlplastic import options, registry
from rlplastic.agents.supervised import Batch
from rlplastic.aggregate import estimate
from rlplastic.cell import Cell
from rlplastic.envs.stream import Stream
from rlplastic.envs.supervised import Examples
from rlplastic.plan import make_plan
from rlplastic.probes.curvature import hessian_top
from rlplastic.record import FloatArray
from rlplastic.request import Request
from rlplastic.runner import build_interventions, build_stream

SUITE, BUDGET = "Training-Regimes", "smoke"
DROPOUT, DECAY = "dropout:rate=0.25", "lrdecay-at-shift:factor=0.8"
STEP = 0.03  # of the preset; a step size in proportion to the minibatch learns about as much
REGIMES = {  # minibatch, step size, intervention; 3,200 examples are whole episodes of each
    "minibatch 16": (16, STEP, "none"),
    "minibatch 4": (4, STEP, "none"),
    "minibatch 4, step size in proportion": (4, STEP / 4, "none"),
    "minibatch 64": (64, STEP, "none"),
    "minibatch 64, step size in proportion": (64, STEP * 4, "none"),
    "dropout": (16, STEP, DROPOUT),
    "decay": (16, STEP, DECAY),
    "dropout, decay": (16, STEP, f"{DROPOUT}+{DECAY}"),
    "dropout, decay, minibatch 4": (4, STEP, f"{DROPOUT}+{DECAY}"),
}


class Look(BaseCallback):
    """Asks the network about all images of a task, where the task begins and where it ends."""

    def __init__(self, stream: Stream, base: Any) -> None:
        super().__init__()
        self.stream, self._base = stream, base
        self.phase = 0
        self.ends: dict[int, float] = {}  # of each world, when it was last left
        self.found: dict[str, list[float]] = {
            name: [] for name in ("accuracy", "forgetting", "hessian_top", "moved")
        }

    def _on_training_start(self) -> None:
        self._weights = self._flat()

    def _on_rollout_start(self) -> None:
        if self.stream.phase == self.phase:
            return
        self.leave()
        self.phase = self.stream.phase
        self.model.at_shift(self.phase, "clear")  # type: ignore[attr-defined]
        world = self.stream.schedule.world(self.phase)
        if world in self.ends:
            self.found["forgetting"].append(self.ends[world] - self._accuracy(self._all(world)))
        self._weights = self._flat()

    def _on_step(self) -> bool:
        return True

    def leave(self) -> None:
        """The phase is over."""
        world = self.stream.schedule.world(self.phase)
        batch = self._all(world)
        self.ends[world] = self._accuracy(batch)
        self.found["accuracy"].append(self.ends[world])
        self.model.policy.set_training_mode(False)  # curvature of what answers: without masks
        self.found["hessian_top"].append(hessian_top(self.model, batch))
        self.model.policy.set_training_mode(True)
        self.found["moved"].append(float((self._flat() - self._weights).norm()))

    def _all(self, world: int) -> Batch:
        """All images as a world shows them, with their right answers."""
        examples = self._base.make(1)
        assert isinstance(examples, Examples)
        frozen = self.stream.at(world, self._base.make(len(examples.true_labels)))
        images = torch.as_tensor(frozen.reset())
        assert isinstance(frozen.base, Examples)
        return Batch(images, torch.as_tensor(frozen.base.answers))

    def _accuracy(self, batch: Batch) -> float:
        self.model.policy.set_training_mode(False)
        with torch.no_grad():
            right = self.model.policy(batch.observations).argmax(dim=1) == batch.answers
        self.model.policy.set_training_mode(True)
        return 100.0 * float(right.double().mean())

    def _flat(self) -> Tensor:
        return torch.cat([p.detach().reshape(-1).clone() for p in self.model.policy.parameters()])


def life(cell: Cell) -> dict[str, float]:
    """The means over the tasks of one life."""
    stream = build_stream(cell)
    config = options.make(registry.load("agent", cell.agent), cell.hyperparameters, cell.agent)
    interventions = build_interventions(cell)
    steps = stream.schedule.start(stream.schedule.phases)
    agent = config.build(
        stream,
        seed=cell.random_seed("agent", 0),
        interventions=interventions,
        device="cpu",
        horizon=steps,
    )
    interventions.check(agent)
    agent.set_logger(Logger(None, []))
    look = Look(stream, options.build("environment", cell.stream["base"], cell.task))
    agent.learn(steps, callback=look)
    look.leave()
    return {name: float(np.mean(values)) for name, values in look.found.items()}


def measured(regime: str, seeds: int) -> list[dict[str, float]]:
    """One for each seed."""
    size, rate, reg = REGIMES[regime]
    request = Request(
        agents=["mlp"],
        regs=[reg],
        env=SUITE,
        budget=BUDGET,
        seeds=list(range(seeds)),
        settings=[f"mlp.num_envs={size}", f"mlp.learning_rate={rate}"],
    )
    lives = [c for c in make_plan(request).cells if c.agent == "mlp" and not c.fresh]
    return [life(c) for c in lives if (c.reg == "none") == (reg == "none")]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="lives of each regime")
    seeds = parser.parse_args().seeds
    torch.set_num_threads(1)
    first: list[dict[str, float]] = []
    for regime in REGIMES:
        found = measured(regime, seeds)
        first = first or found
        print(regime, flush=True)
        for name in found[0]:
            values = [one[name] for one in found]
            text = _interval(values)
            if found is not first:
                apart = [a - b[name] for a, b in zip(values, first, strict=True)]
                text += f"   difference {_interval(apart)}"
            print(f"  {name:12} {text}", flush=True)


def _interval(values: list[float]) -> str:
    matrix: FloatArray = np.array(values)[:, None]
    found = estimate(matrix, "mean", np.random.default_rng(0))
    return f"{found.point:9.4g} [{found.low:.4g}, {found.high:.4g}]"


if __name__ == "__main__":
    main()
