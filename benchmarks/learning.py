"""Do our agents learn what stable-baselines3's learn, with the presets as a bench runs them?

::

    python -m rlplastic.benchmarks.learning --seeds 10 --write benchmarks/LEARNING.md

Both are trained on the unshifted world of a task with the same hyper-parameters, exploration and
seeds: stable-baselines3's own class as it is, and ours with `none`, with the fused optimizer and
the memory layout that make it faster. Without these two the parameters are the same bytes (the
tests say so); here the question is whether the learning is the same. Printed for each agent: the
area under the learning curve of both (mean return over steps), and the paired difference of the
areas as a share of stable-baselines3's, with a 95 % bootstrap interval over seeds. They are
*equivalent* if all of the interval lies within 5 % of the area; that it holds 0 would say little.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from rlplastic import options, pool, registry
from rlplastic.aggregate import estimate
from rlplastic.benchmarks.pages import made_by, write
from rlplastic.cell import Cell
from rlplastic.plan import make_plan
from rlplastic.request import Request

MARGIN = 0.05  # of the area


def area(job: tuple[Cell, bool, int]) -> float:
    """Mean over the steps of the return of the episode in progress, cut ones left out."""
    import stable_baselines3
    import torch

    from rlplastic import runner
    from rlplastic.envs.episodes import Episode

    cell, stock, steps = job
    torch.set_num_threads(1)
    episodes: list[Episode] = []
    stream = runner.build_stream(cell, episodes.append)
    config = options.make(registry.load("agent", cell.agent), cell.hyperparameters, "preset")
    seed = cell.random_seed("agent")
    agent: Any
    if stock:
        plain = replace(config, fused=False, channels_last=False)
        kind = getattr(stable_baselines3, cell.agent.upper())
        agent = kind(**plain.arguments(stream, steps), seed=seed, device="cpu")
    else:
        agent = config.build(
            stream,
            seed=seed,
            interventions=runner.build_interventions(cell),
            device="cpu",
            horizon=steps,
        )
    agent.learn(steps, log_interval=None)
    whole = [episode for episode in episodes if not episode.cut]
    lengths = [episode.length for episode in whole]
    return float(np.average([episode.task_return for episode in whole], weights=lengths))


def main() -> int:
    """See the head of this file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--task", default="Control-Shifted/CartPole-stationary")
    parser.add_argument("--agents", default="dqn,ppo")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=40_960)
    parser.add_argument("--workers", type=int, default=pool.usable_cores())
    parser.add_argument("--write", type=Path, help="a page of Markdown")
    given = parser.parse_args()
    request = Request(
        agents=given.agents.split(","), regs=["none"], env=given.task, seeds=range(given.seeds)
    )
    cells = [c for c in make_plan(request).cells if c.agent != "random" and not c.fresh]
    jobs = [(cell, stock, given.steps) for cell in cells for stock in (True, False)]
    names = [(cell.agent, cell.seed, stock) for cell, stock, _ in jobs]
    areas = {}
    with get_context("spawn").Pool(given.workers, maxtasksperchild=1) as workers:
        for name, found in zip(names, workers.imap(area, jobs), strict=True):
            areas[name] = found
            agent, seed, stock = name
            whose = "stable-baselines3" if stock else "rlplastic"
            print(f"{agent} seed {seed} {whose}: {found:.2f}", file=sys.stderr, flush=True)
    lines = [
        "| agent | area, stable-baselines3 | area, rlplastic | difference | 95 % interval | "
        "equivalent |",
        "|---|--:|--:|--:|---|---|",
    ]
    for agent in request.agents:
        theirs, ours = (
            np.array([[areas[agent, seed, stock]] for seed in range(given.seeds)])
            for stock in (True, False)
        )
        share = estimate((ours - theirs) / theirs.mean(), "mean", np.random.default_rng(0))
        equal = max(abs(share.low), abs(share.high)) <= MARGIN
        lines.append(
            f"| {agent} | {theirs.mean():.1f} | {ours.mean():.1f} | {share.point:+.1%} "
            f"| [{share.low:+.1%}, {share.high:+.1%}] | {'yes' if equal else 'not shown'} |"
        )
    print("\n".join(lines))
    if given.write:
        about = f"{given.task}, {given.seeds} seeds, {given.steps:,} steps; "
        write(
            given.write,
            [
                "# The same learning as stable-baselines3",
                "",
                f"{about}what the numbers are is said at the head of `benchmarks/learning.py`.",
                "",
                *made_by("rlplastic.benchmarks.learning"),
                *lines,
            ],
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
