"""The command line: what it accepts, refuses, prints and leaves behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
import running
import typer.main

import rlplastic
from rlplastic import cli, registry

HEAVY = ("torch", "gymnasium", "stable_baselines3", "ale_py", "tensorboard")
FLAGS = {
    "": "--version --install-completion --show-completion --help",
    "bench": "--env --env-id --suite --data --data-dir --agent --algo --reg --budget --seeds "
    "--seed --workers --device --probes --evaluate --out --set --plugin --dry-run --quiet "
    "--cell-timeout --retries --help",
    "run": "--env --env-id --suite --data --data-dir --agent --algo --reg --seed --fresh --budget "
    "--device --probes --evaluate --out --set --plugin --json --help",
    "ls": "--plugin --help",
    "status": "--help",
    "report": "--figures --from-csv --output --parquet --shifts --tables --help",
    "power": "--max --help",
    "compare": "--help",
    "watch": "--every --help",
    "import": "--shifts --out --end --pattern --columns --task --agent --arm --seed --none "
    "--copies --worlds --scale --random --time-limit --help",
    "download": "--data-dir --help",
    "doctor": "--out --plugin --help",
    "check": "--plugin --quick --help",
    "preview": "--out --phases --seed --gif --plugin --help",
}
CUE = f"{running.TINY}/Cue-observation"
Call = Callable[..., tuple[int, str, str]]
Plugin = Callable[..., Path]


@pytest.fixture
def call(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Call]:
    """Calls the program in this process, in an empty folder; gives exit code and output."""
    monkeypatch.chdir(tmp_path)
    for name in ("RLPLASTIC_OUT", "RLPLASTIC_WORKERS"):
        monkeypatch.delenv(name, raising=False)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def program(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["rlplastic", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        code = left.value.code
        return (code if isinstance(code, int) else int(code is not None)), *capsys.readouterr()

    yield program
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def first(tmp_path_factory: pytest.TempPathFactory) -> running.Bench:
    """A finished bench of five cells, to be looked at only."""
    words = ["--env", CUE, "--budget", "tiny", "--workers", "2"]
    return running.bench_once(tmp_path_factory, "first", *words)


@pytest.fixture(scope="module")
def results(first: running.Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of it, of which the reports may be written again."""
    return shutil.copytree(first.folder, tmp_path_factory.mktemp("copy") / "results")


@pytest.mark.parametrize("workers", [1, 4])
def test_the_same_bytes_whatever_the_number_of_workers(
    workers: int, first: running.Bench, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ["--env", CUE, "--budget", "tiny", "--workers", workers, "--out", out, "--quiet"]
    done = running.rlplastic("bench", *words)
    assert done.returncode == 0, done.stderr
    with_two = running.rows(first.folder)
    assert len(with_two) == 5
    assert running.rows(out) == with_two
    digests = [
        {cell: json.loads((folder / cell / "done.json").read_text())["digest"] for cell in with_two}
        for folder in (first.folder, out)
    ]
    assert digests[0] == digests[1]
    assert len({d for cell, d in digests[0].items() if "random" not in cell}) == 4


# -- the parser ------------------------------------------------------------------------------


def test_the_flags_are_these_and_no_others() -> None:
    group = typer.main.get_command(cli.app)
    commands = {"": group, **group.commands}  # type: ignore[attr-defined]
    found = {}
    for name, command in commands.items():
        context = command.make_context(name, [], resilient_parsing=True)
        found[name] = {
            option
            for parameter in command.get_params(context)
            for option in parameter.opts
            if option.startswith("--")
        }
    assert found == {name: set(flags.split()) for name, flags in FLAGS.items()}


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["--version"],
        ["bench", "--help"],
        ["check", "--help"],
        ["preview", "--help"],
        ["ls"],
        ["ls", "regs", "sam"],
        ["ls", "envs", "Toy-Shifted"],
        ["status", "{results}"],
        ["report", "{results}"],
        ["power", "{results}"],
        ["compare", "{results}", "{results}"],
        ["watch", "{results}"],
        ["bench", "--env", "Nothing-Shifted"],
        ["bench", "--agnet", "dqn"],
    ],
    ids=" ".join,
)
def test_nothing_heavy_is_imported(words: list[str], results: Path) -> None:
    heavy = [name for name in HEAVY if (words[0], name) != ("report", "tensorboard")]  # it writes
    code = (
        "import sys; from rlplastic.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        f"sys.exit(repr([name for name in {heavy!r} if name in sys.modules]))"
    )
    words = [word.format(results=results) for word in words]
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        env=running.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.splitlines()[-1] == "[]", done.stderr


