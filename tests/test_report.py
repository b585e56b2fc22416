"""Summaries and reports of whole results folders."""

import csv
import doctest
import html
import json
import re
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import synthetic_records as synthetic

from rlplastic import plots, reading, report
from rlplastic.aggregate import Estimate, estimate
from rlplastic.errors import UsageError
from rlplastic.metrics import digits, lives, tables, verdict
from rlplastic.metrics import summary as summaries
from rlplastic.metrics.digits import show
from rlplastic.metrics.study import Study
from rlplastic.metrics.summary import summarise
from rlplastic.metrics.verdict import judge
from rlplastic.reading import read
from rlplastic.report import write_report

CHROMIUM = Path("/usr/bin/chromium")
FILES = ("report.html", "report.md", "results.csv")
NOT_NUMBERS = re.compile(r"(?<![A-Za-z])(nan|-?inf|none\.0|undefined)(?![A-Za-z])", re.IGNORECASE)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A complete small suite with six seeds, and its report."""
    folder = synthetic.write_results(
        tmp_path_factory.mktemp("finished"),
        tasks=("Cart-observation", "Cart-reward"),
        phases=6,
        period=1000,
    )
    write_report(folder)
    return folder


def text(folder, name="report.md"):
    return (folder / name).read_text()


def diverge(cell):
    """Let a finished cell have ended in NaN, in its third phase."""
    done = json.loads((cell / "done.json").read_text())
    done |= {"status": "diverged", "reason": "NaN in the critic", "phase": 2, "step": 2500}
    (cell / "done.json").write_text(json.dumps(done))


def summary_of(folder, agent="ppo"):
    return summarise(Study(read(folder)), agent)


def verdict_of(folder, agent="ppo"):
    study = Study(read(folder))
    return judge(study, summarise(study, agent))


def small(folder, **options):
    settings = {"tasks": ("Cart-observation",), "seeds": 2, "phases": 3, "period": 1000}
    return synthetic.write_results(folder, **(settings | options))


def cells(folder, pattern="*/*/*/*"):
    return sorted(path.parent for path in folder.glob(f"{pattern}/header.json"))


# -- the verdict -------------------------------------------------------------------------------


def test_a_finished_suite_says_in_one_sentence_what_its_intervals_say(finished):
    one = verdict_of(finished)
    assert one.obstacles == []
    none, sam = summary_of(finished).arms
    assert none.plasticity.iqm.high < 1
    assert none.newborn_p == 2 / 64
    assert sam.plasticity.difference.low > 0
    assert sam.plasticity.p == 2 / 64
    assert f"(none) loses plasticity (S = {show(none.plasticity.iqm)}" in one.sentence
    assert f"sam raises S ({show(sam.plasticity.difference, signed=True)})" in one.sentence
    assert one.sentence in text(finished)
    assert html.escape(one.sentence) in text(finished, "report.html")


def test_s_and_p_of_the_summary_are_rliables_iqm_of_the_seed_by_task_matrix(finished):
    from rliable import metrics as rliable

    study = Study(read(finished))
    matrix = [
        [study.reduced("S", task, "ppo", "sam", seed) for task in study.results.tasks]
        for seed in range(6)
    ]
    sam = summary_of(finished).arms[1].plasticity
    np.testing.assert_array_equal(sam.matrix, matrix)
    assert sam.iqm.point == rliable.aggregate_iqm(np.array(matrix))
    assert sam.seeds == list(range(6))


def test_each_track_has_its_own_scores(finished):
    study, summary = Study(read(finished)), summary_of(finished)
    table = tables.by_track(study, summary, "S")
    assert (table.head, [row[0] for row in table.rows]) == (
        ["track", "none", "sam"],
        ["observation", "reward"],
    )
    scores, _ = study.matrix("S", "ppo", "sam", ["Cart-reward"], range(6))
    expected = estimate(scores, "iqm", np.random.default_rng(summaries.SEED))
    assert table.rows[1][2] == show(expected)


def test_equal_arms_are_not_told_apart(tmp_path):
    def alike(reg, fresh, number, seed):
        luck = np.random.default_rng([seed, number, len(reg), fresh, 1]).normal(0, 6)
        return 5.0, 80.0 + float(luck)

    folder = small(tmp_path, seeds=6, level=alike)
    assert all(arm.newborn_p > 0.05 for arm in summary_of(folder).arms)
    one = verdict_of(folder)
    assert one.obstacles == []
    assert "is not told apart from its newborns" in one.sentence
    assert re.search(r"it, sam does not clearly change S \(.*?\) and P \(.*?\)\.$", one.sentence)


def test_an_arm_that_harms_is_said_to_lower(tmp_path):
    def harmed(reg, fresh, number, seed):
        return 5.0, (80.0 if fresh or reg == "none" else 60.0) + seed

    sentence = verdict_of(small(tmp_path, seeds=6, level=harmed)).sentence
    assert re.search(r"sam lowers S \(-.*?\) and P \(-.*?\)\.$", sentence)


def test_without_six_seeds_there_is_no_verdict(tmp_path):
    folder = small(tmp_path, seeds=5)
    sentence = "Too few seeds for a verdict: 5 complete, 6 needed."
    assert verdict_of(folder).sentence == sentence
    assert summary_of(folder).arms[1].plasticity is not None


def test_a_protocol_that_is_too_short_gives_no_verdict_however_clear_the_scores(finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "copy")
    plan = json.loads(text(folder, "plan.json"))
    plan["protocol"]["too_short"] = "one night of Atari."
    (folder / "plan.json").write_text(json.dumps(plan))
    sentence = "Too short to judge plasticity: one night of Atari."
    assert verdict_of(folder).sentence == sentence


def test_a_task_whose_newborns_do_not_learn_gives_no_verdict_and_is_named(tmp_path):
    def slow(reg, fresh, number, seed):
        return 5.0, 30.0 + seed

    sentence = verdict_of(small(tmp_path, seeds=6, level=slow)).sentence
    assert sentence.startswith("Too short to judge plasticity: Cart-observation: the newborn of")


def test_missing_and_failed_cells_are_counted_and_stop_the_verdict(tmp_path):
    folder = small(tmp_path, seeds=6)
    lost, failed = cells(folder, "*/ppo/sam/*")[:2]
    shutil.rmtree(lost)
    (failed / "done.json").unlink()
    (failed / "failed.json").write_text('{"status": "failed", "reason": "killed by the system"}')
    write_report(folder)
    assert "Unfinished: of 30 cells, 1 failed, 1 missing." in text(folder)
    assert "Too few seeds for a verdict: 4 complete, 6 needed." in text(folder)
    assert "4 of 6, 1 failed, 1 missing" in text(folder)
    assert "killed by the system" in text(folder)
    assert 'class="faded"' in text(folder, "report.html")


def test_an_arm_whose_newborns_diverge_is_not_judged_and_does_not_spoil_the_others(tmp_path):
    def level(reg, fresh, number, seed):
        return 5.0, (80.0 if fresh or reg == "sam" else 60.0) + seed

    folder = small(tmp_path, seeds=6, regs=("none", "bad", "sam"), level=level)
    newborn = cells(folder, "*/ppo/bad+fresh/*")[0]
    done = json.loads((newborn / "done.json").read_text())
    done |= {"status": "diverged", "reason": "NaN in the critic", "phase": 2, "step": 2500}
    rows = [json.loads(line) for line in (newborn / "rows.jsonl").read_text().splitlines()]
    kept = "".join(json.dumps(row) + "\n" for row in rows if row["phase"] < 2)
    (newborn / "rows.jsonl").write_text(kept)
    del done["rows"], done["sha256"]
    (newborn / "done.json").write_text(json.dumps(done))
    write_report(folder)
    one = verdict_of(folder)
    none, bad, sam = summary_of(folder).arms
    assert ", 5 of 6 seeds |" in text(folder)
    assert (len(none.plasticity.seeds), len(bad.plasticity.seeds)) == (6, 5)
    assert len(sam.plasticity.seeds) == len(bad.performance.seeds) == 6
    assert "bad is not judged, since 1 newborn cell(s) diverged" in one.sentence
    assert "sam does not clearly change S" in one.sentence
    assert one.sentence.endswith(
        "Adjusted for 2 interventions (Holm); alone, sam would differ, "
        "and of so many none could with fewer than 7 seeds."
    )
    assert "0.031 (0.062)" in text(folder)
    assert "NaN in the critic" in text(folder)


def test_without_the_newborns_of_none_nothing_is_judged(tmp_path):
    folder = small(tmp_path, seeds=7)
    newborn = cells(folder, "*/ppo/none+fresh/*")[0]
    diverge(newborn)
    one = verdict_of(folder)
    assert one.obstacles == []
    assert one.sentence == (
        "With ppo (7 seeds x 1 task), the plain agent (none) is not judged, "
        "since 1 of its newborn cells diverged. "
        "Against it, sam is not judged, since 1 newborn cell(s) diverged."
    )


def test_the_negative_control_is_shown_and_does_not_count(tmp_path):
    def level(reg, fresh, number, seed):  # shifts cost 30 points, standing still gains 30
        return 5.0, 50.0 + 30 * fresh + seed

    def still(reg, fresh, number, seed):
        return 5.0, 80.0 - 30 * fresh + seed

    folder = small(tmp_path / "a", seeds=6, level=level)
    other = small(tmp_path / "b", seeds=6, level=still, tasks=("Cart-stationary",))
    plan = json.loads(text(folder, "plan.json"))
    control = json.loads(text(other, "plan.json"))
    shutil.copytree(other / "Cart-stationary", folder / "Cart-stationary")
    plan["tasks"] |= control["tasks"]
    plan["cells"] += control["cells"]
    (folder / "plan.json").write_text(json.dumps(plan))
    write_report(folder)
    assert summary_of(folder).tasks == ["Cart-observation"]
    assert "(none) loses plasticity" in verdict_of(folder).sentence
    study = Study(read(folder))
    table = tables.by_track(study, summary_of(folder), "S")
    assert [row[0] for row in table.rows] == ["observation", "stationary"]
    assert float(table.rows[1][1].split()[0]) > 1.2
    assert "| negative control |" in text(folder)
    assert verdict_of(other).sentence == "No verdict: only the negative control was run."


def test_tasks_that_are_not_measurable_are_shown_but_not_counted(finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "copy")
    plan = json.loads(text(folder, "plan.json"))
    plan["tasks"]["Cart-reward"]["agents"]["ppo"] |= {"measurable": False, "note": "no headroom"}
    (folder / "plan.json").write_text(json.dumps(plan))
    one = summary_of(folder)
    assert one.tasks == ["Cart-observation"]
    assert "Cart-reward" in one.all_tasks
    assert one.arms[0].plasticity.matrix.shape == (6, 1)
    write_report(folder)
    assert "no headroom" in text(folder)


def arm_with(
    low, high, p, *, iqm=(0.7, 0.9), newborn_p=0.03, adjusted_p=None, seeds=6, mean=None, lost=0
):
    """An arm whose S and P have these numbers, for the words of the verdict alone."""
    middle = Estimate(point=sum(iqm) / 2, low=iqm[0], high=iqm[1])
    score = summaries.Score(
        matrix=np.zeros((6, 1)),
        seeds=list(range(seeds)),
        iqm=middle,
        mean=middle,
        median=middle,
        optimality_gap=0.0,
        difference=Estimate(point=(low + high) / 2, low=low, high=high),
        differences=np.full((6, 1), (low + high) / 2 if mean is None else mean),
        p=p,
        adjusted_p=p if adjusted_p is None else adjusted_p,
    )
    return summaries.Arm(
        reg="sam",
        plasticity=score,
        performance=score,
        newborn_p=newborn_p,
        collapsed=0.0,
        phase_zero=None,
        broken_newborns=0,
        broken_lives=lost,
        oracle=False,
    )


@pytest.mark.parametrize(
    ("low", "high", "p", "words"),
    [
        (0.01, 0.2, 0.03, "sam raises S"),
        (-0.2, -0.01, 0.03, "sam lowers S"),
        (0.01, 0.2, 0.06, "sam does not clearly change S"),
        (-0.01, 0.2, 0.03, "sam does not clearly change S"),
    ],
)
def test_a_difference_is_spoken_of_only_where_interval_and_test_agree(low, high, p, words):
    assert verdict._comparison(arm_with(low, high, p), 6).startswith(words)


@pytest.mark.parametrize(("low", "high", "mean"), [(0.01, 0.2, -0.4), (-0.2, -0.01, 0.4)])
def test_an_arm_that_helps_most_runs_and_ruins_a_few_is_called_neither(low, high, mean):
    said = verdict._comparison(arm_with(low, high, 0.03, mean=mean), 6)
    assert said.startswith("sam does not clearly change S")


def test_a_score_on_fewer_seeds_than_are_complete_says_so():
    said = verdict._comparison(arm_with(0.01, 0.2, 0.03), 8)
    assert re.fullmatch(r"sam raises S \(\S+ \[.*?\], 6 seeds\) and P \(.*?, 6 seeds\)", said)
    assert "seeds" not in verdict._comparison(arm_with(0.01, 0.2, 0.03), 6)


@pytest.mark.parametrize(
    ("p", "adjusted", "seeds", "words", "end"),
    [
        (0.03, 0.04, 10, "sam raises S", None),
        (0.03, 0.06, 10, "sam does not clearly change S", "alone, sam would differ."),
        (0.03, 0.09, 6, "sam does not clearly change S", "with fewer than 7 seeds."),
        (0.06, 0.18, 10, "sam does not clearly change S", None),
    ],
)
def test_of_several_arms_the_adjusted_test_decides(p, adjusted, seeds, words, end):
    arm = arm_with(0.01, 0.2, p, adjusted_p=adjusted, seeds=seeds)
    assert verdict._comparison(arm, seeds).startswith(words)
    said = verdict._of_several([arm, arm_with(-1, 1, 1, seeds=seeds), arm])
    assert said[0].endswith(end.replace("sam", "sam, sam")) if end else said == []


@pytest.mark.parametrize("arms", range(1, 12))
def test_as_many_seeds_as_it_names_can_tell_an_arm_from_the_others(arms):
    said = verdict._of_several([arm_with(0.01, 0.2, 0.03, adjusted_p=0.1)] * arms)[0]
    named = re.search(r"fewer than (\d+) seeds", said)
    enough = int(named[1]) if named else 6
    assert arms * 2 / 2**enough < 0.05
    assert named is None or arms * 2 / 2 ** (enough - 1) >= 0.05


@pytest.mark.parametrize(
    ("iqm", "p", "words"),
    [
        ((0.7, 0.9), 0.03, "loses plasticity"),
        ((1.1, 1.2), 0.03, "learns faster than its newborns"),
        ((0.7, 1.1), 0.03, "is not told apart from its newborns"),
        ((0.7, 0.9), 0.06, "is not told apart from its newborns"),
    ],
)
def test_plasticity_is_lost_only_where_interval_and_test_agree(iqm, p, words):
    assert words in verdict._plain_agent("ppo", arm_with(0, 1, 1, iqm=iqm, newborn_p=p))


# -- what is always there ----------------------------------------------------------------------


@pytest.mark.parametrize("phases", [1, 2])
def test_a_smoke_run_reports_phase_zero_with_intervals_and_no_verdict(tmp_path, phases):
    folder = small(tmp_path, seeds=2, phases=phases)
    write_report(folder)
    section = text(folder).partition("### Phase 0")[2].partition("###")[0]
    found = re.findall(r"^\| (none|sam) \| (\d\.\d+ \[.*?\]) \|$", section, re.MULTILINE)
    assert [arm for arm, _ in found] == ["none", "sam"]
    assert "Too few seeds for a verdict: 2 complete, 6 needed." in text(folder)
    if phases == 1:
        assert "Too short to judge plasticity: there is no shift." in text(folder)


def test_one_seed_has_no_interval_and_says_so(tmp_path):
    folder = small(tmp_path, seeds=1)
    write_report(folder)
    assert "(one seed)" in text(folder)


def test_every_state_of_a_folder_gives_a_report_without_nan_or_blank_cells(finished, tmp_path):
    only_plan = tmp_path / "only-plan"
    synthetic.write_plan(only_plan, [synthetic.cell(), synthetic.cell(agent="random")])
    empty = tmp_path / "empty"
    synthetic.write_plan(empty, [])
    no_newborns = small(tmp_path / "no-newborns")
    for path in cells(no_newborns, "*/*/*+fresh/*"):
        shutil.rmtree(path)
    no_random = small(tmp_path / "no-random")
    shutil.rmtree(no_random / "Cart-observation" / "random")
    unscaled = small(tmp_path / "unscaled")
    plan = json.loads(text(unscaled, "plan.json"))
    plan["tasks"] = {}
    (unscaled / "plan.json").write_text(json.dumps(plan))
    no_reference = small(tmp_path / "no-reference", regs=("sam",))
    half = small(tmp_path / "half", agents=("dqn", "ppo"))
    for path in cells(half, "*/ppo/*/*")[::2]:
        (path / "done.json").unlink()
        rows = (path / "rows.jsonl").read_bytes()
        (path / "rows.jsonl").write_bytes(rows[: len(rows) // 2])
    for folder in (
        only_plan,
        empty,
        no_newborns,
        no_random,
        unscaled,
        no_reference,
        half,
        finished,
    ):
        write_report(folder)
        for name in FILES:
            assert not NOT_NUMBERS.search(text(folder, name)), (folder, name)
        assert "<td></td>" not in text(folder, "report.html"), folder
        assert "|  |" not in text(folder), folder


def test_a_folder_without_a_plan_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"plan\.json"):
        write_report(tmp_path)


def test_a_large_folder_is_read_and_drawn_by_other_processes_to_the_same_bytes(
    tmp_path, monkeypatch
):
    asked = []

    class Helpers(ProcessPoolExecutor):
        def submit(self, function, *args, **kwargs):
            asked.append(function)
            return super().submit(function, *args, **kwargs)

    monkeypatch.setattr(report, "ProcessPoolExecutor", Helpers)
    folder = small(tmp_path / "results")
    kept = {}
    for way in ("alone", "helped"):
        write_report(folder, figures=tmp_path / way)
        kept[way] = [(folder / name).read_bytes() for name in FILES]
        kept[way] += [path.read_bytes() for path in sorted((tmp_path / way).iterdir())]
        assert bool(asked) == (way == "helped")
        monkeypatch.setattr(reading, "MUCH", 0)
        monkeypatch.setattr(report, "MANY", 0)
    assert kept["alone"] == kept["helped"]
    assert len(set(asked)) == 2  # which read and which draw


def test_the_same_folder_gives_the_same_bytes_in_another_process_and_place(finished, tmp_path):
    moved = shutil.copytree(finished, tmp_path / "moved", ignore=shutil.ignore_patterns(*FILES))
    code = "import sys, pathlib; from rlplastic import report; "
    code += "report.write_report(pathlib.Path(sys.argv[1]))"
    environment = {"PYTHONHASHSEED": "7", "PYTHONPATH": ":".join(sys.path), "TZ": "Asia/Tokyo"}
    subprocess.run([sys.executable, "-c", code, str(moved)], check=True, env=environment)
    for name in FILES:
        assert (moved / name).read_bytes() == (finished / name).read_bytes(), name


def test_results_csv_holds_every_number_once_in_tidy_rows(finished):
    with (finished / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    head = ["task", "agent", "arm", "seed", "phase", "step", "metric", "value", "status"]
    assert list(rows[0]) == head
    keys = [tuple(row.values())[:7] for row in rows]
    assert len(keys) == len(set(keys))
    study = Study(read(finished))
    (row,) = [
        r
        for r in rows
        if (r["task"], r["arm"], r["seed"], r["metric"]) == ("Cart-reward", "sam", "3", "S")
    ]
    assert float(row["value"]) == study.reduced("S", "Cart-reward", "ppo", "sam", 3)
    assert (row["phase"], row["status"]) == ("", "done")
    gaps = [r for r in rows if (r["arm"], r["metric"], r["seed"]) == ("none", "gap", "0")]
    assert [r["phase"] for r in gaps] == [str(k) for k in range(1, 6)] * 2
    assert [r["step"] for r in gaps] == [str(1000 * (k + 1)) for k in range(1, 6)] * 2
    assert row["step"] == ""
    levels = [r for r in rows if r["metric"] == "level"]
    assert all(int(r["step"]) == 1000 * (int(r["phase"]) + 1) for r in levels)
    measured = [
        (r["phase"], r["step"], r["value"])
        for r in rows
        if (r["task"], r["arm"], r["seed"]) == ("Cart-reward", "sam", "3")
        and r["metric"] == "probe.weight_norm.before"
    ]
    (record,) = [r for s, r in study.records.items() if s == ("Cart-reward", "ppo", "sam", 3)]
    assert measured == [
        (str(p.phase), str(p.step), repr(p.value)) for p in record.probes if p.moment == "before"
    ]
    assert len(measured) == 6


def test_a_metric_of_a_plugin_appears_in_the_report(tmp_path):
    folder = small(tmp_path / "results")
    plugin = tmp_path / "plugin.py"
    plugin.write_text(
        "from rlplastic.registry import metric\n\n"
        "@metric('answer', better='higher', unit='points')\n"
        "def answer(case):\n"
        "    '''The answer, known beforehand.'''\n"
        "    return 42.0\n"
    )
    code = (
        "from pathlib import Path; from rlplastic import registry, report; "
        f"registry.add_plugin({str(plugin)!r}); report.write_report(Path({str(folder)!r}))"
    )
    environment = {"PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert "| answer ↑ (points) | 42.00 [42.00, 42.00] | 42.00 [42.00, 42.00] |" in text(folder)
    assert "The answer, known beforehand." in text(folder, "report.html")


# -- safety ------------------------------------------------------------------------------------

PAYLOADS = [
    "<script>document.title='owned'</script>",
    "<img src=x onerror=document.title='owned'>",
    "\"><svg onload=document.title='owned'>",
    "'-document.title='owned'-'",
    "</style><script>document.title='owned'</script>",
    "</title><script>document.title='owned'</script>",
    "{{ 7 * 7 }}{% raw %}",
    "javascript:document.title='owned'",
    '$\\frac{1}{0}$ url(#x) id="y"',
]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A folder in which every name and reason is an attack."""
    folder = tmp_path_factory.mktemp("hostile")
    identities = []
    for number, payload in enumerate(PAYLOADS):
        name = payload.replace("/", "\\")
        for agent, reg in (("random", "none"), (name, "none"), (name, payload)):
            for fresh in (False, True) if agent != "random" else (False,):
                one = synthetic.cell(f"{name}-{number}", agent, reg, 0, fresh)
                rng = np.random.default_rng(number)
                span = range(int(fresh), 3)
                rows = [r for k in span for r in synthetic.learning_phase(k, 1000, 5, 90, rng)]
                rows.append(synthetic.probe(1, 1000, "before", payload, 1.0))
                path = synthetic.write_cell(folder, one, rows)
                header = json.loads((path / "header.json").read_text())
                header["provenance"] |= {"command": payload, "machine": {payload: payload}}
                (path / "header.json").write_text(json.dumps(header))
                if reg == payload and not fresh:
                    (path / "done.json").unlink()
                    failure = {"status": "failed", "reason": payload}
                    (path / "failed.json").write_text(json.dumps(failure))
                identities.append(one)
    synthetic.write_plan(folder, identities)
    plan = json.loads(text(folder, "plan.json"))
    plan |= {"name": PAYLOADS[0], "commands": [PAYLOADS[1]], "created": PAYLOADS[2]}
    plan["protocol"] |= {"suite": PAYLOADS[4], "too_short": PAYLOADS[5], "budget": PAYLOADS[6]}
    for task in plan["tasks"].values():
        for facts in task["agents"].values():
            facts |= {"note": PAYLOADS[1], "scale_source": PAYLOADS[2]}
    (folder / "plan.json").write_text(json.dumps(plan))
    write_report(folder)
    return folder


