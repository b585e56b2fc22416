"""How often the 95 % intervals of a report hold the truth, on simulated scores.

    python -m rlplastic.benchmarks.coverage

Scores are normal around the mean of each task. These means are symmetric around 0, which is then
the true mean and the true IQM. Paired differences add an effect of 0.3 to every run, on top of
noise that arm and reference share. ``false`` is the share of studies without any effect of which
a report would say that there is one: the interval leaves 0 out and the sign-flip test has p <
0.05.
"""

from __future__ import annotations

import numpy as np

from rlplastic.aggregate import estimate
from rlplastic.significance import sign_flip

STUDIES = 400  # standard error of a coverage of 95 %: 1.1 points
RESAMPLES = 2000
EFFECT = 0.3
SHARED, OWN = 0.8, 0.4  # spread of what arm and reference share, and of what they do not
SIZES = [(seeds, tasks) for seeds in (3, 6, 10, 20) for tasks in (1, 6)]


def main() -> None:
    """Print a Markdown table."""
    rng = np.random.default_rng(0)
    print("| seeds | tasks | IQM | mean | paired difference of IQM | false |")
    print("|---|---|---|---|---|---|")
    for seeds, tasks in SIZES:
        cells = " | ".join(f"{share:.1%}" for share in coverage(seeds, tasks, rng))
        print(f"| {seeds} | {tasks} | {cells} |", flush=True)


def coverage(seeds: int, tasks: int, rng: np.random.Generator) -> list[float]:
    """Share of studies whose interval of IQM, mean and difference holds the truth; false ones."""
    centers = np.linspace(-0.5, 0.5, tasks) if tasks > 1 else np.zeros(1)
    truth = float(centers.mean())  # of the IQM too: all is symmetric around it
    hits = np.zeros(4)
    for _ in range(STUDIES):
        shared = centers + SHARED * rng.normal(size=(seeds, tasks))
        none, arm, equal = (shared + OWN * rng.normal(size=shared.shape) for _ in range(3))
        found = [estimate(none, name, rng, resamples=RESAMPLES) for name in ("iqm", "mean")]
        gain = estimate(arm + EFFECT, "iqm", rng, minus=none, resamples=RESAMPLES)
        idle = estimate(equal, "iqm", rng, minus=none, resamples=RESAMPLES)
        hits[:2] += [one.low <= truth <= one.high for one in found]
        hits[2] += gain.low <= EFFECT <= gain.high
        hits[3] += not idle.low <= 0 <= idle.high and sign_flip(equal - none, rng) < 0.05
    return [float(share) for share in hits / STUDIES]


if __name__ == "__main__":
    main()
