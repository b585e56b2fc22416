"""Reading results folders."""

import json
import subprocess
import sys

import numpy as np
import pytest
import synthetic_records as synthetic

from rlplastic.errors import UsageError
from rlplastic.reading import read

ROWS = [
    synthetic.episode(500, 1000, 7.0, copy=1),
    synthetic.episode(0, 500, 3.0, cut=True),
    synthetic.probe(0, 1000, "before", "weight_norm", 2.5),
    synthetic.phase(0, 0, 1000),
]


def one(folder, **ending):
    """The only record of a folder."""
    (record,) = read(folder).records.values()
    return record


def written(folder, rows=ROWS, identity=None, **options):
    identity = identity or synthetic.cell()
    path = synthetic.write_cell(folder, identity, rows, **options)
    synthetic.write_plan(folder, [identity])
    return path


def test_a_finished_cell_is_read_as_columns_ordered_by_begin(tmp_path):
    written(tmp_path)
    record = one(tmp_path)
    assert record.status == "done"
    assert record.slot == ("Toy-observation", "ppo", "none", 0)
    assert record.episodes.begin.tolist() == [0, 500]
    assert record.episodes.returns.tolist() == [3.0, 7.0]
    assert record.episodes.cut.tolist() == [True, False]
    assert record.phases[0].end == 1000
    assert [(p.name, p.moment, p.value) for p in record.probes] == [("weight_norm", "before", 2.5)]
    assert (record.seconds, record.steps) == (1.0, 1000)


def test_a_planned_cell_without_a_folder_is_missing(tmp_path):
    synthetic.write_plan(tmp_path, [synthetic.cell()])
    assert one(tmp_path).status == "missing"
    assert len(one(tmp_path).episodes) == 0


def test_a_cell_without_an_end_marker_is_unfinished_and_its_torn_line_is_ignored(tmp_path):
    path = written(tmp_path, unfinished=True)
    whole = (path / "rows.jsonl").read_bytes()
    last = whole[whole[:-1].rindex(b"\n") + 1 :]
    for cut in range(1, len(last) + 1):
        (path / "rows.jsonl").write_bytes(whole[:-cut])
        record = one(tmp_path)
        assert record.status == "unfinished"
        assert (len(record.episodes), len(record.probes), len(record.phases)) == (2, 1, 0)


@pytest.mark.parametrize("status", ["diverged", "failed"])
def test_diverged_and_failed_are_statuses_with_a_reason(tmp_path, status):
    ending = {"status": status, "reason": "NaN in the critic", "phase": 0, "step": 700}
    written(tmp_path, ending=ending)
    record = one(tmp_path)
    assert (record.status, record.reason) == (status, "NaN in the critic")
    assert record.ended == ((0, 700) if status == "diverged" else None)
    assert record.finished == (status == "diverged")


def test_a_cell_that_failed_before_its_header_is_failed(tmp_path):
    synthetic.write_plan(tmp_path, [synthetic.cell()])
    path = tmp_path / synthetic.cell_id(synthetic.cell())
    path.mkdir(parents=True)
    (path / "failed.json").write_text('{"status": "failed", "reason": "no such game"}')
    assert (one(tmp_path).status, one(tmp_path).reason) == ("failed", "no such game")


def test_a_plan_cannot_make_the_reader_look_outside_the_folder(tmp_path):
    folder = tmp_path / "results"
    synthetic.write_plan(folder, [synthetic.cell()])
    plan = json.loads((folder / "plan.json").read_text())
    for outside in ("../outside", str(tmp_path / "outside")):
        (tmp_path / "outside").mkdir(exist_ok=True)
        (tmp_path / "outside" / "failed.json").write_text('{"status": "failed"}')
        plan["cells"][0]["id"] = outside
        (folder / "plan.json").write_text(json.dumps(plan))
        with pytest.raises(UsageError, match="not the one that its name was made from"):
            read(folder)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda whole: whole[:-20], "row 4"),
        (lambda whole: whole[whole.index(b"\n") + 1 :], "3 rows"),
        (lambda whole: whole.replace(b"7.0", b"9.0"), "SHA-256"),
        (lambda whole: b"[" * 100_000 + b"\n", "row 1"),
    ],
    ids=["cut", "lost", "edited", "deep"],
)
def test_rows_that_do_not_fit_their_end_marker_make_the_cell_damaged(tmp_path, damage, said):
    path = written(tmp_path)
    rows = path / "rows.jsonl"
    rows.write_bytes(damage(rows.read_bytes()))
    record = one(tmp_path)
    assert record.status == "damaged"
    assert said in record.reason
    assert not record.finished


@pytest.mark.parametrize(
    "row",
    [
        {"kind": "episode", "begin": 0, "copy": 0},
        synthetic.probe(0, 1, "before", "weight_norm", "large"),
        synthetic.phase(0, 0, 1, "later"),
        synthetic.episode(0, 1, [1.0]),
    ],
    ids=["columns", "probe", "phase", "episode"],
)
def test_a_row_that_does_not_hold_what_it_should_makes_the_cell_damaged(tmp_path, row):
    written(tmp_path, rows=[row])
    assert one(tmp_path).status == "damaged"
    assert one(tmp_path).reason


