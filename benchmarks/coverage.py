"""How often the 95 % intervals of a report hold the truth, on simulated scores.

    python -m rlplastic.benchmarks.coverage

Scores are normal around the mean of each task. These means are symmetric around 0, which is then
the true mean and the true IQM. Paired differences add an effect of 0.3 to every run, on top of
noise that arm and reference share. ``false`` is the share of studies without any effect of which
a report would say that there is one: the interval leaves 0 out and the sign-flip test has p <
0.05.

The second table is of whole sentences, by the report's own rule (`rlplastic.metrics.verdict`): a
plain agent whose S is 1 and several arms that all equal ``none`` in S and P, S and P independent.
``plain`` is the share of reports that say of the plain agent that it loses plasticity or learns
faster; ``any, unadjusted`` the share that would say of at least one arm that it raises or lowers
something; ``an arm`` those after Holm's adjustment, as they are said; ``any false word`` those in
which at least one word of the sentence is false.
"""

from __future__ import annotations

import itertools

import numpy as np

from rlplastic.aggregate import estimate
from rlplastic.metrics.verdict import SIGNIFICANT, apart
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
    print("\n| seeds | tasks | arms | plain | any, unadjusted | an arm | any false word |")
    print("|---|---|---|---|---|---|---|")
    for seeds, tasks, arms in itertools.product((6, 10), (1, 6), ARMS):
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
    """Shares of reports with a false word: on none, on an arm by itself, on one as said, on any."""
    hits = np.zeros(4)
    for _ in range(STUDIES):
        studies = [scores(seeds, tasks, arms, rng) for _ in ("S", "P")]
        plain = false_plain(studies[0][0], rng)
        alone, said = np.any([false_arms(*study, rng) for study in studies], axis=(0, 2))
        hits += [plain, alone, said, plain or said]
    return [float(share) for share in hits / STUDIES]


def scores(
    seeds: int, tasks: int, arms: int, rng: np.random.Generator
) -> tuple[FloatArray, list[FloatArray]]:
    """Those of ``none`` around 0, which stands for no loss, and of so many arms that equal it."""
    shared = SHARED * rng.normal(size=(seeds, tasks))
    none, *others = (shared + OWN * rng.normal(size=shared.shape) for _ in range(arms + 1))
    return none, others


def false_plain(none: FloatArray, rng: np.random.Generator) -> bool:
    """Whether the sentence says of ``none``, whose true score is 0, that it is not."""
    return apart(estimate(none, "iqm", rng, resamples=RESAMPLES), none) and (
        sign_flip(none, rng) < SIGNIFICANT
    )


def false_arms(
    none: FloatArray, others: list[FloatArray], rng: np.random.Generator
) -> list[list[bool]]:
    """Of each arm, all equal to ``none``: whether a test alone says otherwise; and the sentence."""
    p = [sign_flip(one - none, rng) for one in others]
    gains = [estimate(one, "iqm", rng, minus=none, resamples=RESAMPLES) for one in others]
    words = [apart(gain, one - none) for gain, one in zip(gains, others, strict=True)]
    return [
        [word and value < SIGNIFICANT for word, value in zip(words, values, strict=True)]
        for values in (p, holm(p))
    ]


if __name__ == "__main__":
    main()
