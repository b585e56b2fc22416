"""Tasks by name, with streams of any size built from them: what `check` and `preview` look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import gymnasium

from rlplastic import registry
from rlplastic.envs.copies import Copies
from rlplastic.envs.scalar import ShiftedEnv, SingleCopy
from rlplastic.envs.schedules import Listed, Schedule, bound
from rlplastic.envs.shifts import Shift
from rlplastic.envs.stream import Stream
from rlplastic.errors import UsageError, unknown
from rlplastic.options import build
from rlplastic.plan import stream_spec
from rlplastic.request import split
from rlplastic.suite import full_schedule
from rlplastic.suitefile import load_suite

# where a shift of one's own is tried: these, every other environment with defaults, then games
TRIED: tuple[Mapping[str, Any], ...] = (
    {"name": "CartPole"},
    {"name": "Cue"},
    {"name": "Corridor"},
    {"name": "MountainCar"},
    {"name": "Pendulum"},
)
GAMES = ({"name": "Atari", "game": "pong"}, {"name": "MinAtar", "game": "breakout"})
CARRIER = {"name": "offset"}  # what a schedule of one's own is tried with
SHOWN = 3  # phases of a subject, where its schedule can have any number
PREFIX = "rlplastic/"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A task to be looked at: streams of it with any number of copies, steps and phases.

    Attributes:
        name: What it is called, as ``Toy-Shifted/Cue-reward``.
        base: Spec of the base environment.
        shifts: Specs of the shifts, in order.
        schedule: Spec of the schedule, without period and phases.
        period: Steps of a phase, over all copies, where nothing else is asked for.
        phases: Number of phases where nothing else is asked for.
        keywords: What else `Stream` and `ShiftedEnv` are given: boundary, clipping.
        env_id: Gymnasium's id of it, if it was asked for by that.
    """

    name: str
    base: Mapping[str, Any]
    shifts: Sequence[Mapping[str, Any]] = ()
    schedule: Mapping[str, Any] = field(default_factory=lambda: {"name": "periodic"})
    period: int = 10_000
    phases: int = SHOWN
    keywords: Mapping[str, Any] = field(default_factory=dict)
    env_id: str = ""
    _found: dict[tuple[int, int], Schedule] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def as_json(self) -> dict[str, Any]:
        """The fields as JSON values: the arguments of an equal one."""
        names = (f.name for f in fields(self) if f.init)
        return {name: getattr(self, name) for name in names}

    def copies(self, number: int) -> Copies:
        """Copies of the base environment alone."""
        base: Copies = build("environment", self.base, self.name).make(number)
        return base

    def build_shifts(self) -> list[Shift]:
        """The shifts, unbound."""
        return [build("shift", spec, self.name) for spec in self.shifts]

    def stream(
        self, copies: int, schedule: Schedule, *, base: Copies | None = None, **more: Any
    ) -> Stream:
        """The stream with this schedule; `more` is for `Stream`."""
        base = self.copies(copies) if base is None else base
        return Stream(base, self.build_shifts(), schedule, **{**self.keywords, **more})

    def scalar(self, copies: int, copy: int, schedule: Schedule, **more: Any) -> ShiftedEnv:
        """Copy number `copy` of the stream as a Gymnasium environment."""
        keywords = {**self.keywords, **more, "copies": copies, "copy": copy}
        return ShiftedEnv(SingleCopy(self.copies(1)), self.build_shifts(), schedule, **keywords)

    def timetable(self, period: int, phases: int, *, seed: int = 0, **options: Any) -> Schedule:
        """The task's schedule with that period, drawn from a stream's seed if it is a drawn one."""
        spec = full_schedule({**self.schedule, **options}, period, phases)
        return bound(build("schedule", spec, self.name), seed)

    def short(self, copies: int, steps: int) -> Schedule:
        """The task's schedule, with few phases of `steps` steps of each copy.

        Some schedules refuse short phases, or have a fixed number of them: then those nearest.
        """
        if (copies, steps) not in self._found:
            self._found[copies, steps] = self._shortest(copies, steps)
        return self._found[copies, steps]

    def _shortest(self, copies: int, steps: int) -> Schedule:
        known = registry.find("schedule", self.schedule["name"]).fields
        drawn = {"step": copies} if any(f.name == "step" for f in known) else {}
        refused = UsageError("")
        for phases in dict.fromkeys((min(SHOWN, self.phases), self.phases)):
            for factor in (1, 8, 64, 512):
                try:
                    schedule = self.timetable(factor * steps * copies, phases, **drawn)
                    self.stream(copies, schedule).close()
                except UsageError as error:
                    refused = error
                else:
                    return schedule
        raise refused

    def worlds(self) -> list[int]:
        """The worlds of the first phases in turn, as the task's schedule has them."""
        schedule = self.short(1, 64)
        return [schedule.world(phase) for phase in range(min(SHOWN, schedule.phases))]

    def frozen(self, world: int, copies: int, **more: Any) -> Stream:
        """A stream that is in one world for ever."""
        return self.stream(copies, Listed(period=copies * 2**40, worlds=(world,)), **more)


