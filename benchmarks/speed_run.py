"""One timed training in one process: what `rlplastic.benchmarks.speed` runs in turn."""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from stable_baselines3.common.callbacks import BaseCallback

from rlplastic import options, registry
from rlplastic.agents.pages import keep_pages
from rlplastic.cell import Cell

SB3, KEPT, OWN_ENV = (f"stable-baselines3{more}" for more in ("", ", pages kept", ", own env"))
NONE, BARE, SAM = "none", "none, unrecorded", "sam"
STARTS = 200  # transitions before a DQN's first update; waiting for more shows nothing
PARTS = ("environment", "acting", "storing", "sampling", "update", "bookkeeping")
TIMED = {  # the methods that the parts consist of, by their path from the agent
    "env.step": "environment",
    "train": "update",
    "_sample_action": "acting",
    "_store_transition": "storing",
    "replay_buffer.sample": "sampling",
    "policy.forward": "acting",
    "rollout_buffer.add": "storing",
    "rollout_buffer._observations": "sampling",  # ours
    "rollout_buffer._get_samples": "sampling",
}
OF_DQN = {"_sample_action", "_store_transition", "replay_buffer.sample"}
OF_PPO = set(TIMED) - OF_DQN - {"env.step", "train"}


class Job(NamedTuple):
    """One process.

    Attributes:
        cell: What is trained.
        kind: One of the six.
        steps: Environment steps that are timed; then half as many with timers of the parts.
        make_env: Gymnasium's id of the environment, for stable-baselines3's own wrappers.
        updates: Made before anything is timed, at least.
    """

    cell: Cell
    kind: str
    steps: int
    make_env: str = ""
    updates: int = 0


@dataclass(frozen=True, kw_only=True)
class Timing:
    """What was measured; seconds are of the processor's time, but for `wall`.

    Attributes:
        wall: Seconds an environment step.
        busy: The same in processor time, with what the record costs over a phase.
        looks: Seconds of a phase's probes and log entries, which `busy` has spread over the phase.
        parts: Share of the time per part.
        update: Seconds an environment step in updates.
        peak: Highest resident memory, MB.
    """

    wall: float
    busy: float
    looks: float
    parts: dict[str, float]
    update: float
    peak: float


class Stopwatch(BaseCallback):
    """Takes the time between two starts of rollouts, twice: without and with timers of the parts.

    Args:
        warm: Steps before the first.
        steps: Steps until the second.
        meet: Called before the first, by processes that are timed together.
    """

    def __init__(self, warm: int, steps: int, meet: Callable[[], Any] = lambda: None) -> None:
        super().__init__()
        self.warm, self.steps, self.meet = warm, steps, meet
        self.marks: list[tuple[int, float, float]] = []  # steps, wall clock, processor
        self.spent = dict.fromkeys(PARTS, 0.0)
        self._until = warm

    def _on_rollout_start(self) -> None:
        if self.num_timesteps < self._until or len(self.marks) == 3:
            return
        if not self.marks:
            self.meet()
        if len(self.marks) == 1:
            self._mark()
            self._time_parts()
        else:
            self._mark()
        self._until = self.num_timesteps + self.steps // len(self.marks)

    def _on_step(self) -> bool:
        return len(self.marks) < 3

    def _mark(self) -> None:
        self.marks.append((self.num_timesteps, time.perf_counter(), time.process_time()))
        if len(self.marks) == 3:
            self.spent = dict(self.spent)  # of what comes after, the timers tell nobody

    def _time_parts(self) -> None:
        skipped = OF_PPO if hasattr(self.model, "replay_buffer") else OF_DQN
        for path, part in TIMED.items():
            if path in skipped:
                continue
            *way, method = path.split(".")
            owner: Any = self.model
            for name in way:
                owner = getattr(owner, name)
            if hasattr(owner, method):
                timed(owner, method, part, self.spent)


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


def configured(cell: Cell) -> Any:
    """The agent's hyper-parameters."""
    config: Any = options.make(registry.load("agent", cell.agent), cell.hyperparameters, "preset")
    return replace(config, learning_starts=STARTS) if cell.agent == "dqn" else config


def stock(job: Job, horizon: int) -> Any:
    """stable-baselines3's class, on our stream or on what it makes of the game itself."""
    import stable_baselines3

    from rlplastic import runner

    config = configured(job.cell)
    if job.kind == KEPT:
        keep_pages()
    if job.kind == OWN_ENV:
        env: Any = own_environment(job.make_env, config.num_envs)
    else:
        env = runner.build_stream(job.cell)
    plain = replace(config, fused=False, channels_last=False)
    kind = getattr(stable_baselines3, job.cell.agent.upper())
    seed = job.cell.random_seed("agent")
    return kind(**plain.arguments(env, horizon), seed=seed, device="cpu")


