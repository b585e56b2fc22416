"""A few trials of each part of the crash suite; `make storm` runs hundreds."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import benches
import damage
import storm
from tally import Tally

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks and looks through /proc")


def check(tally: Tally, least: int) -> None:
    assert tally.failures == 0
    assert tally.trials >= least


def test_cells_killed_at_random_moments() -> None:
    check(storm.kills(storm.KINDS, trials=6, seed=1), 6)


def test_ended_at_file_operations() -> None:
    kind = "toy dqn redo, replay kept"
    check(storm.calls({kind: storm.KINDS[kind]}, every=12), 4)


def test_benches_that_are_stopped() -> None:
    stops, twice, same = benches.signals(trials=1, seed=1)
    check(stops, 2)
    check(twice, 1)
    check(same, 1)


def test_benches_on_one_folder() -> None:
    check(benches.shared(trials=1, seed=1), 1)


def test_damaged_checkpoints() -> None:
    check(damage.cuts(30, seed=1), 30)
    check(damage.bits(30, seed=1), 30)


def test_a_full_disk() -> None:
    tally = storm.full_disk([24 * 2**10, 56 * 2**10])
    assert tally.failures == 0
    if not tally.trials:
        pytest.skip(tally.note)


def test_readers_never_see_half_a_file() -> None:
    check(storm.readers(1.0), 100)
