"""Verbs of the command line that look at what has been run, and never load torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlplastic.errors import UsageError

Folder = Annotated[Path, typer.Argument(help="Results folder.")]
Pairs = Annotated[
    list[str] | None,
    typer.Option(
        "--columns",
        help="KEY=COLUMN or KEY=TAG where the name is no usual one; keys: return, step, length, "
        "begin, copy, cut, task, agent, arm, seed.",
    ),
]


def status(folder: Folder) -> None:
    """Say how far a results folder is, and what failed."""
    from rlplastic.status import show_status

    print(show_status(folder))


def report(
    folder: Folder,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Copy report.html to this file.")
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(help="Write each figure as SVG, PDF and PNG into this folder.")
    ] = None,
    tables: Annotated[
        Path | None,
        typer.Option(help="Write each table as CSV, Markdown and LaTeX into this folder."),
    ] = None,
    parquet: Annotated[
        Path | None,
        typer.Option(help="Write the rows of results.csv as Parquet into this file."),
    ] = None,
    from_csv: Annotated[
        list[Path] | None,
        typer.Option(
            help="First make the folder of these CSV files of other programs; `rlplastic import` "
            "has more options. Repeatable."
        ),
    ] = None,
    shifts: Annotated[
        str, typer.Option(help="With --from-csv: steps at which the world changed, 1000,2000.")
    ] = "",
) -> None:
    """Write report.html, report.md and results.csv anew."""
    from rlplastic import store
    from rlplastic.report import write_report

    if from_csv or shifts:
        from rlplastic.elsewhere.runs import Import
        from rlplastic.elsewhere.write import import_runs

        if not (from_csv and shifts):
            raise UsageError("--from-csv and --shifts: give both; see `rlplastic import --help`")
        print(import_runs(Import(files=from_csv, shifts=_numbers(shifts, "--shifts")), folder))
    path = write_report(folder, figures, tables, parquet)
    if output is not None:
        path = store.write_text(output, path.read_text(encoding="utf-8"))
    print(path)


def power(
    folder: Folder,
    most: Annotated[
        int, typer.Option("--max", min=6, max=1000, help="Seeds at which the search ends.")
    ] = 100,
) -> None:
    """Say how many seeds it takes to see the differences to none."""
    from rlplastic.power import show_power

    print(show_power(folder, most))


def compare(
    first: Annotated[str, typer.Argument(help="Results folder, or FOLDER:ARM.")],
    second: Annotated[str, typer.Argument(help="The same, or :ARM of the first folder.")],
) -> None:
    """Compare two results folders, or two arms, seed by seed."""
    from rlplastic.compare import show_comparison

    print(show_comparison(first, second))


def import_(
    files: Annotated[
        list[Path], typer.Argument(help="CSV files, monitor.csv, event files, or folders of them.")
    ],
    shifts: Annotated[str, typer.Option(help="Steps at which the world changed: 100000,200000.")],
    out: Annotated[Path, typer.Option(help="Results folder.", envvar="RLPLASTIC_OUT")],
    end: Annotated[
        int | None, typer.Option(min=1, help="Last step of the last phase.  [default: of the logs]")
    ] = None,
    pattern: Annotated[
        list[str] | None,
        typer.Option(
            help="What a path says, from its end: '{task}/{arm}/{seed}.csv'; also {agent}, {copy}, "
            "and {phase} of a newborn whose steps count from 0. Repeatable."
        ),
    ] = None,
    columns: Pairs = None,
    task: Annotated[str, typer.Option(help="Of runs of which nothing else says it.")] = "",
    agent: Annotated[str, typer.Option(help="The same; 'random' is the random policy.")] = "",
    arm: Annotated[str, typer.Option(help="The same; 'sam+fresh' are the newborns of sam.")] = "",
    seed: Annotated[int | None, typer.Option(min=0, help="The same.")] = None,
    none: Annotated[str, typer.Option(help="Arm that is the plain agent.")] = "none",
    copies: Annotated[
        int | None, typer.Option(min=1, help="Environments that were stepped together.")
    ] = None,
    worlds: Annotated[str, typer.Option(help="World of each phase: 0,1,0.")] = "",
    scale: Annotated[
        str, typer.Option(help="Return that a newborn gains over random: 478, or TASK=478,...")
    ] = "",
    random: Annotated[
        str, typer.Option(help="Mean return of a random policy: 22, or TASK=22,...")
    ] = "",
    time_limit: Annotated[int | None, typer.Option(min=1, help="Steps of an episode.")] = None,
) -> None:
    """Make a results folder of runs of other programs, and its report.

    \b
    rlplastic import runs/*/*.csv --pattern '{arm}/{seed}.csv' \\
        --shifts 100000,200000 --random 22 --scale 478 --out results/mine
    """  # noqa: D301
    from rlplastic.elsewhere.runs import Import
    from rlplastic.elsewhere.write import import_runs
    from rlplastic.report import write_report

    said = {"task": task, "agent": agent, "arm": arm, "seed": "" if seed is None else str(seed)}
    request = Import(
        files=files,
        shifts=_numbers(shifts, "--shifts"),
        end=end,
        patterns=pattern or [],
        columns=_pairs(columns or [], "--columns"),
        names={key: value for key, value in said.items() if value},
        plain=none,
        copies=copies,
        worlds=_numbers(worlds, "--worlds") if worlds else [],
        scale=_levels(scale, "--scale"),
        random=_levels(random, "--random"),
        time_limit=time_limit,
    )
    print(import_runs(request, out))
    print(f"report: {write_report(out)}")


def watch(
    folder: Folder,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 2.0,
) -> None:
    """Look on while a bench runs elsewhere, with recovery so far; ends with it."""
    import sys

    from rlplastic.watch import watch as look

    look(folder, sys.stdout, every)


# -- parsing ---------------------------------------------------------------------------------


def _numbers(text: str, option: str) -> list[int]:
    words = [word.strip().replace("_", "") for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() and len(word) < 16 for word in words):
        raise UsageError(f"{option} {text!r:.80}: whole numbers, as 100000,200000")
    return [int(word) for word in words]


def _pairs(values: list[str], option: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in (part for value in values for part in value.split(",")):
        key, equals, value = (part.strip() for part in text.partition("="))
        if not (key and equals and value):
            raise UsageError(f"{option} {text!r:.80}: write KEY=NAME, as return=episodic_return")
        if key in found:
            raise UsageError(f"{option}: {key!r} is given twice")
        found[key] = value
    return found


def _levels(text: str, option: str) -> dict[str, float]:
    """One number for all tasks (the key is empty), or one for each."""
    pairs = _pairs([text], option) if "=" in text else {"": text} if text else {}
    try:
        levels = {task: float(value) for task, value in pairs.items()}
        if not all(abs(level) < float("inf") for level in levels.values()):
            raise ValueError
    except ValueError:
        raise UsageError(f"{option} {text!r:.80}: write a number, or TASK=NUMBER,...") from None
    return levels
