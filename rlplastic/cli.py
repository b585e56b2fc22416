"""The command line: verbs and their options. It parses, and calls what does the work.

=====  ==========================================================
exit   meaning
=====  ==========================================================
0      everything is done
1      a cell failed or diverged; ``doctor`` or ``check`` found something
2      bad usage; nothing was written
75     another process is running cells in this folder
130    stopped by Ctrl-C (143: by SIGTERM); the same command goes on
=====  ==========================================================

What the verbs need is imported by each when it runs: ``--help`` must not wait for torch.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer

import rlplastic
from rlplastic import cli_offline
from rlplastic.errors import UsageError
from rlplastic.locks import Locked

app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Env = Annotated[
    str,
    typer.Option(
        "--env",
        "--env-id",
        "--suite",
        help="Suite, Suite/PATTERN,... of tasks, or a suite's TOML file.",
    ),
]
Budget = Annotated[str, typer.Option(help="The suite's smoke, small or full.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto: cuda for images if there is one.")]
Probes = Annotated[
    str,
    typer.Option(
        help="default, or full: the costly probes too, around each shift.  [default: the suite's]",
        show_default=False,
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        help="Folder of data for supervised streams (MNIST, ...); without one, embedded digits.",
        envvar="RLPLASTIC_DATA",
        show_default=False,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        help="Results folder.  [default: results/SUITE-BUDGET]",
        envvar="RLPLASTIC_OUT",
        show_default=False,
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="agent.key=value, as dqn.learning_rate=1e-4. Repeatable."),
]
Plugins = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin", help="Python file that defines agents, interventions, ... Repeatable."
    ),
]


class Stopped(BaseException):
    """A signal has asked this process to leave."""

    def __init__(self, signum: int) -> None:
        self.code = 128 + signum


def main() -> NoReturn:
    """The program `rlplastic`."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(signum) != signal.SIG_IGN:
            signal.signal(signum, _stop)
    try:
        app(prog_name="rlplastic")
    except UsageError as error:
        _leave(2, f"error: {error}")
    except Locked as error:
        _leave(75, f"error: {error}")
    except Stopped as stopped:
        _leave(stopped.code, "stopped; the same command continues")
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _leave(1, f"error: {where}{error.strerror or error}")
    raise SystemExit(0)


def _stop(signum: int, frame: FrameType | None) -> NoReturn:
    """First signal: unwind, which ends the workers. Second: leave at once."""
    for again in (signal.SIGINT, signal.SIGTERM):
        signal.signal(again, lambda signum, frame: os._exit(128 + signum))
    raise Stopped(signum)


def _leave(code: int, message: str) -> NoReturn:
    print(message, file=sys.stderr)
    raise SystemExit(code)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"rlplastic {rlplastic.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Does an RL agent stay plastic when its world changes? Measured with error bars."""


@app.command()
def bench(
    env: Env = "",
    agent: Annotated[
        list[str] | None,
        typer.Option("--agent", "--algo", help="Agents: dqn,ppo.  [default: the suite's]"),
    ] = None,
    reg: Annotated[
        list[str] | None,
        typer.Option(
            help="Interventions: sam,sam:rho=0.1+l2; 'none' and the newborns run beside them.  "
            "[default: the suite's]"
        ),
    ] = None,
    budget: Budget = "small",
    seeds: Annotated[
        str,
        typer.Option(
            "--seeds", "--seed", help="5 is 0 to 4; 3,7 or 3, are those.  [default: the budget's]"
        ),
    ] = "",
    workers: Annotated[
        str, typer.Option(help="Cells at a time; auto: one a core.", envvar="RLPLASTIC_WORKERS")
    ] = "auto",
    device: Device = "cpu",
    probes: Probes = "",
    data_dir: DataDir = None,
    out: Out = None,
    settings: Settings = None,
    plugin: Plugins = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done; write nothing.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="A line a cell instead of a live display.")
    ] = False,
    cell_timeout: Annotated[
        float | None,
        typer.Option(min=1e-3, help="Seconds after which a cell is ended as failed."),
    ] = None,
    retries: Annotated[
        int, typer.Option(min=0, help="Attempts after one that failed; it goes on where it was.")
    ] = 0,
) -> None:
    """Run a suite and write its report; given again, it continues.

    \b
    rlplastic bench --env Toy-Shifted --budget smoke
    rlplastic bench --env Control-Shifted --agent dqn,ppo --reg sam
    """  # noqa: D301 (\b is a backspace, after which the lines are kept as they are)
    from rlplastic import bench as work
    from rlplastic.plan import Request
    from rlplastic.pool import Limits

    _add_plugins(plugin)
    _use_data(data_dir)
    request = Request(
        agents=_words(agent, "--agent"),
        regs=_words(reg, "--reg"),
        env=_env(env),
        budget=budget,
        seeds=_seeds(seeds),
        settings=settings or [],
        device=_device(device),
        probes=_probes(probes),
    )
    folder = out or _default_out(env, budget)
    raise SystemExit(
        work.bench(
            request,
            folder,
            workers=_workers(workers),
            dry_run=dry_run,
            quiet=quiet,
            limits=Limits(seconds=cell_timeout, retries=retries),
        )
    )


