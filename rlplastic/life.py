"""What is written while a cell's agents live: rows, probes, checkpoints, each at its moment."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

from rlplastic import store
from rlplastic.cell import Cell
from rlplastic.checkpoint import Checkpoint, Checkpoints, Found, Part
from rlplastic.envs.episodes import Episode
from rlplastic.envs.stream import Stream
from rlplastic.errors import Diverged
from rlplastic.evaluation import evaluate
from rlplastic.probes import measure
from rlplastic.snapshot import pack, unpack

Progress = Callable[[dict[str, Any]], None]
LOGS_PER_PHASE = 100
PROBES_PER_PHASE = 10
LARGEST_WEIGHT = 1e18


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


@dataclass
class Watch:
    """Looks on while a cell trains, and writes what it sees into the record."""

    cell: Cell
    folder: store.CellFolder
    progress: Progress
    saves: Checkpoints
    setting: Mapping[str, Any]
    clock_of_work: Callable[[], float] = time.monotonic  # its seconds of a processor that is shared
    _earlier_updates: int = 0  # of the lives before this one
    _returns: list[float] = field(default_factory=list)
    _replays: tuple[Part, ...] = ()  # what checkpoints hold of a replay memory that is kept
    _began_cell: float = field(init=False)

    def __post_init__(self) -> None:
        """The time of the cell begins."""
        self._began_cell = self.clock_of_work()

    def begin(self, header: dict[str, Any]) -> Found:
        """Open the record: at the last checkpoint that counts, else from nothing."""
        found = self.saves.latest(self.cell.identity, self.setting, unpack)
        point = found.checkpoint
        if found.refused:
            self.progress({"note": f"checkpoint not used: {found.refused}"})
        if point is None:
            self.folder.begin(header)
            return found
        self.progress({"note": f"goes on at phase {point.phase}"})
        self.folder.go_on(point.mark)
        self._earlier_updates = point.updates
        self._began_cell -= point.seconds
        self._replays = point.parts
        return found

    @property
    def seconds(self) -> float:
        """Time spent on this cell, in all attempts as far as they count."""
        return self.clock_of_work() - self._began_cell

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

    def between_lives(self, first: int) -> None:
        """The life that begins with this phase has not begun yet: a cell can go on here."""
        if hasattr(self, "agent"):
            self._earlier_updates = self.updates
            self._save(first=first, phase=first)

    def begin_life(self, stream: Stream, agent: Any, first: int) -> None:
        """A newborn agent, its life's first phase given, enters the stream at its present one."""
        self.stream, self.agent, self.first = stream, agent, first
        self.offset = stream.schedule.start(first)
        self._told, self._told_clock = 0.0, self.offset
        self._begin_phase(updates=0)

    def go_on(self, contents: Sequence[Any]) -> None:
        """Put the agent back where a checkpoint has it; at a rollout's start."""
        state, *replays = contents
        try:
            self.agent.restore(state)
            for news in replays:
                self.agent.replay_buffer.add_news(news)
        except Exception:
            self.saves.discard()  # it does not fit, so the next attempt starts from nothing
            raise
        self._begin_phase(updates=self.agent.num_updates)

    def _save(self, *, first: int, phase: int) -> None:
        """A checkpoint, where the stream resets every copy and the agent can be put back."""
        born = first < phase
        if born and (self.stream.boundary != "truncate" or not hasattr(self.agent, "snapshot")):
            return
        keep = born and self.cell.replay == "keep"
        memory = getattr(self.agent, "replay_buffer", None) if keep else None
        news = None if memory is None else memory.news()
        written = self.saves.write(
            Checkpoint(
                first=first,
                phase=phase,
                updates=self._earlier_updates,
                seconds=self.seconds,
                mark=self.folder.mark(),
                setting=self.setting,
                parts=self._replays if news is not None and not news["whole"] else (),
            ),
            pack(self.agent.snapshot()) if born else None,
            None if news is None else pack(news),
        )
        self._replays = written.parts

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
        if self.clock == 0:
            self._evaluate(lived=0)
        if self.stream.phase != self.phase:
            # Order of events at a boundary: close, probe, clear and tell the oracles, probe, save.
            self._close_phase()
            self.agent.at_shift(self.stream.phase, self.cell.replay)
            self._begin_phase(updates=self.agent.num_updates)
            self._probe("after")
            self._save(first=self.first, phase=self.phase)
        clock = self.clock
        if clock >= self._next_probe:
            self._next_probe += self._length // PROBES_PER_PHASE
            self._probe("during")
        if clock >= self._next_log:
            self._next_log += max(1, self._length // LOGS_PER_PHASE)
            self._log()

    def step(self) -> None:
        """After every step of all copies: tell the progress display, now and then."""
        now = time.monotonic()
        if now - self._told >= 0.5:
            speed = (self.clock - self._told_clock) / (now - self._told)
            self._told, self._told_clock = now, self.clock
            done = self.clock - self.cell.begin
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
        self._began = self.clock_of_work()
        schedule = self.stream.schedule
        self._length = schedule.start(self.phase + 1) - schedule.start(self.phase)
        self._next_probe = self._start + self._length // PROBES_PER_PHASE
        self._next_log = self._start + max(1, self._length // LOGS_PER_PHASE)
        self._returns.clear()

    def _close_phase(self) -> None:
        if not parameters_are_sound(self.agent):
            raise Diverged(f"weights beyond float32 at the end of phase {self.phase}")
        self.folder.row(
            kind="phase",
            phase=self.phase,
            world=self.world,
            begin=self._start,
            end=self.clock,
            updates=self.agent.num_updates - self._updates,
            digest=parameter_digest(self.agent),
        )
        seconds = self.clock_of_work() - self._began
        self.folder.timing(phase=self.phase, seconds=seconds, steps=self.clock - self._start)
        self._probe("before")
        self._evaluate(lived=self.phase + 1)
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

    def _evaluate(self, lived: int) -> None:
        if not self.cell.evaluate:
            return
        for world, value in evaluate(self.cell, self.stream, self.agent, lived):
            self.folder.row(
                kind="evaluation", lived=lived, step=self.clock, world=world, value=value
            )
            self.agent.logger.record(f"evaluation/world_{world}", value)


class LifeCallback(BaseCallback):
    """Connects one life's training loop to the cell's `Watch`.

    Args:
        watch: The cell's.
        contents: What a checkpoint holds of this life, if it goes on from one.
    """

    def __init__(self, watch: Watch, contents: Sequence[Any] = ()) -> None:
        super().__init__()
        self.watch = watch
        self.contents = contents

    def _on_rollout_start(self) -> None:
        if self.contents:
            contents, self.contents = self.contents, ()
            self.watch.go_on(contents)
        self.watch.rollout_start()

    def _on_step(self) -> bool:
        self.watch.step()
        return True
