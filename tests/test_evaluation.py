"""Frozen policies in every world of a life: what is written, what it must not move, its metrics."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import short_cells
import synthetic_records as synthetic
import torch
from hypothesis import given
from hypothesis import strategies as st
from short_cells import cell_of
from test_metrics import case, flat, steady, suite

from rlplastic import options, plots
from rlplastic.life import Watch
from rlplastic.metrics import against, evaluated, panels, tidy
from rlplastic.metrics.curve import Evaluated
from rlplastic.metrics.summary import summarise
from rlplastic.report import write_report
from rlplastic.runner import build_stream

NAN = float("nan")
DIGITS = {"env": "MNIST-Permuted/MNIST-observation", "period": 800}


def rows_of(outcome):
    return [json.loads(line) for line in outcome.rows.splitlines()]


def evaluations_of(outcome):
    return [row for row in rows_of(outcome) if row["kind"] == "evaluation"]


@pytest.mark.parametrize(
    ("agent", "reg", "more"),
    [
        ("dqn", "none", {}),
        ("dqn", "dropout+redo:every=10", {}),
        ("dqn", "obsnorm", {}),
        ("dqn", "inject-at-shift", {}),
        ("ppo", "none", {}),
        ("ppo", "spectralnorm+cbp", {}),
        ("ppo", "moe", {}),
        ("mlp", "none", DIGITS),
        ("mlp", "dropout", DIGITS),
    ],
)
def test_evaluations_change_nothing_else(agent, reg, more, tmp_path):
    cell = cell_of(agent, reg, **more)
    without = short_cells.run(cell, tmp_path / "without")
    looked = short_cells.run(replace(cell, evaluate=3), tmp_path / "with")
    found = evaluations_of(looked)
    assert [row["lived"] for row in found] == sorted([0, 1, 2, 3] * (len(found) // 4))
    assert {row["step"] for row in found} == {k * cell.period for k in range(4)}
    assert looked.digest == without.digest
    assert looked.interventions == without.interventions
    assert [row for row in rows_of(looked) if row["kind"] != "evaluation"] == rows_of(without)


@pytest.mark.parametrize("agent", ["dqn", "ppo"])
def test_a_cell_that_was_interrupted_has_the_same_evaluations(agent, tmp_path):
    cell = replace(cell_of(agent, "dropout"), evaluate=2)
    whole = short_cells.run(cell, tmp_path / "whole")
    short_cells.run_and_die(cell, tmp_path / "parts")
    assert short_cells.run(cell, tmp_path / "parts") == whole


def test_newborns_and_random_play_are_not_evaluated(tmp_path):
    fresh = cell_of("dqn", "none", fresh=True)
    assert not evaluations_of(short_cells.run(fresh, tmp_path))


def test_returns_are_those_of_the_greedy_policy_played_by_hand(tmp_path, monkeypatch):
    cell = replace(cell_of("dqn", "none", epsilon=0.0), evaluate=4)
    kept = []
    end_life = Watch.end_life

    def keep(self):
        end_life(self)
        kept.append({k: v.clone() for k, v in self.agent.q_net.state_dict().items()})
        kept.append(self.agent.q_net)

    monkeypatch.setattr(Watch, "end_life", keep)
    last = [row for row in evaluations_of(short_cells.run(cell, tmp_path)) if row["lived"] == 3]
    state, network = kept
    network.load_state_dict(state)
    assert len(last) == len({row["world"] for row in last}) == 3
    for row in last:
        base = options.build("environment", cell.stream["base"], "test")
        stream = build_stream(cell).at(row["world"], base.make(4), seed=3)
        seen, paid, over = stream.reset(), np.zeros(4), np.zeros(4, dtype=bool)
        while not over.all():
            with torch.no_grad():
                values = network(torch.as_tensor(seen)).numpy()
            seen, rewards, dones, _ = stream.step(values.argmax(axis=1))
            paid += np.where(over, 0.0, rewards)
            over |= dones
        assert row["value"] == pytest.approx(paid.mean(), abs=1e-6)


def test_arms_of_a_seed_meet_the_same_first_states(tmp_path):
    """Untrained, they have the same weights, and draw the same."""
    cells = [replace(cell_of("ppo", reg), evaluate=5) for reg in ("none", "sam")]
    first, second = (
        [row for row in evaluations_of(short_cells.run(c, tmp_path / c.reg)) if row["lived"] == 0]
        for c in cells
    )
    assert first == second


# -- metrics -------------------------------------------------------------------------------------

R = [  # after 0 .. 3 phases, in the worlds of the three phases
    [0.0, 10.0, 20.0],
    [80.0, 30.0, 26.0],
    [60.0, 90.0, 40.0],
    [50.0, 70.0, 100.0],
]


def evaluated_case(returns, worlds, random=0.0):
    one = case([flat(k, 50) for k in range(len(worlds))], random=random)
    return replace(one, evaluated=Evaluated(worlds=worlds, returns=np.array(returns, dtype=float)))


def test_metrics_of_worlds_that_do_not_return():
    got = evaluated_case(R, [0, 1, 2], random=5.0)
    np.testing.assert_allclose(evaluated.forgetting(got), [0.3, 0.2])
    np.testing.assert_allclose(evaluated.forgetting_from_best(got), [0.3, 0.2])
    better = [*R[:2], [95.0, 65.0, 40.0], R[3]]  # world 0 best after phase 1, world 1 after phase 2
    np.testing.assert_allclose(
        evaluated.forgetting_from_best(evaluated_case(better, [0, 1, 2])), [0.45, -0.05]
    )
    np.testing.assert_allclose(
        evaluated.isolated_forgetting(got), [0.2, ((60 - 50) + (90 - 70)) / 2 / 100]
    )
    np.testing.assert_allclose(
        evaluated.zero_shot_transfer(got), [((30 - 10) + (26 - 20)) / 2 / 100, 0.14]
    )
    np.testing.assert_allclose(
        evaluated.performance_maintenance(got), [((60 - 80) + (50 - 80)) / 2 / 100, -0.2]
    )
    assert evaluated.average_performance(got) == pytest.approx((50 + 70 + 100) / 300 - 0.05)


def test_metrics_of_a_world_that_returns():
    returns = [[0, 10, 0], [80, 30, 80], [60, 90, 60], [100, 70, 100]]
    got = evaluated_case(returns, [0, 1, 0])
    # world 0 was left by shift 1, and is trained on again; world 1 by shift 2
    np.testing.assert_allclose(evaluated.forgetting(got), [NAN, 0.2])
    np.testing.assert_allclose(evaluated.forgetting_from_best(got), [NAN, 0.2])
    np.testing.assert_allclose(evaluated.isolated_forgetting(got), [0.2, 0.2])
    np.testing.assert_allclose(evaluated.zero_shot_transfer(got), [0.2, NAN])
    np.testing.assert_allclose(evaluated.performance_maintenance(got), [-0.2, -0.2])
    assert evaluated.average_performance(got) == pytest.approx((100 + 70) / 200)


def test_what_is_kept_of_a_world_by_the_phases_since_it_was_left():
    np.testing.assert_allclose(evaluated.kept(evaluated_case(R, [0, 1, 2])), [0, -0.2, -0.3])
    returns = [[0, 10, 0], [80, 30, 80], [60, 90, 60], [100, 70, 100]]
    np.testing.assert_allclose(evaluated.kept(evaluated_case(returns, [0, 1, 0])), [0, -0.2, NAN])


METRICS = (
    evaluated.forgetting,
    evaluated.forgetting_from_best,
    evaluated.isolated_forgetting,
    evaluated.zero_shot_transfer,
    evaluated.performance_maintenance,
    evaluated.average_performance,
)


@pytest.mark.parametrize("metric", METRICS)
def test_a_life_that_was_not_evaluated_has_none(metric):
    got = np.atleast_1d(metric(case([flat(k, 50) for k in range(3)])))
    assert got.size in (1, 2)
    assert np.isnan(got).all()


@pytest.mark.parametrize("metric", METRICS)
def test_a_life_that_diverged_has_none(metric):
    """Not the mean of the phases before it did."""
    got = evaluated_case(R, [0, 1, 2])
    assert np.isfinite(metric(got)).all()
    assert np.isnan(metric(replace(got, broken=True))).all()


@given(
    st.lists(st.integers(0, 3), min_size=2, max_size=6).flatmap(
        lambda worlds: st.tuples(
            st.just(worlds),
            st.lists(
                st.lists(st.floats(-100, 100), min_size=4, max_size=4),
                min_size=len(worlds) + 1,
                max_size=len(worlds) + 1,
            ),
        )
    )
)
def test_adding_a_constant_moves_no_change_and_scaling_moves_nothing(drawn):
    worlds, by_world = drawn
    returns = np.array(by_world)[:, worlds]
    plain, moved = evaluated_case(returns, worlds), evaluated_case(returns * 3 + 7, worlds)
    moved = replace(moved, scale=300.0)
    for metric in METRICS[:-1]:
        np.testing.assert_allclose(metric(moved), metric(plain), atol=1e-9)


# -- records -------------------------------------------------------------------------------------


def evaluation(lived, world, value):
    step = 1000 * lived
    return {"kind": "evaluation", "lived": lived, "step": step, "world": world, "value": value}


def study_of(folder, extra):
    return suite(folder, [(synthetic.cell(reg="none"), [*steady([50, 60, 70]), *extra])])


def test_a_study_reads_them(tmp_path):
    extra = [evaluation(j, i, R[j][i]) for j in range(4) for i in range(3)]
    study = study_of(tmp_path, extra)
    (slot,) = study.records
    assert study.score("forgetting", *slot).tolist() == pytest.approx([0.3, 0.2])
    raw = [r for r in tidy.rows(study) if r.metric == "evaluation.world_1"]
    assert [(r.phase, r.step, float(r.value)) for r in raw] == [
        ("", "0", 10.0),
        ("0", "1000", 30.0),
        ("1", "2000", 90.0),
        ("2", "3000", 70.0),
    ]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"lived": 4}, "after 4 of 3 phases"),
        ({"lived": -1}, "after -1 of 3 phases"),
        ({"value": "many"}, "many"),
        ({"world": None}, "does not hold what it should"),
    ],
)
def test_an_evaluation_that_cannot_be_is_a_damaged_record(tmp_path, change, says):
    study = study_of(tmp_path, [evaluation(1, 0, 3.0) | change])
    (record,) = study.records.values()
    assert record.status == "damaged"
    assert says in record.reason


def test_the_report_compares_forgetting_and_transfer_with_none(tmp_path):
    """Only where there are evaluations; sam forgets 0.1 C less at every shift than none."""
    cells = []
    for seed, reg in itertools.product(range(6), ("none", "sam")):
        later = np.tri(4, 3, -2)  # two phases or more after a world was entered
        shifted = np.array(R) - (10 * later if reg == "none" else 0)
        found = [evaluation(j, i, shifted[j, i] + seed) for j in range(4) for i in range(3)]
        life = steady([50 + seed, 60, 70])
        cells.append((synthetic.cell(reg=reg, seed=seed), [*life, *found]))
        fresh = synthetic.cell(reg=reg, seed=seed, fresh=True)
        cells.append((fresh, steady([60, 70 + seed], first=1)))
    cells += [(synthetic.cell(agent="random", seed=seed), steady([1, 2, 3])) for seed in range(6)]
    study = suite(tmp_path, cells)
    table = against.evaluations_against_none(study, summarise(study, "ppo"))
    rows = {str(row[0]).partition(" ")[0]: [str(cell) for cell in row] for row in table.rows}
    assert list(rows) == list(against.KEPT)
    assert [float(cell.split()[0]) for cell in rows["forgetting"][2:5]] == [0.35, 0.25, -0.10]
    write_report(tmp_path)
    for name in ("report.html", "report.md"):
        assert "Forgetting and transfer, against none" in (tmp_path / name).read_text()
    page = (tmp_path / "report.html").read_text()
    assert 'id="ppo-kept-' in page
    assert "phases since the world was left" in page


def test_a_report_without_evaluations_says_nothing_of_them(tmp_path):
    cells = [(synthetic.cell(reg=reg, seed=0), steady([50, 60, 70])) for reg in ("none", "sam")]
    study = suite(tmp_path, cells)
    summary = summarise(study, "ppo")
    assert not against.evaluations_against_none(study, summary).rows
    looks = plots.styles(["none", "sam"], [])
    assert not panels.panels(study, summary, looks, panels.kept_panel)
