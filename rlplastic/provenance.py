"""Where a result comes from: versions, machine, commit. No environment variables, no secrets."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "rlplastic",
    "torch",
    "stable-baselines3",
    "gymnasium",
    "ale-py",
    "scikit-learn",
    "numpy",
    "rliable",
)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def code() -> str:
    """SHA-256 of this package's own code: what a cell that was interrupted must go on under."""
    root = Path(__file__).resolve().parent
    folders = (root, *(root / name for name in ("agents", "envs", "interventions", "probes")))
    digest = hashlib.sha256()
    for file in sorted(file for folder in folders for file in folder.glob("*.py")):
        digest.update(file.relative_to(root).as_posix().encode() + b"\0")
        digest.update(file.read_bytes() + b"\0")
    return digest.hexdigest()


def commit() -> dict[str, Any]:
    """The commit this code is at, and whether files differ from it; empty outside a checkout."""
    root = Path(__file__).resolve().parent.parent
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():
        return {}

    def ask(*words: str) -> str:
        done = subprocess.run(  # noqa: S603
            [git, "-C", str(root), *words], capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    return {"commit": ask("rev-parse", "HEAD"), "dirty": bool(ask("status", "--porcelain"))}


def machine() -> dict[str, Any]:
    """Operating system, processor and cores."""
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
    }


def command() -> str:
    """The command line of this process, without the path of the program."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
