"""Recovery as DARPA's Lifelong Learning Machines programme measured it.

New et al., "Lifelong Learning Metrics" (2201.08278). One phase is a learning block, one episode an
experience, all worlds are variants of one task. As there, returns are smoothed by a moving average
over min(20 % of the block, 100) experiences; their clamping and rescaling to 1 .. 101 are left out.
Two faults are theirs and kept: the level is that of the *previous* block, so a harder world looks
like a slow recovery, and a block that never recovers counts as its length + 1 instead of being
censored. The report's own recovery times have neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy import ndimage

from rlplastic.metrics.curve import Case
from rlplastic.metrics.trend import theil_sen
from rlplastic.record import FloatArray
from rlplastic.registry import metric

TERMINAL = 0.1  # of a block: its last experiences, for its terminal performance
WINDOW = 0.2
LONGEST_WINDOW = 100


@metric("l2_recovery_time", better="lower", unit="episodes")
def l2_recovery_time(case: Case) -> FloatArray:
    """RT: first episode that reaches the previous phase's terminal performance, for each shift."""
    blocks = [np.empty(0) if curve is None else smooth(curve.returns) for curve in case.life]
    return block_recovery_times(blocks)


@metric("l2_performance_recovery", better="higher", unit="episodes a shift")
def l2_performance_recovery(case: Case) -> float:
    """PR = - Theil-Sen slope of RT over the shifts: positive where it recovers ever faster."""
    return performance_recovery(l2_recovery_time(case))


def block_recovery_times(blocks: Sequence[FloatArray]) -> FloatArray:
    """For each block but the first, the index of its first value at the last one's terminal level.

    A block that never gets there has its length + 1; one beside an empty block has NaN.
    """
    times = []
    for before, block in pairwise(blocks):
        if not (before.size and block.size):
            times.append(np.nan)
            continue
        terminal = before[int((1 - TERMINAL) * before.size) :].mean()
        reached = np.flatnonzero(block >= terminal)
        times.append(float(reached[0] if reached.size else block.size + 1))
    return np.array(times, dtype=np.float64)


def performance_recovery(times: FloatArray) -> float:
    """Minus the Theil-Sen slope of recovery times."""
    return -theil_sen(times)


def smooth(returns: FloatArray) -> FloatArray:
    """Moving average over min(20 %, 100) values, mirrored at the ends; short blocks stay raw."""
    window = min(int(WINDOW * returns.size), LONGEST_WINDOW)
    if window < 3:
        return returns
    return np.asarray(ndimage.uniform_filter1d(returns, window, mode="mirror"))