def test_the_folders_at_the_top_are_not_imported_under_their_own_names() -> None:
    code = (
        "import sys, rlplastic.cli, rlplastic.runner\n"
        "sys.exit(repr({'agents', 'envs', 'benchmarks'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=running.environment(), capture_output=True, check=False
    )
    assert done.stderr.strip() == b"set()"


def test_help_is_plain_and_fits_80_columns(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for name in FLAGS:
        code, out, _ = call(*([name] if name else []), "--help")
        assert code == 0
        assert all(len(line) <= 80 for line in out.splitlines())
        assert out.isascii()
        assert f"Usage: rlplastic {name}".strip() in out
    assert "\n  rlplastic bench --env Toy-Shifted --budget smoke\n" in call("bench", "--help")[1]
    assert "\n  rlplastic run --env Toy-Shifted/Cue-reward" in call("run", "--help")[1]


def test_the_version(call: Call) -> None:
    assert call("--version") == (0, f"rlplastic {rlplastic.__version__}\n", "")


# -- what is refused -------------------------------------------------------------------------

BENCH = ["bench", "--env", CUE, "--budget", "tiny"]
REFUSED = [
    (["bnch"], "bench"),
    (["bench", "--agnet", "dqn"], "--agent"),
    (["bench", "--agent"], "--agent"),
    (["bench"], "Control-Shifted"),
    (["bench", "--env", "Toy-Shiftd"], "Did you mean 'Toy-Shifted'?"),
    (["bench", "--env", "Toy-Shifted/Cue-revard"], "Did you mean 'Cue-reward'?"),
    (["bench", "--env", "no/such/suite.toml"], "no/such/suite.toml"),
    (["bench", "--env", "Toy-Shifted", "--budget", "smal"], "Did you mean 'small'?"),
    ([*BENCH, "--agent", "dqm"], "Did you mean 'dqn'?"),
    ([*BENCH, "--agent", "dqn,"], "an empty name"),
    ([*BENCH, "--agent", "random"], "the random reference runs beside every agent"),
    ([*BENCH, "--reg", "sham"], "Did you mean 'sam'?"),
    ([*BENCH, "--reg", "sam,,none"], "an empty name"),
    ([*BENCH, "--reg", "sam:roh=1"], "Did you mean 'rho'?"),
    ([*BENCH, "--reg", "sam:rho=-1"], "greater than or equal to 0"),
    ([*BENCH, "--reg", "sam:rho=inf"], "not a finite number"),
    ([*BENCH, "--reg", "sam:rho=0.1:rho=0.2"], "given twice"),
    ([*BENCH, "--reg", "sam+sam"], "given twice"),
    ([*BENCH, "--reg", "sam+fresh"], "newborn arm"),
    ([*BENCH, "--seeds", "0"], "--seeds '0'"),
    ([*BENCH, "--seeds", "-1"], "--seeds '-1'"),
    ([*BENCH, "--seeds", "1,x"], "--seeds '1,x'"),
    ([*BENCH, "--seeds", ","], "--seeds ','"),
    ([*BENCH, "--seeds", "1_0"], "--seeds '1_0'"),
    ([*BENCH, "--workers", "0"], "--workers '0'"),
    ([*BENCH, "--workers", "many"], "--workers 'many'"),
    ([*BENCH, "--device", "gpu"], "cpu, cuda or auto"),
    ([*BENCH, "--probes", "all"], "default or full"),
    ([*BENCH, "--set", "learning_rate=1"], "agent.key=value"),
    ([*BENCH, "--set", "dqn.learning_rat=1"], "Did you mean 'learning_rate'?"),
    ([*BENCH, "--set", "dqn.learning_rate=fast"], "learning_rate = 'fast'"),
    ([*BENCH, "--set", "dqn.learning_rate=nan"], "not a finite number"),
    ([*BENCH, "--set", "dqn.hidden=[64"], "write [64,64]"),
    ([*BENCH, "--set", "ppo.gamma=0.9"], "Did you mean 'dqn'?"),
    ([*BENCH, "--set", "dqn.train_freq=3"], "not a multiple of its rollout"),
    ([*BENCH, "--set", "dqn.learning_starts=256"], "nearest valid: --set dqn.learning_starts=12"),
    ([*BENCH, "--set", "dqn.hidden=abc"], "write a list, as [64,64]"),
    ([*BENCH, "--set", "dqn.batch_size=257"], "batch_size = 257 is more than a period has steps"),
    ([*BENCH, "--set", "dqn.batch_size=99999"], "is more than buffer_size = 10000"),
    ([*BENCH, "--set", "dqn.gamma=0.9", "--set", "dqn.gamma=0.8"], "'dqn.gamma' is given twice"),
    ([*BENCH, "--reg", "sam:rho=0.1,every=2"], "as sam:rho=0.1:every=2"),
    ([*BENCH, "--reg", "sam+"], "an empty name beside '+'"),
    (["bench", "--env", "Toy-Shifted/"], "a pattern of tasks must follow the '/'"),
    (["bench", "--env", "x" * 5000], f"unknown env '{'x' * 80}...'"),
    ([*BENCH, "--plugin", "nowhere.py"], "there is no such file"),
    ([*BENCH, "--out", str(running.ROOT / "examples")], "holds other things"),
    ([*BENCH, "--out", f"{running.TINY}/below"], "Tiny.toml is not a folder"),
    ([*BENCH, "--out", "y" * 300], "File name too long"),
    ([*BENCH, "--out", running.TINY], "is not a folder"),
    ([*BENCH, "--out", "/proc/results"], "/proc/results: cannot be written"),
    (["run", "--env", running.TINY, "--budget", "tiny"], "run takes one task"),
    (["run", "--env", CUE, "--budget", "tiny", "--seed", "-1"], "--seed"),
    (["ls", "agent"], "Did you mean 'agents'?"),
    (["ls", "regs", "sham"], "Did you mean 'sam'?"),
    (["ls", "envs", "Toy-Shiftd"], "Did you mean 'Toy-Shifted'?"),
    (["status", "nowhere"], "no plan.json"),
    (["report", "nowhere"], "no plan.json"),
]


@pytest.mark.parametrize(("words", "expected"), REFUSED, ids=[" ".join(w[-2:]) for w, _ in REFUSED])
def test_bad_usage_is_refused_in_five_lines_before_anything_is_written(
    words: list[str], expected: str, call: Call, tmp_path: Path
) -> None:
    code, out, err = call(*words)
    assert code == 2
    assert expected in err
    assert len(err.splitlines()) <= 5
    assert "Traceback" not in err
    if "/proc/results" not in words:  # the one thing that only writing can find out
        assert out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_bad_agent_with_a_good_stream_is_refused_when_it_is_built(
    call: Call, tmp_path: Path, plugin: Plugin
) -> None:
    path = plugin(
        """
        @registry.intervention("unbuildable")
        @dataclass(frozen=True, kw_only=True)
        class Unbuildable(Intervention):
            "Ask for what no network has."

            def build(self, policy_kwargs):
                return {**policy_kwargs, "no_such_argument": 1}
        """
    )
    code, _, err = call(*BENCH, "--reg", "unbuildable", "--plugin", path)
    assert code == 2
    assert "no_such_argument" in err
    assert len(err.splitlines()) <= 5
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Plugin]:
    """Writes a plugin, and forgets everything about it afterwards."""
    with running.no_plugins():
        yield lambda *words: running.write_plugin(tmp_path, *words)


