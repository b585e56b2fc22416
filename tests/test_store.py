"""Files appear whole or not at all; a cell's end is told from its folder alone."""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import running

from rlplastic import store
from rlplastic.errors import UsageError


def finished(path: Path, status: str = "done") -> store.CellFolder:
    folder = store.CellFolder(path)
    folder.begin({"id": "x"})
    folder.row(kind="phase", phase=0)
    folder.finish(status, reason="")
    return folder


def test_a_reader_never_sees_a_part_of_a_file_that_is_written_again_and_again(
    tmp_path: Path,
) -> None:
    path = tmp_path / "value.json"
    code = (
        "import sys; from pathlib import Path; from rlplastic import store\n"
        "while True:\n"
        "    for n in (1, 10_000): store.write_json(Path(sys.argv[1]), [n] * n)"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, path], env=running.environment())
    try:
        running.until(path.exists, "the first file is there")
        seen: Counter[int] = Counter()
        while len(seen) < 2 or seen.total() < 500:
            value = json.loads(path.read_text())
            assert value == [len(value)] * len(value)
            seen[len(value)] += 1
        assert set(seen) == {1, 10_000}
    finally:
        writer.kill()
        writer.wait()


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = store.write_text(tmp_path / "file", "old")
    with pytest.raises(ValueError, match="JSON compliant"):
        store.write_json(path, math.nan)
    with pytest.raises(UnicodeEncodeError):
        store.write_text(path, "\udc80")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_files_have_the_permissions_that_the_user_wants(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        path = store.write_text(tmp_path / "file", "text")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


def test_the_canonical_text_does_not_depend_on_order() -> None:
    assert store.digest({"b": [1.0, "é"], "a": None}) == store.digest({"a": None, "b": [1.0, "é"]})
    assert store.digest({"a": 1}) != store.digest({"a": 1.0})
    assert store.canonical({"b": 1, "a": 2}) == '{"a":2,"b":1}'


def test_the_life_of_a_cell(tmp_path: Path) -> None:
    path = tmp_path / "task" / "agent" / "arm" / "0-abc"
    assert store.status_of(path) == "pending"
    folder = store.CellFolder(path)
    folder.begin({"id": "x"})
    assert store.status_of(path) == "unfinished"
    folder.row(kind="episode", value=1.5)
    folder.flush()
    assert (path / "rows.jsonl").read_text() == '{"kind":"episode","value":1.5}\n'
    folder.row(kind="episode", value=2)
    folder.timing(phase=0, seconds=1.0)
    folder.finish("done", reason="", step=7)
    done = json.loads((path / "done.json").read_text())
    rows = (path / "rows.jsonl").read_bytes()
    assert done == {
        "status": "done",
        "rows": 2,
        "sha256": hashlib.sha256(rows).hexdigest(),
        "reason": "",
        "step": 7,
    }
    assert store.status_of(path) == "done"


def test_a_cell_that_starts_again_starts_from_nothing(tmp_path: Path) -> None:
    store.write_failure(tmp_path, "reason", "x" * 2 * store.TAIL + "the end")
    assert store.status_of(tmp_path) == "failed"
    failure = json.loads((tmp_path / "failed.json").read_text())
    assert (failure["reason"], len(failure["tail"])) == ("reason", store.TAIL)
    assert failure["tail"].endswith("the end")
    (tmp_path / "rows.jsonl").write_text("old")
    store.CellFolder(tmp_path).begin({})
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "header.json",
        "rows.jsonl",
        "timing.jsonl",
    ]
    assert (tmp_path / "rows.jsonl").read_bytes() == b""


@pytest.mark.parametrize("status", store.FINISHED)
def test_a_finished_cell_is_not_begun_again(tmp_path: Path, status: str) -> None:
    finished(tmp_path / "cell", status)
    assert store.status_of(tmp_path / "cell") == status
    before = running.contents(tmp_path)
    with pytest.raises(UsageError, match="not touched again"):
        store.CellFolder(tmp_path / "cell").begin({})
    assert running.contents(tmp_path) == before


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", "null", '{"status": 1}', '{"status": "dne"}', "\x00", "[[" * 5]
)
def test_an_end_marker_that_says_nothing_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "cell"
    finished(path)
    (path / "done.json").write_text(text)
    assert store.status_of(path) == "unfinished"
    store.CellFolder(path).begin({})
    assert not (path / "done.json").exists()


def test_only_the_store_opens_files_for_writing() -> None:
    import ast

    modes = {"w", "a", "x", "wb", "ab", "xb", "r+", "w+", "a+"}
    methods = {"write_text", "write_bytes", "touch", "mkdir", "rmtree", "mkstemp"}
    found = []
    for folder in ("rlplastic", "agents", "envs"):
        for path in sorted((running.ROOT / folder).rglob("*.py")):
            if path.name == "store.py" or path.parent.is_symlink():
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if not isinstance(node, ast.Call):
                    continue
                words = {a.value for a in node.args if isinstance(a, ast.Constant)}
                words |= {k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)}
                name = ast.unparse(node.func)
                last = name.rpartition(".")[2]
                if (last == "open" and words & modes) or (
                    last in methods and not name.startswith("store.")
                ):
                    found.append(f"{path.name}:{node.lineno}: {name}")
    assert found == []