@app.command()
def run(
    env: Env = "",
    agent: Annotated[
        str,
        typer.Option(
            "--agent", "--algo", help="Agent.  [default: the suite's]", show_default=False
        ),
    ] = "",
    reg: Annotated[str, typer.Option(help="Intervention, as sam:rho=0.1.")] = "none",
    seed: Annotated[int, typer.Option(min=0, help="Index of the repetition.")] = 0,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="The newborn arm: a new agent for each phase.")
    ] = False,
    budget: Budget = "small",
    device: Device = "cpu",
    probes: Probes = "",
    data_dir: DataDir = None,
    out: Out = None,
    settings: Settings = None,
    plugin: Plugins = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One line of JSON on stdout, progress on stderr.")
    ] = False,
) -> None:
    """Run one cell.

    \b
    rlplastic run --env Toy-Shifted/Cue-reward --reg sam --seed 3 --json
    """  # noqa: D301
    from rlplastic import bench as work
    from rlplastic.plan import Request

    _add_plugins(plugin)
    _use_data(data_dir)
    request = Request(
        agents=[agent] if agent else [],
        regs=[reg],
        env=_env(env),
        budget=budget,
        seeds=[seed],
        settings=settings or [],
        device=_device(device),
        probes=_probes(probes),
    )
    folder = out or _default_out(env, budget)
    raise SystemExit(work.run(request, folder, fresh=fresh, as_json=as_json))


@app.command()
def ls(
    kind: Annotated[
        str | None,
        typer.Argument(help="agents, regs, envs, shifts, schedules, probes or metrics."),
    ] = None,
    name: Annotated[str | None, typer.Argument(help="Everything that is known of one.")] = None,
    plugin: Plugins = None,
) -> None:
    """List what there is to choose from."""
    from rlplastic import listing

    _add_plugins(plugin)
    print(listing.show(kind, name))


for verb in (cli_offline.status, cli_offline.report, cli_offline.power, cli_offline.compare):
    app.command()(verb)
app.command()(cli_offline.watch)
app.command("import")(cli_offline.import_)


@app.command()
def download(
    name: Annotated[str, typer.Argument(help="mnist, fashion-mnist, emnist or cifar-10.")],
    data_dir: Annotated[Path, typer.Option(help="Folder of data.", envvar="RLPLASTIC_DATA")] = Path(
        "data"
    ),
) -> None:
    """Fetch a data set from where it is published, and compare its checksum."""
    from rlplastic.envs.download import download as fetch

    for path in fetch(name, data_dir):
        print(path)


@app.command()
def doctor(
    out: Annotated[
        Path, typer.Option(help="Where results would go.", envvar="RLPLASTIC_OUT")
    ] = Path("results"),
    plugin: Plugins = None,
) -> None:
    """Check that everything a bench needs is there and works."""
    from rlplastic.doctor import examine

    _add_plugins(plugin)
    broken = False
    for check in examine(out):
        print(f"{'ok' if check.ok else 'BROKEN':6}  {check.name:11}  {check.text}")
        broken |= not check.ok
    raise SystemExit(int(broken))


