"""From episodes as they were logged to rows of a record: when each began, in which copy and phase.

The clock is that of a stream: environment steps summed over the copies. With n copies stepped
together it goes on by n for each step of a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlplastic.elsewhere.logged import Logged
from rlplastic.errors import UsageError

Row = dict[str, Any]


def place(logged: Sequence[Logged], copies: int | None, start: int = 0) -> list[Row]:
    """One row an episode of one life, by begin and copy; the phase is not known yet.

    An episode begins where the log says, or its length before its end, or where the one before it
    in that copy ended.

    Args:
        logged: Episodes of one life in the order of their log.
        copies: Copies that were stepped together; None: as many as the log tells apart.
        start: Clock at which the life begins.

    Raises:
        UsageError: Episodes that overlap, or end before they can have begun.
    """
    groups: dict[int, list[Logged]] = {}
    for one in logged:
        groups.setdefault(int(one.names.get("copy", 0)), []).append(one)
    together = copies or len(groups)
    if together < len(groups):
        raise UsageError(
            f"{logged[0].where}: {len(groups)} copies are told apart, but --copies is {together}"
        )
    rows = [
        row
        for copy, (_, episodes) in enumerate(sorted(groups.items()))
        for row in _of_copy(episodes, copy, together, alone=together == len(groups))
    ]
    _count_from_one(rows, together)
    rows.sort(key=lambda row: (row["begin"], row["end"]))
    if together > 1 and len(groups) == 1:
        _share_out(rows, together)
    _refuse_overlap(rows, together)
    for row in rows:
        row["begin"] += start
        row["end"] += start
    return sorted(rows, key=lambda row: (row["begin"], row["copy"]))


def _of_copy(episodes: Sequence[Logged], copy: int, together: int, *, alone: bool) -> list[Row]:
    rows: list[Row] = []
    before = 0
    for one in episodes:
        steps = None if one.length is None else one.length * together
        begin, end = one.begin, one.end
        if end is None:
            begin = before if begin is None else begin
            if steps is None:
                raise UsageError(f"{one.where}: neither the end nor the length of the episode")
            end = begin + steps
        elif begin is None and steps is not None:
            begin = end - steps
        elif begin is None:
            if not alone:
                raise UsageError(
                    f"{one.where}: of {together} copies that are not told apart, an episode's "
                    "length is needed:\n--columns length=NAME, or copy=NAME"
                )
            begin = before
        rows.append(
            {
                "begin": begin,
                "end": end,
                "copy": copy,
                "length": one.length or max(1, (end - begin) // together),
                "return": one.value,
                "base_return": one.value,
                "cut": one.cut,
                "where": one.where,
            }
        )
        before = end
    return rows


def _count_from_one(rows: list[Row], together: int) -> None:
    """Where a program logs the clock before the last step, its first episode begins at -1."""
    late = -min(row["begin"] for row in rows)
    if 0 < late <= together:
        for row in rows:
            row["begin"] += late
            row["end"] += late


def _share_out(rows: Sequence[Row], together: int) -> None:
    """Give each episode to the copy that ended its last one latest before it began.

    Copies that are stepped together have no pauses, so that is the one that went on.
    """
    ends = [0] * together
    for row in rows:
        free = [copy for copy in range(together) if ends[copy] <= row["begin"]]
        row["copy"] = max(free, key=lambda copy: (ends[copy], -copy), default=0)
        ends[row["copy"]] = row["end"]


def _refuse_overlap(rows: Sequence[Row], together: int) -> None:
    ends: dict[int, int] = {}
    for row in rows:
        if row["begin"] < 0 or row["end"] <= row["begin"]:
            raise UsageError(
                f"{row['where']}: an episode of {row['length']} steps cannot end at step "
                f"{row['end']} with {together} cop{'y' if together == 1 else 'ies'}"
            )
        if row["begin"] < ends.get(row["copy"], 0):
            raise UsageError(
                f"{row['where']}: begins at step {row['begin']}, before the episode before it has "
                f"ended ({ends[row['copy']]}).\nWith {together} environment(s) stepped together "
                "that cannot be: say how many with --copies, or\nwhich with a column or {copy}"
            )
        ends[row["copy"]] = row["end"]
