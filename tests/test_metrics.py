"""Metrics, against answers computed by hand."""

import inspect
from dataclasses import replace

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import synthetic_records as synthetic
from synthetic_records import episode, phase

from rlplastic import registry
from rlplastic.metrics import compute, curve, l2metrics, recovery, score, trend
from rlplastic.metrics.curve import Case, Curve, return_curve
from rlplastic.metrics.study import Study
from rlplastic.reading import read
from rlplastic.record import Episodes, Phase

NAN = float("nan")
FIRST = Phase(phase=0, world=0, begin=0, end=1000, updates=1)


def made(rows, span=FIRST, longest=10.0):
    """The return curve of some episode rows; 10 bins of 100 steps by default."""
    return curve.return_curve(Episodes.of(rows), span, longest)


def flat(number, level, *, start=None, end=None, bins=10, world=None, values=None, finished=10):
    """A curve that is known without episodes."""
    values = np.full(bins, float(level)) if values is None else np.array(values, dtype=float)
    return Curve(
        phase=number,
        world=number if world is None else world,
        begin=number * 1000,
        end=number * 1000 + 1000,
        values=values,
        finished=np.full(len(values), finished),
        start_level=float(level if start is None else start),
        end_level=float(level if end is None else end),
        returns=np.full(20, float(level)),
    )


def case(life, newborn=None, reference=None, random=0.0, scale=100.0):
    """A case of curves; newborn and reference are flat at 100 unless given."""
    fresh = [flat(k, 100) for k in range(len(life))]
    newborn = fresh if newborn is None else newborn
    return Case(
        life=life,
        newborn=newborn,
        reference=newborn if reference is None else reference,
        random=np.full(len(life), float(random)),
        scale=scale,
        low=20.0,
        high=120.0,
    )


# -- the return curve --------------------------------------------------------------------------


def test_episodes_stand_at_their_begin_and_empty_bins_carry_the_episode_in_progress():
    rows = [
        episode(0, 60, 1.0),
        episode(60, 100, 3.0),
        episode(100, 450, 50.0),  # begins in bin 1, runs through bins 2 and 3
        episode(450, 1000, 10.0),
    ]
    got = made(rows)
    assert got.values.tolist() == [2, 50, 50, 50, 10, 10, 10, 10, 10, 10]
    assert got.finished.tolist() == [2, 1, 0, 0, 1, 0, 0, 0, 0, 0]
    assert got.level == pytest.approx((2 + 3 * 50 + 6 * 10) / 10)


def test_a_policy_that_never_changes_shows_no_drop_however_long_its_episodes_are():
    # Each copy plays episodes of return = length, alternately 10 and 90 steps long. By their ends,
    # the short ones would come first.
    rows = []
    for copy, offset in ((0, 0), (1, 1)):
        at = 0
        for i in range(20):
            length = (10, 90)[(i + offset) % 2]
            rows.append(episode(at, at + length, float(length), copy=copy))
            at += length
    got = made(rows)
    assert got.start_level == 50.0
    assert set(got.values) == {50.0}


@pytest.mark.parametrize(
    ("steps", "longest", "bins"),
    [(81920, 500, 16), (40960, 500, 8), (4096, 500, 1), (1_000_000, 100, 50), (1000, 100, 1)],
)
def test_bins_hold_ten_of_the_longest_episodes_but_are_at_most_fifty(steps, longest, bins):
    assert curve.num_bins(steps, longest) == bins


def test_levels_of_both_ends_of_a_phase():
    rows = [episode(at, at + 50, float(at), copy=0) for at in range(0, 1000, 50)]
    got = made(rows)
    assert got.start_level == np.mean([0, 50, 100, 150, 200])  # one copy: the first five
    assert got.end_level == np.mean([900, 950])  # ends at 950 and 1000, in (900, 1000]
    both = made(rows + [episode(at, at + 50, 7.0, copy=1) for at in range(0, 1000, 50)])
    assert both.start_level == np.mean([0, 7])  # several copies: the first of each


def test_without_an_episode_that_ends_late_the_end_level_is_the_last_value_of_the_curve():
    assert made([episode(0, 100, 4.0), episode(100, 900, 6.0)]).end_level == 6.0


