"""How long the report of a thousand cells takes, and how much memory.

    python tests/report_size.py --write benchmarks/REPORT.md

A folder of 1,150 made-up cells (5 tasks x 10 seeds x 11 arms with their newborns, and random play),
ten phases and ten probes each, is reported by the real command a few times, in a process of its
own each time. Memory is what the operating system says that the command and its helpers hold
together, a page that several share counted once (proportional set size), looked at ten times a
second.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import synthetic_records
from running import session

from rlplastic.benchmarks.pages import made_by, verdict, write

TASKS = (
    "Cart-observation", "Cart-reward", "Acro-observation", "Acro-reward", "Moun-dynamics",
)  # fmt: skip
ARMS = (
    "none", "sam", "asam", "gnp", "redo", "cbp", "l2init", "layernorm", "crelu", "wd", "snp",
)  # fmt: skip
PROBES = (
    "weight_norm", "dead_units", "dormant_units", "srank", "feature_norm",
    "grad_norm", "policy_churn", "value_magnitude", "hessian_max", "sharpness",
)  # fmt: skip
SEEDS, PHASES, PERIOD = 10, 10, 3_000
SECONDS, MEGABYTES = 30.0, 1_000.0  # targets
GLANCE = 0.1  # seconds between two looks at the memory


def main() -> None:
    """Print the page, and write it where `--write` says."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=3, help="times it is reported (default 3)")
    parser.add_argument("--write", type=Path, help="a page of Markdown")
    given = parser.parse_args()
    page = ["# The report of a thousand cells", "", *made_by("tests/report_size.py")]
    with tempfile.TemporaryDirectory() as place:
        folder = synthetic_records.write_results(
            Path(place) / "results",
            tasks=TASKS, agents=("dqn",), regs=ARMS, seeds=SEEDS, phases=PHASES, period=PERIOD,
            ends=probed,
        )  # fmt: skip
        cells = len(list(folder.rglob("rows.jsonl*")))
        held = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        runs = [report(folder) for _ in range(given.repeats)]
        drawn = (folder / "report.html").stat().st_size
    seconds, peaks = zip(*runs, strict=True)
    page += [
        f"{cells:,} cells, {held / 1e6:,.0f} MB of records; a report of {drawn / 1e6:.1f} MB; "
        f"median and range of {given.repeats} runs.",
        "",
        "| what | median | range | target |",
        "|---|--:|--:|---|",
        row("seconds", seconds, SECONDS),
        row("peak MB", peaks, MEGABYTES),
    ]
    print("\n".join(page))
    if given.write:
        write(given.write, page)


def probed(number: int, seed: int) -> dict[str, float]:
    """Values of every probe at the end of a phase."""
    noise = np.random.default_rng([number, seed]).normal(size=len(PROBES))
    return dict(zip(PROBES, (10.0 + number + noise).tolist(), strict=True))


def report(folder: Path) -> tuple[float, float]:
    """Seconds of `rlplastic report`, and its peak memory in MB."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "rlplastic", "report", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True) as running:
        peak = 0.0
        for _ in itertools.count():
            peak = max(peak, sum(map(share, session(running.pid))))
            try:
                running.wait(GLANCE)
                break
            except subprocess.TimeoutExpired:
                pass
    if running.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {running.returncode}")
    return time.perf_counter() - start, peak


def share(process: int) -> float:
    """A process's proportional set size, in MB; 0 once it has ended."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024 / 1e6


def row(what: str, values: tuple[float, ...], bound: float) -> str:
    """A line of the table."""
    middle = statistics.median(values)
    extent = f"{min(values):,.1f}..{max(values):,.1f}"
    return f"| {what} | {middle:,.1f} | {extent} | {verdict(middle, bound, least=False)} |"


if __name__ == "__main__":
    main()
