"""Two folders, or two arms, seed by seed."""

import numpy as np
import pytest
import synthetic_records as synthetic

from rlplastic.aggregate import estimate
from rlplastic.compare import show_comparison
from rlplastic.errors import UsageError
from rlplastic.metrics.digits import show
from rlplastic.metrics.study import Study
from rlplastic.metrics.summary import summarise
from rlplastic.reading import read
from rlplastic.significance import sign_flip

TASK = "Cart-observation"


def written(folder, **options):
    settings = {"tasks": (TASK,), "phases": 3, "period": 1000}
    return synthetic.write_results(folder, **(settings | options))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return written(tmp_path_factory.mktemp("one") / "results")


def test_two_arms_of_a_folder_differ_as_its_report_says(folder):
    text = show_comparison(f"{folder}:none", ":sam")
    sam = summarise(Study(read(folder)), "ppo").arms[1]
    for score in (sam.plasticity, sam.performance):
        assert show(score.difference, signed=True) in text
        assert f"{score.p:.3f}" in text
    assert "6 paired seeds x 1 tasks" in text


def test_an_arm_alone_is_laid_beside_none_of_its_own_folder(folder):
    assert show_comparison(str(folder), ":sam") == show_comparison(f"{folder}:none", ":sam")


def test_a_folder_beside_itself_differs_in_nothing(folder):
    text = show_comparison(str(folder), str(folder))
    assert text.count("+0.00 [0.00, 0.00]") == 4  # S and P of none and sam
    assert text.count("1.000") >= 4
    assert "nan" not in text


def test_seeds_that_one_folder_lacks_are_left_out(folder, tmp_path):
    other = written(tmp_path / "few", seeds=3)
    text = show_comparison(f"{folder}:sam", f"{other}:none")
    study = Study(read(folder))
    sam = study.matrix("P", "ppo", "sam", [TASK], range(3))[0]
    none = study.matrix("P", "ppo", "none", [TASK], range(3))[0]
    assert "3 paired seeds" in text
    expected = estimate(none, "iqm", np.random.default_rng(0), minus=sam)
    assert show(expected, signed=True) in text
    assert f"{sign_flip(none - sam, np.random.default_rng(0)):.3f}" in text


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ("{folder}:nowhere", ":sam", "no arm 'nowhere'"),
        ("{folder}", "{longer}", "differ in stream"),
        ("{folder}", "{elsewhere}", "share no measurable task"),
    ],
)
def test_what_cannot_be_compared_is_refused(folder, tmp_path, first, second, said):
    places = {
        "folder": folder,
        "longer": written(tmp_path / "longer", seeds=1, phases=4),
        "elsewhere": written(tmp_path / "else", seeds=1, tasks=("Acro-reward",)),
    }
    with pytest.raises(UsageError, match=said):
        show_comparison(first.format(**places), second.format(**places))
