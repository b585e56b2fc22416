"""Probes as predictors: the correlation against scipy, and its interval against known truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from synthetic_records import write_results

from rlplastic.metrics.predict import (
    _pairs,
    association,
    predictors,
    rank_correlation,
    resampled_correlation,
)
from rlplastic.metrics.study import Study
from rlplastic.metrics.summary import summarise
from rlplastic.reading import read
from rlplastic.report import write_report


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=4, max_size=30))
@settings(max_examples=100, deadline=None)
def test_it_is_scipys_with_ties_and_zero_for_a_constant(points):
    x, y = np.array(points, dtype=float).T
    found = float(rank_correlation(x, y))
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        assert found == 0
    else:
        assert found == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_it_is_blind_to_any_rising_change_of_either_side(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, 20))
    assert rank_correlation(np.exp(x), y**3) == pytest.approx(rank_correlation(x, y), abs=1e-12)
    assert rank_correlation(-x, y) == pytest.approx(-rank_correlation(x, y), abs=1e-12)


def test_a_probe_that_is_the_gap_is_a_certain_predictor():
    rng = np.random.default_rng(0)
    gap = rng.normal(size=(6, 9))
    found = association([(np.exp(gap), gap), (gap, gap)], rng)
    assert (found.point, found.low, found.high) == pytest.approx((1, 1, 1))
    found = association([(-gap, gap)], rng)
    assert (found.point, found.low, found.high) == pytest.approx((-1, -1, -1))


def test_tasks_are_correlated_on_their_own_and_then_averaged():
    rng = np.random.default_rng(0)
    gap = rng.normal(size=(5, 4))
    found = association([(gap, gap), (100 - gap, gap + 100)], rng)  # pooled, they would correlate
    assert found.point == pytest.approx(0)


@pytest.mark.parametrize(
    "pairs",
    [
        [],
        [(np.zeros((2, 4)), np.zeros((2, 4)))],
        [(np.ones((6, 4)), np.arange(24.0).reshape(6, 4))],
    ],
    ids=["none", "two seeds", "constant"],
)
def test_too_little_to_say_anything_is_said_so(pairs):
    assert association(pairs, np.random.default_rng(0)) is None


def test_seeds_that_differ_and_shifts_that_do_not_give_a_wide_interval():
    """Shifts of one seed count once: nine copies of a point are one point."""
    rng = np.random.default_rng(3)
    x, y = (np.repeat(rng.normal(size=(6, 1)), 9, axis=1) for _ in range(2))
    found = association([(x, y)], rng)
    assert found.high - found.low > 0.8


def test_the_intervals_cover_no_association_about_as_often_as_they_say():
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        seeds = rng.normal(size=(2, 10, 1))  # each seed has a level of its own, on both sides
        x, y = seeds + rng.normal(size=(2, 10, 9))
        found = association([(x, y)], rng, resamples=400)
        covered += found.low <= 0 <= found.high
    assert covered / 200 > 0.85


def test_the_table_has_a_row_for_each_probe_and_a_number_for_each_arm(tmp_path):
    study = Study(read(write_results(tmp_path)))
    agent = study.results.agents[0]
    summary = summarise(study, agent)
    table = predictors(study, summary)
    assert table.head == ["probe", *(arm.reg for arm in summary.arms)]
    assert [row[0] for row in table.rows] == ["weight_norm"]
    for cell in table.rows[0][1:]:
        assert "[" in cell or cell.startswith("n/a")
        assert "nan" not in cell.lower()


def test_the_probe_of_a_phases_end_stands_beside_the_gap_of_the_next(tmp_path):
    study = Study(read(write_results(tmp_path)))
    agent = study.results.agents[0]
    summary = summarise(study, agent)
    (task, *_) = [t for t in study.results.tasks if study.in_headline(t, agent)]
    probes, gaps = _pairs(study, summary, "weight_norm", "none")[0]
    seeds = study.complete(task, agent)
    assert probes.shape == gaps.shape == (len(seeds), study.num_phases - 1)
    assert (probes == 10.0 + np.arange(study.num_phases - 1)).all()
    for row, seed in zip(gaps, seeds, strict=True):
        assert (row == study.score("gap", task, agent, "none", seed)).all()


def test_in_records_of_known_correlation_the_report_finds_it(tmp_path):
    """What a life loses in a phase is told at the end of the last one, wholly or in part."""
    seeds, phases = 6, 7
    rng = np.random.default_rng(5)
    count = seeds * (phases - 1)
    losses = 60.0 * rng.permutation(count).reshape(seeds, phases - 1) / count
    hints = losses + rng.normal(0, 20, losses.shape)

    def level(reg, fresh, number, seed):
        return 5.0, 85.0 - (0.0 if fresh or number == 0 else losses[seed, number - 1])

    def ends(number, seed):
        if number == phases - 1:
            return {"whole": 0.0, "less": 0.0, "part": 0.0}  # no phase comes after it
        loss = losses[seed, number]
        return {"whole": np.exp(loss / 10), "less": -loss, "part": hints[seed, number]}

    tasks = ("Cart-observation", "Acro-observation")
    folder = write_results(
        tmp_path, tasks=tasks, seeds=seeds, phases=phases, level=level, ends=ends
    )
    study = Study(read(folder))
    table = predictors(study, summarise(study, "ppo"))
    found = {row[0]: float(row[1].split()[0]) for row in table.rows}
    known = stats.spearmanr(hints.ravel(), losses.ravel()).statistic
    assert 0.5 < known < 0.9
    expected = {"whole": 1, "less": -1, "part": known}
    assert found == pytest.approx(expected, abs=0.03)
    write_report(folder)
    page = (folder / "report.md").read_text()
    assert all(f"| {' | '.join(row)} |" in page for row in table.rows)


def test_two_seeds_say_nothing_and_the_page_says_so(tmp_path):
    folder = write_results(tmp_path, seeds=2)
    study = Study(read(folder))
    agent = study.results.agents[0]
    assert predictors(study, summarise(study, agent)).rows == []
    write_report(folder)
    for page in ("report.html", "report.md"):
        assert "it takes three complete seeds" in (folder / page).read_text()


@given(
    seeds=st.integers(3, 6),
    shifts=st.integers(1, 5),
    levels=st.integers(1, 4),
    seed=st.integers(0, 10_000),
)
def test_resamples_are_correlated_as_if_they_had_been_sorted(seeds, shifts, levels, seed):
    """Of few levels, so with ties, and with constant resamples."""
    rng = np.random.default_rng(seed)
    x, y = rng.integers(levels, size=(2, seeds, shifts)).astype(float)
    drawn = rng.integers(seeds, size=(20, seeds))
    counts = np.stack([np.bincount(rows, minlength=seeds) for rows in drawn])
    sorted_ones = rank_correlation(x[drawn].reshape(20, -1), y[drawn].reshape(20, -1))
    assert resampled_correlation(x, y, counts) == pytest.approx(sorted_ones, abs=1e-12)
