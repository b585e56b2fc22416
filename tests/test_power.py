"""How many seeds it takes to see a difference."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import synthetic_records as synthetic

from rlplastic.metrics.study import Study
from rlplastic.metrics.summary import summarise
from rlplastic.power import power, power_table, seeds_needed, show_power
from rlplastic.reading import read
from rlplastic.significance import sign_flip


def rng(seed=0):
    return np.random.default_rng(seed)


def test_differences_without_spread_need_the_six_seeds_that_the_test_needs():
    alike = np.full(4, 0.1)
    assert power(alike, 5, rng()) == 0.0  # 2 of 32 sign flips: p = 0.0625
    assert power(alike, 6, rng()) == 1.0  # 2 of 64
    assert seeds_needed(alike, rng()) == 6


def test_equal_arms_are_never_told_apart():
    assert power(np.zeros(8), 20, rng()) == 0.0
    assert seeds_needed(np.zeros(8), rng(), most=15) is None


def test_six_seeds_see_a_difference_only_if_all_six_have_its_sign():
    # Two values, 3 and -1, spread by sqrt(2): 1 +- 2.83. With six, p < 0.05 only if all six have
    # one sign, 2 of 64 draws, and then whatever their sizes: 0.031.
    exact = 2 * 0.5**6
    assert power(np.array([3.0, -1.0]), 6, rng()) == pytest.approx(exact, abs=4 * 0.0055)


@pytest.mark.parametrize(("effect", "seeds"), [(1.0, 10), (0.6, 24)])
def test_on_many_normal_differences_it_agrees_with_the_paired_t_test(effect, seeds):
    from scipy import stats

    observed = stats.norm.ppf((np.arange(400) + 0.5) / 400)
    observed = effect + observed / observed.std(ddof=1)
    edge = stats.t.ppf(0.975, seeds - 1)
    exact = stats.nct.sf(edge, seeds - 1, effect * np.sqrt(seeds))
    assert power(observed, seeds, rng()) == pytest.approx(exact, abs=0.05)


def test_power_is_that_of_the_sign_flip_test_of_the_report():
    observed = np.array([0.3, -0.1, 0.5, 0.2])
    spread = observed.mean() + (observed - observed.mean()) * np.sqrt(4 / 3)
    studies = spread[rng(3).integers(4, size=(8, 1000))]
    hits = [sign_flip(study[:, None], rng()) < 0.05 for study in studies.T]
    assert power(observed, 8, rng(3)) == np.mean(hits)


@hypothesis.settings(max_examples=25, deadline=None)
@hypothesis.given(
    st.lists(st.integers(-50, 100), min_size=2, max_size=8), st.sampled_from([-4.0, 0.5, 8.0])
)
def test_neither_unit_nor_sign_matters(values, factor):
    observed = np.array(values, dtype=float)
    assert power(observed * factor, 9, rng()) == power(observed, 9, rng())


def test_the_search_is_censored_and_does_not_touch_the_global_generator():
    faint = np.array([1.0, -1.0, 1.0, -1.0, 1.2])
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    assert seeds_needed(faint, rng(), most=20) is None
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def written(folder, **options):
    settings = {"tasks": ("Cart-observation",), "seeds": 3, "phases": 3, "period": 1000}
    return synthetic.write_results(folder, **(settings | options))


def test_the_table_has_a_row_for_each_arm_and_score(tmp_path):
    summary = summarise(Study(read(written(tmp_path))), "ppo")
    rows = power_table(summary).rows
    assert [row[:2] for row in rows] == [["sam", "S"], ["sam", "P"]]
    observed = summary.arms[1].plasticity.differences.mean(axis=1)
    assert rows[0][4:] == ["3", "0%", str(seeds_needed(observed, rng()))]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seeds": 1}, "one seed does not show how seeds differ"),
        ({"regs": ("none",)}, "No intervention has a seed paired with none."),
    ],
)
def test_where_there_is_nothing_to_go_by_it_says_so(tmp_path, options, said):
    text = show_power(written(tmp_path, **options))
    assert said in text
    assert "nan" not in text