def test_a_cut_episode_counts_only_if_at_least_as_long_as_the_median():
    rows = [episode(0, 100, 1.0), episode(100, 300, 2.0), episode(300, 600, 3.0)]
    short = episode(801, 1000, 90.0, cut=True)  # 199 steps; the median of finished ones is 200
    long = episode(800, 1000, 90.0, cut=True)
    assert (made([*rows, short]).partial, made([*rows, short]).end_level) == (0, 3.0)
    assert (made([*rows, long]).partial, made([*rows, long]).end_level) == (1, 90.0)
    assert made([*rows, long]).finished.sum() == 3


def test_without_a_finished_episode_the_partial_returns_count():
    got = made([episode(0, 1000, 5.0, cut=True), episode(0, 1000, 7.0, copy=1, cut=True)])
    assert (got.level, got.partial, got.finished.sum()) == (6.0, 2, 0)


def test_a_phase_without_episodes_has_no_curve():
    assert made([episode(0, 10, 1.0, phase=3)]) is None


def test_the_clock_of_later_phases_is_taken_from_their_begin():
    span = Phase(phase=2, world=5, begin=2000, end=3000, updates=1)
    got = made([episode(2000, 2500, 1.0, phase=2), episode(2500, 3000, 2.0, phase=2)], span)
    assert got.values.tolist() == [1] * 5 + [2] * 5
    assert (got.world, got.at(0), got.at(499), got.at(500), got.at(1000)) == (5, 1, 1, 2, 2)


# -- the score ---------------------------------------------------------------------------------


def test_s_is_one_minus_the_mean_gap_to_the_own_newborn_and_phase_zero_does_not_count():
    life = [flat(0, 7), flat(1, 90), flat(2, 60), flat(3, 30)]
    newborn = [flat(0, 1000), flat(1, 100), flat(2, 80), flat(3, 60)]
    one = case(life, newborn, scale=50.0)
    np.testing.assert_allclose(score.gap(one), [0.2, 0.4, 0.6])
    assert score.plasticity(one) == pytest.approx(0.6)


def test_p_is_the_mean_gain_over_random_and_ignores_the_newborn():
    life = [flat(0, 7), flat(1, 90), flat(2, 60)]
    one = case(life, [None] * 3, random=15.0, scale=50.0)
    assert score.performance(one) == pytest.approx((75 + 45) / 2 / 50)
    assert np.isnan(score.plasticity(one))


def test_an_intervention_that_ruins_its_own_newborn_keeps_s_but_loses_p():
    ruined = case([flat(k, 2) for k in range(4)], [flat(k, 2) for k in range(4)])
    assert score.plasticity(ruined) == 1.0
    assert score.performance(ruined) == pytest.approx(0.02)
    assert score.collapsed(ruined) == 1.0


def test_what_newborns_gain_is_a_number_of_its_own():
    one = case([flat(k, 30) for k in range(3)], [flat(0, 90), flat(1, 40), flat(2, 60)], random=10)
    assert score.newborn_performance(one) == pytest.approx((30 + 50) / 2 / 100)


def test_the_mean_of_a_run_at_equal_compute_is_that_of_the_first_half_where_gradients_cost_twice():
    life = [flat(k, 0, values=[level] * 5 + [100.0] * 5) for k, level in enumerate([10, 20, 60])]
    assert compute.whole_run_mean_at_equal_compute(replace(case(life), cost=2.0)) == 30.0
    assert compute.whole_run_mean_at_equal_compute(case(life)) == score.whole_run_mean(case(life))


def test_a_life_that_diverged_has_collapsed_whatever_it_gained_before():
    fine = case([flat(k, 90) for k in range(6)])
    assert (score.collapsed(fine), score.collapsed(replace(fine, broken=True))) == (0.0, 1.0)


def test_a_newborn_that_ends_within_a_tenth_of_c_of_random_leaves_nothing_to_recover():
    life = [flat(k, 50) for k in range(4)]
    born = [flat(0, 50), flat(1, 100), flat(2, 14), flat(3, 16)]
    one = case(life, born, random=5.0)  # C is 100: it must end above 15
    assert recovery.worth(one).tolist() == [True, True, False, True]
    for share in (0.5, 0.8, 0.95):
        times = recovery.recovery_times(one, share)
        assert np.isnan(times.time).tolist() == [False, True, False]
    unscaled = recovery.worth(case(life, born, random=5.0, scale=NAN))
    assert unscaled.all()  # runs from elsewhere whose scale is not known


