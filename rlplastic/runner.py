"""Run a cell, or several side by side: build, train, probe, record.

The only place where the live half comes together: stream, agent, interventions and probes on one
side, the cell's folder on the other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from rlplastic import options, registry, store
from rlplastic.cell import Cell
from rlplastic.checkpoint import Checkpoints
from rlplastic.envs.episodes import Episode
from rlplastic.envs.schedules import Schedule
from rlplastic.envs.stream import Stream
from rlplastic.errors import Diverged, UsageError
from rlplastic.events import StreamLogger
from rlplastic.interventions import Interventions
from rlplastic.life import LifeCallback, Progress, Watch, parameter_digest, parameters_are_sound


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
        notify=spec.get("notify", False),
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


@dataclass(frozen=True, kw_only=True)
class Job:
    """A cell that is to be run.

    Attributes:
        cell: What to run.
        folder: Where it is recorded; what an interrupted attempt left behind its last checkpoint
            is dropped.
        header: Provenance, written before the first step.
        progress: Told of phase, step and speed about twice a second, and of a checkpoint used.
    """

    cell: Cell
    folder: store.CellFolder
    header: dict[str, Any]
    progress: Progress = lambda _: None


class Clock:
    """Seconds, divided among those who share a processor.

    Attributes:
        sharers: How many do.
    """

    def __init__(self, sharers: int) -> None:
        self.sharers = sharers
        self._then = self._passed = time.monotonic()

    def __call__(self) -> float:
        """One's share of the time since any moment, as the same at every call."""
        now = time.monotonic()
        self._passed += (now - self._then) / max(1, self.sharers)
        self._then = now
        return self._passed


def run_cell(
    cell: Cell,
    folder: store.CellFolder,
    header: dict[str, Any],
    progress: Progress = lambda _: None,
) -> str:
    """Train the cell's lives and record them; returns ``done`` or ``diverged``.

    A cell that was interrupted goes on at its last checkpoint, and ends in the bytes that it would
    have ended in. See `Job` for the arguments.

    Raises:
        NoUpdates: the agent was never trained.
        UsageError: the cell cannot be built, or is finished already.
    """
    (ended,) = run_together([Job(cell=cell, folder=folder, header=header, progress=progress)])
    if isinstance(ended, Exception):
        raise ended
    return ended


def run_together(jobs: Sequence[Job]) -> list[str | Exception]:
    """Run cells of one agent side by side in this process, whose agents take their turns together.

    They do if the agent's configuration has a ``team()``; its ``take`` is given what the ``turns``
    of each agent yield, and returns what each raised. Without it the cells are run one by one.

    Each is recorded as if it were alone: see `rlplastic.teams`. One that raises an exception does
    not stop the others.

    Returns:
        ``done``, ``diverged`` or the exception of each.
    """
    clock = Clock(len(jobs))
    attempts = [_attempt(job, clock) for job in jobs]
    ended: list[str | Exception] = [""] * len(jobs)
    turns: dict[int, Any] = {}  # by number of the job; what its agent is to do next

    def go_on(number: int, error: Exception | None = None) -> None:
        attempt = attempts[number]
        turns.pop(number, None)
        try:
            turns[number] = next(attempt) if error is None else attempt.throw(error)
            return
        except StopIteration as end:
            ended[number] = end.value
        except Exception as end:
            ended[number] = end
        clock()
        clock.sharers -= 1

    for number in range(len(jobs)):
        go_on(number)
    team = _config_of(jobs[0].cell).team() if turns else None
    while team is not None and turns:
        raised = team.take(list(turns.values()))
        for number, error in zip(tuple(turns), raised, strict=True):
            go_on(number, error)
    return ended


def _config_of(cell: Cell) -> Any:
    kind = registry.load("agent", cell.agent)
    return options.make(kind, cell.hyperparameters, f"agent {cell.agent!r}")


def _attempt(job: Job, clock: Clock) -> Generator[Any, None, str]:
    """Run a cell; yields its agent's turns if it has any, for others to take."""
    cell, folder, header = job.cell, job.folder, job.header
    torch.set_num_threads(1)
    config = _config_of(cell)
    saves = Checkpoints(folder)
    watch = Watch(cell, folder, job.progress, saves, setting_of(cell, header), clock)
    stream = build_stream(cell, watch.episode)
    layout = layout_of(stream.schedule)
    head = {"schema": store.SCHEMA, "id": cell.id, "cell": cell.identity, "layout": layout}
    found = watch.begin({**head, **header})
    begun = found.checkpoint
    logger = StreamLogger(folder, cell, None if begun is None else layout[begun.phase]["begin"])
    status, reason = "done", ""
    agent: Any = None
    try:
        for first, end in lives_of(cell):
            if begun is not None and end <= begun.phase:
                continue
            resumed = begun is not None and first < begun.phase
            stream.begin(begun.phase if begun is not None and resumed else first)
            start = stream.schedule.start(first)
            steps = stream.schedule.start(end) - start
            longest = max(phase["end"] - phase["begin"] for phase in layout[first:end])
            watch.between_lives(first)
            agent = config.build(
                stream,
                seed=cell.random_seed("agent", first),
                interventions=build_interventions(cell),
                device=cell.device,
                horizon=longest if cell.replay == "clear" else steps,
            )
            logger.offset = start
            agent.set_logger(logger)
            watch.begin_life(stream, agent, first)
            callback = LifeCallback(watch, found.contents if resumed else [])
            if hasattr(config, "team"):
                yield from agent.turns(steps, callback)
            else:
                agent.learn(steps, callback=callback, log_interval=None)
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
        seconds=round(watch.seconds, 3),
        digest=parameter_digest(agent),
    )
    saves.discard()
    return status


def setting_of(cell: Cell, header: Mapping[str, Any]) -> dict[str, Any]:
    """What must be as it was for a cell to go on: code, versions, device, kind of processor."""
    source = header.get("provenance", {})
    return {
        **source.get("versions", {}),
        "code": source.get("code", ""),
        "plugins": source.get("plugins", {}),
        "device": cell.device,
        "processor": torch.backends.cpu.get_cpu_capability(),
    }


def _json_state(agent: Any) -> dict[str, dict[str, Any]]:
    """The numbers of the interventions' states; tensors stay with the agent."""
    return {
        name: {key: value for key, value in values.items() if isinstance(value, int | float)}
        for name, values in agent.interventions.state_dict().items()
    }


__all__ = ["NoUpdates", "UsageError", "build_stream", "lives_of", "run_cell"]
