"""Aggregates, intervals and tests over seeds and tasks."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis.extra import numpy as arrays
from rliable import metrics as rliable

from rlplastic import aggregate, significance
from rlplastic.aggregate import Estimate

MATRICES = arrays.arrays(
    np.float64,
    arrays.array_shapes(min_dims=2, max_dims=2, max_side=8),
    elements=st.floats(-100, 100),
)


def rng(seed=0):
    return np.random.default_rng(seed)


@hypothesis.settings(max_examples=200, deadline=None)
@hypothesis.given(MATRICES)
def test_every_aggregate_equals_rliables(scores):
    for theirs, ours in aggregate.AGGREGATES.values():
        np.testing.assert_allclose(ours(scores), theirs(scores), rtol=0, atol=1e-12)


def test_many_matrices_at_once_give_what_each_gives_alone():
    scores = rng().normal(size=(4, 3, 7, 5))
    for theirs, ours in aggregate.AGGREGATES.values():
        alone = [[theirs(matrix) for matrix in row] for row in scores]
        np.testing.assert_allclose(ours(scores), alone, rtol=0, atol=1e-12)


def test_the_iqm_of_eight_known_runs_is_three_and_a_half():
    scores = np.array([[0.0, 1, 2, 3], [4, 5, 6, 100]])  # E18
    assert aggregate.iqm(scores) == 3.5
    assert rliable.aggregate_iqm(scores) == 3.5
    assert aggregate.estimate(scores, "iqm", rng()).point == 3.5


def test_the_bootstrap_draws_seeds_of_each_task_on_its_own():
    rows = aggregate.draw((4, 3), rng(), 2000)
    assert rows.shape == (2000, 4, 3)
    assert set(np.unique(rows)) == {0, 1, 2, 3}
    assert (rows[..., 0] != rows[..., 1]).any(axis=1).mean() > 0.9


def test_intervals_of_the_mean_match_the_exact_bootstrap_distribution():
    # Two seeds, one task: the mean of a resample is 0, 0.5 or 1 with probability 1/4, 1/2, 1/4.
    value = aggregate.estimate(np.array([[0.0], [1.0]]), "mean", rng())
    assert value == Estimate(point=0.5, low=0.0, high=1.0)


def test_intervals_agree_with_rliables_within_monte_carlo_error():
    from rliable import library

    reps = 4000
    for seed in range(3):
        scores = rng(seed).normal(1.0, 0.5, size=(8, 5))
        np.random.seed(seed)  # rliable's resampler draws from the global generator
        _, theirs = library.get_interval_estimates(
            {"a": scores}, lambda x: np.array([rliable.aggregate_iqm(x)]), reps=reps
        )
        ours = aggregate.estimate(scores, "iqm", rng(seed), resamples=40_000)
        width = ours.high - ours.low
        # Standard error of a 2.5 % quantile of 4000 draws is about 3 % of the interval's width.
        assert abs(ours.low - theirs["a"][0, 0]) < 0.06 * width
        assert abs(ours.high - theirs["a"][1, 0]) < 0.06 * width


def test_a_paired_difference_has_the_interval_of_the_pairs_not_of_the_arms():
    none = rng().normal(0, 10, size=(6, 4))
    value = aggregate.estimate(none + 2.0, "mean", rng(), minus=none)
    assert value.point == pytest.approx(2.0)
    assert value.low == pytest.approx(2.0)
    assert value.high == pytest.approx(2.0)
    iqm = aggregate.estimate(none + 2.0, "iqm", rng(), minus=none)
    assert (iqm.low, iqm.high) == (pytest.approx(2.0), pytest.approx(2.0))


def test_results_do_not_depend_on_how_the_resamples_are_chunked(monkeypatch):
    scores = rng().normal(size=(6, 4))
    whole = aggregate.estimate(scores, "median", rng(), resamples=1000)
    monkeypatch.setattr(aggregate, "CHUNK", 24 * 7)
    assert aggregate.estimate(scores, "median", rng(), resamples=1000) == whole


def test_many_matrices_share_the_resamples_that_one_alone_would_have():
    scores = rng().normal(size=(3, 6, 4))
    alone = [aggregate.estimate(matrix, "iqm", rng(), resamples=500) for matrix in scores]
    assert aggregate.estimates(scores, "iqm", rng(), resamples=500) == alone
    lonely = aggregate.estimates(scores[:, :1], "iqm", rng())
    assert all(np.isnan([value.low, value.high]).all() for value in lonely)


def test_resamples_of_the_mean_are_means_of_the_seeds_that_are_drawn():
    scores, none = rng(4).normal(size=(2, 6, 4))
    rows = aggregate.draw(scores.shape, rng(), 500)
    drawn = (scores - none)[rows, np.arange(4)].mean(axis=(1, 2))
    value = aggregate.estimate(scores, "mean", rng(), minus=none, resamples=500)
    assert (value.low, value.high) == pytest.approx(np.percentile(drawn, (2.5, 97.5)))


def test_a_number_stands_for_a_new_generator_of_that_seed_however_often_it_is_asked():
    scores, none = rng(4).normal(size=(2, 6, 4))
    x = np.linspace(-1, 1, 5)

    def everything(draws):
        return (
            *[aggregate.estimate(scores, name, draws()) for name in aggregate.AGGREGATES],
            aggregate.probability_of_improvement(scores, none, draws()),
            aggregate.contrast((scores, none), (none, scores), "mean", draws()),
            *[bound.tolist() for bound in aggregate.performance_profile(scores, x, draws())],
            *[bound.tolist() for bound in aggregate.mean_band(scores, draws())],
            *[bound.tolist() for bound in aggregate.share_band(scores[..., None], none, draws())],
        )

    expected = everything(lambda: rng(7))
    assert everything(lambda: 7) == expected
    assert everything(lambda: 7) == expected
    assert everything(lambda: 8) != expected


def test_a_sample_efficiency_curve_has_rliables_points():
    curves = rng().normal(size=(5, 3, 7))
    center, low, high = aggregate.sample_efficiency(curves, "iqm", rng(), resamples=500)
    theirs = [rliable.aggregate_iqm(curves[..., point]) for point in range(7)]
    np.testing.assert_allclose(center, theirs, rtol=0, atol=1e-12)
    assert (low < center).all()
    assert (center < high).all()


def test_the_interval_of_improvement_is_the_exact_bootstrap_distribution():
    # One task, two seeds each, 0 and 1 against 0.5: the arm's share of wins is 0, 1/2 or 1 with
    # probability 1/4, 1/2, 1/4, whatever is drawn of the other.
    value = aggregate.probability_of_improvement(
        np.array([[0.0], [1.0]]), np.array([[0.5], [0.5]]), rng()
    )
    assert value == Estimate(point=0.5, low=0.0, high=1.0)


def test_the_effect_size_is_hedges_correction_of_the_standardised_mean():
    # Seeds differ by 1, 2, 3: mean 2, spread 1; J = 1 - 3 / (4 * 2 - 1)
    differences = np.array([[0.0, 2.0], [2.0, 2.0], [3.0, 3.0]])
    assert significance.effect_size(differences) == pytest.approx(2 * (1 - 3 / 7))
    assert significance.effect_size(-5 * differences) == pytest.approx(-2 * (1 - 3 / 7))
    assert np.isnan(significance.effect_size(differences[:2]))
    assert np.isnan(significance.effect_size(np.full((5, 2), 0.1)))
    assert np.isnan(significance.effect_size(np.zeros((5, 2))))


def test_one_seed_has_a_point_but_no_interval():
    value = aggregate.estimate(np.array([[0.3, 0.5]]), "mean", rng())
    assert value.point == pytest.approx(0.4)
    assert np.isnan([value.low, value.high]).all()


def test_the_probability_of_improvement_equals_rliables_and_counts_ties_half():
    for seed in range(20):
        ours, theirs = rng(seed).integers(0, 4, size=(2, 6, 3)).astype(float)
        value = aggregate.probability_of_improvement(ours, theirs, rng(), resamples=500)
        assert value.point == pytest.approx(rliable.probability_of_improvement(ours, theirs))
    same = np.ones((4, 2))
    assert aggregate.probability_of_improvement(same, same, rng()).point == 0.5


def test_the_interval_of_improvement_holds_its_estimate_for_strongly_paired_arms():
    none = rng(1).normal(size=(10, 12))
    value = aggregate.probability_of_improvement(none + 0.1, none, rng(2))
    assert value.low < value.point < value.high


def test_the_performance_profile_is_the_share_of_runs_above_each_threshold():
    scores = np.array([[0.0, 1.0], [2.0, 3.0]])
    profile, low, high = aggregate.performance_profile(
        scores, np.array([-1.0, 0.0, 1.5, 3.0]), rng()
    )
    assert profile.tolist() == [1.0, 0.75, 0.5, 0.0]
    assert (low <= profile).all()
    assert (profile <= high).all()
    assert (low[0], high[0], low[3], high[3]) == (1.0, 1.0, 0.0, 0.0)


@pytest.mark.parametrize(("seeds", "p"), [(5, 2 / 32), (6, 2 / 64), (10, 2 / 1024)])
def test_the_smallest_sign_flip_p_value_needs_six_seeds_to_be_significant(seeds, p):
    assert significance.sign_flip(np.full((seeds, 3), 0.1), rng()) == p


def test_the_sign_flip_test_on_differences_counted_by_hand():
    # |+-1 +-2 +-4| >= |1 + 2 - 4| = 1 in all 8 assignments; >= 5 in four; >= 7 in two.
    assert significance.sign_flip(np.array([[1.0], [2.0], [-4.0]]), rng()) == 1.0
    assert significance.sign_flip(np.array([[-1.0], [2.0], [4.0]]), rng()) == 0.5
    assert significance.sign_flip(np.array([[1.0], [2.0], [4.0]]), rng()) == 0.25
    assert significance.sign_flip(np.zeros((6, 2)), rng()) == 1.0


def test_the_drawn_sign_flip_test_agrees_with_the_enumerated_one(monkeypatch):
    differences = rng(3).normal(0.4, 1.0, size=(10, 2))
    exact = significance.sign_flip(differences, rng())
    monkeypatch.setattr(significance, "EXACT_FLIPS", 3)
    assert significance.sign_flip(differences, rng()) == pytest.approx(exact, abs=0.01)


def test_holm_adjusts_by_the_number_of_hypotheses_left_and_stays_monotone():
    assert significance.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert significance.holm([0.6, 0.9]) == [1.0, 1.0]
    adjusted = significance.holm([float("nan"), 0.02])
    assert np.isnan(adjusted[0])
    assert adjusted[1] == 0.02


def test_the_band_of_a_mean_curve_is_the_bootstrap_of_its_mean():
    center, low, high = aggregate.mean_band(np.array([[0.0, 5.0], [1.0, 5.0]]), rng())
    assert center.tolist() == [0.5, 5.0]
    assert (low.tolist(), high.tolist()) == ([0.0, 5.0], [1.0, 5.0])


def test_nothing_touches_the_global_generator_and_equal_seeds_give_equal_numbers():
    scores, none = rng(1).normal(size=(2, 6, 3))

    def everything():
        return (
            aggregate.estimate(scores, "iqm", rng(), minus=none),
            aggregate.probability_of_improvement(scores, none, rng()),
            aggregate.performance_profile(scores, np.linspace(-1, 1, 5), rng())[1].tolist(),
            significance.sign_flip(rng(2).normal(size=(20, 2)), rng()),
            aggregate.mean_band(scores, rng())[1].tolist(),
        )

    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    first = everything()
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    np.random.seed(2)
    assert everything() == first


def test_adding_a_collapsed_run_never_raises_a_score():
    for seed in range(20):
        scores = rng(seed).uniform(0, 1, size=(5, 3))
        worse = np.vstack([scores, np.full((1, 3), -1.0)])
        for theirs, _ in aggregate.AGGREGATES.values():
            sign = -1 if theirs is rliable.aggregate_optimality_gap else 1
            assert sign * theirs(worse) <= sign * theirs(scores)
