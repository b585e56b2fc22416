"""The examples run, and the README shows what is in them."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import running

import rlplastic.envs.shifts

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


def levels(name: str) -> dict[str, list[tuple[float, float]]]:
    """First and last returns of each phase that an example prints, by agent."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / name],
        env=running.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    line = re.compile(r"(\w* ?)phase (\d): \d+ episodes, first \d+ (\S+), last \d+ (\S+)")
    found: dict[str, list[tuple[float, float]]] = {}
    for agent, phase, first, last in line.findall(done.stdout):
        known = found.setdefault(agent.strip(), [])
        assert int(phase) == len(known)
        known.append((float(first), float(last)))
    return found


@pytest.mark.parametrize(
    ("name", "agents", "phases", "best"),
    [
        ("with_gym_make.py", [""], 4, 1.0),
        ("with_gym_vector.py", [""], 3, 10.0),
        ("with_stable_baselines3.py", ["PPO", "DQN"], 3, 10.0),
    ],
)
def test_learners_of_others_learn_lose_it_at_the_shift_and_learn_again(
    name: str, agents: list[str], phases: int, best: float
) -> None:
    found = levels(name)
    assert list(found) == agents
    for phase_levels in found.values():
        assert len(phase_levels) == phases
        assert all(last > 0.8 * best for _, last in phase_levels)
        assert phase_levels[1][0] < 0.1 * best  # what was right is wrong in the other world


def shift_of_the_docs() -> str:
    """The shift that the head of ``envs/shifts.py`` shows, with the imports that it needs."""
    shown = rlplastic.envs.shifts.__doc__ or ""
    code = textwrap.dedent(shown[shown.index("    @shift(") : shown.index("A method sees only")])
    imports = (
        "from dataclasses import dataclass",
        "from typing import Annotated, ClassVar",
        "import numpy as np",
        "from annotated_types import Gt",
        "from gymnasium.spaces import Box",
        "from rlplastic.envs.shifts import Shift",
        "from rlplastic.registry import shift",
    )
    return "\n".join([*imports, code.replace('"offset"', '"moved"')])


@pytest.mark.parametrize(
    ("source", "title"),
    [
        (shift_of_the_docs(), "shift 'moved' on CartPole"),
        ((EXAMPLES / "own_shift.py").read_text(encoding="utf-8"), "shift 'dim' on Images"),
    ],
)
def test_a_newcomers_shift_is_short_and_passes_every_check(
    source: str, title: str, tmp_path: Path
) -> None:
    (node,) = (n for n in ast.parse(source).body if isinstance(n, ast.ClassDef))
    assert node.end_lineno is not None
    assert node.end_lineno - node.decorator_list[0].lineno < 30
    own, screen = tmp_path / "own.py", running.DATA / "screen.py"
    own.write_text(source, encoding="utf-8")
    done = running.rlplastic("check", "--plugin", own, "--plugin", screen, "--quick")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{title}\n")
    assert re.search(r"\n  ok +worlds +0 and 1: observations from step 0", done.stdout)
    assert done.stdout.endswith(" checks, 0 failed\n")


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