def test_no_text_of_the_folder_becomes_markup(hostile):
    page = text(hostile, "report.html")
    tags = set(re.findall(r"<([a-zA-Z][\w:-]*)", page))
    words = """html head meta title style body main p h1 h2 h3 nav a section div table thead tbody
        tr th td span b figure dl dt dd code svg g path defs use text clipPath rect tspan"""
    assert tags <= set(words.split())
    assert not re.search(r"<[^>]*\son\w+\s*=", re.sub(r'"[^"]*"', '""', page))
    assert "{{ 7 * 7 }}" in page
    cells_of_markdown = text(hostile).replace("\\<", "")
    assert not re.search(r"<(script|img|svg)", cells_of_markdown)


def test_the_page_calls_nobody_and_runs_no_script(hostile, finished):
    for folder in (hostile, finished):
        page = text(folder, "report.html")
        policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)[1]
        assert "default-src 'none'" in policy
        assert "script" not in policy
        links = re.findall(r'(?:href|src|action)="([^"]*)"', page)
        assert {link for link in links if not link.startswith("#")} == {"results.csv"}
        assert set(re.findall(r"https?://[^\s\"'<&]+", page)) <= {
            "http://www.w3.org/2000/svg",
            "http://www.w3.org/1999/xlink",
        }


