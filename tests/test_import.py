"""Runs of other programs: our own records, exported in their formats, come back as they were."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import running
import synthetic_records as synthetic
from typer.testing import CliRunner

from rlplastic import cli, registry, runner, store
from rlplastic.elsewhere.runs import Import
from rlplastic.elsewhere.write import import_runs
from rlplastic.errors import UsageError
from rlplastic.metrics.study import Study
from rlplastic.metrics.summary import summarise
from rlplastic.metrics.verdict import judge
from rlplastic.plan import make_plan
from rlplastic.planfile import write_plan
from rlplastic.reading import read
from rlplastic.record import Record
from rlplastic.report import write_report
from rlplastic.request import Request

PERIOD, PHASES, COPIES = 1020, 4, 4
SHIFTS = [PERIOD * k for k in range(1, PHASES)]
END = PERIOD * PHASES
TASKS = ("Cart-observation", "Cart-reward")
# what an intervention costs elsewhere is not known here
COSTS = {"P_equal_compute", "whole_run_mean_equal_compute"}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of our own: two tasks, two arms with newborns, cut episodes, four copies."""
    folder = tmp_path_factory.mktemp("own")
    synthetic.write_results(folder, tasks=TASKS, seeds=3, phases=PHASES, period=PERIOD)
    assert sum(r.episodes.cut.sum() for r in read(folder).learners) > 0
    return folder


def lives(record: Record) -> Iterator[tuple[str, list[dict[str, Any]], int]]:
    """(path, episodes in the order of their ends, first step) of each file to be written."""
    task, agent, arm, seed = record.slot
    e = record.episodes
    rows = [
        {
            "begin": int(e.begin[i]),
            "end": int(e.end[i]),
            "copy": int(e.copy[i]),
            "length": int(e.length[i]),
            "return": float(e.returns[i]),
            "cut": bool(e.cut[i]),
            "phase": int(e.phase[i]),
        }
        for i in np.lexsort((e.copy, e.end))
    ]
    if not record.fresh and agent != "random":
        yield f"{task}/{agent}/{arm}/{seed}", rows, 0
        return
    for number, phase in record.phases.items():
        own_rows = [row for row in rows if row["phase"] == number]
        yield f"{task}/{agent}/{arm}/{seed}/born-{number}", own_rows, phase.begin


def as_csv(folder: Path, record: Record) -> None:
    for name, rows, start in lives(record):
        path = folder / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(
                ["Global_Step", "env_index", "episodic_return", "episodic_length", "cut"]
            )
            for row in rows:
                values = (row["end"] - start, row["copy"], row["return"], row["length"], row["cut"])
                writer.writerow(values)


def as_monitors(folder: Path, record: Record) -> None:
    """As stable-baselines3's `make_vec_env(..., monitor_dir=...)`, ``cut`` an info keyword."""
    for name, rows, _ in lives(record):
        for copy in range(COPIES):
            path = folder / name / f"{copy}.monitor.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = [
                f"{r['return']},{r['length']},1.5,{r['cut']}" for r in rows if r["copy"] == copy
            ]
            head = '#{"t_start": 1700000000.0, "env_id": "Cart-v1"}'
            path.write_text("\n".join([head, "r,l,t,cut", *lines]) + "\n")


def scores(study: Study) -> dict[tuple[object, ...], np.ndarray]:
    return {
        (metric, *record.slot): study.score(metric, *record.slot)
        for record in study.results.learners
        for metric in study.metrics
        if metric not in COSTS or record.reg == "none"
    }


def request(files: list[Path], **changes: Any) -> Import:
    return Import(**{"files": files, "shifts": SHIFTS, "end": END, **changes})


CSVS = ["logs/{task}/{agent}/{arm}/{seed}.csv", "logs/{task}/{agent}/{arm}/{seed}/born-{phase}.csv"]
MONITORS = [
    "logs/{task}/{agent}/{arm}/{seed}/{copy}.monitor.csv",
    "logs/{task}/{agent}/{arm}/{seed}/born-{phase}/{copy}.monitor.csv",
]


