"""Suites: TOML files that name tasks and a protocol.

A *task* is a base environment x track. Everything that results depend on is here or in
``agents/presets.toml``; a file is checked completely before anything runs.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt
from pydantic import ConfigDict

from rlplastic import registry
from rlplastic.errors import UsageError, unknown

FOLDER = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
Replay = Literal["clear", "keep"]
Boundary = Literal["truncate", "episode", "step"]
CONTROL = "stationary"  # the negative control: boundaries without change
TRACKS = ("observation", "reward", "target-scale", "action", "dynamics", "game", CONTROL)


@dataclass(frozen=True, kw_only=True)
class Pilot:
    """What was measured of a task and an agent before any verdict is given on it.

    Attributes:
        scale: C_m, the constant that differences of return are divided by.
        scale_source: Where it comes from.
        measurable: False if the newborn does not learn the task within a period.
        newborn_end: The pilot newborns' end levels, one for each seed.
        newborn_t80: Median steps of the pilot newborns to 80 % of the way to their end level.
        newborn_curve: Mean return of the pilot newborns in ten equal parts of a period.
        note: Anything a reader should know.
        stream: Digest of the base and the shifts that it was measured on; empty if it was not
            measured. A pilot of another stream is refused.
    """

    scale: Annotated[float, Gt(0)]
    scale_source: str
    measurable: bool = True
    newborn_end: list[float] = field(default_factory=list)
    newborn_t80: float | None = None
    newborn_curve: list[float] = field(default_factory=list)
    note: str = ""
    stream: str = ""

    __pydantic_config__ = ConfigDict(extra="forbid")


@dataclass(frozen=True, kw_only=True)
class Normalise:
    """Fixed constants for returns: 0 is `random`, 1 is `high`."""

    random: float
    high: float
    high_name: str
    source: str = ""

    __pydantic_config__ = ConfigDict(extra="forbid")

    def __post_init__(self) -> None:
        """The two must differ, since their difference is divided by."""
        if self.random == self.high:
            raise ValueError(f"random and high are both {self.high:g}; they must differ")


@dataclass(frozen=True, kw_only=True)
class Task:
    """A base environment x track.

    Attributes:
        base: Spec of the base environment.
        track: What kind of change it is, one of `TRACKS`.
        shifts: Specs of the shifts, in order.
        schedule: Spec of the schedule, without period and phases.
        normalise: Fixed constants for returns in the unshifted world; None where nobody knows them.
        random: Measured mean return of uniformly random play, by world.
        reference: A return that counts as having learned the task, and who says so.
        reference_source: Where it comes from.
        agents: Pilot measurements by agent.
        notify: Tell the agent the world it acts in.
        most_phases: At most so many phases, whatever the budget has: where worlds run out.
    """

    base: dict[str, Any]
    track: str
    shifts: list[dict[str, Any]] = field(default_factory=list)
    schedule: dict[str, Any] = field(default_factory=lambda: {"name": "periodic"})
    normalise: Normalise | None
    random: dict[str, float] = field(default_factory=dict)
    reference: float | None = None
    reference_source: str = ""
    agents: dict[str, Pilot] = field(default_factory=dict)
    notify: bool = False
    most_phases: Annotated[int, Ge(2)] | None = None

    __pydantic_config__ = ConfigDict(extra="forbid")

    def __post_init__(self) -> None:
        """Every part must say which it is."""
        for part in (self.base, self.schedule, *self.shifts):
            if not isinstance(part.get("name"), str):
                raise ValueError(
                    f"base, schedule and shifts need a name, as {{name = '...'}}: {part}"
                )
        if self.track not in TRACKS:
            raise ValueError(str(unknown("track", self.track, TRACKS)))
        if (self.track == CONTROL) != (not self.shifts):
            raise ValueError(
                f"track {self.track!r} with shifts = {self.shifts}: the track {CONTROL!r} has "
                "none, every other at least one"
            )
        for key in ("period", "phases"):
            if key in self.schedule:
                raise ValueError(
                    f"schedule.{key} = {self.schedule[key]}: belongs to the budget, as "
                    f"[budgets.<name>] {key} = ..."
                )


@dataclass(frozen=True, kw_only=True)
class Others:
    """Tasks that are made when they are asked for: one for each value of an option, and track.

    A value ``ms_pacman`` on the track ``observation`` is the task ``MsPacman-observation``.

    Attributes:
        base: Spec of the base environment, without the option.
        option: Option of the base environment, whose `choices` are its values.
        shifts: Specs of the shifts, by track.
        scores: Random and reference score by value, where they are known.
        high_name: What the second score is of.
        source: Where the scores come from.
        scaled: Agents whose C_m is the second score minus the first.
    """

    base: dict[str, Any]
    option: str
    shifts: dict[str, list[dict[str, Any]]]
    scores: dict[str, tuple[float, float]] = field(default_factory=dict)
    high_name: str = ""
    source: str = ""
    scaled: list[str] = field(default_factory=list)

    __pydantic_config__ = ConfigDict(extra="forbid")

    def tasks(self) -> dict[str, Task]:
        """Every one of them, by name."""
        values = registry.load("environment", str(self.base["name"])).choices()
        return {
            f"{''.join(word.capitalize() for word in value.split('_'))}-{track}": self._task(
                value, track
            )
            for value in values
            for track in self.shifts
        }

    def _task(self, value: str, track: str) -> Task:
        low, high = self.scores.get(value, (0.0, 0.0))
        known = high > low
        source = f"{self.high_name} minus random of the unshifted game"
        pilot = Pilot(scale=round(high - low, 6), scale_source=source) if known else None
        return Task(
            base={**self.base, self.option: value},
            track=track,
            shifts=self.shifts[track],
            normalise=Normalise(random=low, high=high, high_name=self.high_name, source=self.source)
            if known
            else None,
            agents={agent: pilot for agent in self.scaled} if pilot else {},
        )


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much is run.

    Attributes:
        seeds: Number of seeds if the user names none.
        phases: Phases, the first included.
        period: Steps of a phase, by agent.
        tasks: Patterns of task names.
        hyperparameters: Changes to the presets, by agent.
        too_short: Why this budget can give no verdict; empty if it can.
    """

    seeds: Annotated[int, Ge(1)]
    phases: Annotated[int, Ge(2)]
    period: dict[str, Annotated[int, Gt(0)]]
    tasks: list[str] = field(default_factory=lambda: ["*"])
    hyperparameters: dict[str, dict[str, Any]] = field(default_factory=dict)
    too_short: str = ""

    __pydantic_config__ = ConfigDict(extra="forbid")

    def phases_of(self, task: Task) -> int:
        """Phases of a task in this budget."""
        return min(self.phases, task.most_phases or self.phases)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What a bench of a suite runs if the user does not say.

    Attributes:
        agents: Names of agents.
        regs: Interventions, as ``sam:rho=0.1``.
        probes: ``full``, or ``default``: the cheap ones.
    """

    agents: list[str] = field(default_factory=lambda: ["dqn"])
    regs: list[str] = field(default_factory=lambda: ["sam"])
    probes: Literal["default", "full"] = "default"

    __pydantic_config__ = ConfigDict(extra="forbid")


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A suite as its TOML file has it.

    Attributes:
        name: The file's name.
        description: One sentence.
        source: Whose protocol it is: a paper, or ours; the file's comments say what differs.
        licence: What it is made of, and under which licences.
        family: Family of presets in ``agents/presets.toml``.
        replay: What happens to the replay memory at a shift.
        boundary: How copies enter the new world.
        clip_reward: Pay the learner the sign of the reward.
        reward_scale: What the learner is paid is divided by it.
        metric: The metric of a published protocol that has one of its own: it is shown by task,
            and no verdict is given on S. Empty: S and P are the headline.
        speed: Environment steps per second and core, by agent, for the estimate of time.
        bench: The agents, regs and probes that a bench runs if the user names none.
        budgets: By name.
        tasks: By name.
        others: Tasks that are not stated but can be asked for.
    """

    name: str
    description: str
    source: str = ""
    licence: str = ""
    family: str
    replay: Replay = "clear"
    boundary: Boundary = "truncate"
    clip_reward: bool = False
    reward_scale: Annotated[float, Gt(0)] = 1.0
    metric: str = ""
    speed: dict[str, Annotated[float, Gt(0)]] = field(default_factory=dict)
    bench: Bench = field(default_factory=lambda: Bench())
    budgets: dict[str, Budget]
    tasks: dict[str, Task]
    others: Others | None = None

    __pydantic_config__ = ConfigDict(extra="forbid")

    def select(self, patterns: list[str]) -> dict[str, Task]:
        """The tasks whose names match any of the patterns, in the suite's order.

        A pattern that no stated task matches is one of `others`.
        """
        chosen: dict[str, Task] = {}
        for pattern in patterns:
            found = _matching(pattern, self.tasks)
            if not found and self.others is not None:
                found = _matching(pattern, self.others.tasks())
            if not found:
                more = self.others.tasks() if self.others is not None else {}
                raise unknown(f"task of {self.name}", pattern, [*self.tasks, *more])
            chosen |= found
        return {name: chosen[name] for name in [*self.tasks, *chosen] if name in chosen}


def _matching(pattern: str, tasks: Mapping[str, Task]) -> dict[str, Task]:
    return {name: task for name, task in tasks.items() if fnmatch.fnmatchcase(name, pattern)}


def full_schedule(spec: Mapping[str, Any], period: int, phases: int) -> dict[str, Any]:
    """A task's schedule with its period, and its number of phases where it does not list them."""
    full = {**spec, "period": period}
    if any(field.name == "phases" for field in registry.find("schedule", spec["name"]).fields):
        full["phases"] = phases
    elif len(spec.get("worlds", ())) != phases:
        raise UsageError(
            f"schedule {spec['name']!r} has {len(spec.get('worlds', ()))} phases, "
            f"the budget has {phases}; they must be as many"
        )
    return full
