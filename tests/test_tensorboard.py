"""The scores in TensorBoard: event files that are read back, and looked at in a browser."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import running
import synthetic_records as synthetic
from browser import CHROMIUM, page
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import metadata

from rlplastic import store, tensorboard
from rlplastic.metrics.study import Study
from rlplastic.reading import read
from rlplastic.report import write_report

TASKS = ("Cart-observation", "Cart-reward")


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = synthetic.write_results(
        tmp_path_factory.mktemp("tb"), tasks=TASKS, seeds=3, phases=3, period=1000
    )
    write_report(folder)
    return folder


def events(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    found.Reload()
    return found


def hparams(found: EventAccumulator, tag: str) -> Any:
    content = found.SummaryMetadata(tag).plugin_data.content
    read_as = {
        metadata.EXPERIMENT_TAG: metadata.parse_experiment_plugin_data,
        metadata.SESSION_START_INFO_TAG: metadata.parse_session_start_info_plugin_data,
    }
    return read_as[tag](content)


def test_each_life_is_a_session_with_its_scores(reported: Path) -> None:
    study = Study(read(reported))
    lives = [record for record in study.results.learners if not record.fresh]
    cells = reported / "tensorboard" / "cells"
    assert len([path for path in cells.iterdir() if path.is_dir()]) == len(lives) == 12
    for record in lives:
        task, agent, arm, seed = record.slot
        found = events(cells / f"{task}__{agent}__{arm}__{seed}")
        start = hparams(found, metadata.SESSION_START_INFO_TAG)
        told = {key: value.string_value for key, value in start.hparams.items()}
        assert told == {"task": task, "agent": agent, "arm": arm}
        assert start.group_name == f"{task} {agent} {arm}"
        assert set(found.Tags()["scalars"]) == set(tensorboard.METRICS)
        for metric in tensorboard.METRICS:
            (point,) = found.Scalars(metric)
            assert point.value == np.float32(study.reduced(metric, *record.slot))
    experiment = hparams(events(cells), metadata.EXPERIMENT_TAG)
    assert [info.name.tag for info in experiment.metric_infos] == list(tensorboard.METRICS)
    assert [info.name for info in experiment.hparam_infos] == ["task", "agent", "arm"]


def test_a_panel_holds_the_curves_of_all_arms_of_its_task_and_no_others(reported: Path) -> None:
    arms = reported / "tensorboard" / "arms"
    content = events(arms).Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0]
    (category,) = layout_pb2.Layout.FromString(content).category
    assert category.title == "ppo"
    assert [chart.title for chart in category.chart] == list(TASKS)
    logged = {path.name: events(path) for path in arms.iterdir() if path.is_dir()}
    assert logged.keys() == {"none", "none+fresh", "sam", "sam+fresh"}
    for chart in category.chart:
        (pattern,) = chart.multiline.tag
        for found in logged.values():
            matched = [tag for tag in found.Tags()["scalars"] if re.match(pattern, tag)]
            assert matched == [f"ppo/{chart.title}/return"]
    study = Study(read(reported))
    points = logged["sam"].Scalars("ppo/Cart-reward/return")
    assert [point.step for point in points] == [50 + 100 * i for i in range(30)]
    lives = [study.curves("Cart-reward", "ppo", "sam", seed) for seed in range(3)]
    expected = np.float32(np.mean([life[1].at(150) for life in lives]))
    assert points[11].value == expected
    first = logged["sam+fresh"].Scalars("ppo/Cart-reward/return")[0]
    assert first.step == 1050


def test_what_is_not_known_is_not_logged(tmp_path: Path) -> None:
    folder = synthetic.write_results(tmp_path, tasks=TASKS[:1], seeds=1, phases=2, period=1000)
    for path in folder.glob("*/ppo/sam+fresh"):
        shutil.rmtree(path)
    for path in folder.glob("*/ppo/none/*/done.json"):
        path.unlink()
    write_report(folder)
    cells = folder / "tensorboard" / "cells"
    tags = events(cells / "Cart-observation__ppo__sam__0").Tags()["scalars"]
    assert "S" not in tags
    assert "P" in tags
    assert (cells / "Cart-observation__ppo__none__0").is_dir()


def test_the_same_folder_gives_the_same_bytes_and_cells_are_not_touched(
    reported: Path, tmp_path: Path
) -> None:
    cells = running.contents(reported, "*/*/*/*/*")
    before = running.contents(reported, "tensorboard/**/*")
    code = "import sys, pathlib; from rlplastic import report; "
    code += "report.write_report(pathlib.Path(sys.argv[1]))"
    for seed in ("7", "8"):
        environment = running.environment(PYTHONHASHSEED=seed)
        subprocess.run([sys.executable, "-c", code, str(reported)], check=True, env=environment)
    assert running.contents(reported, "tensorboard/**/*") == before  # nor their times
    assert running.contents(reported, "*/*/*/*/*") == cells
    store.write_events(reported / "tensorboard", {})
    assert not list((reported / "tensorboard").rglob("*tfevents*"))
    write_report(reported)
    digests = {name: digest for name, (digest, _) in before.items()}
    after = running.contents(reported, "tensorboard/**/*")
    assert {name: digest for name, (digest, _) in after.items()} == digests


def test_names_cannot_leave_the_folder_nor_meet(tmp_path: Path) -> None:
    arms = ["none", "a/../../b", "a_.._.._b", "<script>", "." * 100]
    cells = [synthetic.cell(reg=reg) for reg in arms]
    for one in cells:
        rng = np.random.default_rng(0)
        rows = [r for k in range(3) for r in synthetic.learning_phase(k, 1000, 5, 90, rng)]
        synthetic.write_cell(tmp_path / "results", one, rows)
    synthetic.write_plan(tmp_path / "results", cells)
    write_report(tmp_path / "results")
    assert os.listdir(tmp_path) == ["results"]
    for kind in ("arms", "cells"):
        folders = [p for p in (tmp_path / "results/tensorboard" / kind).iterdir() if p.is_dir()]
        assert len(folders) == len(arms)
        assert all(len(path.name) < 250 for path in folders)
    assert tensorboard._name("..") not in ("..", ".", "")


# -- in a browser --------------------------------------------------------------------------------


@pytest.fixture
def server(reported: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """TensorBoard on a loopback port that it chooses; gives its address."""
    command = [sys.executable, "-m", "tensorboard.main", "--host", "127.0.0.1", "--port", "0"]
    command += ["--load_fast", "false", "--logdir", str(reported / "tensorboard" / request.param)]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if found := re.search(r"http://127\.0\.0\.1:\d+/", line):
                yield found[0]
                return
        raise AssertionError("tensorboard did not start")
    finally:
        process.kill()
        process.wait()


def ask(address: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        return json.load(answer)


@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs /usr/bin/chromium")
@pytest.mark.parametrize("server", ["cells"], indirect=True)
def test_a_browser_shows_lives_sortable_by_their_scores(
    server: str, reported: Path, tmp_path: Path
) -> None:
    running.until(lambda: len(ask(f"{server}data/runs")) == 13, "all runs are read")
    columns = [{"hparam": "arm"}, {"metric": {"tag": "S"}, "order": "ORDER_DESC"}]
    body = {"colParams": columns, "allowedStatuses": ["STATUS_SUCCESS"], "sliceSize": 99}
    body |= {"aggregationType": "AGGREGATION_AVG", "startIndex": 0}
    groups = ask(f"{server}data/plugin/hparams/session_groups", body)["sessionGroups"]
    study = Study(read(reported))
    means = {
        f"{task} ppo {reg}": np.mean([study.reduced("S", task, "ppo", reg, s) for s in range(3)])
        for task in TASKS
        for reg in ("none", "sam")
    }
    order = sorted(means, key=lambda group: -means[group])
    assert [group["name"] for group in groups] == order
    with page(f"{server}#hparams", tmp_path / "profile") as shown:
        wanted = {f"{mean:.5f}" for mean in map(np.float32, means.values())}
        running.until(lambda: wanted <= set(shown.lines()), "the table with the means of S")
        lines = shown.lines()
    assert {"S", "P", "recovered_80", "sam", "Cart-reward"} <= set(lines)


@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs /usr/bin/chromium")
@pytest.mark.parametrize("server", ["arms"], indirect=True)
def test_a_browser_shows_all_arms_of_a_task_in_one_panel(server: str, tmp_path: Path) -> None:
    running.until(lambda: len(ask(f"{server}data/runs")) == 5, "all runs are read")
    with page(f"{server}#custom_scalars", tmp_path / "profile") as shown:
        matches = "Matches (4)"  # none, sam and their newborns
        running.until(lambda: shown.lines().count(matches) == 2, "two panels of four lines")
        lines = shown.lines()
    assert set(TASKS) <= set(lines)
