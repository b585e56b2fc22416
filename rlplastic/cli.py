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
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer

import rlplastic
from rlplastic import cli_offline, cli_streams
from rlplastic.cli_streams import Plugins
from rlplastic.cli_words import (
    add_plugins,
    default_out,
    device_of,
    env_of,
    probes_of,
    seeds_of,
    use_data,
    words_of,
    workers_of,
)
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
Evaluate = Annotated[
    int,
    typer.Option(
        min=0,
        help="Episodes in each world, not learnt from, before a life and at the end of each phase: "
        "for forgetting and transfer.  [default: none]",
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
Data = Annotated[
    str,
    typer.Option(
        help="Data set that streams of images show: mnist, fashion-mnist, emnist, cifar-10 or "
        "digits.  [default: the suite's]",
        show_default=False,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        help="Results folder.  [default: results/SUITE-BUDGET, or SUITE-DATA-BUDGET]",
        envvar="RLPLASTIC_OUT",
        show_default=False,
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="agent.key=value, as dqn.learning_rate=1e-4. Repeatable."),
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
        with suppress(OSError, ValueError):  # nobody reads it any more
            print("stopped; the same command continues", file=sys.stderr, flush=True)
            sys.stdout.flush()
        # Everything is unwound. Python's own end takes half a second with torch in memory, and
        # longer on a busy machine; until it is over a second signal would not be heard.
        _leave_at_once(stopped.code)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _leave(1, f"error: {where}{error.strerror or error}")
    raise SystemExit(0)


def _stop(signum: int, frame: FrameType | None) -> NoReturn:
    """First signal: unwind, which ends the workers. Second: leave at once."""
    for again in (signal.SIGINT, signal.SIGTERM):
        signal.signal(again, lambda signum, frame: _leave_at_once(128 + signum))
    raise Stopped(signum)


def _leave_at_once(code: int) -> NoReturn:
    """No child is waited for, and none is left: a fork server takes a second for its own end."""
    try:
        worker = sys.modules.get("rlplastic.worker")  # None: there are no children yet
        if worker is not None:
            worker.abandon()
    finally:
        os._exit(code)


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
    evaluate: Evaluate = 0,
    data: Data = "",
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
    from rlplastic.pool import Limits
    from rlplastic.request import Request

    add_plugins(plugin)
    use_data(data_dir)
    request = Request(
        agents=words_of(agent, "--agent"),
        regs=words_of(reg, "--reg"),
        env=env_of(env),
        budget=budget,
        seeds=seeds_of(seeds),
        settings=settings or [],
        device=device_of(device),
        probes=probes_of(probes),
        evaluate=evaluate,
        data=data,
    )
    folder = out or default_out(env, budget, data)
    raise SystemExit(
        work.bench(
            request,
            folder,
            workers=workers_of(workers),
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
    evaluate: Evaluate = 0,
    data: Data = "",
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
    from rlplastic.request import Request

    add_plugins(plugin)
    use_data(data_dir)
    request = Request(
        agents=[agent] if agent else [],
        regs=[reg],
        env=env_of(env),
        budget=budget,
        seeds=[seed],
        settings=settings or [],
        device=device_of(device),
        probes=probes_of(probes),
        evaluate=evaluate,
        data=data,
    )
    folder = out or default_out(env, budget, data)
    raise SystemExit(work.run(request, folder, fresh=fresh, as_json=as_json))


VERBS: dict[str, Callable[..., None]] = {
    "ls": cli_streams.ls,
    "check": cli_streams.check,
    "preview": cli_streams.preview,
    "download": cli_streams.download,
    "status": cli_offline.status,
    "watch": cli_offline.watch,
    "report": cli_offline.report,
    "import": cli_offline.import_,
    "power": cli_offline.power,
    "compare": cli_offline.compare,
    "doctor": cli_streams.doctor,
}
for name, verb in VERBS.items():
    app.command(name)(verb)