def test_collapse_is_judged_on_the_last_three_shifts():
    healthy_once = case([flat(k, level) for k, level in enumerate([90, 90, 9, 9, 9])])
    recovered = case([flat(k, level) for k, level in enumerate([90, 0, 0, 11, 11, 11])])
    assert (score.collapsed(healthy_once), score.collapsed(recovered)) == (1.0, 0.0)


def test_phase_zero_uses_the_constants_of_the_suite_and_the_end_level():
    assert score.phase_zero(case([flat(0, 30, end=70), flat(1, 0)])) == 0.5


def test_a_missing_phase_leaves_s_and_p_undefined_instead_of_averaging_the_rest():
    one = case([flat(0, 1), flat(1, 90), None])
    assert np.isnan([score.plasticity(one), score.performance(one)]).all()


def test_the_whole_run_mean_counts_phase_zero():
    assert score.whole_run_mean(case([flat(0, 10), flat(1, 20), flat(2, 60)])) == 30.0


# -- recovery ----------------------------------------------------------------------------------


def test_recovery_is_the_begin_of_three_bins_in_a_row_at_the_level():
    values = [0, 80, 0, 80, 80, 0, 80, 80, 80, 0]
    assert recovery.time_to(flat(1, 0, values=values), 80.0) == (0.6, True)
    assert recovery.time_to(flat(1, 0, values=values), 80.1) == (1.0, False)
    assert recovery.time_to(flat(1, 99), 80.0) == (0.0, True)


def test_recovery_needs_five_finished_episodes_in_its_three_bins():
    one = flat(1, 90)
    one.finished[:] = [1, 1, 1, 1, 1, 1, 2, 2, 0, 0]
    assert recovery.time_to(one, 80.0) == (0.5, True)  # 1 + 2 + 2
    one.finished[:] = [1, 1, 2, 0, 0, 4, 0, 0, 0, 0]
    assert recovery.time_to(one, 80.0) == (1.0, False)


def test_a_phase_of_two_bins_cannot_tell_whether_it_recovered():
    time, recovered = recovery.time_to(flat(1, 90, bins=2), 80.0)
    assert np.isnan(time)
    assert not recovered


def test_levels_lie_between_random_and_the_newborn_of_none_for_every_arm():
    reference = [flat(k, 0, end=110) for k in range(3)]
    # 10 + 0.5 * 100 = 60 and 10 + 0.8 * 100 = 90 are reached; 105 is not.
    life = [flat(0, 0), flat(1, 60), flat(2, 0, values=[0, 0, *[90] * 8])]
    one = case(life, [flat(k, 500) for k in range(3)], reference, random=10.0)
    assert recovery.recovered_50(one).tolist() == [1, 1]
    assert recovery.recovery_time_50(one).tolist() == [0.0, 0.2]
    assert recovery.recovered_80(one).tolist() == [0, 1]
    assert recovery.recovery_time_80(one).tolist() == [1.0, 0.2]
    assert recovery.recovered_95(one).tolist() == [0, 0]


def test_there_is_nothing_to_recover_where_the_newborn_ends_no_better_than_random():
    reference = [flat(0, 0), flat(1, 10), flat(2, 100)]
    one = case([flat(k, 100) for k in range(3)], reference=reference, random=10.0)
    np.testing.assert_array_equal(recovery.recovered_80(one), [NAN, 1.0])
    np.testing.assert_array_equal(recovery.recovery_time_80(one), [NAN, 0.0])


def test_the_drop_is_from_the_end_before_the_shift_to_the_first_episodes_after_it():
    life = [flat(0, 0, end=90), flat(1, 0, start=30, end=80), flat(2, 0, start=100)]
    np.testing.assert_allclose(recovery.drop(case(life)), [0.6, -0.2])


def test_kaplan_meier_on_a_textbook_sample():
    # At risk 6, 5, 4, 3, 1: 5/6, then censored, 3/4, censored twice at 3, none left at 5.
    times = np.array([1.0, 2.0, 3.0, 3.0, 4.0, 5.0, NAN])
    seen = np.array([True, False, True, False, False, True, False])
    at, alive = recovery.kaplan_meier(times, seen)
    assert at.tolist() == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(alive, [5 / 6, 5 / 6, 5 / 8, 5 / 8, 0])


