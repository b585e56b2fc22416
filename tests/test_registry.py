"""Names are read from source files, loaded when used, and explained when they are not there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path

import pytest
import running

from rlplastic import options, registry
from rlplastic.errors import UsageError

Plugin = Callable[..., Path]


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Plugin]:
    """Writes a plugin and adds it; at the end it is forgotten."""

    def add(*words: str) -> Path:
        path = running.write_plugin(tmp_path, *words)
        registry.add_plugin(path)
        return path

    with running.no_plugins():
        yield add


PROBE = """
@registry.probe("{name}", unit="m")
def measure(agent, batch):
    '''First line.

    More.
    '''
    return 1.0
"""


def test_every_entry_says_of_its_source_what_its_implementation_is() -> None:
    for kind in registry.HOMES:
        entries = registry.entries(kind)
        assert entries, kind
        assert list(entries) == sorted(entries)
        for name, entry in entries.items():
            thing = entry.load()
            assert (thing.kind, thing.name) == (kind, name)
            assert thing.__name__ == entry.attribute
            assert thing.__module__ == entry.module
            assert entry.summary
            for trait, value in entry.traits.items():
                assert getattr(thing, trait) == value
            own = getattr(thing, "__dataclass_fields__", {})
            assert {field.name for field in entry.fields} <= set(own)


def test_fields_of_a_base_class_in_the_same_file_are_options_too(plugin: Plugin) -> None:
    plugin(
        """
        from dataclasses import dataclass
        from typing import ClassVar

        class Base:
            learns: ClassVar[bool] = True
            first: int = 1
            second: int = 2

        @registry.agent("heir")
        class Heir(Base):
            '''One.'''

            second: int = 3
            third: str = "x"
        """
    )
    heir = registry.find("agent", "heir")
    assert [(f.name, f.default) for f in heir.fields] == [
        ("first", "1"),
        ("second", "3"),
        ("third", "'x'"),
    ]
    assert heir.traits == {"learns": True}
    for name in ("mlp", "cnn"):
        entry = registry.find("agent", name)
        assert [f.name for f in entry.fields] == [f.name for f in fields(entry.load())]
        assert "num_envs:" in entry.doc


def test_reading_imports_no_implementation() -> None:
    code = (
        "import sys; from rlplastic import registry\n"
        "names = [n for kind in registry.HOMES for n in registry.entries(kind)]\n"
        "assert len(names) > 20\n"
        "print([m for m in sys.modules if m.startswith(('rlplastic.agents', 'rlplastic.envs',"
        "'rlplastic.interventions', 'rlplastic.probes', 'rlplastic.metrics', 'torch'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=running.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"


def test_an_unknown_name_gets_the_nearest_one() -> None:
    with pytest.raises(UsageError, match=r"unknown agent 'dqm'\. Did you mean 'dqn'\?\nValid: "):
        registry.find("agent", "dqm")


def test_a_plugin_is_found_read_and_loaded(plugin: Plugin) -> None:
    path = plugin(PROBE.format(name="mine"))
    entry = registry.find("probe", "mine")
    assert (entry.path, entry.summary, entry.traits) == (path, "First line.", {"unit": "m"})
    assert registry.plugins() == [str(path)]
    assert registry.load("probe", "mine")(None, None) == 1.0
    path.write_text("this is no longer Python (")
    assert registry.load("probe", "mine")(None, None) == 1.0, "what is loaded is not read again"


def test_a_configuration_that_is_no_dataclass_is_refused(plugin: Plugin) -> None:
    source = """
        @registry.intervention("bare")
        class Bare(Intervention):
            "Has an option, and no @dataclass."
            strength: float = 1.0
        """
    registry.add_plugin(plugin(source))
    with pytest.raises(UsageError, match="'bare': its class needs @dataclass"):
        options.parse_reg("bare:strength=2")


def test_the_same_plugin_twice_is_one(plugin: Plugin) -> None:
    path = plugin(PROBE.format(name="mine"))
    registry.add_plugin(str(path))
    assert len(registry.plugins()) == 1


def test_two_plugins_of_the_same_file_name_are_two(tmp_path: Path, plugin: Plugin) -> None:
    plugin(PROBE.format(name="one"))
    (tmp_path / "other").mkdir()
    registry.add_plugin(running.write_plugin(tmp_path / "other", PROBE.format(name="two")))
    one, two = registry.load("probe", "one"), registry.load("probe", "two")
    assert one.__module__ != two.__module__
    assert sys.modules[one.__module__].measure is one


def test_a_name_that_exists_is_refused_with_both_places(plugin: Plugin) -> None:
    path = plugin(PROBE.format(name="weight_norm"))
    with pytest.raises(UsageError, match="defined twice") as error:
        registry.find("probe", "weight_norm")
    assert str(path) in str(error.value)
    assert "norms.py" in str(error.value)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = (", r"line 4: '\(' was never closed"),
        ("x = 1", "defines nothing"),
        ("NAME = 'x'\n@registry.probe(NAME)\ndef f(a, b): 'F.'", "literals only"),
        ("@registry.probe('../x')\ndef f(a, b): 'F.'", "letters, digits"),
        ("@registry.probe('a' * 0)\ndef f(a, b): 'F.'", "literals only"),
        ("@registry.probe(7)\ndef f(a, b): 'F.'", "probe 7: a name has letters"),
    ],
)
def test_a_plugin_that_cannot_be_read_is_refused(
    source: str, expected: str, plugin: Plugin
) -> None:
    with pytest.raises(UsageError, match=expected):
        plugin(source)
    assert registry.plugins() == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import no_such_package.sub", "no_such_package.*pip install no_such_package"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise SystemError", "SystemError"),
    ],
)
def test_a_plugin_that_cannot_be_imported_is_refused_when_it_is_used(
    source: str, expected: str, plugin: Plugin
) -> None:
    path = plugin(source + PROBE.format(name="mine"))
    with pytest.raises(UsageError, match=expected) as error:
        registry.load("probe", "mine")
    assert str(path) in str(error.value)


def test_a_directory_or_another_file_is_no_plugin(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    for path in (tmp_path, tmp_path / "notes.txt", tmp_path / "nothing.py"):
        with pytest.raises(UsageError, match="not a Python file|no such file"):
            registry.add_plugin(path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bytes.py"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not Python source"):
        registry.add_plugin(path)


def test_an_installed_package_is_a_plugin_and_a_broken_one_does_not_stop_the_others(
    tmp_path: Path,
) -> None:
    for name, value in (("good", "plugged_in"), ("broken", "no_such_module.anywhere")):
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[rlplastic]\n{name} = {value}\n")
    running.write_plugin(tmp_path, PROBE.format(name="from-outside"), "plugged_in.py")
    code = (
        "from rlplastic import registry\n"
        "print(registry.load('probe', 'from-outside').__module__)\n"
        "print('dqn' in registry.entries('agent'))\n"
    )
    environment = running.environment()
    environment["PYTHONPATH"] += f":{tmp_path}"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.split()) == (0, ["plugged_in", "True"]), done.stderr
    assert "plugin no_such_module.anywhere: ModuleNotFoundError" in done.stderr
