"""Cells that go wrong in every way, beside cells that do not, in one real bench."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import running

FAULTS = {
    "raises": ("failed", "RuntimeError: broken on purpose\x1b[31m"),
    "leaves": ("failed", "exit code 3"),
    "exits": ("failed", "SystemExit: enough"),
    "crashes": ("failed", "killed by signal 11 (SIGSEGV)"),
    "nan": ("diverged", "gradient norm nan at update 4"),
    "chatty": ("done", ""),
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> running.Bench:
    words = ["--env", f"{running.TINY}/Cue-observation", "--budget", "tiny"]
    more = ["--plugin", running.FAULTS, "--reg", ",".join(FAULTS)]
    return running.bench_once(tmp_path_factory, "faults", *words, *more)


def ending(folder: Path, arm: str) -> dict[str, object]:
    (cell,) = folder.glob(f"Cue-observation/dqn/{arm}/0-*")
    path = cell / "done.json"
    found: dict[str, object] = json.loads(
        (path if path.exists() else cell / "failed.json").read_text()
    )
    return found


def test_the_exit_code_says_that_something_failed_and_the_report_is_there(
    bench: running.Bench,
) -> None:
    assert (bench.returncode, bench.stderr) == (1, "")
    assert (bench.folder / "report.html").stat().st_size > 1000
    assert "5 done, 2 diverged, 8 failed" in bench.stdout
    assert bench.stdout.count("exit code 3") == 4  # each of two cells, as it ends and at the end


@pytest.mark.parametrize("fresh", ["", "+fresh"])
@pytest.mark.parametrize("fault", [*FAULTS, "none"])
def test_each_cell_has_its_own_end(bench: running.Bench, fault: str, fresh: str) -> None:
    found = ending(bench.folder, fault + fresh)
    assert (found["status"], found["reason"]) == FAULTS.get(fault, ("done", ""))


def test_the_last_output_of_a_failed_cell_is_kept(bench: running.Bench) -> None:
    raised = str(ending(bench.folder, "raises")["tail"])
    assert "the last words" in raised
    assert 'raise RuntimeError("broken on purpose' in raised
    assert "Segmentation fault" in str(ending(bench.folder, "crashes")["tail"])
    assert "in after_update" in str(ending(bench.folder, "crashes")["tail"])


def test_what_a_cell_says_cannot_steer_a_terminal(bench: running.Bench) -> None:
    status = running.rlplastic("status", bench.folder)
    for text in (bench.stdout, status.stdout):
        assert "broken on purpose" in text
        assert all(character.isprintable() or character == "\n" for character in text)


def test_status_shows_the_reasons(bench: running.Bench) -> None:
    status = running.rlplastic("status", bench.folder)
    assert status.returncode == 0
    assert "15 cells: 5 done, 2 diverged, 8 failed" in status.stdout
    for fault, (kind, reason) in FAULTS.items():
        lines = [line for line in status.stdout.splitlines() if f"/{fault}/0-" in line]
        assert len(lines) == (kind != "done")
        assert all(reason.partition("\x1b")[0] in line for line in lines)


def test_the_header_names_the_plugin_and_what_was_in_it(bench: running.Bench) -> None:
    (path,) = bench.folder.glob("Cue-observation/dqn/chatty/0-*/header.json")
    header = json.loads(path.read_text())
    content = Path(running.FAULTS).read_bytes()
    assert header["provenance"]["plugins"] == {running.FAULTS: hashlib.sha256(content).hexdigest()}
    assert header["runtime"]["plugins"] == [running.FAULTS]
