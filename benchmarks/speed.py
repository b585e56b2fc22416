"""How fast are our DQN and PPO beside stable-baselines3's, with the same hyper-parameters?

::

    python -m rlplastic.benchmarks.speed --case dqn-control --case ppo-atari --repeats 5

Each case is a suite's task with the agent's preset, unshifted. stable-baselines3's own class, ours
with `none` and ours with `sam` are run in turn, in a process of their own on one thread, and timed
after learning has started (`learning_starts` is lowered on Atari, where waiting shows nothing).
Printed are medians over the repeats: environment steps per second of wall-clock time and of
processor time, the ratio to stable-baselines3 of the latter within each repeat (the one to go by
on a shared machine), the highest resident memory, the bytes that the replay
memory's arrays take for each transition, and the share of processor time per part: the
environment, acting, storing, sampling, updates, and the rest.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from multiprocessing import get_context
from statistics import median
from typing import Any

from rlplastic import options, registry
from rlplastic.cell import Cell
from rlplastic.plan import Request, make_plan

TASKS = {"control": "Control-Shifted/CartPole-stationary", "atari": "Atari-Shifted/*-stationary"}
CASES = tuple(f"{agent}-{family}" for agent in ("dqn", "ppo") for family in TASKS)
STEPS = {"dqn-control": 8_192, "ppo-control": 8_192, "dqn-atari": 800, "ppo-atari": 2_048}
ATARI_STARTS = 200  # transitions before the first update
KINDS = ("stable-baselines3", "none", "sam")
PARTS = ("environment", "acting", "storing", "sampling", "update", "rest")


def timed(owner: Any, method: str, part: str, spent: dict[str, float]) -> None:
    """Add the processor time of a method to its part, from now on."""
    plain: Callable[..., Any] = getattr(owner, method)

    @wraps(plain)
    def counted(*args: Any, **kwargs: Any) -> Any:
        start = time.process_time()
        try:
            return plain(*args, **kwargs)
        finally:
            spent[part] += time.process_time() - start

    setattr(owner, method, counted)


def build(cell: Cell, kind: str, horizon: int) -> Any:
    """The agent on its stream."""
    import stable_baselines3

    from rlplastic import runner

    config: Any = options.make(registry.load("agent", cell.agent), cell.hyperparameters, "preset")
    if cell.agent == "dqn" and cell.task.startswith("Atari"):
        config = replace(config, learning_starts=ATARI_STARTS)
    stream = runner.build_stream(cell)
    seed = cell.random_seed("agent")
    if kind == KINDS[0]:
        plain = replace(config, fused=False, channels_last=False)
        stock = getattr(stable_baselines3, cell.agent.upper())
        return stock(**plain.arguments(stream, config.rollout * horizon), seed=seed, device="cpu")
    return config.build(
        stream,
        seed=seed,
        interventions=runner.build_interventions(cell),
        device="cpu",
        horizon=config.rollout * horizon,
    )


def measure(job: tuple[Cell, str, int, bool]) -> dict[str, float]:
    """Seconds for so many steps, wall-clock and processor, peak memory, seconds per part."""
    import torch

    cell, kind, steps, parts = job
    torch.set_num_threads(1)
    agent = build(cell, kind, steps)
    warm = agent.n_steps * agent.n_envs if cell.agent == "ppo" else agent.learning_starts + 256
    agent.learn(warm, log_interval=None)
    updates = agent._n_updates
    spent = dict.fromkeys(PARTS, 0.0)
    if parts:
        timed(agent.env, "step", "environment", spent)
        timed(agent, "train", "update", spent)
        if cell.agent == "dqn":
            timed(agent, "_sample_action", "acting", spent)
            timed(agent, "_store_transition", "storing", spent)
            timed(agent.replay_buffer, "sample", "sampling", spent)
        else:
            timed(agent.policy, "forward", "acting", spent)
            timed(agent.rollout_buffer, "add", "storing", spent)
            timed(agent.rollout_buffer, "_get_samples", "sampling", spent)
    before, wall, processor = agent.num_timesteps, time.perf_counter(), time.process_time()
    agent.learn(steps, log_interval=None, reset_num_timesteps=False)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    if agent._n_updates == updates:
        raise RuntimeError(f"{cell.agent} on {cell.task}: no update in {steps} steps")
    spent["update"] -= spent["sampling"]
    spent["rest"] = processor - sum(spent.values())
    done = agent.num_timesteps - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # kilobytes on Linux
    held = 0.0
    if cell.agent == "dqn":
        memory = agent.replay_buffer
        held = sum(getattr(value, "nbytes", 0) for value in vars(memory).values())
        held /= memory.buffer_size * memory.n_envs
    rates = {"wall": wall / done, "processor": processor / done}
    return {**rates, "memory": peak, "held": held, **spent}


def cells_of(case: str) -> dict[str, Cell]:
    """The case's cell for each kind; where the pattern names several tasks, of the first."""
    agent, family = case.split("-")
    found = {}
    for reg in KINDS[1:]:
        request = Request(agents=[agent], regs=[reg], env=TASKS[family], seeds=range(1))
        cells = make_plan(request).cells
        found[reg] = next(
            c
            for c in cells
            if c.agent == agent and not c.fresh and bool(c.intervention) == (reg != "none")
        )
    return {KINDS[0]: found["none"], **found}


def compare(case: str, repeats: int, steps: int, parts: bool) -> None:
    """Run and print one case."""
    cells = cells_of(case)
    runs: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    for _ in range(repeats):
        for kind in KINDS:
            with get_context("spawn").Pool(1) as alone:
                runs[kind] += alone.map(measure, [(cells[kind], kind, steps, parts)])
    print(f"{case}: {cells['none'].task}, {repeats} x {steps:,} steps")
    for kind in KINDS:
        both = list(zip(runs[KINDS[0]], runs[kind], strict=True))
        ratios = [theirs["processor"] / ours["processor"] for theirs, ours in both]
        rate, busy, memory, held = (
            median(run[what] for run in runs[kind])
            for what in ("wall", "processor", "memory", "held")
        )
        print(
            f"  {kind:17} {1 / rate:8,.0f} steps/s, {1 / busy:8,.0f} per processor second, "
            f"ratio {median(ratios):.2f} [{min(ratios):.2f}..{max(ratios):.2f}], {memory:,.0f} MB"
            + (f", replay {held:,.0f} bytes a transition" if held else "")
        )
        if parts:
            share = {part: median(run[part] for run in runs[kind]) for part in PARTS}
            whole = sum(share.values())
            print(" " * 20 + ", ".join(f"{p} {s / whole:.0%}" for p, s in share.items()))
    if parts:
        plain, sam = (median(run["update"] for run in runs[kind]) for kind in KINDS[1:])
        print(f"  sam's updates take {sam / plain:.2f} of those with none", flush=True)


def main() -> int:
    """See the head of this file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--case", action="append", choices=CASES, help="default: all")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, help="timed environment steps of a run")
    parser.add_argument("--no-parts", action="store_true", help="leave out the timers of the parts")
    given = parser.parse_args()
    for case in given.case or CASES:
        compare(case, given.repeats, given.steps or STEPS[case], not given.no_parts)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