def test_ids_are_unique_in_the_page(finished):
    ids = re.findall(r'\bid="([^"]+)"', text(finished, "report.html"))
    assert len(ids) == len(set(ids)) > 100


def test_names_that_look_like_formulas_are_quoted_in_the_csv(tmp_path):
    for number, name in enumerate(["=1+1", "+1", "-1", "@SUM(A1)", "\t=1"]):
        folder = small(tmp_path / str(number), tasks=(name,), regs=("none",), seeds=1, phases=1)
        write_report(folder)
        with (folder / "results.csv").open() as file:
            assert {row["task"] for row in csv.DictReader(file)} == {f"'{name}"}


@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs /usr/bin/chromium")
def test_a_browser_shows_the_page_and_no_payload_runs(hostile, finished, tmp_path):
    for folder, title in ((hostile, PAYLOADS[0]), (finished, "Toy-Shifted")):
        flags = "headless no-sandbox disable-gpu disable-quic no-first-run"
        flags += " disable-background-networking disable-component-update disable-sync dump-dom"
        command = [str(CHROMIUM), *(f"--{flag}" for flag in flags.split())]
        command += [f"--user-data-dir={tmp_path / title[:3].strip('<')}"]
        page = (folder / "report.html").as_uri()
        done = subprocess.run([*command, page], capture_output=True, text=True, timeout=120)
        assert html.escape(f"{title} · rlplastic", quote=False) in done.stdout.replace(
            "&quot;", '"'
        )
        assert "<title>owned" not in done.stdout
        assert done.stdout.count("<svg") == text(folder, "report.html").count("<svg") > 5


