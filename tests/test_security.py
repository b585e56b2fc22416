"""A results folder, a suite and a report are data: nothing in them runs, whatever it is."""

from __future__ import annotations

import io
import pickle  # noqa: TID251 - what an attacker would use
import shutil
import tracemalloc
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import running
import torch

from rlplastic import store
from rlplastic.compare import show_comparison
from rlplastic.errors import UsageError
from rlplastic.plan import make_plan
from rlplastic.power import show_power
from rlplastic.report import write_report
from rlplastic.request import Request
from rlplastic.status import show_status
from rlplastic.suitefile import load_suite


class Payload:
    """Leaves a trace where it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return (Path.touch, (self.trace,))


def payloads(trace: Path) -> dict[str, bytes]:
    """One thing that runs when it is loaded carelessly, in every usual wrapping."""
    packed = pickle.dumps(Payload(trace))
    saved, archive, array = io.BytesIO(), io.BytesIO(), io.BytesIO()
    torch.save(Payload(trace), saved)  # noqa: TID251
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("data", packed)
        file.writestr("pytorch_variables.pth", saved.getvalue())
    np.savez(array, x=np.array([Payload(trace)], dtype=object))
    return {
        "pickle": packed,
        "torch": saved.getvalue(),
        "zip of stable-baselines3": archive.getvalue(),
        "npz of objects": array.getvalue(),
        "python": f"__import__('pathlib').Path({str(trace)!r}).touch()".encode(),
        "yaml": f"!!python/object/apply:os.system ['touch {trace}']".encode(),
        "deep json": b"[" * 100_000 + b"]" * 100_000,
        "json key": f'{{"__class__": "Path.touch", "trace": "{trace}"}}\n'.encode(),
    }


KINDS = list(payloads(Path("x")))
FILES = (
    "plan.json",
    "*/*/*/*/header.json",
    "*/*/*/*/rows.jsonl",
    "*/*/*/*/timing.jsonl",
    "*/*/*/*/done.json",
    "*/*/*/*/tensorboard/*",
)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = ["--env", f"{running.TINY}/Cue-observation", "--budget", "tiny", "--reg", "sam"]
    return running.bench_once(tmp_path_factory, "security", *words).folder


@pytest.fixture
def folder(results: Path, tmp_path: Path) -> Iterator[Path]:
    shutil.copytree(results, tmp_path / "results")
    yield tmp_path / "results"
    assert not (tmp_path / "ran").exists(), "something in the folder has run"


def open_everything(folder: Path) -> None:
    """All that reads a results folder; a refusal is as good as an answer."""
    for read in (
        show_status,
        write_report,
        lambda path: show_power(path, 10),
        lambda path: show_comparison(f"{path}:none", f"{path}:sam"),
    ):
        with suppress(UsageError):
            read(folder)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pattern", FILES)
def test_opening_a_folder_runs_nothing(folder: Path, kind: str, pattern: str) -> None:
    for path in folder.glob(pattern):
        path.write_bytes(payloads(folder.parent / "ran")[kind])
    for name in ("conftest.py", "sitecustomize.py", "plugin.py", "report.pkl", "model.zip"):
        (folder / name).write_bytes(payloads(folder.parent / "ran")["python"])
    open_everything(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_a_suite_runs_nothing(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "Suite.toml"
    path.write_bytes(payloads(tmp_path / "ran")[kind])
    with pytest.raises(UsageError):
        load_suite(str(path))
    path.write_text(f"x = {'[' * 3000}{']' * 3000}")
    with pytest.raises(UsageError):
        load_suite(str(path))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "name",
    ["os.system", "../evil", "rlplastic.envs.control:CartPole", "__import__('os')", "\0", "a\nb"],
)
@pytest.mark.parametrize("part", ["base", "shifts", "schedule"])
def test_names_in_a_suite_are_looked_up_and_not_imported(
    tmp_path: Path, name: str, part: str
) -> None:
    import json

    text = Path(running.TINY).read_text()
    old = {"base": '"Cue"', "shifts": '"inversion"', "schedule": '"cyclic"'}[part]
    assert old in text
    path = tmp_path / "Suite.toml"
    path.write_text(text.replace(old, json.dumps(name)))
    request = Request(agents=["dqn"], regs=["sam"], env=str(path), budget="tiny")
    with pytest.raises(UsageError) as refused:
        make_plan(request)
    assert len(str(refused.value).splitlines()) <= 5
    assert not (tmp_path / "out").exists()


def test_a_huge_record_is_refused_without_being_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlplastic import reading

    path = next(folder.glob("*/dqn/*/*/rows.jsonl"))
    with path.open("r+b") as file:
        file.truncate(reading.LARGEST_ROWS + 1)  # a sparse file
    record = next(r for r in reading.read(folder).records.values() if path.parent == folder / r.id)
    assert (record.status, record.reason) == ("damaged", "rows.jsonl is larger than 1024 MB")


def test_huge_files_are_refused_or_read_in_part(folder: Path, tmp_path: Path) -> None:
    suite = tmp_path / "Suite.toml"
    cells = sorted(folder.glob("*/dqn/*/*"))
    (cells[0] / "done.json").unlink()
    huge = [cells[0] / name for name in ("timing.jsonl", "rows.jsonl", "done.json")]
    for path in (suite, *huge, cells[1] / "header.json", cells[2] / "timing.jsonl"):
        with path.open("ab") as file:
            file.truncate(2**34)  # sixteen GB, none of them on the disk
    tracemalloc.start()
    with pytest.raises(UsageError, match=r"Suite\.toml: larger than 4 MB"):
        load_suite(str(suite))
    open_everything(folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200 * 2**20


def test_a_link_in_place_of_a_folder_does_not_lead_outside(folder: Path) -> None:
    """A finished cell's checkpoint that is a link: the link goes, not what it points to."""
    outside = folder.parent / "outside"
    outside.mkdir()
    (outside / "precious").write_text("")
    cell = next(folder.glob("*/dqn/*/*"))
    (cell / "checkpoint").symlink_to(outside)
    store.remove(cell / "checkpoint")
    assert (outside / "precious").exists()
    assert not (cell / "checkpoint").exists()
