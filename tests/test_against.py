"""Arms against ``none``: paired differences, their tests, and the aggregates of rliable."""

import doctest
import itertools
import json
import re
import shutil
import time
from contextlib import contextmanager

import numpy as np
import pytest
import synthetic_records as synthetic
from browser import CHROMIUM, page
from rliable import metrics as rliable

from rlplastic import canvas, plots
from rlplastic.aggregate import Estimate, estimate
from rlplastic.metrics import against, digits, lives
from rlplastic.metrics.digits import Shown, fit_columns, show
from rlplastic.metrics.study import Study
from rlplastic.metrics.summary import summarise
from rlplastic.reading import read
from rlplastic.report import write_report

TASKS = ("Cart-observation", "Cart-reward")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two arms and ``none``, six seeds on two tasks."""
    return synthetic.write_results(
        tmp_path_factory.mktemp("against"),
        tasks=TASKS,
        regs=("none", "sam", "l2init"),
        phases=4,
        period=1000,
    )


@pytest.fixture(scope="module")
def study(folder):
    return Study(read(folder))


def by_hand(study, metric, arm):
    """Mean over shifts of each seed and task, by plain loops."""
    return np.array(
        [
            [np.mean(study.score(metric, task, "ppo", arm, seed)) for task in TASKS]
            for seed in range(6)
        ]
    )


def enumerated_p(differences):
    """The share of all sign assignments whose mean is at least as far from 0."""
    by_seed = differences.mean(axis=1)
    means = [
        abs(np.mean(by_seed * signs)) for signs in itertools.product((1, -1), repeat=len(by_seed))
    ]
    return np.mean(np.array(means) >= abs(by_seed.mean()) - 1e-12)


def test_each_row_is_the_paired_difference_of_one_metric(study):
    table = against.against_none(study, summarise(study, "ppo"))
    rows = {(row[0].split(" ")[0], row[1]): row for row in table.rows}
    assert set(rows) == set(itertools.product(against.RECOVERY, ("l2init", "sam")))
    p = {key: enumerated_p(by_hand(study, *key) - by_hand(study, key[0], "none")) for key in rows}
    ranked = sorted(p.values())
    for (metric, arm), row in rows.items():
        mine, none = by_hand(study, metric, arm), by_hand(study, metric, "none")
        value = estimate(mine, "mean", np.random.default_rng(0), minus=none)
        number = r"([+-][\d.]+) \[(-?[\d.]+), (-?[\d.]+)\]"
        shown = [float(x) for x in re.fullmatch(number, row[4]).groups()]
        assert shown == pytest.approx([value.point, value.low, value.high], abs=0.0051)
        assert float(row[2]) == pytest.approx(none.mean(), abs=0.0051)
        assert float(row[3]) == pytest.approx(mine.mean(), abs=0.0051)
        one, adjusted = map(float, re.fullmatch(r"([\d.]+) \(([\d.]+)\)", row[5]).groups())
        assert one == pytest.approx(p[metric, arm], abs=0.0006)
        place = ranked.index(p[metric, arm])
        holm = max(q * (len(ranked) - i) for i, q in enumerate(ranked[: place + 1]))
        assert adjusted >= min(1.0, holm) - 0.0006
        assert row[7] == "6 x 2"


def test_the_aggregates_are_rliables(study):
    summary = summarise(study, "ppo")
    table = against.aggregates(summary)
    assert [row[:2] for row in table.rows] == [
        [arm, score] for score in ("S", "P") for arm in ("none", "l2init", "sam")
    ]
    theirs = [
        rliable.aggregate_median,
        rliable.aggregate_iqm,
        rliable.aggregate_mean,
        rliable.aggregate_optimality_gap,
    ]
    none = by_hand(study, "P", "none")
    for arm, score, *cells in table.rows:
        matrix = by_hand(study, score, arm)
        for cell, function in zip(cells, theirs, strict=False):
            assert float(cell.split(" ")[0]) == pytest.approx(function(matrix), abs=0.0051)
        if arm == "none":
            assert cells[4:] == ["reference", "reference"]
        elif score == "P":
            better = rliable.probability_of_improvement(matrix, none)
            assert float(cells[4].split(" ")[0]) == pytest.approx(better, abs=0.051)
            gains = (matrix - none).mean(axis=1)
            size = (1 - 3 / 19) * gains.mean() / gains.std(ddof=1)
            assert float(cells[5]) == pytest.approx(size, abs=0.006)


def test_one_seed_has_differences_and_no_test(tmp_path):
    one = synthetic.write_results(tmp_path, tasks=TASKS, seeds=1, phases=4, period=1000)
    study = Study(read(one))
    rows = against.against_none(study, summarise(study, "ppo")).rows
    assert all("(one seed)" in row[4] for row in rows)
    assert all(row[5] == "n/a: one seed or none" for row in rows)
    assert all(row[6].startswith("n/a") for row in rows)


def test_without_a_complete_seed_nothing_is_compared(tmp_path):
    plan = tmp_path / "plan"
    synthetic.write_plan(plan, [synthetic.cell(), synthetic.cell(reg="sam")])
    study = Study(read(plan))
    summary = summarise(study, "ppo")
    rows = against.against_none(study, summary).rows
    assert all(row[2:5] == [against.NO_PAIR] * 3 for row in rows)
    assert against.aggregates(summary).rows == []


# -- digits ------------------------------------------------------------------------------------


def test_a_column_has_one_number_of_decimals():
    assert doctest.testmod(digits).failed == 0
    wide = Estimate(point=0.5, low=0.1, high=0.9)
    alone = Estimate(point=1 / 3, low=float("nan"), high=float("nan"))
    other = Estimate(point=1234.0, low=1000.0, high=1500.0)
    rows = [["a", Shown(value=wide), Shown(value=other)], ["b", Shown(value=alone), "n/a: why"]]
    assert fit_columns(rows) == [
        ["a", "0.5 [0.1, 0.9]", "1234 [1000, 1500]"],
        ["b", "0.3 (one seed)", "n/a: why"],
    ]
    assert show(wide) == "0.5 [0.1, 0.9]"
    assert fit_columns([]) == []


# -- lives -------------------------------------------------------------------------------------


def test_the_learning_curve_of_a_task_is_the_mean_return_over_seeds_with_its_shifts(study):
    summary = summarise(study, "ppo")
    found = lives.lives(study, summary, plots.styles(["none", "sam", "l2init"]))
    assert list(found) == ["ppo-life-Cart-observation-0", "ppo-life-Cart-reward-1"]
    svg = found["ppo-life-Cart-reward-1"]()
    first = [study.case("Cart-reward", "ppo", "sam", n).life[0].at(50) for n in range(6)]
    shown = re.search(r"<title>steps: 50\n.*?\nsam: (\S+) ", svg, re.S)[1]
    assert float(shown) == pytest.approx(np.mean(first), abs=0.6)
    for arm in ("none", "l2init", "sam", "none+fresh"):
        assert f"\n{arm}: " in svg
    assert svg.count("stroke-opacity: 0.35") == 3  # a mark for each shift


def test_lives_of_unequal_phases_are_drawn_over_phases(tmp_path):
    schedule = {"name": "list", "worlds": [0, 1], "period": 1000, "phases": 2}
    one = synthetic.cell(seed=0, stream={"base": "Toy", "schedule": schedule})
    rng = np.random.default_rng(0)
    rows = synthetic.learning_phase(0, 1000, 5, 90, rng)
    rows += [
        synthetic.episode(1000 + at, 1010 + at, 7.0, phase=1, world=1) for at in range(0, 500, 10)
    ]
    rows.append(synthetic.phase(1, 1000, 1500))
    path = synthetic.write_cell(tmp_path, one, rows)
    header = (path / "header.json").read_text().replace('"end": 2000', '"end": 1500')
    (path / "header.json").write_text(header)
    synthetic.write_plan(tmp_path, [one], phases=2)
    study = Study(read(tmp_path))
    (drawing,) = lives.lives(study, summarise(study, "ppo"), plots.styles(["none"])).values()
    svg = drawing()
    assert "<title>phases: 0.05" in svg
    assert "none: 7.00 (one seed)" in svg


def test_ticks_of_long_phases_are_few_and_short():
    assert doctest.testmod(canvas).failed == 0
    look = plots.styles(["sam"])["sam"]
    x = np.linspace(0, 81_920, 50)
    one = plots.Series(label="sam", style=look, x=x, values=np.ones((3, 50)))
    svg = plots.lines("f", "title", [one], x_label="steps", y_label="return")
    ticks = re.findall(r'id="f-xtick_\d+".*?<text[^>]*>(.*?)</text>', svg, re.S)
    assert 3 <= len(ticks) <= 7
    assert all(re.fullmatch(r"0|\d+k", tick) for tick in ticks)


def test_a_title_longer_than_its_panel_goes_on_below():
    one = plots.Series(
        label="a", style=plots.styles(["none"])["none"], x=np.arange(3.0), values=np.ones((2, 3))
    )
    heights = []
    for title in ("CartPole · sam", "CartPole-observation · adaptive-rr:every=500:window=100"):
        svg = plots.lines("f", title, [one], x_label="steps", y_label="return")
        shown = re.findall(r"<text[^>]*weight: 700[^>]*>(.*?)</text>", svg)
        assert " ".join(shown) == title
        assert all(len(line) <= 40 for line in shown)
        heights.append(float(re.search(r'viewBox="0 0 \S+ (\S+)"', svg)[1]))
    assert len(shown) == 2
    assert heights[1] == pytest.approx(heights[0] + canvas.ROW, abs=0.01)


# -- on a phone --------------------------------------------------------------------------------

MEASURE = """
(() => {
  const tables = [...document.querySelectorAll('.scroll')]
    .filter(s => s.scrollWidth > s.clientWidth);
  const moved = tables.map(s => {
    const cell = s.querySelector('tbody td'), before = cell.getBoundingClientRect().left;
    s.scrollLeft = 80;
    return Math.abs(cell.getBoundingClientRect().left - before);
  });
  const dots = [...document.querySelectorAll('.arm')].map(arm => {
    const dot = arm.querySelector('.swatch'), label = arm.lastElementChild;
    if (!dot) return 0;
    return label.getBoundingClientRect().left - dot.getBoundingClientRect().right;
  });
  return {wide: tables.length, moved: Math.max(...moved), gap: Math.min(...dots),
          narrow: Math.min(...[...document.querySelectorAll('.scroll td:first-child')]
            .map(cell => cell.getBoundingClientRect().width)),
          page: document.documentElement.scrollWidth - document.documentElement.clientWidth};
})()
"""


@contextmanager
def shown(report, profile, **metrics):
    """The report in a browser, with a screen of these metrics."""
    with page("about:blank", profile) as browser:
        browser.call("Emulation.setDeviceMetricsOverride", deviceScaleFactor=1, **metrics)
        browser.call("Page.navigate", url=report.as_uri())
        for _ in range(100):
            if browser.run("document.readyState") == "complete" and browser.run("document.title"):
                break
            time.sleep(0.1)
        yield browser


@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs /usr/bin/chromium")
def test_on_a_phone_the_first_column_stays_and_dots_keep_to_their_names(folder, tmp_path):
    report = write_report(folder)
    with shown(report, tmp_path / "profile", width=390, height=844, mobile=True) as phone:
        seen = phone.run(MEASURE)
    assert seen["wide"] >= 3
    assert seen["moved"] < 1
    assert seen["gap"] > 0
    assert seen["narrow"] > 30
    assert seen["page"] == 0


@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs /usr/bin/chromium")
def test_long_commands_of_a_plan_stand_below_each_other_and_fit_the_page(folder, tmp_path):
    copied = shutil.copytree(folder, tmp_path / "copied")
    plan = json.loads((copied / "plan.json").read_text())
    plan["commands"] = [f"rlplastic bench --reg {'l2init,' * 200}{n}" for n in range(3)]
    (copied / "plan.json").write_text(json.dumps(plan))
    lefts = "[...new Set([...document.querySelectorAll('{}')].map(e => e.offsetLeft))]"
    with shown(
        write_report(copied), tmp_path / "profile", width=1280, height=800, mobile=False
    ) as desk:
        assert desk.run(MEASURE)["page"] == 0
        (words,), (facts,) = (desk.run(lefts.format(f"#provenance {tag}")) for tag in ("dt", "dd"))
        assert words < facts