@pytest.mark.parametrize(("export", "patterns"), [(as_csv, CSVS), (as_monitors, MONITORS)])
def test_our_own_records_come_back_with_the_same_metrics(
    export: Callable[[Path, Record], None], patterns: list[str], own: Path, tmp_path: Path
) -> None:
    for record in read(own).records.values():
        export(tmp_path / "logs", record)
    new = tmp_path / "new"
    files = [tmp_path / "logs"]
    given = {"scale": {"": 100.0}, "random": {}, "time_limit": 10}
    told = import_runs(request(files, patterns=patterns, **given), new)
    assert "left out" not in told
    assert "not complete" not in told
    read_new = read(new)
    for slot, record in read(own).records.items():
        other = read_new.records[slot].episodes
        columns = ("phase", "begin", "end", "copy", "length", "returns", "cut")
        for column in columns if slot[1] != "random" else ("returns", "cut"):
            mine, theirs = (getattr(episodes, column) for episodes in (record.episodes, other))
            np.testing.assert_array_equal(theirs, mine, err_msg=f"{slot} {column}")
    ours, theirs = scores(Study(read(own))), scores(Study(read_new))
    assert ours.keys() == theirs.keys()
    for key, values in ours.items():
        if key[0] == "phase_0":  # its constants are of the suite
            continue
        np.testing.assert_array_equal(theirs[key], values, err_msg=str(key))
    assert np.isfinite(theirs["S", TASKS[0], "ppo", "sam", 0])
    assert np.isfinite(theirs["P", TASKS[0], "ppo", "sam", 0])
    assert np.isfinite(theirs["recovery_time_80", TASKS[0], "ppo", "sam", 0]).all()
    write_report(new)
    assert summarise(Study(read(new)), "ppo").tasks == list(TASKS)


