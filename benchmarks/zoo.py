"""Do our agents reach what rl-baselines3-zoo's tuned settings reach, on stationary tasks?

::

    python -m rlplastic.benchmarks.zoo --seeds 3 --write benchmarks/ZOO.md

The settings are rl-baselines3-zoo's (``hyperparams/dqn.yml`` and ``ppo.yml`` at commit 22e3ff2, its
running normaliser and its decaying schedules included), and so is the number of steps. Beside each
stands the return that its ``benchmark.md`` reports at the same commit, of one trained agent over
150,000 steps of greedy play. Here greedy play of every seed's agent is measured over `EPISODES`
episodes, of the agent at the end of training, which is what the zoo reports, and of the best of
twenty evaluations on the way of `LOOKS` episodes each. An agent has *reached* the reported return
if its mean is not below the reported mean by more than the reported standard deviation over
episodes. `--stock` trains stable-baselines3's own classes beside ours, to tell a setting that is
hard to repeat from an agent that is wrong.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from rlplastic import pool
from rlplastic.benchmarks.pages import made_by, write
from rlplastic.benchmarks.zoo_cases import CASES, Case

EPISODES = 100
LOOKS = 5  # rl-baselines3-zoo: --eval-episodes
EVALUATIONS = 20  # in a training


class Job(NamedTuple):
    """One training."""

    case: Case
    seed: int
    stock: bool
    steps: int


class Result(NamedTuple):
    """Mean returns of one agent's greedy play, and how long it took."""

    job: Job
    final: float
    best: float
    seconds: float


class KeepBest(BaseCallback):
    """Remembers the weights, and the normaliser's moments, of the best evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: tuple[dict[str, Any], Any] | None = None

    def _on_step(self) -> bool:
        normaliser = self.model.get_vec_normalize_env()
        moments = None if normaliser is None else copy.deepcopy(normaliser.obs_rms)
        self.kept = copy.deepcopy(self.model.policy.state_dict()), moments
        return True


def environments(case: Case, copies: int, seed: int, *, training: bool) -> Any:
    """The environment as the zoo makes it; rewards are normalised in training alone."""
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import VecNormalize

    env: Any = make_vec_env(case.env, n_envs=copies, seed=seed)
    if not case.normalize:
        return env
    gamma = case.settings["gamma"]
    return VecNormalize(env, gamma=gamma, norm_reward=training, training=training)


def build(job: Job) -> Any:
    """The agent: ours as presets build it, or stable-baselines3's own."""
    import stable_baselines3

    from rlplastic.agents.dqn import DQN
    from rlplastic.agents.ppo import PPO
    from rlplastic.agents.replay import replay_class

    case = job.case
    env = environments(case, case.copies, job.seed, training=True)
    common: dict[str, Any] = {"seed": job.seed, "device": "cpu"}
    if job.stock:
        kind: Any = getattr(stable_baselines3, case.agent.upper())
        return kind("MlpPolicy", env, **case.settings, **common)
    # eps: stable-baselines3's own for each, which it forgets where other options are given
    fused: dict[str, Any] = {
        "optimizer_kwargs": {"fused": True, "eps": 1e-8 if case.agent == "dqn" else 1e-5}
    }
    settings = {
        **case.settings,
        "policy_kwargs": {**case.settings.get("policy_kwargs", {}), **fused},
    }
    if case.agent == "ppo":
        return PPO("MlpPolicy", env, **settings, **common)
    memory = replay_class(env.observation_space, 1)
    return DQN("MlpPolicy", env, replay_buffer_class=memory, **settings, **common)


