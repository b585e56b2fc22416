"""From a results folder to cases: which curves belong beside each other, and which seeds count.

The only place that knows how arms, newborns, references and random cells refer to each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np

from rlplastic import registry
from rlplastic.metrics.curve import Case, Curve, Evaluated, end_levels, floored, return_curve
from rlplastic.metrics.recovery import BINS_IN_A_ROW, recovery_times
from rlplastic.record import FloatArray, Phase, Record, Results
from rlplastic.suite import CONTROL

REFERENCE = "none"
NEWBORN = "+fresh"
Curves = tuple[Curve | None, ...]


@dataclass(frozen=True, kw_only=True)
class RandomLevel:
    """Mean return of a random policy in one world.

    Attributes:
        value: The level; NaN if no random cell has finished.
        partial: True if no episode finished, so that cut ones were counted with what they had.
    """

    value: float
    partial: bool = False


class Study:
    """Cases and scores of a results folder; every curve is computed once."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self.records = results.records
        self.protocol: Mapping[str, Any] = results.plan.get("protocol", {})
        self.num_phases = max((_phases(r.cell) for r in results.learners), default=0)
        # Bound here, not as decorators, so that the caches end with the study.
        self.longest = cache(self._longest)
        self.layout = cache(self._layout)
        self.curves = cache(self._curves)
        self.random_level = cache(self._random_level)
        self.case = cache(self._case)
        self.score = cache(self._score)
        self.reduced = cache(self._reduced)
        self.cost = cache(self._cost)

    @cached_property
    def metrics(self) -> Mapping[str, registry.Entry]:
        """All metrics by name, plugins included."""
        return registry.entries("metric")

    @property
    def published(self) -> str:
        """The metric of the published protocol that the suite is; empty if it is none."""
        return str(self.protocol.get("metric") or "")

    def facts(self, task: str, agent: str) -> Mapping[str, Any]:
        """What the suite states of an agent on a task: scale, measurable, note."""
        known: Mapping[str, Any] = self.results.plan.get("tasks", {}).get(task, {})
        facts: Mapping[str, Any] = known.get("agents", {}).get(agent, {})
        return facts

    def in_headline(self, task: str, agent: str) -> bool:
        """Whether the task counts: it is measurable, and no negative control.

        Where nothing shifts, a life is ahead of its newborns from the first step of each phase, so
        its S is above 1 whatever happens to its plasticity.
        """
        return self.measurable(task, agent) and self.track(task) != CONTROL

    def track(self, task: str) -> str:
        """The track of a task; empty if the plan does not say."""
        return str(self.results.plan.get("tasks", {}).get(task, {}).get("track") or "")

    def averages(self, task: str) -> bool:
        """Whether its episodes are points of a moving mean, which reaches back over the shifts."""
        return bool(self.results.plan.get("tasks", {}).get(task, {}).get("averages"))

    def measurable(self, task: str, agent: str) -> bool:
        """Whether the newborn learns the task: by the suite's word, never by an arm's result."""
        facts = self.facts(task, agent)
        return bool(facts.get("measurable", False)) and bool(facts.get("scale"))

    def _case(self, task: str, agent: str, arm: str, seed: int) -> Case:
        """One arm with its newborns and references; an arm may itself be a newborn arm."""
        reg = arm.removesuffix(NEWBORN)
        normalise = self.results.plan.get("tasks", {}).get(task, {}).get("normalise") or {}
        newborn = self._newborn(task, agent, reg, seed)
        return Case(
            life=newborn if arm.endswith(NEWBORN) else self.curves(task, agent, reg, seed),
            newborn=newborn,
            reference=self._newborn(task, agent, REFERENCE, seed),
            random=self._random(task, agent, seed),
            scale=_number(self.facts(task, agent).get("scale")),
            low=_number(normalise.get("random")),
            high=_number(normalise.get("high")),
            cost=self.cost(agent, reg),
            broken=(record := self.records.get((task, agent, arm, seed))) is not None
            and record.status == "diverged",
            evaluated=self._evaluated(record),
        )

    def _evaluated(self, record: Record | None) -> Evaluated | None:
        """What the frozen policy of a life got in the world of each phase."""
        if record is None or not record.evaluations:
            return None
        layout = self.layout(record.slot[0], record.slot[1], record.slot[3])
        worlds = [layout[k].world for k in range(self.num_phases) if k in layout]
        returns = np.full((len(worlds) + 1, len(worlds)), np.nan)
        for found in record.evaluations:
            places = [k for k, world in enumerate(worlds) if world == found.world]
            returns[found.lived, places] = found.value
        return Evaluated(worlds=worlds, returns=returns)

    def _cost(self, agent: str, reg: str) -> float:
        """Gradient evaluations per update of an arm relative to ``none``; NaN if not known.

        Parts of a composition multiply: at most one of them may say how gradients are made.
        """
        cells = [r.cell for r in self.results.of(agent=agent) if r.reg == reg]
        parts = {str(part["name"]): part for c in cells for part in c.get("intervention", ())}
        known = registry.entries("intervention")
        costs = [known[n].cost(parts[n]) if n in known else np.nan for n in sorted(parts)]
        return float(np.prod(costs))

    def _score(self, metric: str, task: str, agent: str, arm: str, seed: int) -> FloatArray:
        """A metric of one case: shape () or (shifts,); of moving means, of levels only."""
        function = self.metrics[metric].load()
        values = np.asarray(function(self.case(task, agent, arm, seed)), dtype=np.float64)
        if self.averages(task) and not self.metrics[metric].traits.get("averages"):
            return np.full_like(values, np.nan)
        return values

    def _reduced(self, metric: str, task: str, agent: str, arm: str, seed: int) -> float:
        """A metric over the shifts on which it is defined; NaN if there is none.

        NaN too where the newborns that it is measured against diverged: a mean over the shifts
        before that would be the mean over the good ones.
        """
        against = self.metrics[metric].traits.get("against")
        newborns = {"newborn": arm.removesuffix(NEWBORN), "reference": REFERENCE}.get(str(against))
        record = self.records.get((task, agent, f"{newborns}{NEWBORN}", seed))
        if record is not None and record.status == "diverged":
            return float("nan")
        values = self.score(metric, task, agent, arm, seed)
        known = values[np.isfinite(values)]
        return float(known.mean()) if known.size else float("nan")

    def complete(self, task: str, agent: str) -> list[int]:
        """Seeds of which every compared arm, its newborns and the random reference have ended.

        A folder that has no random cells (runs of other programs) is complete without them. An arm
        is compared if it was run on any task or seed: arms that have other seeds than their rivals
        would be ranked by their seeds.
        """
        arms = self.results.arms(agent)
        chance = bool(self.results.of(agent="random", task=task))
        return [
            seed
            for seed in self.results.seeds(agent)
            if all(self._finished(task, agent, arm, seed) for arm in arms)
            and (not chance or self._random_cell(task, seed) is not None)
        ]

    def _finished(self, task: str, agent: str, arm: str, seed: int) -> bool:
        record = self.records.get((task, agent, arm, seed))
        return record is not None and record.finished

    def matrix(
        self, metric: str, agent: str, arm: str, tasks: Iterable[str], seeds: Iterable[int]
    ) -> tuple[FloatArray, list[int]]:
        """Scores [seeds x tasks] of an arm, and the seeds: those known on every task."""
        kept, rows = [], []
        for seed in seeds:
            row = [self.reduced(metric, task, agent, arm, seed) for task in tasks]
            if row and np.isfinite(row).all():
                kept.append(seed)
                rows.append(row)
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(list(tasks))), kept

    def too_short(self, task: str, agent: str) -> str:
        """Why this task's period cannot show plasticity, judged on the newborns of ``none`` alone.

        Empty if it can, or if there are no newborns to judge it on.
        """
        times, gains, bins = [], [], []
        for seed in self.results.seeds(agent):
            case = self.case(task, agent, REFERENCE + NEWBORN, seed)
            times.append(recovery_times(case, 0.80).time)
            gains.append((end_levels(case.life) - case.random)[1:] / case.scale)
            bins += [len(curve.values) for curve in case.life[1:] if curve is not None]
        if not bins:
            return ""
        if max(bins) < BINS_IN_A_ROW:
            return f"a phase has {max(bins)} bin(s), fewer than {BINS_IN_A_ROW}"
        gained, time = _median(gains), _median(times)
        if gained <= 0:
            return "the newborn of none ends no better than a random policy"
        if gained < 0.5:
            return f"the newborn of none closes {gained:.0%} of the gap, less than half"
        if time > 0.5:
            return f"the newborn of none takes {time:.0%} of the phase to 80 %, more than half"
        return ""

    # -- curves ------------------------------------------------------------------------------

    def _longest(self, task: str, agent: str) -> float:
        """L90: the time limit, or the 90th percentile of the newborns' episode lengths."""
        limit = self.results.plan.get("tasks", {}).get(task, {}).get("time_limit")
        if limit:
            return float(limit)
        for arm in (REFERENCE + NEWBORN, REFERENCE):
            cells = [r for r in self.results.of(agent=agent, task=task) if r.slot[2] == arm]
            lengths = [r.episodes.length[~r.episodes.cut] for r in cells]
            pooled = np.concatenate([np.empty(0), *lengths])
            if pooled.size:
                return float(np.percentile(pooled, 90))
        return 1.0

    def iteration(self, task: str) -> int:
        """Steps of an iteration of the published protocol that the task is of; 0: of none."""
        return int(self.results.plan.get("tasks", {}).get(task, {}).get("iteration") or 0)

    def _layout(self, task: str, agent: str, seed: int) -> dict[int, Phase]:
        """The phases of a stream, which all arms share: also those that every one diverged in."""
        found: dict[int, Phase] = {}
        for record in self.results.of(agent=agent, task=task):
            if record.slot[3] == seed:
                found.update(record.layout)
                found.update(record.phases)
        return found

    def _curves(self, task: str, agent: str, arm: str, seed: int) -> Curves:
        """The curves that a cell itself recorded; None where there is none."""
        record = self.records.get((task, agent, arm, seed))
        if record is None:
            return (None,) * self.num_phases
        longest, iteration = self.longest(task, agent), self.iteration(task)
        if record.status == "diverged" and not record.fresh:
            return self._diverged(record, longest, iteration)
        closed = [record.phases.get(phase) for phase in range(self.num_phases)]
        return tuple(
            None if phase is None else return_curve(record.episodes, phase, longest, iteration)
            for phase in closed
        )

    def _diverged(self, record: Record, longest: float, iteration: int) -> Curves:
        """Curves of a life that broke: its floor from the step on at which it did."""
        task, agent, _, seed = record.slot
        layout = self.layout(task, agent, seed)
        broken, step = record.ended or (0, 0)
        measured = {
            k: return_curve(record.episodes, phase, longest, iteration)
            for k, phase in layout.items()
        }
        own = [c.values.min() for k, c in measured.items() if c is not None and k <= broken]
        curves: list[Curve | None] = []
        for k in range(self.num_phases):
            phase = layout.get(k)
            if phase is None or k < broken:
                curves.append(measured.get(k))
                continue
            level = self.random_level(task, seed, phase.world).value
            floor = float(np.min([level, *own]))
            curve = measured.get(k) if k == broken else None
            curves.append(floored(curve, phase, step, floor, longest, iteration))
        return tuple(curves)

    def _newborn(self, task: str, agent: str, reg: str, seed: int) -> Curves:
        """One life a phase; phase 0 is the arm's own, which its newborn would repeat exactly."""
        born = self.curves(task, agent, reg + NEWBORN, seed)
        return (*self.curves(task, agent, reg, seed)[:1], *born[1:])

    # -- random reference ---------------------------------------------------------------------

    def _random_cell(self, task: str, seed: int) -> Record | None:
        """The finished random cell of a seed; one alone stands for all seeds."""
        cells = self.results.of(agent="random", task=task)
        mine = [r for r in cells if len(cells) == 1 or r.slot[3] == seed]
        return next((r for r in mine if r.finished), None)

    def _random_level(self, task: str, seed: int, world: int) -> RandomLevel:
        record = self._random_cell(task, seed)
        if record is None:
            return RandomLevel(value=self._stated_level(task, world))
        episodes = record.episodes
        if not (episodes.world == world).any():
            world = 0
        inside = episodes.where(episodes.world == world)
        finished = inside.returns[~inside.cut]
        if finished.size:
            return RandomLevel(value=float(finished.mean()))
        value = float(inside.returns.mean()) if len(inside) else float("nan")
        return RandomLevel(value=value, partial=True)

    def _stated_level(self, task: str, world: int) -> float:
        """The random level that the plan states, where no random cell was ever planned."""
        if self.results.of(agent="random", task=task):
            return float("nan")
        stated = self.results.plan.get("tasks", {}).get(task, {}).get("random") or {}
        return _number(stated.get(str(world)))

    def _random(self, task: str, agent: str, seed: int) -> FloatArray:
        layout = self.layout(task, agent, seed)
        worlds = [layout[k].world if k in layout else None for k in range(self.num_phases)]
        return np.array(
            [np.nan if w is None else self.random_level(task, seed, w).value for w in worlds]
        )


def _phases(cell: Mapping[str, Any]) -> int:
    """Phases of a cell's stream, by its schedule."""
    schedule = cell["stream"]["schedule"]
    return int(schedule.get("phases") or len(schedule["worlds"]))


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _median(arrays: list[FloatArray]) -> float:
    values = np.concatenate(arrays)
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else float("nan")