# -- bench -----------------------------------------------------------------------------------


def test_without_a_terminal_there_is_one_plain_line_for_each_cell(first: running.Bench) -> None:
    assert (first.returncode, first.stderr) == (0, "")
    lines = first.stdout.splitlines()
    ends = [line for line in lines if line.startswith("[")]
    assert [line.partition("]")[0] for line in ends] == [f"[{i}/5" for i in range(1, 6)]
    assert {line.split()[1] for line in ends} == {"done"}
    table = [line.split()[0] for line in lines if line.startswith(("arm  ", "none  ", "sam  "))]
    assert table == ["arm", "none", "sam"]
    assert any(line.startswith("dqn: Too short to judge plasticity") for line in lines)
    assert lines[-2:] == ["report: results/report.html", "tensorboard --logdir results"]
    assert all(line.isprintable() for line in lines)


def test_a_bench_leaves_a_plan_records_event_files_and_a_report(results: Path) -> None:
    plan = json.loads((results / "plan.json").read_text())
    arms = {f"{cell['cell']['agent']}/{cell['id'].split('/')[2]}" for cell in plan["cells"]}
    assert arms == {"random/none", "dqn/none", "dqn/none+fresh", "dqn/sam", "dqn/sam+fresh"}
    assert all(command.startswith("rlplastic ") for command in plan["commands"])
    assert plan["commands"][0].startswith("rlplastic bench --env ")
    for cell in plan["cells"]:
        folder = results / cell["id"]
        assert json.loads((folder / "header.json").read_text())["cell"] == cell["cell"]
        assert json.loads((folder / "done.json").read_text())["status"] == "done"
        assert list(folder.glob("tensorboard/events.*"))
    assert {"report.html", "report.md", "results.csv"} <= {p.name for p in results.iterdir()}


