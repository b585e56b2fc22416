"""Run one cell: build, train, probe, record.

The only place where the live half comes together: stream, agent, interventions and probes on one
side, the cell's folder on the other.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import HParam, Logger, TensorBoardOutputFormat

from rlplastic import options, registry, store
from rlplastic.cell import Cell
from rlplastic.envs.episodes import Episode
from rlplastic.envs.schedules import Schedule
from rlplastic.envs.stream import Stream
from rlplastic.errors import Diverged, UsageError
from rlplastic.interventions import Interventions
from rlplastic.probes import measure

Progress = Callable[[dict[str, Any]], None]
LOGS_PER_PHASE = 100
PROBES_PER_PHASE = 10
LARGEST_WEIGHT = 1e18


class NoUpdates(Exception):
    """The agent was never trained, so the cell says nothing."""


def build_stream(cell: Cell, listener: Callable[[Episode], None] | None = None) -> Stream:
    """The stream of a cell, at phase 0.

    Raises:
        UsageError: parts that do not fit together.
    """
    spec, where = cell.stream, f"task {cell.task!r}"
    base = options.build("environment", spec["base"], where)
    return Stream(
        base.make(cell.hyperparameters["num_envs"]),
        [options.build("shift", shift, where) for shift in spec["shifts"]],
        options.build("schedule", spec["schedule"], where),
        seed=cell.random_seed("stream"),
        boundary=spec["boundary"],
        clip_reward=spec["clip_reward"],
        reward_scale=spec.get("reward_scale", 1.0),
        listener=listener,
    )


def layout_of(schedule: Schedule) -> list[dict[str, int]]:
    """Number, world, first and last clock of every phase."""
    return [
        {
            "phase": phase,
            "world": schedule.world(phase),
            "begin": schedule.start(phase),
            "end": schedule.start(phase + 1),
        }
        for phase in range(schedule.phases)
    ]


def build_interventions(cell: Cell) -> Interventions:
    """New intervention objects for one life."""
    members = [options.build("intervention", spec, "--reg") for spec in cell.intervention]
    return Interventions(members, cell.agent)


def lives_of(cell: Cell) -> Iterator[tuple[int, int]]:
    """First phase and end of each life: one over all phases, or one for each after the first."""
    if not cell.fresh:
        yield 0, cell.num_phases
        return
    for phase in range(1, cell.num_phases):
        yield phase, phase + 1


def run_cell(
    cell: Cell,
    folder: store.CellFolder,
    header: dict[str, Any],
    progress: Progress = lambda _: None,
) -> str:
    """Train the cell's lives and record them; returns ``done`` or ``diverged``.

    Args:
        cell: What to run.
        folder: Where it is recorded; what an interrupted attempt left there is dropped.
        header: Provenance, written before the first step.
        progress: Told of phase, step and speed about twice a second.

    Raises:
        NoUpdates: the agent was never trained.
        UsageError: the cell cannot be built, or is finished already.
    """
    torch.set_num_threads(1)
    registry_config = registry.load("agent", cell.agent)
    config = options.make(registry_config, cell.hyperparameters, f"agent {cell.agent!r}")
    watch = Watch(cell, folder, progress)
    stream = build_stream(cell, watch.episode)
    head = {"schema": store.SCHEMA, "id": cell.id, "cell": cell.identity}
    layout = layout_of(stream.schedule)
    folder.begin({**head, "layout": layout, **header})
    logger = StreamLogger(folder, cell)
    status, reason = "done", ""
    agent: Any = None
    began = time.monotonic()
    try:
        for first, end in lives_of(cell):
            stream.begin(first)
            start = stream.schedule.start(first)
            steps = stream.schedule.start(end) - start
            longest = max(phase["end"] - phase["begin"] for phase in layout[first:end])
            agent = config.build(
                stream,
                seed=cell.random_seed("agent", first),
                interventions=build_interventions(cell),
                device=cell.device,
                horizon=longest if cell.replay == "clear" else steps,
            )
            logger.offset = start
            agent.set_logger(logger)
            watch.begin_life(stream, agent, start)
            agent.learn(steps, callback=LifeCallback(watch), log_interval=None)
            watch.end_life()
            if config.learns and agent.num_updates == 0:
                raise NoUpdates(f"not one update in {steps} steps; is learning_starts too large?")
    except Diverged as error:
        status, reason = "diverged", str(error)
    except ValueError as error:
        # torch's distributions refuse logits that are not finite before any gradient is taken
        if agent is None or parameters_are_sound(agent):
            raise
        status, reason = "diverged", f"weights beyond float32: {str(error).partition(chr(10))[0]}"
    finally:
        logger.close()
        stream.close()
    folder.finish(
        status,
        reason=reason,
        step=stream.clock,
        phase=stream.phase,
        updates=watch.updates,
        interventions=_json_state(agent),
        seconds=round(time.monotonic() - began, 3),
        digest=parameter_digest(agent),
    )
    return status


def parameters_are_sound(agent: Any) -> bool:
    """True if no parameter is NaN, infinite, or so large that a product of two would overflow."""
    return all(
        bool((parameter.detach().abs() < LARGEST_WEIGHT).all()) for parameter in agent.scope("all")
    )


def parameter_digest(agent: Any) -> str:
    """SHA-256 of the bytes of all parameters of an agent."""
    digest = hashlib.sha256()
    for parameter in agent.scope("all"):
        digest.update(parameter.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _json_state(agent: Any) -> dict[str, dict[str, Any]]:
    """The numbers of the interventions' states; tensors stay with the agent."""
    return {
        name: {key: value for key, value in values.items() if isinstance(value, int | float)}
        for name, values in agent.interventions.state_dict().items()
    }