# -- figures and numbers -----------------------------------------------------------------------


def test_each_intervention_has_one_colour_and_none_is_grey():
    looks = plots.styles(["sam", "none", "l2init", "redo"], oracles=["redo"])
    assert looks["none"].color == plots.GREY
    assert len({look.color for look in looks.values()}) == 4
    assert looks == plots.styles(["redo", "l2init", "sam", "none"], oracles=["redo"])
    assert (looks["redo"].line, looks["redo"].face) == ("-.", "none")
    many = plots.styles([f"arm{i}" for i in range(20)])
    assert len({(look.color, look.marker) for look in many.values()}) == 21


def test_figures_take_their_ink_from_the_page_and_hold_their_text_as_text():
    look = plots.styles(["sam"])["sam"]
    x = np.arange(3.0)
    one = plots.Series(label="sam+fresh", style=look, x=x, values=np.eye(3), newborn=True)
    svg = plots.lines("f", "$x_1$", [one], x_label="steps", y_label="return", random=0.1)
    assert ">$x_1$<" in svg
    assert "currentColor" in svg
    assert "var(--hue-0072b2, #0072b2)" in svg
    assert "stroke-dasharray" in svg
    assert not re.search(r"<metadata|<style|<\?xml|#1d1f24|#d4d5d3|font-family", svg)