def own_environment(name: str, copies: int) -> Any:
    """The environment as stable-baselines3's users make it."""
    import ale_py
    import gymnasium
    from stable_baselines3.common.env_util import make_atari_env, make_vec_env
    from stable_baselines3.common.vec_env import VecFrameStack, VecTransposeImage

    if "NoFrameskip" not in name:
        return make_vec_env(name, n_envs=copies, seed=0)
    gymnasium.register_envs(ale_py)
    return VecTransposeImage(VecFrameStack(make_atari_env(name, n_envs=copies, seed=0), 4))


def measure(job: Job, meet: Callable[[], Any] = lambda: None) -> Timing:
    """Train for a while and take the time."""
    import torch

    torch.set_num_threads(1)
    config = configured(job.cell)
    if job.cell.agent == "ppo":
        warm = config.rollout + job.updates * config.batch_size // config.n_epochs
    else:
        warm = STARTS + 64 + job.updates * config.rollout // config.gradient_steps
    clock = Stopwatch(warm, job.steps, meet)
    length = warm + 2 * job.steps + 3 * config.rollout
    # where nothing is measured the replay memory has its full size all the same
    horizon = getattr(config, "buffer_size", length)
    if job.kind in (SB3, KEPT, OWN_ENV):
        agent = stock(job, horizon)
        agent.learn(length, callback=clock, log_interval=None)
        return timing(clock, agent, 0.0, job.cell.period)
    with tempfile.TemporaryDirectory() as folder:
        agent, callbacks, cost = ours(job, horizon, Path(folder))
        agent.learn(length, callback=[*callbacks, clock], log_interval=None)
        return timing(clock, agent, cost(agent), job.cell.period)


def ours(job: Job, horizon: int, folder: Path) -> tuple[Any, list[Any], Callable[[Any], float]]:
    """Our agent, the callbacks that record it, and what else the record of a phase costs.

    The last says the seconds of a phase's probes and log entries, which are too rare to be met by
    chance in the steps that are timed.
    """
    from rlplastic import runner, store
    from rlplastic.checkpoint import Checkpoints
    from rlplastic.events import StreamLogger
    from rlplastic.life import LOGS_PER_PHASE, PROBES_PER_PHASE, LifeCallback, Watch

    cell, recorded = job.cell, job.kind != BARE
    record = store.CellFolder(folder / "cell")
    watch = Watch(cell, record, lambda _: None, Checkpoints(record), {})
    stream = runner.build_stream(cell, watch.episode if recorded else None)
    agent = configured(cell).build(
        stream,
        seed=cell.random_seed("agent"),
        interventions=runner.build_interventions(cell),
        device="cpu",
        horizon=horizon,
    )
    if not recorded:
        return agent, [], lambda _: 0.0
    layout = runner.layout_of(stream.schedule)
    watch.begin({"schema": store.SCHEMA, "id": cell.id, "cell": cell.identity, "layout": layout})
    agent.set_logger(StreamLogger(record, cell, None))
    watch.begin_life(stream, agent, 0)
    watch._next_probe = watch._next_log = layout[0]["end"]  # these are counted below instead

    def cost(agent: Any) -> float:
        looks = PROBES_PER_PHASE + 2  # before and after the shift too
        spent = looks * each(lambda: watch._probe("during"), 3)
        return spent + LOGS_PER_PHASE * each(watch._log, 9)

    return agent, [LifeCallback(watch)], cost


def each(run: Callable[[], Any], times: int) -> float:
    """Median processor seconds of a call."""
    found = []
    for _ in range(times):
        start = time.process_time()
        run()
        found.append(time.process_time() - start)
    return median(found)


def timing(clock: Stopwatch, agent: Any, looks: float, period: int) -> Timing:
    """From the marks of a stopwatch; `looks` is spread over the environment steps of a phase."""
    if len(clock.marks) < 3 or agent._n_updates == 0:
        raise RuntimeError(f"no update in {agent.num_timesteps} steps")
    (start, wall, busy), (middle, wall_then, busy_then), (end, _, busy_end) = clock.marks
    plain = (busy_then - busy) / (middle - start)
    spent = dict(clock.spent)
    spent["update"] -= spent["sampling"]
    spent["bookkeeping"] = (busy_end - busy_then) - sum(spent.values())
    whole = sum(spent.values())
    return Timing(
        wall=(wall_then - wall) / (middle - start),
        busy=plain + looks / period,
        looks=looks,
        parts={part: seconds / whole for part, seconds in spent.items()},
        update=spent["update"] / (end - middle),
        peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,  # kilobytes on Linux
    )
