"""Which cells one process runs side by side, because their agents are faster together.

Cells of one agent and intervention that differ in their seed, arm or world make a *team* where the
agent says that its seeds stack (`rlplastic.agents.team`). A team is no part of what is run: each of
its cells is claimed, recorded, stopped and continued as if it were alone, in the same bytes, and it
never fails. A cell that raises an exception has failed, and the others go on; a process that dies
has run cells of which nobody can say which one killed it, so they are run again one by one, each
from its last checkpoint.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise

from rlplastic import options, registry, store
from rlplastic.cell import Cell
from rlplastic.errors import UsageError

LARGEST = 10  # cells
SHARED = 2.5  # what a turn of a team costs beside its cells', in those of one cell

Team = tuple[Cell, ...]


def teams_of(cells: Sequence[Cell], workers: int) -> list[Team]:
    """The cells in teams, in the order of their first members; most teams have one cell.

    Of all sizes up to the largest the one whose teams end soonest, were all cells equally long: a
    large team is faster, and small ones keep all workers busy to the end.

    Args:
        cells: All that are to be run.
        workers: Processes at a time.
    """
    alike: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        alike[_kind(cell)].append(cell)
    first = {cell.id: place for place, cell in enumerate(cells)}
    choices = [
        sorted(_split(alike.values(), size), key=lambda team: first[team[0].id])
        for size in range(LARGEST, 0, -1)
    ]
    return min(choices, key=lambda teams: _end(teams, workers))


def _end(teams: Sequence[Team], workers: int) -> float:
    """When the last of them ends, if whoever is free takes the next."""
    ends = [0.0] * workers
    for team in teams:
        heapq.heapreplace(ends, ends[0] + len(team) + SHARED)
    return max(ends)


def _split(groups: Iterable[Sequence[Cell]], largest: int) -> list[Team]:
    """Each group in as few teams of at most so many cells as it takes, as even as can be."""
    teams: list[Team] = []
    for group in groups:
        number = -(-len(group) // largest)
        ends = [len(group) * i // number for i in range(number + 1)]
        teams += [tuple(group[a:b]) for a, b in pairwise(ends)]
    return teams


def _kind(cell: Cell) -> str:
    """The same for cells that may be a team; a cell's own if it must be alone."""
    try:
        config = options.make(registry.load("agent", cell.agent), cell.hyperparameters, cell.agent)
        members = [registry.load("intervention", spec["name"]) for spec in cell.intervention]
    except UsageError:  # which its own process tells
        return cell.id
    stacks = getattr(config, "stacks", False) and all(member.stacks for member in members)
    if not stacks or cell.device != "cpu":
        return cell.id
    parts = [cell.agent, cell.hyperparameters, cell.intervention, cell.stream["base"], cell.plugins]
    return store.digest(parts)
