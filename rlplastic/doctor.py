"""Is everything there that a bench needs? One line a check, found out by trying."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import rlplastic
from rlplastic import pool, provenance, registry, store
from rlplastic.suitefile import load_suite, suite_files


@dataclass(frozen=True, kw_only=True)
class Check:
    """What one check has found."""

    name: str
    ok: bool
    text: str


class Broken(Exception):
    """A check has found something that a bench would stumble over."""


def examine(folder: Path) -> Iterator[Check]:
    """Every check in turn; `folder` is where results would go."""
    checks: dict[str, Callable[[], str]] = {
        "versions": _versions,
        "cores": _cores,
        "torch": _torch,
        "atari": _atari,
        "tensorboard": _tensorboard,
        "disk": lambda: _disk(folder),
        "suites": _suites,
        "plugins": _plugins,
    }
    for name, check in checks.items():
        try:
            yield Check(name=name, ok=True, text=check())
        except Exception as error:  # whatever it is, it is what the user wants to know
            text = str(error) if isinstance(error, Broken) else f"{type(error).__name__}: {error}"
            yield Check(name=name, ok=False, text=text)


def _versions() -> str:
    found = {**provenance.versions(), "rlplastic": rlplastic.__version__}
    shown = ", ".join(f"{name} {version}" for name, version in found.items())
    if "not installed" in found.values():
        raise Broken(shown)
    return shown


def _cores() -> str:
    return f"{pool.usable_cores()} of {os.cpu_count()} usable; one cell and one thread on each"


def _torch() -> str:
    import torch

    if torch.ones(8).sum().item() != 8:
        raise Broken("adding eight ones does not give eight")
    if torch.cuda.is_available():
        return f"{torch.get_num_threads()} threads outside cells; {torch.cuda.get_device_name()}"
    return f"{torch.get_num_threads()} threads outside cells; no CUDA device, cells run on the CPU"


def _atari() -> str:
    from ale_py import roms

    games = roms.get_all_rom_ids()
    missing = [game for game in games if not roms.get_rom_path(game)]
    if not games or missing:
        raise Broken(f"ROMs missing: {', '.join(missing) or 'all'}: pip install --upgrade ale-py")
    return f"{len(games)} ROMs"


def _tensorboard() -> str:
    from torch.utils.tensorboard import SummaryWriter

    with tempfile.TemporaryDirectory() as folder:
        with SummaryWriter(folder) as writer:
            writer.add_scalar("doctor/check", 1.0, 0)
        if not any(file.stat().st_size > 0 for file in Path(folder).iterdir()):
            raise Broken("its writer has written nothing")
    return "writes event files"


def _disk(folder: Path) -> str:
    parent = existing(folder)
    probe = parent / f".rlplastic-doctor-{uuid.uuid4().hex}"
    try:
        store.write_text(probe, "ok\n")
        if probe.read_text(encoding="utf-8") != "ok\n":
            raise Broken(f"{parent}: what was written cannot be read back")
    except OSError as error:
        raise Broken(f"{parent}: cannot be written: {error.strerror}") from error
    finally:
        probe.unlink(missing_ok=True)
    free = shutil.disk_usage(parent).free
    if free < 10**9:
        raise Broken(f"{parent.resolve()}: {free / 1e9:.2f} GB free")
    return f"{parent.resolve()}: can be written, {free / 1e9:,.0f} GB free"


def _suites() -> str:
    return ", ".join(f"{name} ({len(load_suite(name).tasks)} tasks)" for name in suite_files())


def _plugins() -> str:
    points = importlib.metadata.entry_points(group="rlplastic")
    for point in points:
        point.load()
    kinds = {kind: registry.entries(kind) for kind in registry.HOMES}
    for path in registry.plugins():
        for entries in kinds.values():
            for entry in entries.values():
                if str(entry.path) == path:
                    entry.load()
    names = [point.value for point in points] + registry.plugins()
    return ", ".join(names) or "none installed"


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder
