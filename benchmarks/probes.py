"""What do probes cost, as a share of the time that training takes?

::

    python -m rlplastic.benchmarks.probes --case ppo-control --repeats 20

For each case the agent with its preset learns the suite's unshifted task for a while, timed; then
each probe is measured on its last minibatch. Printed are processor seconds on one thread: of an
environment step, of a phase of the `small` budget, and of each probe, median over the repeats (of
the costly ones fewer), with its share of the phase. The default ones are measured during a phase,
just before and just after a shift, the costly ones at the shift alone. *Together* is what a bench
pays: all in one go, sharing passes. Of the default ones that may be 1 %.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from multiprocessing import get_context
from typing import Any

from rlplastic import registry, runner
from rlplastic.benchmarks.speed_cases import CASES, Case, cell_of
from rlplastic.benchmarks.speed_run import configured, each
from rlplastic.cell import Cell
from rlplastic.life import PROBES_PER_PHASE
from rlplastic.probes import measure as all_of
from rlplastic.probes import names, seen_of

AT_SHIFT = 2  # before and after
LIMIT = 0.01


def measure(job: tuple[Cell, int, int]) -> tuple[float, dict[str, float], dict[str, float]]:
    """Processor seconds of an environment step, of each probe, and of the probes together."""
    import torch

    cell, steps, repeats = job
    torch.set_num_threads(1)
    config = configured(cell)
    agent: Any = config.build(
        runner.build_stream(cell),
        seed=cell.random_seed("agent"),
        interventions=runner.build_interventions(cell),
        device="cpu",
        horizon=config.rollout * steps,
    )
    warm = config.rollout if cell.agent == "ppo" else config.learning_starts + 256
    agent.learn(warm, log_interval=None)
    before, start = agent.num_timesteps, time.process_time()
    agent.learn(steps, log_interval=None, reset_num_timesteps=False)
    step: float = (time.process_time() - start) / (agent.num_timesteps - before)
    agent.policy.set_training_mode(False)
    cheap, batch = names(), seen_of(agent.last_batch)
    found = {}
    for name in names("full"):
        one = partial(registry.load("probe", name), agent, batch)
        found[name] = each(one, repeats if name in cheap else max(repeats // 10, 1))
    together = {
        "default": each(partial(all_of, agent), repeats),
        "full": each(partial(all_of, agent, "full"), max(repeats // 10, 1)),
    }
    return step, found, together


def show(case: Case, steps: int, repeats: int) -> float:
    """Run and print one case; returns the share of the default probes."""
    cell = cell_of(case, "none")
    with get_context("spawn").Pool(1) as alone:
        ((step, taken, together),) = alone.map(measure, [(cell, steps, repeats)])
    phase = cell.period * step
    cheap = names()
    print(f"{case.name}: {cell.task}, a step {1e6 * step:,.0f} us, a phase {phase:,.1f} s")
    for name, seconds in sorted(taken.items(), key=lambda pair: pair[1]):
        times = AT_SHIFT + PROBES_PER_PHASE * (name in cheap)
        share = times * seconds / phase
        kind = "default" if name in cheap else "full"
        print(f"  {name:20} {kind:8} {1e3 * seconds:10.2f} ms  {share:8.3%} of a phase")
    default = (AT_SHIFT + PROBES_PER_PHASE) * together["default"] / phase
    full = (PROBES_PER_PHASE * together["default"] + AT_SHIFT * together["full"]) / phase
    print(f"  default together {default:.3%}, all together {full:.2%}", flush=True)
    return default


def main() -> int:
    """See the head of this file; 1 where the default probes take more than they may."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--case", action="append", choices=CASES, help="default: all")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--steps", type=int, help="timed environment steps of training")
    given = parser.parse_args()
    cases = [CASES[name] for name in given.case or CASES]
    shares = [show(case, given.steps or case.steps, given.repeats) for case in cases]
    return int(max(shares) > LIMIT)


if __name__ == "__main__":
    raise SystemExit(main())
