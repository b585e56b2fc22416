"""Every block of ``docs/streams.md`` does what the page says."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import running

PAGE = (running.ROOT / "docs" / "streams.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
FILES = {  # blocks whose first line names a file
    found[1]: text for _, text in BLOCKS if (found := re.match(r"# (\S+\.(?:py|toml))\n", text))
}
CODE = [text for kind, text in BLOCKS if kind == "python" and text not in FILES.values()]
LINES = [line for kind, text in BLOCKS if kind == "sh" for line in text.splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page")
    for name, text in FILES.items():
        (path / name).write_text(text, encoding="utf-8")
    return path


def test_every_block_is_run_here() -> None:
    assert len(FILES) + len(CODE) + sum(kind == "sh" for kind, _ in BLOCKS) == len(BLOCKS)
    assert set(FILES) == {"stuck.py", "Stuck.toml"}
    assert len(CODE) == 3
    assert all(line.startswith("rlplastic ") for line in LINES)


def test_the_shift_is_short() -> None:
    (node,) = (n for n in ast.parse(FILES["stuck.py"]).body if isinstance(n, ast.ClassDef))
    assert node.end_lineno is not None
    assert node.end_lineno - node.decorator_list[0].lineno < 30


def test_the_page_python_runs_from_top_to_bottom(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "".join(CODE)],
        env=running.environment(),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


SAYS = {  # what each command must have said
    "check": r"\n14 checks, 0 failed\n$",
    "preview": r"Stuck-Corridor-observation\.png",
    "bench": r"\bdone\b",
    "report": r"report\.html",
}


def test_the_commands_of_the_page_run_in_their_order(folder: Path) -> None:
    assert [line.split()[1] for line in LINES] == list(SAYS)
    for line in LINES:
        verb, *words = shlex.split(line)[1:]
        done = running.rlplastic(verb, *words, cwd=folder)
        assert done.returncode == 0, done.stdout + done.stderr
        assert re.search(SAYS[verb], done.stdout), done.stdout
    assert (folder / "Stuck-Corridor-observation.png").stat().st_size > 10_000