def test_an_intervention_has_one_colour_with_every_agent(tmp_path):
    folder = small(tmp_path, agents=("dqn",), regs=("none", "sam"))
    more = small(tmp_path / "more", agents=("ppo",), regs=("none", "l2init", "sam"))
    plan, other = (json.loads(text(f, "plan.json")) for f in (folder, more))
    shutil.copytree(more / "Cart-observation/ppo", folder / "Cart-observation/ppo")
    plan["cells"] += [cell for cell in other["cells"] if cell["cell"]["agent"] == "ppo"]
    plan["tasks"]["Cart-observation"]["agents"] |= other["tasks"]["Cart-observation"]["agents"]
    (folder / "plan.json").write_text(json.dumps(plan))
    shutil.rmtree(tmp_path / "more")
    write_report(folder)
    page = text(folder, "report.html")
    found = set(re.findall(r'#([0-9a-f]{6})\)"></span><span>sam<', page))
    assert len(found) == 1
    assert found == {plots.styles(["none", "l2init", "sam"])["sam"].color.lstrip("#")}


def test_a_figure_says_its_numbers_where_it_is_pointed_at():
    look = plots.styles(["sam"])["sam"]
    x, values = np.array([10.0, 20.0, 40.0]), np.array([[1.0, 2.0, 3.0], [1.0, 4.0, 5.0]])
    one = plots.Series(label="<sam>", style=look, x=x, values=values)
    svg = plots.lines("f", "title", [one], x_label="steps", y_label="return")
    rect = r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)".*?<title>(.*?)</title>'
    tips = re.findall(rect, svg.partition('class="tips"')[2], re.DOTALL)
    assert [tip for *_, tip in tips] == [
        "steps: 10\n&lt;sam&gt;: 1.00 [1.00, 1.00]",
        "steps: 20\n&lt;sam&gt;: 3.0 [2.0, 4.0]",
        "steps: 40\n&lt;sam&gt;: 4.0 [3.0, 5.0]",
    ]
    edges = [(float(left), float(left) + float(width)) for left, width, _ in tips]
    assert all(abs(one[1] - two[0]) < 0.2 for one, two in pairwise(edges))
    point = r"([\d.]+) [\d.]+ "
    path = rf'd="M {point}L {point}L {point}" clip-path="[^"]*" style="fill: none; stroke: var'
    line = re.search(path + r"\(--hue-0072b2", svg)
    drawn = [float(at) for at in line.groups()]
    assert all(left < at < right for at, (left, right) in zip(drawn, edges, strict=True))
    alone = plots.Series(label="sam", style=look, x=x, values=values[:1])
    assert "sam: 2.00 (one seed)" in plots.lines("f", "t", [alone], x_label="x", y_label="y")
    rows = {"sam": (Estimate(point=0.5, low=0.4, high=0.6), look)}
    svg = plots.intervals("f", "t", rows, x_label="S", at=1)
    assert "<title>sam: 0.50 [0.40, 0.60]</title>" in svg


