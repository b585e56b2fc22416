"""The examples run, and the README shows what is in them."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import pytest
import running

EXAMPLES = running.ROOT / "examples"


def shape(source: str) -> dict[str, str]:
    """Every class of some source without its docstrings, as text."""
    found = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            del node.body[0]
        if isinstance(node, ast.ClassDef):
            found[node.name] = node
    return {name: ast.dump(node) for name, node in found.items()}


def test_the_shift_in_the_readme_is_the_example() -> None:
    readme = (running.ROOT / "README.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```python\n(@shift.*?)```", readme, re.DOTALL)
    example = (EXAMPLES / "own_shift.py").read_text(encoding="utf-8")
    assert shape(shown) == shape(example)
    assert set(shape(shown)) == {"Dim"}


def test_the_shift_darkens_the_frames_of_a_real_game() -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "own_shift.py"],
        env=running.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [[int(word) for word in line.split()] for line in done.stdout.splitlines()]
    brightest = {phase: max(row[2] for row in rows if row[1] == phase) for phase in (0, 1, 2)}
    assert len(rows) == 30
    assert brightest[0] > max(brightest[1], brightest[2])


@pytest.mark.parametrize("reg", ["l1", "l1:strength=0.1+sam"])
def test_the_intervention_trains_alone_and_with_another(reg: str, tmp_path) -> None:
    done = running.rlplastic(
        "bench",
        *("--env", f"{running.TINY}/Cue-observation", "--budget", "tiny", "--agent", "ppo"),
        *("--reg", reg, "--plugin", EXAMPLES / "own_intervention.py", "--out", tmp_path / "out"),
    )
    assert done.returncode == 0, done.stderr
    assert "5 done" in done.stdout
    assert f"\n{reg}  " in done.stdout
