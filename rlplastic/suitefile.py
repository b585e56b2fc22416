"""Suite files: where they are, how they are read, and the presets of agents for them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlplastic import options, registry, store
from rlplastic.errors import UsageError, unknown
from rlplastic.suite import FOLDER, Suite, Task

ROOT = Path(__file__).parent
LARGEST_TOML = 4 * 2**20  # bytes


def suite_files() -> dict[str, Path]:
    """The suites that come with the package, by name."""
    return {path.stem: path for path in sorted((ROOT / "benchmarks").glob("*.toml"))}


def load_suite(name: str) -> Suite:
    """The suite of that name, or of that TOML file, checked.

    Raises:
        UsageError: no such suite, or a file that is not one: names the key and the value.
    """
    files = suite_files()
    path = Path(name) if name.endswith(".toml") else files.get(name)
    if path is None:
        raise unknown("env", name, files)
    values = read_toml(path)
    known = {**values, "name": path.stem}
    suite: Suite = options.make(Suite, known, f"suite {path.stem!r}")
    for kind, names in (("task", suite.tasks), ("budget", suite.budgets)):
        for word in names:
            if not FOLDER.fullmatch(word):
                raise UsageError(
                    f"suite {path.stem!r}: {kind} {word!r} becomes the name of a folder: letters, "
                    "digits, '.', '_' and '-' only, and not '.' first"
                )
    for word, task in suite.tasks.items():
        _refuse_foreign_pilots(suite.name, word, task)
    families = {family for presets in _presets().values() for family in presets}
    if suite.family not in families:
        raise unknown(f"family of suite {path.stem!r}", suite.family, families)
    if suite.metric:
        registry.find("metric", suite.metric)
    tables = [budget.hyperparameters for budget in suite.budgets.values()]
    for agent in {agent for table in tables for agent in table}:
        registry.find("agent", agent)
    return suite


def stream_digest(task: Task) -> str:
    """Eight characters for the base and the shifts of a task, as they are written."""
    return store.digest([task.base, task.shifts, *(["notify"] * task.notify)])[:8]


def _refuse_foreign_pilots(suite: str, name: str, task: Task) -> None:
    for agent, pilot in task.agents.items():
        if pilot.stream and pilot.stream != stream_digest(task):
            raise UsageError(
                f"suite {suite!r}: tasks.{name}.agents.{agent} was measured on another base or "
                f"other shifts (stream = {pilot.stream!r}, this one is {stream_digest(task)!r}).\n"
                "Measure it anew: python -m rlplastic.benchmarks.pilot; or delete that table"
            )


def _presets() -> dict[str, Any]:
    return read_toml(ROOT / "agents" / "presets.toml")


def read_toml(path: Path) -> dict[str, Any]:
    """The contents of a TOML file, or a `UsageError` that says where it is wrong."""
    try:
        if path.stat().st_size > LARGEST_TOML:
            raise UsageError(f"{path}: larger than {LARGEST_TOML >> 20} MB")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not valid TOML: {error}") from error
    except RecursionError:
        raise UsageError(f"{path}: not valid TOML: nested too deeply") from None


def preset(agent: str, family: str, base: str) -> dict[str, Any]:
    """An agent's hyper-parameters for a base environment: default, then family, then base.

    The file is ``agents/presets.toml``; later tables override earlier ones.
    """
    tables = _presets().get(agent, {})
    merged: dict[str, Any] = {}
    for key in ("default", family, base):
        table = tables.get(key, {})
        if not isinstance(table, Mapping):
            raise UsageError(f"presets.toml: {agent}.{key} is not a table")
        merged.update(table)
    return merged