def test_tooltips_cost_little_and_need_no_script(finished):
    page = text(finished, "report.html")
    tips = "".join(re.findall(r'<g class="tips".*?</g>', page, re.S))
    assert page.count('class="tips"') == page.count("<svg")
    assert len(tips) < 0.3 * len(page)
    assert "<script" not in page


def test_the_curve_of_a_whole_life_is_the_iqm_of_the_scores_at_each_point(finished):
    from rliable import metrics as rliable

    study, summary = Study(read(finished)), summary_of(finished)
    scores = lives.life_scores(study, summary, "sam", 4)
    assert scores.shape == (6, 2, 6 * 4)
    case = study.case("Cart-reward", "ppo", "sam", 3)
    curve = case.life[2]
    expected = (curve.at(curve.steps * 1.5 / 4) - case.random[2]) / 100.0
    assert scores[3, 1, 2 * 4 + 1] == expected
    looks = plots.styles(["none", "sam"])
    (drawing,) = lives.efficiency(study, summary, looks).values()
    svg = drawing()
    shown = re.search(r"<title>phases: 0.05\n.*?sam: (\S+) ", svg, re.S)[1]
    first = rliable.aggregate_iqm(lives.life_scores(study, summary, "sam", 10)[:, :, 0])
    assert float(shown) == pytest.approx(first, abs=0.006)
    for arm in ("none", "sam", "none+fresh"):
        assert f"\n{arm}: " in svg
    assert "Over the whole life" in text(finished, "report.html")