def test_the_same_command_again_changes_no_byte(results: Path, call: Call) -> None:
    before = running.contents(results, "*/*/*/*/*") | running.contents(results, "plan.json")
    reports = {name: (results / name).read_bytes() for name in ("report.html", "results.csv")}
    code, out, err = call(*BENCH, "--out", results)
    assert (code, err) == (0, "")
    assert "5 already done, 0 to run" in out
    assert not [line for line in out.splitlines() if line.startswith("[")]
    after = running.contents(results, "*/*/*/*/*") | running.contents(results, "plan.json")
    assert after == before
    assert reports == {name: (results / name).read_bytes() for name in reports}


def test_a_moved_folder_continues_under_a_relative_path_and_only_adds_what_is_new(
    results: Path, call: Call, tmp_path: Path
) -> None:
    shutil.copytree(results, tmp_path / "moved")
    before = running.contents(tmp_path / "moved", "*/*/*/*/*")
    code, out, _ = call(*BENCH, "--out", "moved", "--reg", "sam:rho=0.1", "--quiet")
    assert code == 0
    assert "3 already done, 2 to run" in out
    after = running.contents(tmp_path / "moved", "*/*/*/*/*")
    assert before.items() < after.items()
    new = {name.split("/")[2] for name in after.keys() - before.keys()}
    assert new == {"sam_rho=0.1", "sam_rho=0.1+fresh"}
    plan = json.loads((tmp_path / "moved" / "plan.json").read_text())
    assert len(plan["cells"]) == 7


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (["--budget", "short"], "protocol"),
        (["--set", "dqn.learning_rate=1e-4"], "learning_rate"),
    ],
)
def test_another_experiment_is_kept_out_of_a_folder(
    change: list[str], expected: str, results: Path, call: Call
) -> None:
    before = running.contents(results)
    for more in ([], ["--dry-run"]):
        code, out, err = call(*BENCH, *change, *more, "--out", results)
        assert code == 2
        assert out == ""
        assert "choose another --out" in err
        assert len(err.splitlines()) <= 5
    assert running.contents(results) == before


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(
    call: Call, tmp_path: Path, results: Path
) -> None:
    code, out, _ = call("bench", "--env", running.TINY, "--budget", "tiny", "--dry-run")
    assert code == 0
    assert "10 cells, 0 already done, 10 to run" in out
    # phases of 256 steps: two arms of 2 and their newborns of 1 in each of two tasks; 1 random
    # phase where the shift cannot change its return, and 1 for each of 2 worlds where it can
    assert f"{256 * (2 * (2 + 1 + 2 + 1) + 1 + 2):,} steps" in out
    assert "too short for a verdict: two phases of 256 steps" in out
    assert "MB in results/Tiny-tiny" in out
    assert list(tmp_path.iterdir()) == []
    before = running.contents(results)
    code, out, _ = call(*BENCH, "--out", results, "--reg", "sam,sam:rho=1", "--dry-run")
    assert code == 0
    assert "7 cells, 5 already done, 2 to run" in out
    (line,) = [line for line in out.splitlines() if " sam:rho=1.0 " in line]
    assert line.split() == ["Cue-observation", "dqn", "sam:rho=1.0", "512", "0/1", "0"]
    assert running.contents(results) == before


