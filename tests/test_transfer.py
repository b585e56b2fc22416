"""Ratios, transfers and equal compute, against answers computed by hand."""

import dataclasses

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import synthetic_records as synthetic
from test_metrics import case, flat

from rlplastic import registry
from rlplastic.metrics import compute, tables, transfer
from rlplastic.metrics.score import performance
from rlplastic.metrics.study import Study
from rlplastic.metrics.summary import summarise
from rlplastic.reading import read

EVERY = (
    transfer.resilience,
    transfer.auc_ratio,
    transfer.forward_transfer,
    transfer.savings,
    compute.performance_at_equal_compute,
)
LEVELS = st.lists(st.floats(-50, 50), min_size=3, max_size=6)


def test_resilience_is_what_still_works_just_after_the_shift():
    life = [flat(0, 90, start=10), flat(1, 80, start=30), flat(2, 80, start=5)]
    assert transfer.resilience(case(life, random=10.0)).tolist() == [0.2, -0.05]


def test_the_ratio_of_areas_is_one_of_sums_without_phase_zero():
    life = [flat(0, 1000), flat(1, 50), flat(2, 20)]
    newborn = [flat(0, 1000), flat(1, 90), flat(2, 20)]
    # (40 + 10) / (80 + 10); the mean of the ratios would be (0.5 + 1) / 2
    assert transfer.auc_ratio(case(life, newborn, random=10.0)) == pytest.approx(50 / 90)


def test_without_anything_gained_by_the_newborn_there_is_no_ratio():
    flatline = [flat(k, 10) for k in range(3)]
    assert np.isnan(transfer.auc_ratio(case(flatline, flatline, random=10.0)))


def test_forward_transfer_is_the_share_of_the_room_above_the_newborn_of_none():
    life = [flat(0, 0), flat(1, 70), flat(2, 30), flat(3, 100)]
    reference = [flat(0, 0), flat(1, 40), flat(2, 40), flat(3, 100)]
    got = transfer.forward_transfer(case(life, reference=reference))
    # (0.7 - 0.4) / 0.6 and (0.3 - 0.4) / 0.6; at A = 1 nothing is left to gain
    assert got[:2].tolist() == pytest.approx([0.5, -1 / 6])
    assert np.isnan(got[2])


def test_savings_compare_the_first_meeting_of_a_world_with_its_return():
    slow, quick = [0.0] * 6 + [100.0] * 4, [0.0] * 2 + [100.0] * 8
    never = [0.0] * 10
    worlds = (0, 1, 0, 1)
    life = [
        flat(k, 0, world=world, values=values)
        for k, (world, values) in enumerate(zip(worlds, (slow, quick, quick, never), strict=True))
    ]
    got = transfer.savings(case(life))
    assert np.isnan(got[0])  # world 1 is met for the first time
    assert got[1:].tolist() == pytest.approx([0.6 - 0.2, 0.2 - 1.0])


def test_savings_count_steps_where_phases_differ_in_length():
    slow, quick = [0.0] * 4 + [100.0] * 6, [0.0] * 2 + [100.0] * 8
    life = [flat(0, 0), flat(1, 0, world=1, values=slow), flat(2, 0, world=0)]
    life.append(dataclasses.replace(flat(3, 0, world=1, values=quick), begin=3000, end=5000))
    # 400 steps at first, 400 of the 2,000 steps when it returns: nothing was saved
    assert transfer.savings(case(life))[2] == pytest.approx(0.0)


def test_where_no_world_returns_nothing_is_saved_or_lost():
    assert np.isnan(transfer.savings(case([flat(k, 50) for k in range(4)]))).all()


def rising(number):
    return flat(number, 0, values=range(0, 100, 10))


def test_an_arm_of_twice_the_cost_is_judged_on_the_first_half_of_each_phase():
    one = case([rising(k) for k in range(3)])
    # bins 0, 10, .. 90: the whole phase has mean 45, its first half 20, its first quarter
    # (0 + 10 + 20 / 2) / 2.5 = 8
    for cost, expected in ((1.0, 0.45), (2.0, 0.20), (4.0, 0.08)):
        got = compute.performance_at_equal_compute(dataclasses.replace(one, cost=cost))
        assert got == pytest.approx(expected)
    unknown = dataclasses.replace(one, cost=float("nan"))
    assert np.isnan(compute.performance_at_equal_compute(unknown))


@hypothesis.given(LEVELS)
def test_at_cost_one_equal_compute_is_p_itself(levels):
    one = case([flat(k, level) for k, level in enumerate(levels)], random=3.0)
    assert compute.performance_at_equal_compute(one) == pytest.approx(performance(one))


@hypothesis.example([27.0, 0.0, 0.0], 1.2315643108955667, 0.0)  # the level is reached exactly
@hypothesis.given(LEVELS, st.floats(0.1, 10), st.floats(-100, 100))
def test_the_unit_and_the_zero_of_returns_do_not_matter(levels, unit, zero):
    def view(a, b):
        worlds = [k % 2 for k in range(len(levels))]
        life = [
            flat(k, a * level + b, world=w, values=a * (level + np.arange(10.0)) + b)
            for k, (level, w) in enumerate(zip(levels, worlds, strict=True))
        ]
        newborn = [flat(k, a * 60 + b, world=w) for k, w in enumerate(worlds)]
        made = case(life, newborn, random=a * -70 + b, scale=a * 140)
        return dataclasses.replace(made, cost=2.0)

    for metric in EVERY:
        np.testing.assert_allclose(metric(view(unit, zero)), metric(view(1, 0)), atol=1e-6)


def test_a_phase_without_a_curve_is_not_guessed():
    life = [flat(0, 50), None, flat(2, 50)]
    assert np.isnan(transfer.resilience(case(life))).tolist() == [True, False]
    poor = [flat(k, 40) for k in range(3)]
    assert np.isnan(transfer.forward_transfer(case(life, poor))).tolist() == [True, False]
    assert np.isnan(transfer.auc_ratio(case(life)))
    assert np.isnan(compute.performance_at_equal_compute(case(life)))
    assert np.isnan(transfer.savings(case(life))).all()


def test_the_cost_of_an_arm_is_what_its_intervention_declares(tmp_path):
    folder = synthetic.write_results(
        tmp_path,
        tasks=("Cart-observation",),
        seeds=1,
        phases=2,
        period=1000,
        regs=("none", "sam", "nowhere"),
    )
    study = Study(read(folder))
    assert study.cost("ppo", "none") == 1.0
    assert study.cost("ppo", "sam") == 2.0
    assert np.isnan(study.cost("ppo", "nowhere"))
    assert study.case("Cart-observation", "ppo", "sam+fresh", 0).cost == 2.0
    table = tables.cost(study, summarise(study, "ppo"))
    assert [row[3] for row in table.rows] == ["1.00", "n/a: cost not known", "2.00"]


@pytest.mark.parametrize(
    ("name", "options", "cost"),
    [
        ("sam", {}, 2.0),
        ("sam", {"every": 4}, 1.25),
        ("looksam", {}, 1.2),
        ("looksam", {"every": 1}, 2.0),
        ("redo", {"every": 10}, 1.0),
        ("none", {}, 1.0),
    ],
)
def test_an_intervention_that_acts_now_and_then_costs_less(name, options, cost):
    assert registry.find("intervention", name).cost(options) == pytest.approx(cost)
