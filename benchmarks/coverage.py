"""How often the 95 % intervals of a report hold the truth, on simulated scores.

    python -m rlplastic.benchmarks.coverage

Scores are normal around the mean of each task. These means are symmetric around 0, which is then
the true mean and the true IQM. Paired differences add an effect of 0.3 to every run, on top of
noise that arm and reference share. ``false`` is the share of studies without any effect of which
a report would say that there is one: the interval leaves 0 out and the sign-flip test has p <
0.05.

The second table is of whole sentences: S and P of several arms that all equal ``none``, and the
share of reports that say of at least one of them that it raises or lowers something, before and
after Holm's adjustment, which the sentence also tells.
"""

from __future__ import annotations

import numpy as np

from rlplastic.aggregate import Estimate, estimate
from rlplastic.record import FloatArray
from rlplastic.significance import holm, sign_flip

STUDIES = 400  # standard error of a coverage of 95 %: 1.1 points
RESAMPLES = 2000
EFFECT = 0.3
SHARED, OWN = 0.8, 0.4  # spread of what arm and reference share, and of what they do not
ARMS = (1, 3, 9)
SIZES = [(seeds, tasks) for seeds in (3, 6, 10, 20) for tasks in (1, 6)]


def main() -> None:
    """Print a Markdown table."""
    rng = np.random.default_rng(0)
    print("| seeds | tasks | IQM | mean | paired difference of IQM | false |")
    print("|---|---|---|---|---|---|")
    for seeds, tasks in SIZES:
        cells = " | ".join(f"{share:.1%}" for share in coverage(seeds, tasks, rng))
        print(f"| {seeds} | {tasks} | {cells} |", flush=True)
    rng = np.random.default_rng(1)
    print("\n| seeds | tasks | arms | any, unadjusted | any false word |")
    print("|---|---|---|---|---|")
    for seeds, tasks, arms in [(seeds, 6, arms) for seeds in (6, 10) for arms in ARMS]:
        cells = " | ".join(f"{share:.1%}" for share in false_words(seeds, tasks, arms, rng))
        print(f"| {seeds} | {tasks} | {arms} | {cells} |", flush=True)


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


def false_words(seeds: int, tasks: int, arms: int, rng: np.random.Generator) -> list[float]:
    """Share of reports with a false word on S or P of any arm, unadjusted and as they are said."""
    hits = np.zeros(2)
    for _ in range(STUDIES):
        said = [false_arms(seeds, tasks, arms, rng) for _ in ("S", "P")]
        hits += np.any(said, axis=(0, 2))
    return [float(share) for share in hits / STUDIES]


def false_arms(seeds: int, tasks: int, arms: int, rng: np.random.Generator) -> list[list[bool]]:
    """Of each arm, all equal to ``none``: whether a test alone says otherwise; and the sentence."""
    shared = SHARED * rng.normal(size=(seeds, tasks))
    none, *others = (shared + OWN * rng.normal(size=shared.shape) for _ in range(arms + 1))
    p = [sign_flip(one - none, rng) for one in others]
    plain = [
        value < 0.05 and not (gain := _gain(one, none, rng)).low <= 0 <= gain.high
        for one, value in zip(others, p, strict=True)
    ]
    return [plain, [word and q < 0.05 for word, q in zip(plain, holm(p), strict=True)]]


def _gain(arm: FloatArray, none: FloatArray, rng: np.random.Generator) -> Estimate:
    return estimate(arm, "iqm", rng, minus=none, resamples=RESAMPLES)


if __name__ == "__main__":
    main()