def test_kaplan_meier_of_runs_that_never_recover_stays_at_one():
    at, alive = recovery.kaplan_meier(np.ones(3), np.zeros(3, dtype=bool))
    assert (at.tolist(), alive.tolist()) == ([1.0], [1.0])
    assert recovery.kaplan_meier(np.array([NAN]), np.array([False]))[0].size == 0


# -- trends ------------------------------------------------------------------------------------


def test_end_gap_and_regret_use_the_own_newborn_and_the_newborn_of_none():
    life = [flat(0, 0), flat(1, 40, end=70)]
    newborn = [flat(0, 0), flat(1, 0, end=90)]
    reference = [flat(0, 0), flat(1, 0, end=120)]
    one = case(life, newborn, reference)
    np.testing.assert_allclose(trend.end_gap(one), [0.2])
    np.testing.assert_allclose(trend.regret(one), [0.8])


def test_the_slope_of_the_gap_is_the_median_of_all_pairwise_slopes():
    # Gaps 0, .1, .2, .9: pair slopes .1 .1 .7 .1 .4 .3, whose median is .2.
    life = [flat(k, level) for k, level in enumerate([0, 100, 90, 80, 10])]
    assert trend.gap_slope(case(life)) == pytest.approx(0.2)
    assert np.isnan(trend.gap_slope(case(life[:2])))


def test_a_collapse_at_the_first_shift_has_no_slope_but_a_low_s():
    one = case([flat(0, 100), *[flat(k, 0) for k in range(1, 6)]])
    assert (trend.gap_slope(one), score.plasticity(one)) == (0.0, 0.0)


def test_retention_compares_a_returning_world_with_its_last_end():
    worlds = [0, 1, 0, 0, 1]
    starts, ends = [0, 0, 70, 90, 10], [100, 80, 95, 0, 0]
    life = [
        flat(k, 0, start=start, end=end, world=world)
        for k, (world, start, end) in enumerate(zip(worlds, starts, ends, strict=True))
    ]
    np.testing.assert_allclose(trend.retention(case(life)), [NAN, 0.7, 0.95, 0.3])


def test_l2metrics_recovery_times_and_performance_recovery():
    # E19: terminal performance 1 is reached again at index 50, 40 and 30.
    blocks = [np.ones(100)]
    blocks += [np.concatenate([np.zeros(at), np.ones(100 - at)]) for at in (50, 40, 30)]
    times = l2metrics.block_recovery_times(blocks)
    assert times.tolist() == [50, 40, 30]
    assert l2metrics.performance_recovery(times) == 10.0


def test_l2metrics_counts_a_block_that_never_recovers_as_its_length_plus_one():
    times = l2metrics.block_recovery_times([np.ones(10), np.zeros(7), np.empty(0), np.ones(3)])
    np.testing.assert_array_equal(times, [8, NAN, NAN])


def test_l2metrics_smooths_over_a_fifth_of_the_block_and_keeps_its_length():
    smoothed = l2metrics.smooth(np.array([0.0] * 10 + [5.0] + [0.0] * 14))  # 25: a window of 5
    np.testing.assert_allclose(smoothed[7:14], [0, 1, 1, 1, 1, 1, 0])
    assert smoothed.shape == (25,)
    assert l2metrics.smooth(np.arange(10.0)).tolist() == list(range(10))


# -- invariances of all registered metrics -------------------------------------------------------

LEVELS = st.lists(st.floats(-50, 150), min_size=4, max_size=4)
NAMES = sorted(registry.entries("metric"))
# Those with a threshold have tests of their own: rounding may flip an exact tie.
SMOOTH = [name for name in NAMES if not name.startswith(("recover", "collapsed"))]
RAW = {"whole_run_mean", "whole_run_mean_equal_compute"}


def lived(levels, newborn, offset=0.0, factor=1.0):
    def curves(values):
        return [flat(k, offset + factor * value, world=k % 2) for k, value in enumerate(values)]

    one = case(curves(levels), curves(newborn), random=offset, scale=100.0 * factor)
    low, high = offset + factor * 20, offset + factor * 120
    return Case(**{**vars(one), "low": low, "high": high})