def test_an_oracle_is_drawn_differently_and_named(tmp_path):
    folder = small(tmp_path, oracle=("sam",))
    write_report(folder)
    assert "sam (oracle)" in text(folder)
    assert 'class="swatch oracle"' in text(folder, "report.html")


def test_numbers_are_rounded_to_what_their_interval_leaves():
    assert doctest.testmod(digits).failed == 0
    assert show(Estimate(point=123.4, low=100.0, high=150.0)) == "123 [100, 150]"
    assert show(Estimate(point=-0.0001, low=-0.05, high=0.05), signed=True) == "+0.00 [-0.05, 0.05]"
    assert show(Estimate(point=1.0, low=1.0, high=1.0)) == "1.00 [1.00, 1.00]"


LONG = "hlgauss:low=0:high=100+sam:rho=0.1+layernorm+l2init:strength=0.001+redo:every=1000"


def test_arms_whose_names_are_as_long_as_names_may_be_are_drawn_whole(tmp_path):
    regs = ("none", LONG, LONG + "x", "y" * 100)
    folder = synthetic.write_results(
        tmp_path / "long", tasks=("Cart-observation",), seeds=6, phases=3, period=1000, regs=regs
    )
    write_report(folder, figures=tmp_path / "figures")
    drawn = (tmp_path / "figures" / "ppo-S.svg").read_text()
    shown = "".join(re.findall(r"<text[^>]*>([^<]*)</text>", drawn))
    for reg in regs:
        assert reg in shown  # its lines follow each other
    assert (tmp_path / "figures" / "ppo-S.png").stat().st_size > 1000


def test_lives_that_diverged_are_named_in_the_sentence_and_count_as_collapsed(tmp_path):
    folder = small(tmp_path, seeds=7)
    life = cells(folder, "*/ppo/sam/*")[0]
    diverge(life)
    sentence = verdict_of(folder).sentence
    assert sentence.endswith("Lives that diverged, and count as random from then on: 1 of sam.")
    assert [arm.collapsed for arm in summary_of(folder).arms] == [0.0, pytest.approx(1 / 7)]
