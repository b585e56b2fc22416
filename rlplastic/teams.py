"""Which cells one process runs side by side, because their agents are faster together.

Cells of one agent and intervention that differ in their seed, arm or world make a *team* where the
agent says that its seeds stack (`rlplastic.agents.team`). A team is no part of what is run: each of
its cells is claimed, recorded, stopped and continued as if it were alone, in the same bytes, and it
never fails. A cell that raises an exception has failed, and the others go on; a process that dies
has run cells of which nobody can say which one killed it, so they are run again one by one, each
from its last checkpoint.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise

from rlplastic import options, registry, store
from rlplastic.cell import Cell
from rlplastic.errors import UsageError

LARGEST = 5  # cells: more do not make a cell faster, and leave workers idle at the end

Team = tuple[Cell, ...]


def teams_of(cells: Sequence[Cell], workers: int) -> list[Team]:
    """The cells in teams, in the order of their first members; most teams have one cell.

    Args:
        cells: All that are to be run.
        workers: Processes at a time: teams are small enough to give each of them one.
    """
    alike: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        alike[_kind(cell)].append(cell)
    largest = min(LARGEST, len(cells))
    teams = _split(alike.values(), largest)
    while largest > 1 and len(teams) < min(workers, len(cells)):
        largest -= 1
        teams = _split(alike.values(), largest)
    first = {cell.id: place for place, cell in enumerate(cells)}
    return sorted(teams, key=lambda team: first[team[0].id])


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
