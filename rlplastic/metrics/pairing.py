"""Which cells may meet in one number: two configurations are never averaged or compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlplastic.errors import UsageError


def refuse_mixtures(cells: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse cells of which two configurations would meet in one number.

    One slot has one configuration. The seeds of an arm differ in the seed alone, its newborns in
    ``fresh`` besides, and the arms of an agent share stream, hyper-parameters and replay.

    Args:
        cells: Identity of each cell, by id.

    Raises:
        UsageError: Two differ elsewhere; names the cells and the differing keys.
    """
    shared: dict[tuple[object, ...], tuple[str, dict[str, Any]]] = {}
    for name, cell in cells.items():
        where = (cell["task"], cell["agent"])
        flat = _flat(cell)
        arm = {key: value for key, value in flat.items() if key not in ("seed", "fresh")}
        roots = ("suite", "stream", "hyperparameters", "replay")
        task = {key: value for key, value in arm.items() if key.split(".")[0] in roots}
        views = [
            (
                ("slot", *where, cell["reg"], bool(cell.get("fresh")), cell["seed"]),
                {**flat, "": name},
            ),
            (("arm", *where, cell["reg"]), arm),
            (("task", *where), task),
        ]
        for key, view in views:
            other, known = shared.setdefault(key, (name, view))
            if known != view:
                raise UsageError(_difference(other, known, name, view))


def _difference(one: str, known: dict[str, Any], other: str, view: dict[str, Any]) -> str:
    keys = sorted(k for k in known.keys() | view.keys() if k and known.get(k) != view.get(k))
    shown = [f"{key}: {known.get(key, '-')!s:.60} | {view.get(key, '-')!s:.60}" for key in keys[:2]]
    more = f" (and {len(keys) - 2} more keys)" if len(keys) > 2 else ""
    return "\n".join(
        [
            f"two configurations meet: {one} | {other}",
            *shown,
            f"They are never averaged{more}. Move one of the folders, or name another --out.",
        ]
    )


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted keys."""
    found: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, Mapping):
            found |= _flat(item, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = item
    return found