class StreamLogger(Logger):
    """One logger for all lives of a cell, on the stream's clock rather than the agent's age."""

    def __init__(self, folder: store.CellFolder, cell: Cell) -> None:
        super().__init__(str(folder.path), [TensorBoardOutputFormat(str(folder.tensorboard))])
        self.offset = 0
        values: dict[str, bool | str | float | None] = {
            "task": cell.task,
            "agent": cell.agent,
            "arm": cell.arm,
            "seed": cell.seed,
        }
        numbers = {k: v for k, v in cell.hyperparameters.items() if isinstance(v, int | float)}
        values.update(numbers)
        self.record("hparams", HParam(values, {"rollout/ep_rew_mean": 0.0}))

    def dump(self, step: int = 0) -> None:
        """Write what was recorded, at the stream's clock."""
        super().dump(step + self.offset)


@dataclass
class Watch:
    """Looks on while a cell trains, and writes what it sees into the record."""

    cell: Cell
    folder: store.CellFolder
    progress: Progress
    _earlier_updates: int = 0  # of the lives before this one
    _returns: list[float] = field(default_factory=list)

    def episode(self, episode: Episode) -> None:
        """Called by the stream at the end of every episode."""
        if not math.isfinite(episode.task_return):
            raise Diverged(f"return {episode.task_return} at step {episode.end}")
        self._returns.append(episode.task_return)
        self.folder.row(
            kind="episode",
            phase=episode.phase,
            world=episode.world,
            begin=episode.begin,
            end=episode.end,
            copy=episode.copy,
            length=episode.length,
            **{"return": episode.task_return},
            base_return=episode.base_return,
            cut=episode.cut,
        )

    def begin_life(self, stream: Stream, agent: Any, start: int) -> None:
        """A newborn agent enters the stream at its present phase."""
        if hasattr(self, "agent"):
            self._earlier_updates = self.updates
        self.stream, self.agent, self.offset = stream, agent, start
        self._told, self._told_clock = 0.0, start
        self._begin_phase(updates=0)

    def end_life(self) -> None:
        """The agent's last phase is over, and with it the episodes that are still open."""
        self.stream.close_episodes()
        self._close_phase()

    @property
    def updates(self) -> int:
        """Updates of all lives so far."""
        return self._earlier_updates + int(self.agent.num_updates)

    def rollout_start(self) -> None:
        """The one moment, after an update and before acting, at which things may be looked at."""
        if self.stream.phase != self.phase:
            # Order of events at a boundary: close, probe, clear and tell the oracles, probe.
            self._close_phase()
            self.agent.at_shift(self.stream.phase, self.cell.replay)
            self._begin_phase(updates=self.agent.num_updates)
            self._probe("after")
        clock = self.clock
        if clock >= self._next_probe:
            self._next_probe += self.cell.period // PROBES_PER_PHASE
            self._probe("during")
        if clock >= self._next_log:
            self._next_log += max(1, self.cell.period // LOGS_PER_PHASE)
            self._log()

    def step(self) -> None:
        """After every step of all copies: tell the progress display, now and then."""
        now = time.monotonic()
        if now - self._told >= 0.5:
            speed = (self.clock - self._told_clock) / (now - self._told)
            self._told, self._told_clock = now, self.clock
            done = self.clock - (self.cell.period if self.cell.fresh else 0)
            self.progress({"phase": self.phase, "step": done, "speed": speed})

    @property
    def clock(self) -> int:
        """Environment steps since the stream began."""
        return int(self.offset + self.agent.num_timesteps)

    def _begin_phase(self, updates: int) -> None:
        self.phase = self.stream.phase
        self.world = self.stream.schedule.world(self.phase)
        self._updates = updates
        self._start = self.clock
        self._began = time.monotonic()
        self._next_probe = self._start + self.cell.period // PROBES_PER_PHASE
        self._next_log = self._start + max(1, self.cell.period // LOGS_PER_PHASE)
        self._returns.clear()

    def _close_phase(self) -> None:
        self.folder.row(
            kind="phase",
            phase=self.phase,
            world=self.world,
            begin=self._start,
            end=self.clock,
            updates=self.agent.num_updates - self._updates,
            digest=parameter_digest(self.agent),
        )
        seconds = time.monotonic() - self._began
        self.folder.timing(phase=self.phase, seconds=seconds, steps=self.clock - self._start)
        self._probe("before")
        self._log()
        self.folder.flush()

    def _log(self) -> None:
        logger = self.agent.logger
        logger.record("shift/phase", self.phase)
        logger.record("shift/steps_since", self.clock - self._start)
        if self._returns:
            logger.record("shift/phase_return_mean", sum(self._returns) / len(self._returns))
        self.agent.dump_logs()

    def _probe(self, moment: str) -> None:
        if self.agent.last_batch is None:
            return
        which = "default" if moment == "during" else self.cell.probes
        for name, value in measure(self.agent, which).items():
            if not math.isfinite(value):
                continue  # a probe looks on: it is the learner's own gradient that ends a cell
            self.folder.row(
                kind="probe",
                phase=self.phase,
                step=self.clock,
                moment=moment,
                name=name,
                value=value,
            )
            self.agent.logger.record(f"plasticity/{name}", value)


class LifeCallback(BaseCallback):
    """Connects one life's training loop to the cell's `Watch`."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self.watch = watch

    def _on_rollout_start(self) -> None:
        self.watch.rollout_start()

    def _on_step(self) -> bool:
        self.watch.step()
        return True


__all__ = ["NoUpdates", "UsageError", "build_stream", "lives_of", "run_cell"]
