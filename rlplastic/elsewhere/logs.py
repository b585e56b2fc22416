"""Files of any kind, read as episodes; what a path says of a run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from rlplastic.elsewhere.csv_logs import read_csv
from rlplastic.elsewhere.event_logs import read_events
from rlplastic.elsewhere.logged import GUESSES, NAMES, Logged
from rlplastic.errors import UsageError, unknown


def read_logs(
    paths: Sequence[Path],
    patterns: Sequence[str],
    columns: Mapping[str, str],
    names: Mapping[str, str],
) -> list[Logged]:
    """Every episode of some files; a folder stands for the logs below it.

    Args:
        paths: CSV files, event files, or folders.
        patterns: Ends of paths, as ``{task}/{arm}/{seed}.csv``; ``*`` stands for anything. The
            first that fits a path is taken.
        columns: Column or tag for each key of `GUESSES` that is not to be guessed.
        names: What is true of a run where neither its path nor a column says so.

    Raises:
        UsageError: Anything that cannot be read; says file, line, column and nearest name.
    """
    for key in columns:
        if key not in GUESSES:
            raise unknown("key in --columns", key, GUESSES)
    regexes = [_regex(pattern) for pattern in patterns]
    found: list[Logged] = []
    for path in _files(paths):
        said = _of_path(path, regexes)
        try:
            if "tfevents" in path.name:
                found += read_events(path, {**names, **said}, columns)
            else:
                with path.open(encoding="utf-8-sig", newline="") as file:
                    found += read_csv(path, file, names, said, columns)
        except OSError as error:
            raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
        except UnicodeDecodeError:
            raise UsageError(f"{path}: is not UTF-8 text, so it is no CSV file") from None
    return found


def _files(paths: Sequence[Path]) -> list[Path]:
    found: dict[Path, Path] = {}  # a folder and a file in it name that file once
    for path in paths:
        if not path.exists():
            raise UsageError(f"{path}: there is no such file or folder")
        below = [path]
        if path.is_dir():
            below = sorted([*path.rglob("*tfevents*"), *path.rglob("*.csv")])
            if not below:
                raise UsageError(f"{path}: holds no *.csv and no *tfevents* file")
        for file in below:
            found.setdefault(file.resolve(), file)
    return list(found.values())


# -- what a path says ------------------------------------------------------------------------------


def _regex(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"(\{[^{}]*\}|\*)", pattern)
    used = [part[1:-1] for part in parts if part.startswith("{")]
    for name in used:
        if name not in NAMES:
            raise unknown("name in --pattern", name, NAMES)
        if used.count(name) > 1:
            raise UsageError(f"--pattern {pattern!r}: {{{name}}} is there twice")
    return re.compile("(?:.*/)?" + "".join(map(_piece, parts)))


def _piece(part: str) -> str:
    if part == "*":
        return "[^/]*"
    if not part.startswith("{"):
        return re.escape(part)
    numeric = part[1:-1] in ("seed", "copy", "phase")
    return f"(?P<{part[1:-1]}>{'[0-9]+' if numeric else '[^/]+?'})"


def _of_path(path: Path, regexes: Sequence[re.Pattern[str]]) -> dict[str, str]:
    if not regexes:  # the monitors of a vectorised environment are 0.monitor.csv, 1.monitor.csv
        rank = re.fullmatch(r"(\d+)\.monitor\.csv", path.name)
        return {"copy": rank[1]} if rank else {}
    for regex in regexes:
        if found := regex.fullmatch(path.as_posix()):
            return found.groupdict()
    raise UsageError(f"{path}: its end fits no --pattern")
