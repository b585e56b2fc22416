"""J1, J2: what a long life costs in memory, and what its checkpoints cost in time."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import short_cells
from scipy.stats import theilslopes
from short_cells import cell_of
from tally import Tally, ended, forked

from rlplastic import store
from rlplastic.cell import Cell
from rlplastic.life import Watch

CARTPOLE = "Control-Shifted/CartPole-observation"
ATARI = "Atari-Shifted/SpaceInvaders-observation"


def soak(seconds: float) -> Tally:
    """Resident memory of a cell that trains on and on; the slope over the last three quarters."""
    tally = Tally("J1: memory is flat while a cell trains")
    if seconds < 600:
        tally.note = "not run: below ten minutes it shows the start only"
        return tally
    cell = cell_of("ppo", "sam", env=CARTPOLE, period=8192)
    schedule = {**cell.stream["schedule"], "phases": 100_000}
    cell = replace(cell, stream={**cell.stream, "schedule": schedule})
    with tempfile.TemporaryDirectory() as folder:
        pid = forked(lambda: short_cells.run(cell, Path(folder) / "cell"))
        begin, sizes = time.monotonic(), []
        while time.monotonic() - begin < seconds:
            time.sleep(1.0)
            text = Path(f"/proc/{pid}/statm").read_text()
            sizes.append((time.monotonic() - begin, int(text.split()[1]) * 4096 / 2**20))
        os.kill(pid, signal.SIGKILL)
        ended(pid)
    times, memory = np.array(sizes[len(sizes) // 4 :]).T
    slope = float(theilslopes(memory[::10], times[::10]).slope) * 3600
    tally.count(slope <= 1.0, f"{slope:.2f} MB an hour")
    tally.note = f"{slope:.2f} MB an hour over {seconds / 60:.0f} minutes, {memory[-1]:.0f} MB"
    return tally


LIVES: dict[str, Callable[[], Cell]] = {
    "CartPole ppo": lambda: life("ppo", CARTPOLE, 32_768),
    "CartPole dqn, replay kept": lambda: life("dqn", CARTPOLE, 16_384, replay="keep"),
    "Atari dqn, replay kept": lambda: life("dqn", ATARI, 1_024, replay="keep"),
}


def life(agent: str, env: str, period: int, **how: Any) -> Cell:
    """Three phases with the preset's own hyper-parameters, short beside any budget's."""
    return cell_of(agent, "none", env=env, period=period, small=False, **how)


def checkpoint_share() -> Tally:
    """Time spent in writing checkpoints, beside all time of a cell."""
    tally = Tally("J2: checkpoints take at most 2 % of the time")
    shares = []
    for kind, make in LIVES.items():
        with tempfile.TemporaryDirectory() as folder:
            path, spent = Path(folder) / "spent.json", [0.0]

            def live(make=make, path=path, spent=spent) -> None:
                plain = Watch._save

                def timed(*args: Any, **kwargs: Any) -> None:
                    begin = time.monotonic()
                    plain(*args, **kwargs)
                    spent[0] += time.monotonic() - begin

                Watch._save = timed
                begin = time.monotonic()
                short_cells.run(make(), path.with_name("cell"))
                store.write_json(path, {"share": spent[0] / (time.monotonic() - begin)})

            assert ended(forked(live)) == 0
            share = store.read_json(path)["share"]
            shares.append(f"{kind} {share:.2%}")
            tally.count(share <= 0.02, shares[-1])
    tally.note = "; ".join(shares)
    return tally