def find_subjects(env: str) -> list[Subject]:
    """The tasks of ``Suite``, ``Suite/PATTERN``, a suite's TOML file or a registered id.

    Without a name: what the plugins define, each on the first base environment that it fits.

    Raises:
        UsageError: there is no such suite, task or id; a plugin that defines nothing to look at.
    """
    if not env:
        return _of_plugins()
    if env.startswith(PREFIX):
        return _of_id(env)
    name, pattern = split(env)
    return _of_suite(name, (pattern or "*").split(","))


def _of_suite(name: str, patterns: list[str], env_id: str = "") -> list[Subject]:
    suite = load_suite(name)
    budget = suite.budgets.get("small") or next(iter(suite.budgets.values()))
    period, phases = max(budget.period.values()), budget.phases
    found = []
    for task_name, task in suite.select(patterns).items():
        full = full_schedule(task.schedule, period, phases)
        spec = stream_spec(suite, task_name, task, full)
        parts = {part: spec.pop(part) for part in ("base", "shifts", "schedule")}
        found.append(
            Subject(
                name=f"{suite.name}/{task_name}",
                **{**parts, "schedule": task.schedule},
                period=period,
                phases=phases,
                keywords=spec,
                env_id=env_id,
            )
        )
    return found


def _of_id(env_id: str) -> list[Subject]:
    ids = [known for known in gymnasium.registry if known.startswith(PREFIX)]
    if env_id not in ids:
        raise unknown("id", env_id, ids)
    keywords = gymnasium.registry[env_id].kwargs
    pattern = f"{keywords['base']}-*"
    return _of_suite(keywords["suite"], [pattern], env_id)


def _of_plugins() -> list[Subject]:
    files = registry.plugins()
    if not files:
        raise UsageError("nothing to look at: a suite, Suite/PATTERN, an id, or --plugin file.py")
    kinds = ("shift", "environment", "schedule")
    own = [e for kind in kinds for e in registry.entries(kind).values() if str(e.path) in files]
    if not own:
        raise UsageError(
            f"--plugin {', '.join(files)}: defines no shift, schedule or base environment"
        )
    return [subject_of(entry.kind, entry.name) for entry in own]


def subject_of(kind: str, name: str) -> Subject:
    """A shift, schedule or base environment with its defaults, as a task.

    Raises:
        UsageError: a shift that fits no base environment with its defaults, or has none.
    """
    title = f"{kind} {name!r}"
    if kind == "environment":
        return Subject(name=title, base={"name": name})
    if kind == "schedule":
        return _carried(title, name)
    build("shift", {"name": name}, title)  # an option without a default: said before all
    reasons = []
    for base in _bases():
        subject = Subject(name=f"{title} on {_words(base)}", base=base, shifts=[{"name": name}])
        try:
            stream = subject.stream(1, Listed(period=8, worlds=(0, 1)))
        except Exception as error:  # a shift of one's own may raise anything
            kind = "" if isinstance(error, UsageError) else f"{type(error).__name__}: "
            reasons.append(f"{_words(base)}: {kind}{error}")
            continue
        stream.close()
        most = stream.shifts[0].worlds
        if most is None or most >= SHOWN:
            return subject
        cyclic = {"name": "cyclic", "worlds": most}
        return Subject(name=subject.name, base=base, shifts=subject.shifts, schedule=cyclic)
    raise UsageError(f"{title} fits none of the base environments\n" + "\n".join(reasons))


def _carried(title: str, schedule: str) -> Subject:
    """A schedule with its defaults, and as many phases as it takes, on a shift that fits all."""
    parts: dict[str, Any] = {"base": TRIED[0], "shifts": [CARRIER], "schedule": {"name": schedule}}
    for phases in (SHOWN, 2, 1):
        subject = Subject(name=title, **parts, phases=phases)
        try:
            subject.timetable(subject.period, phases)
        except UsageError:
            if phases == 1:
                raise
            continue
        break
    return subject


def _bases() -> Iterator[Mapping[str, Any]]:
    yield from TRIED
    known = {base["name"] for base in TRIED}
    for entry in registry.entries("environment").values():
        if entry.name not in known and all(field.default for field in entry.fields):
            yield {"name": entry.name}
    yield from GAMES


def _words(spec: Mapping[str, Any]) -> str:
    return " ".join(str(value) for value in spec.values())
