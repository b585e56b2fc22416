"""What every page of measured figures says of how it was made."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from rlplastic import provenance, store


def processor() -> str:
    """The processor's name, as the operating system tells it."""
    listed = Path("/proc/cpuinfo")
    if listed.exists():
        for line in listed.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return str(provenance.machine()["processor"])


def made_by(program: str) -> list[str]:
    """Lines of Markdown: date, command, machine and versions of this process's program.

    Args:
        program: A module's name, or the path of a script in the repository, as ``tests/a.py``.
    """
    started = ["python", program] if program.endswith(".py") else ["python", "-m", program]
    machine = provenance.machine()
    versions = ", ".join(f"{name} {version}" for name, version in provenance.versions().items())
    return [
        f"- when: {time.strftime('%Y-%m-%d')}",
        f"- command: `{shlex.join([*started, *sys.argv[1:]])}`",
        f"- machine: {machine['system']}, {processor()}, {machine['cores']} cores",
        f"- versions: {versions}",
        "",
    ]


def spread(values: Sequence[float]) -> str:
    """Median and range."""
    return f"{median(values):.2f} [{min(values):.2f}..{max(values):.2f}]"


def verdict(value: float, bound: float, *, least: bool) -> str:
    """A target and whether it was met; nothing where there is none."""
    if not bound:
        return ""
    met = value >= bound if least else value <= bound
    return f"{'≥' if least else '≤'} {bound:g}: {'met' if met else 'missed'}"


def write(path: Path, lines: list[str]) -> None:
    """A page of these lines."""
    store.write_text(path, "\n".join(lines) + "\n")
