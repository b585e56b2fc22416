"""Does an intervention act differently on two kinds of shift?"""

import json

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import synthetic_records as synthetic

from rlplastic import aggregate, significance
from rlplastic.metrics import interaction
from rlplastic.metrics.study import Study
from rlplastic.metrics.summary import summarise
from rlplastic.reading import read

TRACKS = ("Cart-observation", "Cart-reward")


def rng(seed=0):
    return np.random.default_rng(seed)


def tables(folder):
    study = Study(read(folder))
    summary = summarise(study, "ppo")
    return interaction.effects(study, summary), interaction.contrasts(study, summary)


def written(folder, **options):
    settings = {"tasks": TRACKS, "phases": 4, "period": 1000}
    return synthetic.write_results(folder, **(settings | options))


def number(text):
    """The point of a shown estimate."""
    return float(text.split()[0])


# -- the contrast ------------------------------------------------------------------------------


def test_constant_effects_give_their_difference_without_any_width():
    none = rng().normal(0, 10, size=(6, 2))
    value = aggregate.contrast((none + 3, none), (none[:4] + 1, none[:4]), "iqm", rng())
    assert (value.point, value.low, value.high) == pytest.approx((2.0, 2.0, 2.0))


def test_the_interval_is_that_of_two_independent_pairs():
    # Effects of one track are 0 or 1 with two seeds: the mean of a resample is 0, .5, 1 with
    # probability 1/4, 1/2, 1/4. The difference of two such has its 2.5 % at -1 (probability 1/16);
    # pairs drawn together would differ by nothing.
    none = np.zeros((2, 1))
    arm = np.array([[0.0], [1.0]])
    value = aggregate.contrast((arm, none), (arm, none), "mean", rng())
    assert (value.point, value.low, value.high) == (0.0, -1.0, 1.0)


@hypothesis.settings(max_examples=25, deadline=None)
@hypothesis.given(st.integers(0, 1000), st.integers(2, 6), st.integers(2, 6))
def test_swapping_the_tracks_flips_the_sign(seed, ours, theirs):
    one = tuple(rng(seed).normal(size=(2, ours, 2)))
    two = tuple(rng(seed + 1).normal(size=(2, theirs, 3)))
    forth = aggregate.contrast(one, two, "mean", rng(), resamples=200)
    back = aggregate.contrast(two, one, "mean", rng(), resamples=200)
    assert forth.point == pytest.approx(-back.point)
    assert forth.low <= forth.high


def test_one_seed_has_a_point_and_no_interval():
    alone, none = np.ones((1, 1)), np.zeros((1, 1))
    value = aggregate.contrast((alone, none), (none, none), "iqm", rng())
    assert value.point == 1.0
    assert np.isnan([value.low, value.high]).all()


# -- the tables --------------------------------------------------------------------------------


def test_both_tables_follow_from_the_matrices(tmp_path):
    folder = written(tmp_path, tasks=(*TRACKS, "Cart-stationary"))
    effects, contrasts = tables(folder)
    assert effects.head == ["arm", "score", "observation", "reward", "stationary"]
    assert [row[:2] for row in effects.rows] == [["sam", "S"], ["sam", "P"]]
    study = Study(read(folder))
    gain = {
        task: study.matrix("S", "ppo", "sam", [task], range(6))[0]
        - study.matrix("S", "ppo", "none", [task], range(6))[0]
        for task in TRACKS
    }
    assert [row[:3] for row in contrasts.rows] == [
        ["sam", "S", "observation - reward"],
        ["sam", "P", "observation - reward"],
    ]
    p = significance.sign_flip(gain[TRACKS[0]] - gain[TRACKS[1]], rng())
    assert contrasts.rows[0][4] == f"{p:.3f}"
    together = number(effects.rows[0][2]) - number(effects.rows[0][3])
    assert number(contrasts.rows[0][3]) == pytest.approx(together, abs=0.02)


def test_an_intervention_that_helps_on_one_track_alone_is_seen(tmp_path):
    def equal(reg, fresh, k, seed):
        return 5.0, 80.0 + float(np.random.default_rng([seed, k, fresh, len(reg)]).normal(0, 1))

    def helped(reg, fresh, k, seed):
        start, end = equal(reg, fresh, k, seed)
        return start, end - 40.0 * (reg == "none" and not fresh)

    for folder, first in ((tmp_path / "same", equal), (tmp_path / "other", helped)):
        written(folder, tasks=TRACKS[:1], level=first)
        written(folder, tasks=TRACKS[1:], level=equal)
        headers = [json.loads(p.read_text()) for p in folder.glob("*/*/*/*/header.json")]
        synthetic.write_plan(folder, [header["cell"] for header in headers], phases=4)
    same, other = (tables(tmp_path / name)[1].rows[0] for name in ("same", "other"))
    low, high = map(float, same[3].partition("[")[2].rstrip("]").split(", "))
    assert low < 0 < high
    assert number(other[3]) == pytest.approx(40 * (5 / 6) / 100, abs=0.03)  # mean over 1 - e^-6t
    assert float(other[4]) == pytest.approx(2 / 64, abs=0.001)


@pytest.mark.parametrize(
    ("options", "rows"),
    [({"regs": ("none",)}, (0, 0)), ({"tasks": TRACKS[:1]}, (2, 0)), ({"seeds": 1}, (2, 2))],
)
def test_where_there_is_nothing_to_compare_there_is_no_number(tmp_path, options, rows):
    found = tables(written(tmp_path, **options))
    assert tuple(len(table.rows) for table in found) == rows
    assert not any("nan" in cell for table in found for row in table.rows for cell in row)
    if rows == (2, 2):
        assert found[1].rows[0][4] == "n/a: one seed or none"
        assert "(one seed)" in found[1].rows[0][3]