@pytest.mark.parametrize("name", SMOOTH)
@hypothesis.settings(max_examples=25, deadline=None)
@hypothesis.given(life=LEVELS, newborn=LEVELS)
def test_metrics_do_not_depend_on_the_units_of_the_return(name, life, newborn):
    life, newborn = np.round(life), np.round(newborn)  # ties stay ties in both units
    metric = registry.load("metric", name)
    plain = np.asarray(metric(lived(life, newborn)))
    moved = np.asarray(metric(lived(life, newborn, offset=1024.0, factor=4.0)))
    if name in RAW:
        plain = 1024.0 + 4.0 * plain
    np.testing.assert_allclose(moved, plain, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_metrics_of_an_empty_life_are_not_known_and_never_guessed(name):
    nothing = case([None] * 4, [None] * 4)
    assert np.isnan(registry.load("metric", name)(nothing)).all()
    alone = np.asarray(registry.load("metric", name)(case([flat(0, 50)])))
    assert alone.size == 0 or name in {"phase_0"} | RAW or np.isnan(alone).all()


@pytest.mark.parametrize("name", NAMES)
def test_every_metric_has_a_formula_a_unit_and_a_direction(name):
    entry = registry.entries("metric")[name]
    assert entry.traits["better"] in ("higher", "lower")
    assert entry.traits["unit"]
    assert entry.summary.endswith((".", "else 0.")), entry.summary
    assert list(inspect.signature(entry.load()).parameters) == ["case"]


def test_the_whole_run_mean_weighs_phases_by_their_steps():
    long = replace(flat(1, 30), begin=1000, end=4000)
    assert score.whole_run_mean(case([flat(0, 10), long])) == pytest.approx(25.0)
    assert np.isnan(score.whole_run_mean(case([flat(0, 10), None])))


# -- from records to cases ---------------------------------------------------------------------

PERIOD, PHASES = 1000, 3
SPANS = [phase(k, k * PERIOD, (k + 1) * PERIOD) for k in range(PHASES)]


def steady(levels, first=0):
    """Rows of a cell that plays ten episodes a phase at these levels."""
    rows = []
    for k, level in enumerate(levels, start=first):
        rows += [
            episode(k * PERIOD + at, k * PERIOD + at + 100, level, phase=k, world=k)
            for at in range(0, PERIOD, 100)
        ]
        rows.append(SPANS[k])
    return rows


def suite(folder, cells, **changes):
    """A folder with these (identity, rows, options) and its study."""
    identities = []
    for identity, rows, *options in cells:
        identities.append(identity)
        if rows is not None:
            synthetic.write_cell(folder, identity, rows, **(options[0] if options else {}))
    synthetic.write_plan(folder, identities, phases=PHASES, **changes)
    return Study(read(folder))


TASK = "Toy-observation"
CHANCE = (synthetic.cell(agent="random"), steady([10, 20, 30]))
NONE = (synthetic.cell(), steady([80, 60, 40]))
FRESH = (synthetic.cell(fresh=True), steady([90, 100], first=1))


def test_a_case_pairs_life_newborn_reference_and_random_by_phase(tmp_path):
    sam = (synthetic.cell(reg="sam"), steady([70, 75, 85]))
    sam_fresh = (synthetic.cell(reg="sam", fresh=True), steady([85, 95], first=1))
    study = suite(tmp_path, [CHANCE, NONE, FRESH, sam, sam_fresh])
    one = study.case(TASK, "ppo", "sam", 0)
    assert curve.levels(one.life).tolist() == [70, 75, 85]
    assert curve.levels(one.newborn).tolist() == [70, 85, 95]
    assert curve.levels(one.reference).tolist() == [80, 90, 100]
    assert one.random.tolist() == [10, 20, 30]
    # S = 1 - mean(10, 10) / 100; P = mean(75 - 20, 85 - 30) / 100
    assert study.reduced("S", TASK, "ppo", "sam", 0) == pytest.approx(0.9)
    assert study.reduced("P", TASK, "ppo", "sam", 0) == pytest.approx(0.55)
    assert study.reduced("S", TASK, "ppo", "none", 0) == pytest.approx(1 - 0.45)
    assert study.complete(TASK, "ppo") == [0]


def test_a_world_that_the_random_cell_never_saw_has_the_random_level_of_world_zero(tmp_path):
    chance = (synthetic.cell(agent="random"), steady([10]))
    study = suite(tmp_path, [chance, NONE, FRESH])
    assert study.case(TASK, "ppo", "none", 0).random.tolist() == [10, 10, 10]


def test_a_random_level_without_finished_episodes_uses_cut_ones_and_says_so(tmp_path):
    rows = [episode(0, 1000, 3.0, cut=True), episode(0, 1000, 5.0, copy=1, cut=True), SPANS[0]]
    study = suite(tmp_path, [(synthetic.cell(agent="random"), rows), NONE, FRESH])
    level = study.random_level(TASK, 0, 0)
    assert (level.value, level.partial) == (4.0, True)
    finished = [*rows, episode(0, 10, 1.0, copy=2)]
    other = suite(tmp_path / "b", [(synthetic.cell(agent="random"), finished), NONE, FRESH])
    assert (other.random_level(TASK, 0, 0).value, other.random_level(TASK, 0, 0).partial) == (
        1.0,
        False,
    )


def test_a_diverged_life_counts_as_the_lower_of_random_and_its_own_lowest_from_then_on(tmp_path):
    # Random is 10, 20, 30; the arm's lowest is 15. It breaks at step 1400, in the bin that begins
    # there: 4 bins of 60, then min(20, 15) = 15; the phase after counts min(30, 15) = 15.
    rows = steady([15])
    rows += [episode(1000 + at, 1100 + at, 60.0, phase=1, world=1) for at in range(0, 400, 100)]
    broken = {"status": "diverged", "reason": "NaN", "phase": 1, "step": 1400}
    sam = (synthetic.cell(reg="sam"), rows, {"ending": broken})
    sam_fresh = (synthetic.cell(reg="sam", fresh=True), steady([90, 100], first=1))
    study = suite(tmp_path, [CHANCE, NONE, FRESH, sam, sam_fresh])
    one = study.case(TASK, "ppo", "sam", 0)
    assert one.life[1].values.tolist() == [60] * 4 + [15] * 6
    assert one.life[2].values.tolist() == [15] * 10
    assert (one.life[1].end_level, one.life[1].start_level, one.life[2].start_level) == (15, 60, 15)
    assert study.complete(TASK, "ppo") == [0]
    level = (4 * 60 + 6 * 15) / 10
    assert study.reduced("S", TASK, "ppo", "sam", 0) == pytest.approx(
        1 - ((90 - level) + (100 - 15)) / 2 / 100
    )
    assert not recovery.recovered_50(one).any()


def test_a_diverged_life_whose_random_level_is_lower_counts_as_random(tmp_path):
    broken = {"status": "diverged", "phase": 1, "step": 1000}
    sam = (synthetic.cell(reg="sam"), steady([50]), {"ending": broken})
    study = suite(tmp_path, [CHANCE, NONE, FRESH, sam])
    life = study.case(TASK, "ppo", "sam", 0).life
    assert curve.levels(life).tolist() == [50, 20, 30]
    assert study.reduced("P", TASK, "ppo", "sam", 0) == 0.0


def test_a_diverged_newborn_leaves_s_undefined_but_not_p(tmp_path):
    broken = {"status": "diverged", "phase": 2, "step": 2100}
    sam = (synthetic.cell(reg="sam"), steady([70, 75, 85]))
    sam_fresh = (
        synthetic.cell(reg="sam", fresh=True),
        [*steady([90], first=1), episode(2000, 2100, 0.0, phase=2, world=2)],
        {"ending": broken},
    )
    study = suite(tmp_path, [CHANCE, NONE, FRESH, sam, sam_fresh])
    assert np.isnan(study.reduced("S", TASK, "ppo", "sam", 0))
    assert study.reduced("P", TASK, "ppo", "sam", 0) == pytest.approx(0.55)
    assert study.matrix("S", "ppo", "sam", [TASK], [0])[1] == []
    assert study.matrix("P", "ppo", "sam", [TASK], [0])[1] == [0]


def test_a_run_in_which_every_arm_diverged_still_counts(tmp_path):
    # Nobody closed phases 1 and 2, but the stream had them, and the arm counts as random there.
    broken = {"status": "diverged", "phase": 1, "step": 1000}
    life = (NONE[0], steady([50]), {"ending": broken})
    newborn = (FRESH[0], [], {"ending": broken})
    study = suite(tmp_path, [CHANCE, life, newborn])
    assert curve.levels(study.case(TASK, "ppo", "none", 0).life).tolist() == [50, 20, 30]
    assert study.reduced("P", TASK, "ppo", "none", 0) == 0.0
    assert study.reduced("collapsed", TASK, "ppo", "none", 0) == 1.0
    assert np.isnan(study.reduced("S", TASK, "ppo", "none", 0))


def test_what_is_measured_against_newborns_is_not_known_where_they_diverged(tmp_path):
    broken = {"status": "diverged", "phase": 2, "step": 2100}
    newborn = (FRESH[0], steady([90], first=1), {"ending": broken})
    sam = (synthetic.cell(reg="sam"), steady([70, 75, 85]))
    sam_fresh = (synthetic.cell(reg="sam", fresh=True), steady([90, 100], first=1))
    study = suite(tmp_path, [CHANCE, NONE, newborn, sam, sam_fresh])
    names = registry.entries("metric")
    unknown = {
        (name, reg)
        for name in names
        for reg in ("none", "sam")
        if np.isnan(study.reduced(name, TASK, "ppo", reg, 0))
    }
    against_none = {n for n, e in names.items() if e.traits.get("against") == "reference"}
    assert len(against_none) == 9
    undefined = {"retention"}  # no world returns here, and nothing was evaluated
    undefined |= {"forgetting", "forgetting_from_best", "isolated_forgetting"}
    undefined |= {"zero_shot_transfer", "performance_maintenance", "average_performance"}
    own = {"S", "newborn_P", "gap", "gap_slope", "end_gap", "auc_ratio"}
    assert {name for name, reg in unknown if reg == "none"} == against_none | own | undefined
    assert {name for name, reg in unknown if reg == "sam"} == against_none | undefined


def test_arms_are_compared_on_the_seeds_that_all_of_them_have(tmp_path):
    def arm(reg, seeds):
        return [
            (synthetic.cell(reg=reg, seed=seed, fresh=fresh), steady([50, 50], first=int(fresh)))
            for seed in seeds
            for fresh in (False, True)
        ]

    study = suite(
        tmp_path, [CHANCE, *arm("none", range(3)), *arm("l2", range(3)), *arm("sam", [0, 2])]
    )
    assert study.complete(TASK, "ppo") == [0, 2]


def test_random_play_stands_for_its_own_seed_where_it_was_run_for_each(tmp_path):
    cells = [(synthetic.cell(seed=seed, fresh=f), steady([5])) for seed in (0, 1) for f in (0, 1)]
    others = [(synthetic.cell(agent="random", seed=seed), steady([10 + seed])) for seed in (0, 1)]
    study = suite(tmp_path / "each", [*cells, *others])
    assert [study.random_level(TASK, seed, 0).value for seed in (0, 1)] == [10, 11]
    half = (*others[1], {"unfinished": True})
    assert suite(tmp_path / "half", [*cells, others[0], half]).complete(TASK, "ppo") == [0]


def test_the_number_of_phases_is_the_streams_whatever_a_plan_says(tmp_path):
    suite(tmp_path, [CHANCE, NONE, FRESH])
    plan = tmp_path / "plan.json"
    text = plan.read_text()
    plan.write_text(text.replace('"phases": 3, "period": {', '"phases": 2, "period": {'))
    assert plan.read_text() != text
    assert Study(read(tmp_path)).num_phases == 3


@pytest.mark.parametrize(
    "other",
    [
        (synthetic.cell(reg="sam"), None),
        (synthetic.cell(reg="sam"), steady([1]), {"unfinished": True}),
        (synthetic.cell(reg="sam"), steady([1]), {"ending": {"status": "failed"}}),
    ],
    ids=["missing", "unfinished", "failed"],
)
def test_a_seed_is_complete_only_when_every_compared_cell_has_an_outcome(tmp_path, other):
    assert suite(tmp_path / "a", [CHANCE, NONE, FRESH]).complete(TASK, "ppo") == [0]
    assert suite(tmp_path / "b", [CHANCE, NONE, FRESH, other]).complete(TASK, "ppo") == []
    gone = (CHANCE[0], None)
    assert suite(tmp_path / "c", [gone, NONE, FRESH]).complete(TASK, "ppo") == []
    never_planned = suite(tmp_path / "e", [NONE, FRESH])  # runs of other programs
    assert never_planned.complete(TASK, "ppo") == [0]
    begun = (*NONE, {"unfinished": True})
    assert suite(tmp_path / "d", [CHANCE, begun, FRESH]).complete(TASK, "ppo") == []


def test_closed_phases_of_an_unfinished_cell_have_curves_and_open_ones_do_not(tmp_path):
    rows = [*steady([80, 60]), episode(2000, 2100, 5.0, phase=2, world=2)]
    study = suite(tmp_path, [CHANCE, FRESH, (synthetic.cell(), rows, {"unfinished": True})])
    np.testing.assert_array_equal(
        curve.levels(study.case(TASK, "ppo", "none", 0).life), [80, 60, NAN]
    )


def test_without_a_time_limit_bins_follow_the_newborns_episodes(tmp_path):
    study = suite(tmp_path, [CHANCE, NONE, FRESH], time_limit=None)
    assert study.longest(TASK, "ppo") == 100.0
    assert suite(tmp_path / "b", [CHANCE, NONE, FRESH]).longest(TASK, "ppo") == 10.0


def test_a_period_is_too_short_when_the_newborn_of_none_learns_too_little_or_too_late(tmp_path):
    def judged(name, rows, **changes):
        fresh = (synthetic.cell(fresh=True), rows)
        return suite(tmp_path / name, [CHANCE, NONE, fresh], **changes).too_short(TASK, "ppo")

    def ramp(turn):
        rows = []
        for k in (1, 2):
            rows += [
                episode(
                    k * PERIOD + at, k * PERIOD + at + 10, 100.0 * (at >= turn), phase=k, world=k
                )
                for at in range(0, PERIOD, 10)
            ]
            rows.append(SPANS[k])
        return rows

    assert judged("good", ramp(400)) == ""
    assert "takes 60% of the phase" in judged("late", ramp(600))
    assert "closes 30% of the gap" in judged("low", steady([50, 60], first=1))
    assert "ends no better than a random policy" in judged("worse", steady([-90, -80], first=1))
    assert "fewer than 3" in judged("coarse", ramp(400), time_limit=100)


def test_the_task_is_in_the_headline_by_the_suites_word_alone(tmp_path):
    study = suite(tmp_path, [CHANCE, NONE, FRESH])
    assert study.measurable(TASK, "ppo")
    dull = {"ppo": {"scale": 100.0, "measurable": False, "note": "no headroom"}}
    assert not suite(tmp_path / "b", [CHANCE, NONE, FRESH], agents=dull).measurable(TASK, "ppo")
    assert not suite(tmp_path / "c", [CHANCE, NONE, FRESH], agents={}).measurable(TASK, "ppo")


def test_a_newborn_and_a_life_that_play_equally_well_end_equally_well():
    """Copies that balance to the limit of 500 from the middle on; the boundary cuts the last."""

    def played(learning: int) -> list[dict[str, object]]:
        rows, period, copies = [], 61_440, 8
        for copy in range(copies):
            clock, number = 0, 0
            while clock < period:
                length = 20 if clock < learning else 500
                end = clock + length * copies
                cut, end = end > period, min(end, period)
                length = (end - clock) // copies
                rows.append(
                    {"phase": 0, "world": 0, "begin": clock, "end": end, "copy": copy,
                     "length": length, "return": float(length), "base_return": float(length),
                     "cut": cut}
                )  # fmt: skip
                clock, number = end, number + 1
        return rows

    phase = Phase(phase=0, world=0, begin=0, end=61_440, updates=1)
    curves = [return_curve(Episodes.of(played(steps)), phase, 500.0) for steps in (0, 30_720)]
    assert [curve.end_level for curve in curves if curve] == [500.0, 500.0]
    assert [curve.values[-1] for curve in curves if curve] == [500.0, 500.0]