@pytest.mark.parametrize("content", [None, "", "[1]", '{"schema": 2}', "[" * 100_000])
def test_a_folder_without_a_usable_plan_is_refused_in_at_most_five_lines(tmp_path, content):
    if content is not None:
        (tmp_path / "plan.json").write_text(content)
    with pytest.raises(UsageError, match=r"plan\.json") as error:
        read(tmp_path)
    assert len(str(error.value).splitlines()) <= 5


def test_a_header_that_is_torn_leaves_its_cell_missing(tmp_path):
    path = written(tmp_path)
    (path / "header.json").write_text('{"cell": {"task"')
    assert one(tmp_path).status == "missing"


CHANGED = {"learning_rate": 0.01}


@pytest.mark.parametrize(
    ("other", "key"),
    [
        ({"hyperparameters": CHANGED}, "hyperparameters.learning_rate: 0.001 | 0.01"),
        ({"seed": 1, "hyperparameters": CHANGED}, "hyperparameters.learning_rate"),
        ({"fresh": True, "hyperparameters": CHANGED}, "hyperparameters.learning_rate"),
        ({"reg": "sam", "replay": "keep"}, "replay: clear | keep"),
        ({"reg": "sam", "seed": 3, "stream": {"base": "Other"}}, "stream.base: Toy | Other"),
    ],
    ids=["same slot", "other seed", "newborn", "other arm", "other arm and seed"],
)
@pytest.mark.parametrize("on_disk", [True, False])
def test_two_configurations_are_refused_and_the_differing_key_is_named(
    tmp_path, other, key, on_disk
):
    first, second = synthetic.cell(), synthetic.cell(**other)
    synthetic.write_plan(tmp_path, [first] if on_disk else [first, second])
    synthetic.write_cell(tmp_path, first, ROWS)
    if on_disk:
        synthetic.write_cell(tmp_path, second, ROWS)
    with pytest.raises(UsageError) as error:
        read(tmp_path)
    assert key in str(error.value)
    assert synthetic.cell_id(second) in str(error.value)
    assert len(str(error.value).splitlines()) <= 5


def test_a_configuration_that_was_edited_is_refused(tmp_path):
    path = written(tmp_path)
    header = path / "header.json"
    header.write_text(header.read_text().replace("0.001", "0.01"))
    with pytest.raises(UsageError, match="edited by hand") as error:
        read(tmp_path)
    assert str(path) in str(error.value)


def test_one_configuration_under_two_names_is_refused(tmp_path):
    path = written(tmp_path)
    other = path.with_name("0-00000000")
    path.rename(other)
    header = other / "header.json"
    header.write_text(header.read_text().replace(path.name, other.name))
    with pytest.raises(UsageError, match="not the one that its name was made from"):
        read(tmp_path)


def test_seeds_newborns_and_arms_that_differ_only_in_their_own_keys_are_read(tmp_path):
    cells = [
        synthetic.cell(reg=reg, seed=seed, fresh=fresh)
        for reg in ("none", "sam")
        for seed in (0, 1)
        for fresh in (False, True)
    ]
    synthetic.write_plan(tmp_path, cells)
    for cell in cells:
        synthetic.write_cell(tmp_path, cell, ROWS)
    results = read(tmp_path)
    assert len(results.records) == 8
    assert (results.agents, results.regs("ppo"), results.seeds("ppo")) == (
        ["ppo"],
        ["none", "sam"],
        [0, 1],
    )


def test_a_renamed_cell_folder_is_refused(tmp_path):
    path = written(tmp_path)
    path.rename(path.with_name("1-00000000"))
    with pytest.raises(UsageError, match="renamed or copied"):
        read(tmp_path)


def test_a_cell_on_disk_that_no_plan_names_is_read_too(tmp_path):
    synthetic.write_plan(tmp_path, [])
    synthetic.write_cell(tmp_path, synthetic.cell(seed=4), ROWS)
    assert one(tmp_path).slot[3] == 4


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
def test_values_that_are_not_finite_never_become_probes_or_returns(tmp_path, number):
    path = written(tmp_path, unfinished=True)
    row = json.dumps(synthetic.probe(0, 1000, "after", "weight_norm", 4.5)) + "\n"
    with (path / "rows.jsonl").open("a") as file:
        file.write(row.replace("4.5", number))
    assert [p.value for p in one(tmp_path).probes] == [2.5]
    rows = (path / "rows.jsonl").read_text().replace("7.0", number)
    (path / "rows.jsonl").write_text(rows)
    assert not (one(tmp_path).episodes.returns == 7.0).any()
    assert np.isfinite(one(tmp_path).episodes.returns).all()


def test_reading_is_the_same_whatever_the_order_of_rows(tmp_path):
    written(tmp_path / "a", rows=ROWS)
    written(tmp_path / "b", rows=ROWS[::-1])
    one_way, other = one(tmp_path / "a"), one(tmp_path / "b")
    for column in ("begin", "returns", "copy", "cut"):
        np.testing.assert_array_equal(
            getattr(one_way.episodes, column), getattr(other.episodes, column)
        )


def test_the_offline_half_never_imports_torch_gymnasium_or_stable_baselines3():
    code = (
        "import sys; from rlplastic import registry, report, record, aggregate, plots; "
        "[entry.load() for entry in registry.entries('metric').values()]; "
        "heavy = {'torch', 'gymnasium', 'stable_baselines3', 'matplotlib', 'pandas'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
