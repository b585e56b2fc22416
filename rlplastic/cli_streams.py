"""Verbs of the command line that show what there is, and try it, before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlplastic.cli_words import add_plugins, own_or_named

Plugins = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin", help="Python file that defines agents, interventions, ... Repeatable."
    ),
]


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

    add_plugins(plugin)
    print(listing.show(kind, name))


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


def doctor(
    out: Annotated[
        Path, typer.Option(help="Where results would go.", envvar="RLPLASTIC_OUT")
    ] = Path("results"),
    plugin: Plugins = None,
) -> None:
    """Check that everything a bench needs is there and works."""
    from rlplastic.doctor import examine

    add_plugins(plugin)
    broken = False
    for check in examine(out):
        print(f"{'ok' if check.ok else 'BROKEN':6}  {check.name:11}  {check.text}")
        broken |= not check.ok
    raise SystemExit(int(broken))


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

    raise SystemExit(int(show(own_or_named(env, plugin), quick=quick) > 0))


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

    env = own_or_named(env, plugin)
    for path in work.preview(env, out=out, phases=phases, seed=seed, gif=gif):
        print(path)