@pytest.mark.parametrize(
    ("words", "seeds"),
    [("--seeds 3", [0, 1, 2]), ("--seeds 3,7", [3, 7]), ("--seed 3,", [3]), ("--seeds 1,1", [1])],
)
def test_seeds(words: str, seeds: list[int], call: Call) -> None:
    code, out, _ = call(*BENCH, *words.split(), "--dry-run")
    assert code == 0
    (line,) = [line for line in out.splitlines() if " sam+fresh " in line]
    assert line.split(None, 5)[5] == ", ".join(map(str, seeds))


def test_aliases_repeats_commas_and_environment_variables(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLPLASTIC_OUT", "elsewhere")
    monkeypatch.setenv("RLPLASTIC_WORKERS", "3")
    words = ["bench", "--env-id", CUE, "--budget", "tiny", "--algo", "dqn,ppo", "--algo", "dqn"]
    code, out, _ = call(*words, "--reg", "sam", "--reg", "none,sam:rho=0.05", "--dry-run")
    assert code == 0
    assert "9 cells" in out  # a random one, and four arms of two agents: nothing twice
    assert "with 3 at a time" in out
    assert "MB in elsewhere" in out
    assert "MB in here" in call(*BENCH, "--dry-run", "--out", "here")[1]


def test_a_folder_that_is_in_use_is_left_alone(call: Call, tmp_path: Path, results: Path) -> None:
    shutil.copytree(results, tmp_path / "held")
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, tmp_path / "held"],
        env=running.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    before = running.contents(tmp_path / "held")
    code, _, err = call(*BENCH, "--out", "held", "--reg", "sam:rho=1")
    assert code == 75
    assert "another rlplastic process" in err
    assert running.contents(tmp_path / "held") == before
    holder.kill()
    holder.communicate()


