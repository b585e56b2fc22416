"""Tables as files."""

import csv
import io
import re
import sys

import pytest
import synthetic_records as synthetic

from rlplastic import canvas, export, plots
from rlplastic.aggregate import Estimate
from rlplastic.errors import UsageError
from rlplastic.metrics.parquet import to_parquet
from rlplastic.metrics.study import Study
from rlplastic.metrics.tables import Table
from rlplastic.metrics.tidy import Row, rows
from rlplastic.reading import read
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
    for path in (tmp_path / "tables").iterdir():
        assert not re.search(r"\bnan\b", path.read_text().lower())


def test_each_figure_is_a_file_of_every_kind_and_the_same_on_another_day(tmp_path):
    folder = synthetic.write_results(
        tmp_path / "results", tasks=("Cart-observation",), seeds=2, phases=2, period=1000
    )
    made = []
    for name in ("one", "two"):
        write_report(folder, figures=tmp_path / name)
        made.append({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()})
    one, two = made
    names = {name.rpartition(".")[0] for name in one}
    assert len(names) >= 6
    assert set(one) == {f"{name}.{ending}" for name in names for ending in ("svg", "pdf", "png")}
    starts = {"pdf": b"%PDF-", "png": b"\x89PNG", "svg": b"<svg"}
    assert all(content.startswith(starts[name[-3:]]) for name, content in one.items())
    assert one == two


def test_a_figure_is_printed_only_while_it_is_asked_for():
    look = plots.styles(["sam"])["sam"]
    rows = {"<sam>\n": (Estimate(point=0.5, low=0.4, high=0.6), look)}
    plain = plots.intervals("f", "title", rows, x_label="S", at=1)
    with canvas.prints() as files:
        assert plots.intervals("f", "title", rows, x_label="S", at=1) == plain
    assert set(files) == {"f.pdf", "f.png"}
    plots.intervals("g", "title", rows, x_label="S", at=1)
    assert set(files) == {"f.pdf", "f.png"}


def test_parquet_holds_the_rows_of_the_csv_with_types(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    folder = synthetic.write_results(
        tmp_path / "results", tasks=("Cart-observation",), seeds=1, phases=2, period=1000
    )
    expected = list(rows(Study(read(folder))))
    table = parquet.read_table(io.BytesIO(to_parquet(expected)))
    assert table.column_names == list(Row._fields)
    assert [str(table.schema.field(n).type) for n in ("seed", "step", "value", "metric")] == [
        "int64",
        "int64",
        "double",
        "string",
    ]
    for found, row in zip(table.to_pylist(), expected, strict=True):
        as_text = {k: "" if v is None else str(v) for k, v in found.items()}
        assert as_text == {k: str(v) for k, v in row._asdict().items()}
    assert parquet.read_table(io.BytesIO(to_parquet([]))).num_rows == 0


def test_parquet_without_pyarrow_is_refused_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"rlplastic\[parquet\]"):
        to_parquet([])
