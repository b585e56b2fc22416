"""Hundreds of generated malformed inputs: each is refused in five lines, with nothing written."""

from __future__ import annotations

import random
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import running

from rlplastic import bench, cli
from rlplastic.errors import UsageError
from rlplastic.plan import make_plan
from rlplastic.request import Request

JUNK = (
    '""', '"x"', "-1", "0", "1e999", "nan", "inf", "true", "[]", "{}", "[1, 2]", '["a"]',
    "99999999999999999999", '"../x"', '"\\u0000"', "1979-05-27", "{ name = 3 }", '{ a = "b" }',
    "[[1]]", '"' + "y" * 400 + '"', "0.5", "-0.0", "[[]]",
)  # fmt: skip
TRIALS = 300


def mutated(text: str, rng: random.Random) -> str:
    """The text of a suite with one to three things wrong in it."""
    lines = text.splitlines()
    for _ in range(rng.randint(1, 3)):
        number = rng.randrange(len(lines))
        line = lines[number]
        kind = rng.randrange(6)
        if kind == 0:
            del lines[number]
        elif kind == 1:
            lines.insert(number, line)
        elif kind == 2 and "=" in line:
            lines[number] = f"{line.split('=')[0]}= {rng.choice(JUNK)}"
        elif kind == 3:
            lines[number] = re.sub(r"[a-z]+", lambda m: m[0] + "q" * rng.randrange(2), line)
        elif kind == 4 and line:
            place = rng.randrange(len(line))
            lines[number] = line[:place] + rng.choice("\"'[]{}=,.#\\\t~\x7f") + line[place:]
        else:
            values = re.findall(r"[0-9][0-9_.]*", line)
            if values:
                lines[number] = line.replace(rng.choice(values), rng.choice(JUNK), 1)
        if not lines:
            return ""
    return "\n".join(lines) + "\n"


def refused(path: Path, folder: Path) -> str:
    """Why a suite is refused at the time of planning; empty if it is not."""
    request = Request(agents=["dqn", "ppo"], regs=["sam"], env=str(path), budget="tiny")
    try:
        plan = make_plan(request)
        bench.prepare(plan, folder, "cpu")
    except UsageError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("part", range(4))
def test_suites_with_something_wrong(part: int, tmp_path: Path) -> None:
    rng = random.Random(part)  # noqa: S311
    text = Path(running.TINY).read_text()
    count = 0
    for trial in range(TRIALS // 4):
        path = tmp_path / f"Suite{trial}.toml"
        path.write_text(mutated(text, rng))
        why = refused(path, tmp_path / "out")
        assert len(why.splitlines()) <= 5, why
        assert all(len(line) < 1000 for line in why.splitlines()), why
        assert "Traceback" not in why
        count += bool(why)
    assert count > TRIALS // 8, "hardly any was wrong"
    assert not (tmp_path / "out").exists()


WORDS = (
    "", ",", "sam", "sam:", "sam:rho", "sam:rho=", "sam:rho=x", "sam:rho=-1", "sam+sam", "+",
    "::", "none+fresh", "fresh", "dqn", "dqm", "dqn,", "é", "a" * 500, "../x", "sam:rho=1e999",
    "sam=1", "sam:rho=nan", "l2init:strength=1:strength=2", "1", "-1", "0", "0,0", "3,", "1.5",
    "tiny", "full", "dqn.gamma=2", "dqn.=1", "dqn.gama=0.9", "ppo.n_steps=0", "x.y=z",
    "dqn.hidden=[1,", "cuda", "tpu", "Toy-Shifted/Nowhere", "Toy-Shifted/", "/", "no.toml", "\n",
    "sam:scope=everything", "--help=1",
)  # fmt: skip
OPTIONS = ("--agent", "--reg", "--seeds", "--budget", "--env", "--set", "--device", "--workers")


@pytest.fixture
def _signals() -> Iterator[None]:
    """The program answers signals in its own way; this process goes back to pytest's."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_signals")
@pytest.mark.parametrize("part", range(2))
def test_command_lines_with_something_wrong(
    part: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rng = random.Random(100 + part)  # noqa: S311
    codes = []
    for _ in range(100):
        words = ["bench", "--env", str(running.TINY), "--budget", "tiny", "--dry-run"]
        for option in rng.sample(OPTIONS, rng.randint(1, 2)):
            words += [option, rng.choice(WORDS)]
        monkeypatch.setattr(sys, "argv", ["rlplastic", *words])
        with pytest.raises(SystemExit) as left:
            cli.main()
        err = capsys.readouterr().err
        codes.append(left.value.code)
        assert left.value.code in (0, 2), (words, err)
        assert "Traceback" not in err, words
        if left.value.code == 2 and "Usage:" not in err:
            assert len(err.splitlines()) <= 5, (words, err)
    assert codes.count(2) > 50
    assert not list(tmp_path.iterdir())
