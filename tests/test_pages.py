"""A process with an agent keeps its memory pages, unless its user has said otherwise."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from rlplastic.agents.pages import SETTINGS, TUNABLES

PROGRAM = """
import resource, torch
from rlplastic.agents.pages import keep_pages
torch.set_num_threads(1)
kept = {keeping} and keep_pages()
def update():
    first = torch.ones(2_000_000)  # 8 MB each
    return (first + 1, first * 2)
for _ in range(5):
    update()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    update()
print(int(kept), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PLAIN = {name: value for name, value in os.environ.items() if name not in {*SETTINGS, TUNABLES}}


def faults(keeping, **environment):
    """Whether pages are kept, and the page faults of twenty updates."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(keeping=keeping)],
        env=PLAIN | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    kept, count = map(int, done.stdout.split())
    return bool(kept), count


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_pages_are_kept_between_updates():
    # an operating system that is short of memory, or saves it, takes idle pages away in between
    tries = [faults(True) for _ in range(5)]
    _, taken_anew = faults(False)
    assert all(kept for kept, _ in tries)
    assert min(count for _, count in tries) < 100 < 1_000 < taken_anew


@pytest.mark.parametrize(
    "said",
    [dict.fromkeys([name], "131072") for name in SETTINGS]
    + [{TUNABLES: "glibc.malloc.trim_threshold=131072"}],
)
def test_who_has_said_otherwise_is_heard(said):
    assert not faults(True, **said)[0]
