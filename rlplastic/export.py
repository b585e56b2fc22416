"""The tables of a report as files of their own: CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence

from rlplastic.metrics.tables import Table

FORMULA = ("=", "+", "-", "@", "\t", "\r")
NUMBER = re.compile(r"[+-]\d+(\.\d+)?( \[-?\d+(\.\d+)?, -?\d+(\.\d+)?\]| \(one seed\))?")
LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "−": "$-$",  # noqa: RUF001
} | {character: "\\" + character for character in "{}$&#_%"}


def quoted(cell: object) -> object:
    """A cell of a CSV file that no spreadsheet runs: what looks like a formula is quoted."""
    return f"'{cell}" if str(cell).startswith(FORMULA) else cell


def to_csv(table: Table) -> str:
    """Comma-separated text."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for row in (table.head, *table.rows):
        writer.writerow([cell if NUMBER.fullmatch(cell) else quoted(cell) for cell in row])
    return buffer.getvalue()


def markdown(value: object) -> str:
    """Text that stays text inside a Markdown table: no cell, tag, link or code begins in it."""
    text = " ".join(str(value).split())
    for character in "\\|<`*":
        text = text.replace(character, "\\" + character)
    return text.replace("](", "]\\(")


def to_markdown(table: Table) -> str:
    """A Markdown table."""
    rows = [table.head, ["---"] * len(table.head), *table.rows]
    return "".join(f"| {' | '.join(map(markdown, row))} |\n" for row in rows)


def latex(value: object) -> str:
    """Text that stays text in LaTeX: no command begins in it."""
    return "".join(LATEX.get(character, character) for character in " ".join(str(value).split()))


def to_latex(table: Table) -> str:
    r"""A tabular with the rules of booktabs; needs ``\usepackage{booktabs}``."""

    def line(row: Sequence[str]) -> str:
        # A row that begins with a bracket would be read as the option of the row end before it.
        return " & ".join("{}" + latex(c) if c.startswith(("[", "*")) else latex(c) for c in row)

    rows = [line(row) + r" \\" for row in table.rows]
    return "\n".join(
        [
            rf"\begin{{tabular}}{{{'l' * len(table.head)}}}",
            r"\toprule",
            line(table.head) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


FORMATS: dict[str, Callable[[Table], str]] = {
    "csv": to_csv,
    "md": to_markdown,
    "tex": to_latex,
}
"""Ending of a file's name -> what writes a table so."""
