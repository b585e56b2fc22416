"""Tables as files."""

import csv
import io

import pytest
import synthetic_records as synthetic

from rlplastic import export
from rlplastic.metrics.tables import Table
from rlplastic.report import write_report

HOSTILE = Table(
    head=["arm", "50 % ↑"],
    rows=[["=cmd|x", "+0.12 [0.10, 0.14]"], ["a_b & {c}\\input{x}", "[1]"], ["<b>", "-1+cmd"]],
)


def test_latex_is_text_in_a_tabular():
    assert export.to_latex(HOSTILE).splitlines() == [
        r"\begin{tabular}{ll}",
        r"\toprule",
        r"arm & 50 \% $\uparrow$ \\",
        r"\midrule",
        r"=cmd\textbar{}x & +0.12 [0.10, 0.14] \\",
        r"a\_b \& \{c\}\textbackslash{}input\{x\} & {}[1] \\",
        r"\textless{}b\textgreater{} & -1+cmd \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_csv_runs_no_formula_and_leaves_numbers_alone():
    rows = list(csv.reader(io.StringIO(export.to_csv(HOSTILE))))
    assert rows[1] == ["'=cmd|x", "+0.12 [0.10, 0.14]"]
    assert rows[3] == ["<b>", "'-1+cmd"]


def test_markdown_has_as_many_cells_as_the_table():
    lines = export.to_markdown(HOSTILE).splitlines()
    assert lines[1] == "| --- | --- |"
    assert lines[2] == "| =cmd\\|x | +0.12 [0.10, 0.14] |"


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_report_writes_every_table_in_every_format(tmp_path, seeds):
    folder = synthetic.write_results(
        tmp_path / "results", tasks=("Cart-observation",), seeds=seeds, phases=3, period=1000
    )
    write_report(folder, tables_to=tmp_path / "tables")
    names = {path.name for path in (tmp_path / "tables").iterdir()}
    assert {f"ppo-{n}.{e}" for n in ("scores", "effects") for e in ("csv", "md", "tex")} <= names
    assert not any("nan" in p.read_text().lower() for p in (tmp_path / "tables").iterdir())