_HOLD = """
import pathlib, sys
from rlplastic import locks
guard = locks.plan(pathlib.Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


# -- the other verbs -------------------------------------------------------------------------


def test_run_prints_one_line_of_json_for_the_cell_that_bench_would_run(
    results: Path, tmp_path: Path, call: Call
) -> None:
    words = ["run", "--env", CUE, "--budget", "tiny", "--reg", "sam", "--out", tmp_path, "--json"]
    real = running.rlplastic(*words, "--seed", 0)
    for arm, phases, (code, out) in (
        ("sam", {"0", "1"}, (real.returncode, real.stdout)),
        ("sam+fresh", {"1"}, call(*words, "--fresh")[:2]),
    ):
        assert code == 0
        (line,) = out.splitlines()
        result = json.loads(line)
        (twin,) = results.glob(f"Cue-observation/dqn/{arm}/0-*")
        assert result["id"] == twin.relative_to(results).as_posix()
        assert (result["status"], result["reason"]) == ("done", "")
        assert set(result["mean_return"]) == phases
        assert all(0 <= mean <= 10 for mean in result["mean_return"].values())
        rows = (Path(result["folder"]) / "rows.jsonl").read_bytes()
        assert rows == (twin / "rows.jsonl").read_bytes()
    assert len(running.rows(tmp_path)) == 2


def test_ls_shows_every_name_of_every_kind(call: Call) -> None:
    _, out, _ = call("ls")
    for kind in registry.HOMES:
        for name, entry in registry.entries(kind).items():
            assert any(
                line.split()[:1] == [name] and entry.summary in line for line in out.splitlines()
            ), (kind, name)


def test_ls_of_one_name_shows_docstring_and_options(call: Call) -> None:
    _, out, _ = call("ls", "regs", "sam")
    assert "the update uses ∇L(w + ε)" in out
    assert [line.split() for line in out.splitlines() if line.startswith("  rho ")] == [
        ["rho", "0.05", "float", "≥", "0"]
    ]
    _, out, _ = call("ls", "envs", "Toy-Shifted")
    assert "Corridor-reward" in out
    assert "ppo 2,048" in out
    assert "random play" in call("ls", "envs", "Cue")[1]


def test_status_of_a_finished_folder(results: Path, call: Call) -> None:
    code, out, _ = call("status", results)
    assert code == 0
    assert out.splitlines()[0] == "Tiny, budget tiny: 5 cells: 5 done"


def test_report_can_be_copied_elsewhere(results: Path, call: Call, tmp_path: Path) -> None:
    code, out, _ = call("report", results, "-o", tmp_path / "new" / "copy.html")
    assert code == 0
    assert out == f"{tmp_path}/new/copy.html\n"
    copy = (tmp_path / "new" / "copy.html").read_bytes()
    assert copy == (results / "report.html").read_bytes()


def test_each_figure_can_be_written_as_a_file_that_needs_no_page(
    results: Path, call: Call, tmp_path: Path
) -> None:
    before = running.contents(results)
    code, _, _ = call("report", results, "--figures", tmp_path / "figures")
    assert code == 0
    assert {n: d for n, (d, _) in running.contents(results).items()} == {
        n: d for n, (d, _) in before.items()
    }
    files = sorted((tmp_path / "figures").iterdir())
    page = (results / "report.html").read_text(encoding="utf-8")
    drawn = [file for file in files if file.suffix == ".svg"]
    assert len(drawn) == page.count("<figure>") > 3
    starts = {".svg": b"<", ".pdf": b"%PDF-", ".png": b"\x89PNG"}
    assert {(file.stem, file.suffix) for file in files} == {
        (file.stem, suffix) for file in drawn for suffix in starts
    }
    assert all(file.read_bytes().startswith(starts[file.suffix]) for file in files)
    for file in drawn:
        root = ElementTree.fromstring(file.read_bytes())  # noqa: S314 (written just now by us)
        assert root.tag == "{http://www.w3.org/2000/svg}svg", file
        text = file.read_text(encoding="utf-8")
        used = set(re.findall(r"var\(--([a-z]+)\)", text))
        assert {"ink", "paper", "faint"} <= used <= set(re.findall(r"--([a-z]+):", text)), file


def test_doctor_finds_nothing_here_and_a_folder_that_cannot_be_written(
    call: Call, tmp_path: Path
) -> None:
    code, out, _ = call("doctor", "--out", tmp_path / "not" / "yet")
    assert code == 0, out
    checks = ["versions", "cores", "torch", "atari", "tensorboard", "disk", "suites", "plugins"]
    assert [line.split()[:2] for line in out.splitlines()] == [["ok", check] for check in checks]
    assert list(tmp_path.iterdir()) == []
    code, out, _ = call("doctor", "--out", "/proc/results")
    assert code == 1
    assert "BROKEN  disk         /proc: cannot be written" in out


def test_doctor_tries_plugins(call: Call, plugin: Plugin) -> None:
    probe = '@registry.probe("{0}")\ndef {0}(agent, batch):\n    "A probe."\n'
    fine = plugin(probe.format("fine"), "fine.py")
    code, out, _ = call("doctor", "--plugin", fine)
    assert code == 0
    assert f"plugins      {fine}" in out
    bad = plugin("1 / 0\n" + probe.format("bad"), "bad.py")
    code, out, _ = call("doctor", "--plugin", bad)
    assert code == 1
    assert "BROKEN  plugins" in out
    assert "ZeroDivisionError" in out


def test_python_dash_m_and_the_script_are_the_same_program(tmp_path: Path) -> None:
    module = running.rlplastic("--help", cwd=tmp_path)
    script = Path(sys.executable).with_name("rlplastic")
    assert module.returncode == 0
    assert module.stdout.startswith("Usage: rlplastic ")
    if script.exists():  # not in an uninstalled checkout
        done = subprocess.run([script, "--help"], capture_output=True, text=True, check=True)
        assert done.stdout == module.stdout
    else:
        assert not os.path.lexists(script)
