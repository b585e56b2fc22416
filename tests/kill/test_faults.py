"""Cells that go wrong in every way, beside cells that do not, in one real bench."""

from __future__ import annotations

import hashlib
import json
import subprocess
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
Bench = tuple[Path, "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("faults")
    words = ["--env", f"{running.TINY}/Cue-observation", "--budget", "tiny", "--out", folder]
    reg = ",".join(FAULTS)
    return folder, running.rlplastic("bench", *words, "--plugin", running.FAULTS, "--reg", reg)


def ending(folder: Path, arm: str) -> dict[str, object]:
    (cell,) = folder.glob(f"Cue-observation/dqn/{arm}/0-*")
    path = cell / "done.json"
    found: dict[str, object] = json.loads(
        (path if path.exists() else cell / "failed.json").read_text()
    )
    return found


def test_the_exit_code_says_that_something_failed_and_the_report_is_there(bench: Bench) -> None:
    folder, done = bench
    assert (done.returncode, done.stderr) == (1, "")
    assert (folder / "report.html").stat().st_size > 1000
    assert "5 done, 2 diverged, 8 failed" in done.stdout
    assert done.stdout.count("exit code 3") == 4  # each of two cells, as it ends and at the end


@pytest.mark.parametrize("fresh", ["", "+fresh"])
@pytest.mark.parametrize("fault", [*FAULTS, "none"])
def test_each_cell_has_its_own_end(bench: Bench, fault: str, fresh: str) -> None:
    found = ending(bench[0], fault + fresh)
    assert (found["status"], found["reason"]) == FAULTS.get(fault, ("done", ""))


def test_the_last_output_of_a_failed_cell_is_kept(bench: Bench) -> None:
    raised = str(ending(bench[0], "raises")["tail"])
    assert "the last words" in raised
    assert 'raise RuntimeError("broken on purpose' in raised
    assert "Segmentation fault" in str(ending(bench[0], "crashes")["tail"])
    assert "in after_update" in str(ending(bench[0], "crashes")["tail"])


def test_what_a_cell_says_cannot_steer_a_terminal(bench: Bench) -> None:
    folder, done = bench
    status = running.rlplastic("status", folder)
    for text in (done.stdout, status.stdout):
        assert "broken on purpose" in text
        assert all(character.isprintable() or character == "\n" for character in text)


def test_status_shows_the_reasons(bench: Bench) -> None:
    status = running.rlplastic("status", bench[0])
    assert status.returncode == 0
    assert "15 cells: 5 done, 2 diverged, 8 failed" in status.stdout
    for fault, (kind, reason) in FAULTS.items():
        lines = [line for line in status.stdout.splitlines() if f"/{fault}/0-" in line]
        assert len(lines) == (kind != "done")
        assert all(reason.partition("\x1b")[0] in line for line in lines)


def test_the_header_names_the_plugin_and_what_was_in_it(bench: Bench) -> None:
    (path,) = bench[0].glob("Cue-observation/dqn/chatty/0-*/header.json")
    header = json.loads(path.read_text())
    content = Path(running.FAULTS).read_bytes()
    assert header["provenance"]["plugins"] == {running.FAULTS: hashlib.sha256(content).hexdigest()}
    assert header["runtime"]["plugins"] == [running.FAULTS]
