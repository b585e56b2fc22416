"""A toy stream with a known optimum, through the whole path: the metrics come out as by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import running

from rlplastic import registry, runner, store
from rlplastic.metrics.study import Study
from rlplastic.plan import make_plan
from rlplastic.planfile import write_plan
from rlplastic.reading import read
from rlplastic.request import Request

DATA = Path(__file__).parent / "data"
TASK, AGENT = "Cue-reward", "imprinted"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("by-hand")
    with running.no_plugins():
        registry.add_plugin(DATA / "imprinted.py")
        plan = make_plan(
            Request(agents=[AGENT], regs=["none"], env=str(DATA / "ByHand.toml"), budget="small")
        )
        write_plan(plan, folder)
        for cell in plan.cells:
            runner.run_cell(cell, store.CellFolder(folder / cell.id), {})
    return Study(read(folder))


def test_levels_are_those_of_the_policies(study):
    # phases of 2,000 steps are 200 episodes in 20 bins; the newborn of world 1 errs once
    curves = study.curves(TASK, AGENT, "none", 0)
    assert [curve.level for curve in curves] == [10, 0, 10]
    assert [len(curve.values) for curve in curves] == [20, 20, 20]
    born = study.case(TASK, AGENT, "none+fresh", 0).life
    assert born[1].values[0] == pytest.approx((9 * 10 + 9) / 10)
    assert [curve.level for curve in born] == [10, pytest.approx((19 * 10 + 9.9) / 20), 10]


def test_the_score_and_what_stands_beside_it(study):
    score = {
        name: study.score(name, TASK, AGENT, "none", 0)
        for name in study.metrics
        if not name.startswith("l2")
    }
    gap = (19 * 10 + 9.9) / 20 / 5
    np.testing.assert_allclose(score["gap"], [gap, 0])
    np.testing.assert_allclose(score["S"], 1 - gap / 2)
    chance = [study.random_level(TASK, 0, world).value for world in (1, 0)]
    np.testing.assert_allclose(chance, [5, 5], atol=0.15)  # 4,000 episodes of ten fair coins
    np.testing.assert_allclose(score["P"], ((0 - chance[0]) + (10 - chance[1])) / 2 / 5)
    np.testing.assert_allclose(score["drop"], [10 / 5, -10 / 5])
    np.testing.assert_allclose(score["end_gap"], [10 / 5, 0])
    np.testing.assert_allclose(score["phase_0"], 1)
    np.testing.assert_allclose(score["whole_run_mean"], 20 / 3)
    np.testing.assert_allclose(score["gap_slope"], -gap)
    for share in (50, 80, 95):
        np.testing.assert_array_equal(score[f"recovered_{share}"], [0, 1])
        np.testing.assert_array_equal(score[f"recovery_time_{share}"], [1, 0])


def test_a_newborn_is_as_plastic_as_itself(study):
    np.testing.assert_allclose(study.score("S", TASK, AGENT, "none+fresh", 0), 1)
    np.testing.assert_allclose(study.score("recovered_95", TASK, AGENT, "none+fresh", 0), [1, 1])
