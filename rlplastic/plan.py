"""From a suite and options to a frozen list of cells. `rlplastic.planfile` puts it on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Any

from rlplastic import options, registry
from rlplastic.cell import Cell
from rlplastic.data import refuse_wrong_chance, with_data
from rlplastic.errors import UsageError, unknown
from rlplastic.fit import notes, refuse_misfit
from rlplastic.request import Request, agents_of, arms_of, settings_of, split
from rlplastic.suite import Budget, Suite, Task, full_schedule
from rlplastic.suitefile import load_suite, preset

# Measured on cells of Control and MinAtar: probes and logs, which no phase has more of, however
# long it is; a random agent has neither. How long episodes get is anybody's guess.
BYTES_PER_PHASE = 76_000
BYTES_PER_RANDOM_PHASE = 18_000
BYTES_PER_EPISODE = 131


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What will run: cells in the order they are started, and what analysis needs to know.

    Attributes:
        name: Name of the suite.
        protocol: The same for all cells.
        tasks: Constants of each task, frozen here so that a report needs no suite file.
        cells: Every cell.
        speed: Steps per second and core, by agent, for the estimate.
        notes: What the user should know before it starts.
    """

    name: str
    protocol: dict[str, Any]
    tasks: dict[str, dict[str, Any]]
    cells: list[Cell]
    speed: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def seconds(self, cells: Sequence[Cell]) -> float:
        """Estimated core-seconds of some of the cells."""
        return sum(self._seconds(cell) for cell in cells)

    def _seconds(self, cell: Cell) -> float:
        # about 70 % of a step is the update, which an intervention makes `cost` times dearer
        costs = [registry.find("intervention", s["name"]).traits for s in cell.intervention]
        cost = max([1.0, *(float(traits.get("cost", 1.0)) for traits in costs)])
        speed = self.speed.get(cell.agent, 1000)
        acted = 0.3 * self._evaluation_steps(cell) / speed
        return 5 + cell.num_steps / speed * (1 + 0.7 * (cost - 1)) + acted

    def _evaluation_steps(self, cell: Cell) -> float:
        """Estimated steps of a cell's evaluations."""
        if not cell.evaluate:
            return 0.0
        from rlplastic.envs.schedules import bound, worlds_of  # loads torch

        spec = options.build("schedule", cell.stream["schedule"], f"task {cell.task!r}")
        worlds = set(worlds_of(bound(spec, cell.random_seed("stream"))))
        times = (cell.num_phases + 1) * len(worlds)
        return times * cell.evaluate * self._episode_length(cell)

    def bytes(self, cells: Sequence[Cell]) -> int:
        """Estimated bytes on disk of some of the cells: event files and rows."""
        episodes = sum(cell.num_steps / self._episode_length(cell) for cell in cells)
        random = [cell.num_steps // cell.period for cell in cells if cell.agent == "random"]
        phases = sum(cell.num_steps // cell.period for cell in cells) - sum(random)
        return int(
            phases * BYTES_PER_PHASE
            + sum(random) * BYTES_PER_RANDOM_PHASE
            + episodes * BYTES_PER_EPISODE
        )

    def _episode_length(self, cell: Cell) -> float:
        return max(10.0, (self.tasks[cell.task]["time_limit"] or 500) / 4)


def make_plan(request: Request) -> Plan:
    """Every cell of a request, fully resolved and checked.

    Raises:
        UsageError: anything in the request or the suite that cannot be run as written.
    """
    suite_name, pattern = split(request.env)
    suite = load_suite(suite_name)
    request = replace(
        request,
        agents=request.agents or suite.bench.agents,
        regs=request.regs or suite.bench.regs,
        probes=request.probes or suite.bench.probes,
    )
    if request.budget not in suite.budgets:
        raise unknown(f"budget of {suite.name}", request.budget, suite.budgets)
    budget = suite.budgets[request.budget]
    tasks = suite.select(pattern.split(",") if pattern else budget.tasks)
    if request.data:
        tasks = with_data(suite.name, tasks, request.data)
    refuse_wrong_chance(suite.name, tasks)
    seeds = list(dict.fromkeys(request.seeds)) or list(range(budget.seeds))
    agents = agents_of(request)
    settings = settings_of(request)
    arms = arms_of(request.regs)
    cells: list[Cell] = []
    for name, task in tasks.items():
        cells += _random_cells(suite, budget, name, task, seeds)
    for agent in agents:
        for name, task in tasks.items():
            parts = _parts(suite, budget, name, task, agent, settings=settings.get(agent, {}))
            for seed in seeds:
                for reg, specs in arms.items():
                    used = registry.outside(("intervention", spec["name"]) for spec in specs)
                    for fresh in (False, True):
                        cells.append(
                            Cell(
                                suite=suite.name,
                                task=name,
                                agent=agent,
                                reg=reg,
                                fresh=fresh,
                                seed=seed,
                                intervention=specs,
                                replay=suite.replay,
                                device=request.device,
                                probes=request.probes,
                                evaluate=0 if fresh else request.evaluate,
                                plugins=registry.plugins(),
                                **{**parts, "sources": parts["sources"] | used},
                            )
                        )
    return Plan(
        name=suite.name,
        protocol=_protocol(suite, budget, request, settings),
        tasks={name: _constants(task) for name, task in tasks.items()},
        cells=cells,
        speed=suite.speed,
        notes=notes(budget, tasks, agents, seeds) + _data_notes(tasks),
    )


def _parts(
    suite: Suite,
    budget: Budget,
    name: str,
    task: Task,
    agent: str,
    *,
    settings: Mapping[str, Any] = MappingProxyType({}),
    worlds: Sequence[int] = (),
) -> dict[str, Any]:
    """Stream, hyper-parameters and sources of one task and agent, checked against each other."""
    if agent not in budget.period:
        raise UsageError(
            f"suite {suite.name!r} has no period for agent {agent!r}; "
            f"it has: {', '.join(budget.period)}"
        )
    period = budget.period[agent]
    values = {
        **preset(agent, suite.family, task.base["name"]),
        **budget.hyperparameters.get(agent, {}),
        **settings,
    }
    config = options.make(registry.load("agent", agent), values, f"agent {agent!r}")
    hyperparameters = options.spec_of(config)
    hyperparameters.pop("name")
    schedule = full_schedule(task.schedule, period, budget.phases_of(task))
    if worlds:
        schedule = {"name": "list", "period": period, "worlds": worlds}
    base = registry.load("environment", task.base["name"])
    episode = base.time_limit if getattr(base, "fixed_length", False) else 0
    refuse_misfit(f"suite {suite.name!r}, task {name!r}", agent, config, schedule, episode)
    used = [("environment", task.base), ("schedule", schedule)]
    used += [("shift", shift) for shift in task.shifts]
    names = [("agent", agent), *((kind, str(spec["name"])) for kind, spec in used)]
    return {
        "stream": stream_spec(suite, name, task, schedule),
        "hyperparameters": hyperparameters,
        "sources": registry.outside(names),
    }


def stream_spec(suite: Suite, name: str, task: Task, schedule: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that a stream is made from, every option filled in: `Cell.stream`."""
    where = f"suite {suite.name!r}, task {name!r}"
    full = [("environment", task.base), ("schedule", schedule)]
    resolved = {kind: options.spec_of(options.build(kind, spec, where)) for kind, spec in full}
    return {
        "base": resolved["environment"],
        "shifts": [options.spec_of(options.build("shift", s, where)) for s in task.shifts],
        "schedule": resolved["schedule"],
        "boundary": suite.boundary,
        "clip_reward": suite.clip_reward,
        **({"notify": True} if task.notify else {}),
        **_scaling(suite),
    }


def _scaling(suite: Suite) -> dict[str, float]:
    """Nothing where rewards are not scaled, so that such a cell's identity stays what it was."""
    return {} if suite.reward_scale == 1.0 else {"reward_scale": suite.reward_scale}


def _random_cells(
    suite: Suite, budget: Budget, name: str, task: Task, seeds: Sequence[int]
) -> list[Cell]:
    """The random reference of a task: one phase in each world that can change its return.

    One cell stands for all seeds, unless what a world pays is drawn anew for each seed. Where a
    ramp leads from world to world, what a phase pays is of both: random play meets the schedule.
    """
    from rlplastic.envs.schedules import Ramped, bound, worlds_of
    from rlplastic.envs.shifts import Shift

    if "random" not in budget.period:
        raise UsageError(f"suite {suite.name!r}: every budget needs a period for 'random'")
    period = max(budget.period.values())
    where = f"suite {suite.name!r}, task {name!r}"
    spec = full_schedule(task.schedule, period, budget.phases_of(task))
    shifts = [registry.load("shift", shift["name"]) for shift in task.shifts]
    seen = [
        shift
        for shift in shifts
        if shift.on not in ("observation", "target") and shift.moves_chance
    ]
    schedule = bound(options.build("schedule", spec, where), 0)  # worlds are none of the seed's
    worlds = worlds_of(schedule) if seen else [0]
    if seen and isinstance(schedule, Ramped):
        worlds = []
    drawn = any(shift.draw is not Shift.draw for shift in seen)
    parts = _parts(suite, budget, name, task, "random", worlds=worlds)
    return [
        Cell(
            suite=suite.name,
            task=name,
            agent="random",
            reg="none",
            seed=seed,
            plugins=registry.plugins(),
            **parts,
        )
        for seed in (seeds if drawn else [0])
    ]


def _protocol(
    suite: Suite, budget: Budget, request: Request, settings: Mapping[str, Any]
) -> dict[str, Any]:
    base = next(iter(suite.tasks.values())).base
    return {
        "suite": suite.name,
        "budget": request.budget,
        "data": request.data or None,  # None: the suite's, as in folders older than the option
        "replay": suite.replay,
        "boundary": suite.boundary,
        "clip_reward": suite.clip_reward,
        **_scaling(suite),
        **({"metric": suite.metric} if suite.metric else {}),
        "phases": budget.phases,
        "period": {agent: budget.period[agent] for agent in request.agents},
        "settings": {agent: settings.get(agent, {}) for agent in request.agents},
        "frame_skip": registry.load("environment", base["name"]).frame_skip,
        "too_short": budget.too_short,
    }


def _data_notes(tasks: Mapping[str, Task]) -> list[str]:
    """What the base environments have to say of the data that they show, each thing once."""
    bases = [options.build("environment", task.base, name) for name, task in tasks.items()]
    return list(dict.fromkeys(note for base in bases if (note := getattr(base, "note", ""))))


def _constants(task: Task) -> dict[str, Any]:
    base = options.build("environment", task.base, "a task's base")
    iteration = getattr(base, "iteration", None)  # a published protocol's own
    data = {"data": base.title} if hasattr(base, "title") else {}
    return {
        **({} if iteration is None else {"iteration": iteration}),
        "base": " ".join(str(value) for value in task.base.values()),
        **data,
        "track": task.track,
        "time_limit": base.time_limit,
        "normalise": None if task.normalise is None else asdict(task.normalise),
        "random": task.random,
        "reference": task.reference,
        "reference_source": task.reference_source,
        "agents": {agent: asdict(pilot) for agent, pilot in task.agents.items()},
    }