def train(job: Job) -> Result:
    """Train one agent and let it play."""
    import torch
    from stable_baselines3.common.callbacks import EvalCallback
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.vec_env import sync_envs_normalization

    torch.set_num_threads(1)
    case, began = job.case, time.monotonic()
    agent = build(job)
    # the seeds of evaluation are none of training's
    play = environments(case, 1, 1_000_000 + job.seed, training=False)
    keep = KeepBest()
    looks = EvalCallback(
        environments(case, 1, 2_000_000 + job.seed, training=False),
        callback_on_new_best=keep,
        n_eval_episodes=LOOKS,
        eval_freq=max(job.steps // EVALUATIONS // case.copies, 1),
        verbose=0,
        warn=False,
    )
    agent.learn(job.steps, callback=looks, log_interval=None)

    def level() -> float:
        returns, _ = evaluate_policy(
            agent, play, n_eval_episodes=EPISODES, warn=False, return_episode_rewards=True
        )
        return float(np.mean(returns))

    if case.normalize:
        sync_envs_normalization(agent.get_env(), play)
    final = level()
    assert keep.kept is not None
    weights, moments = keep.kept
    agent.policy.load_state_dict(weights)
    if case.normalize:
        play.obs_rms = moments
    return Result(job, final, level(), time.monotonic() - began)


def reached(case: Case, level: float) -> bool:
    """True if a mean return is not below the reported one by more than its spread."""
    return level >= case.reported - case.spread


def table(results: Sequence[Result]) -> list[str]:
    """Lines of Markdown: a row for each case and kind."""
    lines = [
        "| agent and task | steps | zoo reports | kind | at the end | reached | best on the way | "
        "reached |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for case in CASES.values():
        for stock in (False, True):
            own = [r for r in results if r.job.case == case and r.job.stock == stock]
            if not own:
                continue
            columns = []
            for levels in ([r.final for r in own], [r.best for r in own]):
                columns.append(", ".join(f"{level:.1f}" for level in levels))
                columns.append(f"{sum(reached(case, x) for x in levels)} of {len(levels)}")
            kind = "stable-baselines3" if stock else "rlplastic"
            told = f"{case.reported:.1f} ± {case.spread:.1f}"
            lines.append(
                f"| {case.name} | {own[0].job.steps:,} | {told} | {kind} | "
                + " | ".join(columns)
                + " |"
            )
    return lines


def page(results: Sequence[Result]) -> list[str]:
    """Lines of the whole file."""
    return [
        "# rl-baselines3-zoo's settings on stationary tasks",
        "",
        "DQN and PPO with rl-baselines3-zoo's tuned settings, its normaliser and schedules",
        "included, in its number of steps, beside the returns that its `benchmark.md` reports",
        "(commit 22e3ff2; mean ± standard deviation over episodes of one agent). A number for",
        f"each seed: mean return of {EPISODES} episodes of greedy play. *Reached*: not below the",
        "reported mean by more than the reported standard deviation.",
        "",
        *made_by("rlplastic.benchmarks.zoo"),
        *table(results),
    ]


def main() -> int:
    """See the head of this file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", default=",".join(CASES), help="default: all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--stock", action="store_true", help="stable-baselines3's classes too")
    parser.add_argument("--steps", type=int, help="of training, instead of the zoo's")
    parser.add_argument("--workers", type=int, default=pool.usable_cores())
    parser.add_argument("--write", type=Path, help="a page of Markdown")
    given = parser.parse_args()
    chosen = given.cases.split(",")
    for name in chosen:
        if name not in CASES:
            parser.error(f"no case {name!r}; there are {', '.join(CASES)}")
    jobs = [
        Job(CASES[name], seed, stock, given.steps or CASES[name].steps)
        for seed in range(given.seeds)
        for name in chosen
        for stock in ((False, True) if given.stock else (False,))
    ]
    results: list[Result] = []
    with get_context("spawn").Pool(given.workers, maxtasksperchild=1) as workers:
        for result in workers.imap_unordered(train, jobs):
            results.append(result)
            job = result.job
            kind = "stable-baselines3" if job.stock else "rlplastic"
            print(
                f"{job.case.name} seed {job.seed} {kind}: {result.final:.1f} at the end, "
                f"{result.best:.1f} best; {result.seconds:.0f} s",
                file=sys.stderr,
                flush=True,
            )
            results.sort(key=lambda r: (r.job.seed, r.job.stock))
            if given.write:  # after each, so that what is done is not lost
                write(given.write, page(results))
    print("\n".join(table(results)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
