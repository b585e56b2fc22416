"""A plugin whose interventions go wrong, each in its own way, after a few updates."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from dataclasses import dataclass
from typing import Any

from rlplastic.interventions import Intervention, total
from rlplastic.registry import intervention


@intervention("raises")
@dataclass(frozen=True, kw_only=True)
class Raises(Intervention):
    """Raise an exception with a long message that steers terminals."""

    def after_update(self, agent: Any) -> None:
        if agent.num_updates == 3:
            print("the last words", file=sys.stderr)
            raise RuntimeError("broken on purpose\x1b[31m\nand a second line")


@intervention("leaves")
@dataclass(frozen=True, kw_only=True)
class Leaves(Intervention):
    """Leave the process without a word."""

    def after_update(self, agent: Any) -> None:
        if agent.num_updates == 3:
            os._exit(3)


@intervention("exits")
@dataclass(frozen=True, kw_only=True)
class Exits(Intervention):
    """Call sys.exit, which is no `Exception`."""

    def after_update(self, agent: Any) -> None:
        if agent.num_updates == 3:
            sys.exit("enough")


@intervention("crashes")
@dataclass(frozen=True, kw_only=True)
class Crashes(Intervention):
    """Read from address 0."""

    def after_update(self, agent: Any) -> None:
        if agent.num_updates == 3:
            ctypes.string_at(0)


@intervention("nan")
@dataclass(frozen=True, kw_only=True)
class NotANumber(Intervention):
    """Put NaN into the gradient of the fourth update."""

    def gradient(self, agent: Any, losses: Any) -> dict[str, Any]:
        terms = losses()
        total(terms).backward()
        if agent.num_updates == 3:
            agent.scope("critic")[0].grad.fill_(float("nan"))
        return terms


@intervention("hangs")
@dataclass(frozen=True, kw_only=True)
class Hangs(Intervention):
    """Say and do nothing any more."""

    def after_update(self, agent: Any) -> None:
        if agent.num_updates == 3:
            time.sleep(3600)


@intervention("chatty")
@dataclass(frozen=True, kw_only=True)
class Chatty(Intervention):
    """Print a megabyte: more than any pipe holds."""

    def after_update(self, agent: Any) -> None:
        if agent.num_updates == 3:
            print("x" * 2**20)