@app.command()
def check(
    env: Annotated[
        str,
        typer.Argument(
            help="Suite, Suite/PATTERN, a suite's TOML file, a registered id, or a Python file of "
            "one's own shifts.",
            show_default=False,
        ),
    ] = "",
    plugin: Plugins = None,
    quick: Annotated[bool, typer.Option("--quick", help="Play less of everything.")] = False,
) -> None:
    """Check that tasks, or shifts of one's own, keep what streams promise.

    \b
    rlplastic check Control-Shifted/CartPole-observation
    rlplastic check --plugin my_shift.py
    """  # noqa: D301
    from rlplastic.envs.check import show

    raise SystemExit(int(show(_own(env, plugin), quick=quick) > 0))


@app.command()
def preview(
    env: Annotated[str, typer.Argument(help="As for check.", show_default=False)] = "",
    out: Annotated[
        Path | None,
        typer.Option(help="A .png file, or a folder.  [default: here]", show_default=False),
    ] = None,
    phases: Annotated[int, typer.Option(min=1, max=12, help="Phases to show.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of worlds, resets and actions.")] = 0,
    gif: Annotated[bool, typer.Option("--gif", help="An animation too.")] = False,
    plugin: Plugins = None,
) -> None:
    """Draw what the agent sees and is paid in each phase of a task.

    \b
    rlplastic preview Atari-Shifted/Gopher-observation --gif
    """  # noqa: D301
    from rlplastic import preview as work

    env = _own(env, plugin)
    for path in work.preview(env, out=out, phases=phases, seed=seed, gif=gif):
        print(path)


# -- parsing ---------------------------------------------------------------------------------


def _words(values: list[str] | None, option: str) -> list[str]:
    """Words separated by commas, in one option or in several."""
    words = [word.strip() for value in values or [] for word in value.split(",")]
    if not all(words):
        raise UsageError(f"{option} {','.join(values or [])!r}: an empty name between commas")
    return words


def _env(text: str) -> str:
    if not text:
        from rlplastic.suite import suite_files

        raise UsageError(
            f"--env is needed: a suite, or suite/task.\nValid: {', '.join(suite_files())}"
        )
    return text


def _seeds(text: str) -> list[int]:
    """``5``: the first five; ``3,7`` or ``3,``: those; nothing: the budget's number."""
    words = [word.strip() for word in text.rstrip(",").split(",")] if text else []
    if not all(word.isascii() and word.isdigit() and len(word) < 10 for word in words):
        raise UsageError(f"--seeds {text!r}: write a number, as 5, or seeds, as 3,7,11")
    numbers = [int(word) for word in words]
    if "," in text or not text:
        return numbers
    if not 1 <= numbers[0] <= 1000:
        raise UsageError(
            f"--seeds {text!r}: a number of seeds from 1 to 1000; one seed is '{text},'"
        )
    return list(range(numbers[0]))


def _workers(text: str) -> int | None:
    if text == "auto":
        return None
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 1024):
        raise UsageError(f"--workers {text!r}: write auto, or a number from 1 to 1024")
    return int(text)


def _device(text: str) -> str:
    if text not in ("cpu", "cuda", "auto"):
        raise UsageError(f"--device {text!r}: write cpu, cuda or auto")
    return text


def _probes(text: str) -> str:
    if text not in ("", "default", "full"):
        raise UsageError(f"--probes {text!r}: write default or full")
    return text


def _use_data(folder: Path | None) -> None:
    """Tell this process and its workers where data are; no part of what is run, only of where."""
    if folder is None:
        return
    if not folder.is_dir():
        raise UsageError(f"--data-dir {str(folder)!r}: there is no such folder")
    os.environ["RLPLASTIC_DATA"] = str(folder.resolve())


def _default_out(env: str, budget: str) -> Path:
    suite = Path(env.partition(".toml")[0]).name if ".toml" in env else env.partition("/")[0]
    return Path("results") / f"{suite}-{budget}"


def _own(env: str, plugins: list[Path] | None) -> str:
    """The name to look for once the plugins are known, of which a Python file is one."""
    own = [Path(env)] if env.endswith(".py") else []
    _add_plugins([*(plugins or []), *own])
    return "" if own else env


def _add_plugins(paths: list[Path] | None) -> None:
    from rlplastic import registry

    for path in paths or []:
        registry.add_plugin(path)
