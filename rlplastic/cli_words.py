"""What the words of the command line mean, or why they mean nothing."""

from __future__ import annotations

import os
from pathlib import Path

from rlplastic.errors import UsageError


def words_of(values: list[str] | None, option: str) -> list[str]:
    """Words separated by commas, in one option or in several."""
    words = [word.strip() for value in values or [] for word in value.split(",")]
    if not all(words):
        raise UsageError(f"{option} {','.join(values or [])!r}: an empty name between commas")
    return words


def env_of(text: str) -> str:
    """The suite or pattern that is given; without one, what there is."""
    if not text:
        from rlplastic.suitefile import suite_files

        raise UsageError(
            f"--env is needed: a suite, or suite/task.\nValid: {', '.join(suite_files())}"
        )
    return text


def seeds_of(text: str) -> list[int]:
    """``5``: the first five; ``3,7`` or ``3,``: those; nothing: the budget's number."""
    words = [word.strip() for word in text.rstrip(",").split(",")] if text else []
    if not all(word.isascii() and word.isdigit() and len(word) < 10 for word in words):
        raise UsageError(f"--seeds {text!r}: write a number, as 5, or seeds, as 3,7,11")
    numbers = [int(word) for word in words]
    if "," in text or not text:
        return numbers
    if not 1 <= numbers[0] <= 1000:
        raise UsageError(
            f"--seeds {text!r}: a number of seeds from 1 to 1000; one seed is '{text},'"
        )
    return list(range(numbers[0]))


def workers_of(text: str) -> int | None:
    """``auto`` or a number."""
    if text == "auto":
        return None
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 1024):
        raise UsageError(f"--workers {text!r}: write auto, or a number from 1 to 1024")
    return int(text)


def device_of(text: str) -> str:
    """Where networks are."""
    if text not in ("cpu", "cuda", "auto"):
        raise UsageError(f"--device {text!r}: write cpu, cuda or auto")
    return text


def probes_of(text: str) -> str:
    """Which probes; nothing for what the suite says."""
    if text not in ("", "default", "full"):
        raise UsageError(f"--probes {text!r}: write default or full")
    return text


def use_data(folder: Path | None) -> None:
    """Tell this process and its workers where data are; no part of what is run, only of where."""
    if folder is None:
        return
    if not folder.is_dir():
        raise UsageError(f"--data-dir {str(folder)!r}: there is no such folder")
    os.environ["RLPLASTIC_DATA"] = str(folder.resolve())


def default_out(env: str, budget: str, data: str = "") -> Path:
    """``results/SUITE-BUDGET``, or ``results/SUITE-DATA-BUDGET``."""
    suite = Path(env.partition(".toml")[0]).name if ".toml" in env else env.partition("/")[0]
    return Path("results") / "-".join(filter(None, (suite, data, budget)))


def own_or_named(env: str, plugins: list[Path] | None) -> str:
    """The name to look for once the plugins are known, of which a Python file is one."""
    own = [Path(env)] if env.endswith(".py") else []
    add_plugins([*(plugins or []), *own])
    return "" if own else env


def add_plugins(paths: list[Path] | None) -> None:
    """Register what these Python files define."""
    from rlplastic import registry

    for path in paths or []:
        registry.add_plugin(path)
