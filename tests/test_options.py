"""From words to frozen configurations, and the reasons when that is not possible."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Annotated, Literal

import pytest
from annotated_types import Ge
from hypothesis import given
from hypothesis import strategies as st

from rlplastic import options, registry
from rlplastic.errors import UsageError
from rlplastic.suite import Budget


@dataclass(frozen=True, kw_only=True)
class Config:
    """Something to be configured."""

    name = "thing"
    size: Annotated[int, Ge(1)]
    rate: float = 0.5
    kind: Literal["a", "b"] = "a"
    flag: bool = False
    widths: tuple[int, ...] = (1, 2)


def test_text_becomes_the_declared_types() -> None:
    made = options.make(Config, {"size": "3", "rate": "1e-3", "flag": "true"}, "here")
    assert made == Config(size=3, rate=1e-3, flag=True)
    assert [type(v) for v in (made.size, made.rate, made.flag)] == [int, float, bool]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, "size"),
        ({"size": 0}, "size = 0: input should be greater than or equal to 1"),
        ({"size": "1.5"}, "size = '1.5'"),
        ({"size": 1, "sise": 2}, "Did you mean 'size'?"),
        ({"size": 1, "kind": "c"}, "'a' or 'b'"),
        ({"size": 1, "rate": math.nan}, "rate = nan: not a finite number"),
        ({"size": 1, "rate": "-inf"}, "rate = '-inf': not a finite number"),
        ({"size": 1, "rate": "1e999"}, "not a finite number"),
        ({"size": 1, "widths": [0.5, math.inf]}, "widths = [0.5, inf]: not all of them are finite"),
        ({"size": True}, "size = true or false: a number is wanted here"),
        ({"size": 1, "widths": [1, True]}, "widths[1] = true or false: a number"),
        ({"size": 1, "widths": [[math.nan]]}, "widths = [[nan]]: not all of them are finite"),
    ],
)
def test_what_does_not_fit_is_refused_with_place_key_and_value(
    values: dict[str, object], expected: str
) -> None:
    with pytest.raises(UsageError) as error:
        options.make(Config, values, "here")
    assert str(error.value).startswith("here: ")
    assert expected in str(error.value)
    assert len(str(error.value).splitlines()) <= 2


def test_a_boolean_deep_within_is_no_number() -> None:
    values = {"seeds": 1, "phases": 2, "period": {"dqn": 8, "ppo": True}}
    with pytest.raises(UsageError, match=r"period\.ppo = true or false: a number is wanted"):
        options.make(Budget, values, "here")


def test_a_spec_is_the_whole_configuration_as_json() -> None:
    spec = options.spec_of(Config(size=3))
    assert spec == {
        "name": "thing",
        "size": 3,
        "rate": 0.5,
        "kind": "a",
        "flag": False,
        "widths": [1, 2],
    }
    assert json.loads(json.dumps(spec)) == spec


@pytest.mark.parametrize("kind", ["intervention", "shift", "environment", "schedule", "agent"])
def test_every_configuration_comes_back_from_its_spec(kind: str) -> None:
    checked = 0
    for name, entry in registry.entries(kind).items():
        config = entry.load()
        needed = [f for f in dataclasses.fields(config) if f.default is dataclasses.MISSING]
        if any(f.init and f.default_factory is dataclasses.MISSING for f in needed):
            continue
        built = config()
        spec = json.loads(json.dumps(options.spec_of(built)))
        again = options.build(kind, spec, "test")
        assert options.spec_of(again) == spec, name
        checked += 1
    # each kind has at least one that needs nothing; those of schedules need a period
    assert checked or kind == "schedule"


def test_a_spec_without_a_name_is_refused() -> None:
    with pytest.raises(UsageError, match="a shift needs a name"):
        options.build("shift", {"sigma": 1}, "suite 'x'")


def test_a_reg_names_the_same_arm_however_it_is_written() -> None:
    plain = options.parse_reg("sam")
    assert plain == options.parse_reg("none+sam") == options.parse_reg(" sam:rho=5e-2 ")
    assert options.reg_label(plain) == "sam"
    assert options.parse_reg("none") == []
    assert options.reg_label([]) == "none"


@given(
    rho=st.floats(0, 1e6, allow_nan=False),
    every=st.integers(1, 100),
    scope=st.sampled_from(["critic", "head", "backbone"]),
)
def test_a_label_reads_back_as_the_same_intervention(rho: float, every: int, scope: str) -> None:
    specs = options.parse_reg(f"sam:rho={rho!r}:every={every}:scope={scope}")
    assert (specs[0]["rho"], specs[0]["every"], specs[0]["scope"]) == (rho, every, scope)
    assert options.parse_reg(options.reg_label(specs)) == specs


@given(st.text(alphabet="sam:+=nofresh,01.e- \n\x00", max_size=30))
def test_any_reg_is_read_or_refused_in_five_lines(text: str) -> None:
    try:
        specs = options.parse_reg(text)
    except UsageError as error:
        refusal = str(error)
    else:
        refusal = ""
        json.dumps(specs, allow_nan=False)
        assert options.parse_reg(options.reg_label(specs)) == specs
    assert "\n\n" not in refusal
    assert len(refusal.splitlines()) <= 5