def test_a_tensorboard_log_of_a_real_bench_comes_back_with_the_same_metrics(tmp_path: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    own = tmp_path / "own"
    with running.no_plugins():
        registry.add_plugin(running.DATA / "imprinted.py")
        suite = str(running.DATA / "ByHand.toml")
        plan = make_plan(Request(agents=["imprinted"], regs=["none"], env=suite, budget="small"))
        write_plan(plan, own)
        for cell in plan.cells:
            runner.run_cell(cell, store.CellFolder(own / cell.id), {})
    for record in read(own).learners:
        for name, rows, start in lives(record):
            with SummaryWriter(str(tmp_path / "runs" / name)) as writer:
                for row in rows:
                    step = row["end"] - start
                    writer.add_scalar("charts/episodic_return", row["return"], step)
                    writer.add_scalar("charts/episodic_length", row["length"], step)
                    writer.add_scalar("losses/td_loss", 1.0, step)
    chance = Study(read(own)).random_level("Cue-reward", 0, 1).value
    new = tmp_path / "new"
    at = "runs/{task}/{agent}/{arm}/{seed}"
    import_runs(
        Import(
            files=[tmp_path / "runs"],
            patterns=[f"{at}/*", f"{at}/born-{{phase}}/*"],
            shifts=[2000, 4000],
            worlds=[0, 1, 0],
            scale={"": 5.0},
            random={"Cue-reward": chance},
            time_limit=10,
        ),
        new,
    )
    ours, theirs = Study(read(own)), Study(read(new))
    of_random = {
        "phase_0",
        "P",
        "gain",
        "resilience",
        "auc_ratio",
        "forward_transfer",
        "newborn_P",
    } | COSTS
    for record in ours.results.learners:
        for name in set(ours.metrics) - of_random:
            mine = ours.score(name, *record.slot)
            np.testing.assert_allclose(theirs.score(name, *record.slot), mine, rtol=1e-12)
    slot = ("Cue-reward", "imprinted", "none", 0)
    gap = (19 * 10 + 9.9) / 20 / 5  # as computed by hand in test_by_hand.py
    np.testing.assert_allclose(theirs.score("S", *slot), 1 - gap / 2)
    np.testing.assert_allclose(theirs.score("P", *slot), (10 - 2 * chance) / 2 / 5)


# -- what is not there ---------------------------------------------------------------------------


LOG = "step,return,length,arm,seed\n"


def log(path: Path, *, arms: tuple[str, ...] = ("none", "sam"), seeds: int = 2) -> Path:
    """Two phases of 100 steps in episodes of 10: level 10, then 0, then back at 10 after half."""
    rows = [
        f"{end},{0 if 100 < end <= 150 else 10},10,{arm},{seed}\n"
        for arm in arms
        for seed in range(seeds)
        for end in range(10, 201, 10)
    ]
    path.write_text(LOG + "".join(rows))
    return path


def test_without_newborns_random_or_scale_only_what_needs_none_of_them_is_said(
    tmp_path: Path,
) -> None:
    told = import_runs(Import(files=[log(tmp_path / "a.csv")], shifts=[100]), tmp_path / "new")
    assert "no newborns beside none, sam: no plasticity S there" in told
    assert "no random level" in told
    assert "no scale" in told
    study = Study(read(tmp_path / "new"))
    known = {
        name
        for name in study.metrics
        if np.isfinite(study.score(name, "task", "agent", "sam", 1)).all()
    }
    assert known == {"whole_run_mean", "l2_recovery_time"}
    assert study.score("whole_run_mean", "task", "agent", "sam", 1) == (10 + 5) / 2
    write_report(tmp_path / "new")
    text = (tmp_path / "new" / "report.md").read_text()
    assert "No verdict: no scale was given" in text
    assert "| whole_run_mean ↑ (return) | 7.50 [7.50, 7.50] | 7.50 [7.50, 7.50] |" in text
    for name in ("report.html", "report.md", "results.csv"):
        content = (tmp_path / "new" / name).read_text()
        assert not any(word in content.lower() for word in (">nan", "nan ", "| nan", ",nan")), name


def test_with_scale_and_random_there_are_drop_and_p(tmp_path: Path) -> None:
    source = log(tmp_path / "a.csv")
    given = {"scale": {"": 8.0}, "random": {"task": 2.0}}
    import_runs(Import(files=[source], shifts=[100], **given), tmp_path / "new")
    study = Study(read(tmp_path / "new"))
    slot = ("task", "agent", "none", 0)
    assert study.score("drop", *slot) == (10 - 0) / 8
    assert study.score("P", *slot) == (5 - 2) / 8
    assert study.score("phase_0", *slot) == 1.0
    assert np.isnan(study.score("S", *slot))
    summary = summarise(study, "agent")
    assert summary.arms[0].plasticity is None
    assert summary.arms[0].performance is not None
    assert judge(study, summary).sentence.startswith("Too few seeds")


def test_newborns_without_a_random_level_give_s_but_no_verdict(tmp_path: Path) -> None:
    source = log(tmp_path / "a.csv", seeds=6)
    born = "".join(f"{end},10,10,none+fresh,{s}\n" for s in range(6) for end in range(110, 201, 10))
    source.write_text(source.read_text().replace(",sam,", ",none,", 0) + born)
    lines = [line for line in source.read_text().splitlines() if ",sam," not in line]
    source.write_text("\n".join(lines) + "\n")
    told = import_runs(
        Import(files=[source], shifts=[100], scale={"": 10.0}, time_limit=2), tmp_path / "new"
    )
    assert "no newborns" not in told
    study = Study(read(tmp_path / "new"))
    assert study.score("S", "task", "agent", "none", 0) == 1 - (10 - 5) / 10
    verdict = judge(study, summarise(study, "agent"))
    assert verdict.obstacles == [
        "No verdict: there is no random level, so no P, without which S says little"
    ]


def test_a_run_that_ends_early_is_shown_as_failed_with_the_reason(tmp_path: Path) -> None:
    source = log(tmp_path / "a.csv")
    lines = source.read_text().splitlines()
    source.write_text("\n".join(lines[:-5]) + "\n")  # the last run ends at 150 of 200
    told = import_runs(Import(files=[source], shifts=[100]), tmp_path / "new")
    reason = "its log ends at step 150, phase 1 at 200"
    assert f"not complete: task/agent/sam/1: {reason}" in told
    record = read(tmp_path / "new").records["task", "agent", "sam", 1]
    assert (record.status, record.reason, list(record.phases)) == ("failed", reason, [0])
    # an episode that was on its way at the end is none that is missing
    source.write_text("\n".join(lines[:-1]) + "\n")
    assert "not complete" not in import_runs(
        Import(files=[source], shifts=[100]), tmp_path / "other"
    )


def test_runs_named_as_cleanrl_names_them(tmp_path: Path) -> None:
    """``<env>__<experiment>__<seed>__<time>``, where the plain agent is called by its algorithm."""
    from torch.utils.tensorboard import SummaryWriter

    for arm in ("ppo", "ppo_l2init"):
        for seed in (1, 2):
            run = tmp_path / "runs" / f"CartPole-v1__{arm}__{seed}__1700000000"
            with SummaryWriter(str(run)) as writer:
                for end in range(20, 401, 20):
                    writer.add_scalar("charts/episodic_return", seed, end)
                    writer.add_scalar("charts/episodic_length", 10, end)
    request = Import(
        files=[tmp_path / "runs"],
        patterns=["{task}__{arm}__{seed}__*/*"],
        names={"agent": "ppo"},
        plain="ppo",
        copies=2,
        shifts=[200],
    )
    import_runs(request, tmp_path / "new")
    records = read(tmp_path / "new").records
    assert set(records) == {
        ("CartPole-v1", "ppo", arm, seed) for arm in ("none", "ppo_l2init") for seed in (1, 2)
    }
    one = records["CartPole-v1", "ppo", "ppo_l2init", 2].episodes
    assert (one.begin[:3].tolist(), set(one.returns.tolist())) == ([0, 20, 40], {2.0})
    assert np.isnan(Study(read(tmp_path / "new")).cost("ppo", "ppo_l2init"))


def test_episodes_after_the_end_are_left_out_and_counted(tmp_path: Path) -> None:
    source = log(tmp_path / "a.csv", arms=("none",), seeds=1)
    told = import_runs(Import(files=[source], shifts=[100], end=180), tmp_path / "new")
    assert "2 episodes began after the end of their last phase: left out" in told
    assert len(read(tmp_path / "new").records["task", "agent", "none", 0].episodes) == 18


def test_the_same_import_again_changes_no_byte_and_another_is_refused(tmp_path: Path) -> None:
    source = log(tmp_path / "a.csv")
    one = Import(files=[source], shifts=[100])
    import_runs(one, tmp_path / "new")
    before = running.contents(tmp_path / "new")
    import_runs(one, tmp_path / "new")
    assert running.contents(tmp_path / "new") == before
    other = source.read_text().replace("200,10,10,sam,1", "200,11,10,sam,1")
    source.write_text(other)
    for request, words in (
        (one, "holds other episodes"),
        (Import(files=[source], shifts=[100], scale={"": 2.0}), "holds another import"),
        (Import(files=[source], shifts=[110]), "holds .* under other settings"),
    ):
        with pytest.raises(UsageError, match=words):
            import_runs(request, tmp_path / "new")
    assert running.contents(tmp_path / "new") == before


# -- how episodes are placed -----------------------------------------------------------------------


def episodes_of(text: str, tmp_path: Path, **changes: Any) -> list[tuple[int, int, int, int]]:
    source = tmp_path / "a.csv"
    source.write_text(text)
    folder = tmp_path / "new"
    import_runs(Import(**{"files": [source], "shifts": [20], **changes}), folder)
    (record,) = read(folder).records.values()
    e = record.episodes
    return list(zip(*(map(int, c) for c in (e.phase, e.begin, e.end, e.copy)), strict=True))


def test_an_episode_belongs_to_the_phase_in_which_it_began(tmp_path: Path) -> None:
    text = "step,return\n15,1\n25,2\n40,3\n"
    assert episodes_of(text, tmp_path) == [(0, 0, 15, 0), (0, 15, 25, 0), (1, 25, 40, 0)]


def test_copies_that_a_log_does_not_tell_apart_are_found_by_their_ends(tmp_path: Path) -> None:
    # two copies on one clock: one of 5 + 10 + 5 own steps, one of 10 + 5 + 5
    text = "step,return,length\n10,1,5\n20,2,10\n30,3,10\n30,4,5\n40,5,5\n40,6,5\n"
    found = episodes_of(text, tmp_path, copies=2)
    lives = {copy: [(b, e) for _, b, e, c in found if c == copy] for copy in (0, 1)}
    assert sorted(lives.values()) == [
        [(0, 10), (10, 30), (30, 40)],
        [(0, 20), (20, 30), (30, 40)],
    ]


def test_a_clock_that_counts_from_zero_is_moved_to_one(tmp_path: Path) -> None:
    text = "step,return,length\n9,1,10\n19,2,10\n29,3,10\n39,3,10\n"
    assert [(p, b) for p, b, _, _ in episodes_of(text, tmp_path)] == [
        (0, 0),
        (0, 10),
        (1, 20),
        (1, 30),
    ]


# -- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "changes", "words"),
    [
        ("step,return\n10,1\n20,abc\n", {}, r"a\.csv:3: column 'return': 'abc' is not a finite"),
        ("step,return\n10,nan\n", {}, r"a\.csv:2: column 'return': 'nan' is not a finite"),
        ("step,return\n1.5,1\n", {}, r"a\.csv:2: column 'step': '1.5' is not a whole number"),
        ("step,return\n1e300,1\n", {}, r"a\.csv:2: column 'step'"),
        ("step,return\n10\n", {}, r"a\.csv:2: 1 values below 2 columns"),
        ("step,retrun\n10,1\n", {}, r"a\.csv:1: no column is a return; it has: step, retrun"),
        (
            "step,retrun\n10,1\n",
            {"columns": {"return": "return"}},
            r"unknown column in .*a\.csv:1 'return'. Did you mean 'retrun'",
        ),
        ("step,return\n10,1\n", {"columns": {"retrun": "a"}}, "key in --columns.*'return'"),
        ("t,return\n10,1\n", {}, r"a\.csv:1: no column says at which step"),
        ("step,return,cut\n10,1,maybe\n", {}, "column 'cut': 'maybe' is neither"),
        ("step,return,length\n10,1,20\n", {}, r"a\.csv:2: an episode of 20 steps cannot end"),
        ("step,return,length\n30,1,10\n35,1,10\n", {}, r"a\.csv:3: begins at step 25, before"),
        ("step,return,task\n10,1,../../x\n", {}, r"a\.csv:2: task '..-..-x'|has letters"),
        ("step,return,seed\n10,1,-1\n", {}, r"a\.csv:2: seed '-1' is not"),
        ("step,return,copy\n10,1,x\n", {}, r"a\.csv:2: copy 'x' is not"),
        ("step,return,arm\n40,1,sam\n", {}, "no arm is called none; .*: sam"),
        ("step,return,arm\n10,1,none+fresh\n40,1,none\n", {}, "newborn's episode begins at step 0"),
        ("step,return\n10,1\n", {}, "--shifts 20: not before the last logged step, 10"),
        ("step,return\n40,1\n", {"shifts": [30, 20]}, "steps that rise"),
        ("step,return\n40,1\n", {"worlds": [0]}, "1 worlds are named, 1 shifts make 2"),
        ("step,return\n40,1\n", {"scale": {"Cart": 1.0}}, "task in --scale 'Cart'.*'task'"),
        ("step,return\n40,1\n", {"scale": {"": 0.0}}, "--scale: a return above 0"),
        ("step,return\n40,1\n", {"patterns": ["{sede}.csv"]}, "name in --pattern 'sede'.*'seed'"),
        ("step,return\n40,1\n", {"patterns": ["{seed}.csv"]}, "its end fits no --pattern"),
        ("#{not json\nr,l,t\n", {}, r"a\.csv:1: .* '#' is not followed by JSON"),
        ("step,return\n", {}, "not one episode in 1 file"),
        ("", {}, r"a\.csv:1: no column is a return; it has: nothing"),
        ('step,return\n10,"1\n', {}, r"a\.csv:2: not a CSV file"),
        ("step,return\n40,1\n", {"files": [Path("nowhere.csv")]}, "there is no such file"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    text: str, changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=f"(?s){words}"):
        episodes_of(text, tmp_path, **changes)
    assert os.listdir(tmp_path) == ["a.csv"]


def test_two_logs_of_one_run_are_refused_and_both_are_named(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.csv").write_text("step,return\n40,1\n")
    with pytest.raises(UsageError, match=r"(?s)one\.csv and .*two\.csv would be one run"):
        import_runs(Import(files=[tmp_path], shifts=[20]), tmp_path / "new")


def test_a_moving_mean_is_refused_unless_named_and_then_shown_and_not_scored(
    tmp_path: Path,
) -> None:
    from torch.utils.tensorboard import SummaryWriter

    for seed in range(6):
        with SummaryWriter(str(tmp_path / "runs" / str(seed))) as writer:
            for step in range(10, 201, 10):
                writer.add_scalar("rollout/ep_rew_mean", 5.0 + seed, step)
    files, patterns = [tmp_path / "runs"], ["runs/{seed}/*"]
    given = {"shifts": [100], "scale": {"": 1.0}, "random": {"": 0.0}}
    with pytest.raises(UsageError, match="(?s)rollout/ep_rew_mean is a moving mean.*monitor.csv"):
        import_runs(Import(files=files, patterns=patterns, **given), tmp_path / "new")
    columns = {"return": "rollout/ep_rew_mean"}
    told = import_runs(
        Import(files=files, patterns=patterns, columns=columns, **given), tmp_path / "new"
    )
    assert "shown, not scored" in told
    study = Study(read(tmp_path / "new"))
    slot = ("task", "agent", "none", 3)
    known = [name for name in study.metrics if np.isfinite(study.score(name, *slot)).any()]
    assert known == ["whole_run_mean"]
    assert study.score("whole_run_mean", *slot) == 8.0
    write_report(tmp_path / "new")
    text = (tmp_path / "new" / "report.md").read_text()
    assert "No verdict: the logs hold a moving mean" in text


def test_event_files_that_are_damaged_or_hold_nothing_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "events.out.tfevents.1"
    for content in (b"", b"\x00" * 100, os.urandom(300)):
        path.write_bytes(content)
        with pytest.raises(UsageError, match=r"tfevents\.1: (holds no scalars|is a damaged)"):
            import_runs(Import(files=[path], shifts=[20]), tmp_path / "new")


def test_hostile_names_stay_names(tmp_path: Path) -> None:
    arm = "<script>alert(1)</script>/../../../etc"
    rows = "".join(f'{end},1,10,"{a}"\n' for a in ("none", arm) for end in range(10, 41, 10))
    (tmp_path / "a.csv").write_text("step,return,length,arm\n" + rows)
    import_runs(Import(files=[tmp_path / "a.csv"], shifts=[20]), tmp_path / "new")
    write_report(tmp_path / "new")
    assert "<script" not in (tmp_path / "new" / "report.html").read_text()
    assert sorted(os.listdir(tmp_path)) == ["a.csv", "new"]
    assert arm in {record.reg for record in read(tmp_path / "new").learners}


def test_hostile_arms_stay_one_cell_of_every_table(tmp_path: Path) -> None:
    arms = [
        "none",
        "../../evil",
        "a|b",
        "\\input{x}&_#%$",
        "=cmd()",
        "`id`",
        "..",
        "</table>",
        "{arm}",
    ]
    ends = range(10, 41, 10)
    rows = "".join(f'{end},1,10,"{arm}"\n' for arm in arms for end in ends)
    (tmp_path / "a.csv").write_text("step,return,length,arm\n" + rows)
    import_runs(Import(files=[tmp_path / "a.csv"], shifts=[20]), tmp_path / "new")
    write_report(tmp_path / "new", tables_to=tmp_path / "tables")
    assert sorted(os.listdir(tmp_path)) == ["a.csv", "new", "tables"]
    page = (tmp_path / "new" / "report.html").read_text()
    assert "&lt;/table&gt;" in page
    for table in (tmp_path / "tables").glob("*.md"):
        lines = [line for line in table.read_text().splitlines() if "|" in line]
        assert len({re.sub(r"\\.", "", line).count("|") for line in lines}) == 1
    for table in (tmp_path / "tables").glob("*.tex"):
        body = [row for row in table.read_text().splitlines() if row.endswith(r" \\")]
        assert len({re.sub(r"\\[&\\]", "", row).count("&") for row in body}) == 1
        assert r"\input{" not in table.read_text()


# -- the command ---------------------------------------------------------------------------------


def test_the_command_imports_reports_and_loads_nothing_heavy(tmp_path: Path) -> None:
    source = log(tmp_path / "a.csv")
    words = ["import", source, "--shifts", "100", "--scale", "8", "--random", "task=2"]
    words += ["--out", tmp_path / "new", "--columns", "return=return,step=step", "--end", "200"]
    done = running.rlplastic(*words)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == f"report: {tmp_path / 'new' / 'report.html'}"
    assert "2 phases, which end at 100, 200" in done.stdout
    plan = json.loads((tmp_path / "new" / "plan.json").read_text())
    assert plan["commands"][0].startswith("rlplastic import ")
    code = (
        "import sys; from pathlib import Path; from rlplastic.elsewhere import runs, write\n"
        f"write.import_runs(runs.Import(files=[Path({str(source)!r})], shifts=[100]), "
        f"Path({str(tmp_path / 'x')!r}))\n"
        "print([m for m in ('torch', 'gymnasium', 'stable_baselines3') if m in sys.modules])"
    )
    light = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert light.stdout.strip() == "[]"


def test_a_report_of_csv_files_is_an_import_and_its_report(tmp_path: Path) -> None:
    source = log(tmp_path / "a.csv")
    done = running.rlplastic("report", tmp_path / "new", "--from-csv", source, "--shifts", "100")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == str(tmp_path / "new" / "report.html")
    import_runs(Import(files=[source], shifts=[100]), tmp_path / "other")
    write_report(tmp_path / "other")
    one, two = ((tmp_path / name / "results.csv").read_text() for name in ("new", "other"))
    assert one == two
    half = running.rlplastic("report", tmp_path / "new", "--from-csv", source)
    assert half.returncode != 0
    assert "--from-csv and --shifts: give both" in half.stderr


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--shifts", "1e5", "whole numbers"),
        ("--columns", "return", "write KEY=NAME"),
        ("--columns", "return=a,return=b", "given twice"),
        ("--scale", "much", "write a number"),
        ("--random", "a=inf", "write a number"),
    ],
)
def test_options_that_cannot_be_read(option: str, value: str, words: str, tmp_path: Path) -> None:
    source, new = str(log(tmp_path / "a.csv")), str(tmp_path / "new")
    command = ["import", source, "--shifts", "100", "--out", new, option, value]
    result = CliRunner().invoke(cli.app, command)
    assert isinstance(result.exception, UsageError)
    assert words in str(result.exception)
    assert not (tmp_path / "new").exists()
