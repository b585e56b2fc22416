"""Names to implementations: one decorator a kind, nothing imported until it is used.

A name is found by *reading* the source files of its kind: the decorator, the docstring and the
annotated fields are taken from the syntax tree, so that ``rlplastic ls`` and the checks of a
command line need neither torch nor gymnasium. `Entry.load` imports the one file that is meant.

=============  =====================================  ===========================================
kind           decorator                              where
=============  =====================================  ===========================================
environment    ``@environment("CartPole")``           ``envs/<family>.py``
shift          ``@shift("offset")``                   ``envs/shifts_*.py``
schedule       ``@schedule("periodic")``              ``envs/schedules.py``
agent          ``@agent("dqn")``                      ``agents/*.py``
intervention   ``@intervention("sam")``               ``rlplastic/interventions/*.py``
probe          ``@probe("weight_norm")``              ``rlplastic/probes/*.py``
metric         ``@metric("drop", better="lower")``    ``rlplastic/metrics/*.py``
=============  =====================================  ===========================================

From outside: an entry point of the group ``rlplastic`` whose value is a module, or
``--plugin path/to/file.py``. Their files are read in the same way.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.metadata
import importlib.util
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from rlplastic.errors import UsageError, unknown

T = TypeVar("T", bound=Callable[..., Any])

ROOT = Path(__file__).parent
HOMES: dict[str, tuple[str, str]] = {
    "environment": ("envs", "*.py"),
    "shift": ("envs", "shifts_*.py"),
    "schedule": ("envs", "schedules.py"),
    "agent": ("agents", "*.py"),
    "intervention": ("interventions", "*.py"),
    "probe": ("probes", "*.py"),
    "metric": ("metrics", "*.py"),
}
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,60}")  # also the names of folders
_plugins: list[Path] = []
_registered: dict[tuple[str, str], Any] = {}


@dataclass(frozen=True, kw_only=True)
class Field:
    """One option of an entry, as written: ``rho: float = 0.05``."""

    name: str
    annotation: str
    default: str


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What is known of a name without importing it."""

    kind: str
    name: str
    path: Path
    module: str
    attribute: str
    doc: str
    fields: tuple[Field, ...] = ()
    traits: dict[str, Any] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """The first line of the docstring."""
        return self.doc.partition("\n")[0].strip()

    def cost(self, options: Mapping[str, Any] | None = None) -> float:
        """Gradient evaluations per update of an intervention with these options, none = 1.

        One that acts at each `every`-th update costs 1 + (cost - 1) / every on average.
        """
        defaults = {f.name: ast.literal_eval(f.default) for f in self.fields if f.name == "every"}
        every = {**defaults, **(options or {})}.get("every", 1)
        return 1.0 + (float(self.traits.get("cost", 1.0)) - 1.0) / float(every)

    def load(self) -> Any:
        """Import the file and return the implementation."""
        _import(self)
        return _registered[(self.kind, self.name)]


def _decorator(kind: str) -> Callable[..., Callable[[T], T]]:
    def named(name: str, **traits: Any) -> Callable[[T], T]:
        def register(thing: T) -> T:
            known = _registered.get((kind, name))
            if known is not None and known.__module__ != thing.__module__:
                raise UsageError(
                    f"{kind} {name!r} is defined twice: in {known.__module__} "
                    f"and in {thing.__module__}. Rename one."
                )
            thing.kind, thing.name = kind, name  # type: ignore[attr-defined]
            for key, value in traits.items():
                setattr(thing, key, value)
            _registered[(kind, name)] = thing
            return thing

        return register

    return named


environment = _decorator("environment")
shift = _decorator("shift")
schedule = _decorator("schedule")
agent = _decorator("agent")
intervention = _decorator("intervention")
probe = _decorator("probe")
metric = _decorator("metric")


def add_plugin(path: str | Path) -> None:
    """Make the entries of one Python file available under their names."""
    file = Path(path).resolve()
    if not file.exists():
        raise UsageError(f"--plugin {str(path)!r}: there is no such file")
    if not file.is_file() or file.suffix != ".py":
        raise UsageError(f"--plugin {str(path)!r}: not a Python file")
    if file not in _plugins:
        if not _read(file, file.stem):
            raise UsageError(
                f"--plugin {str(path)!r}: defines nothing; "
                f"it needs one of the decorators {', '.join(HOMES)}"
            )
        _plugins.append(file)
        entries.cache_clear()


def plugins() -> list[str]:
    """The files given by `add_plugin`, so that worker processes can be told of them."""
    return [str(path) for path in _plugins]


@cache
def entries(kind: str) -> dict[str, Entry]:
    """All entries of a kind by name, sorted."""
    found: dict[str, Entry] = {}
    for path, module in _sources(kind):
        for entry in _read(path, module):
            if entry.kind != kind:
                continue
            other = found.get(entry.name)
            if other is not None:
                raise UsageError(
                    f"{kind} {entry.name!r} is defined twice: in {other.path} and in {path}. "
                    "Rename one."
                )
            found[entry.name] = entry
    return dict(sorted(found.items()))


def find(kind: str, name: str) -> Entry:
    """The entry of that name, or a `UsageError` with the nearest name that exists."""
    known = entries(kind)
    if name not in known:
        raise unknown(kind, name, known)
    return known[name]


def load(kind: str, name: str) -> Any:
    """The implementation of that name; the source is not read again once it is imported."""
    known = _registered.get((kind, name))
    return find(kind, name).load() if known is None else known


def outside(names: Iterable[tuple[str, str]]) -> dict[str, str]:
    """SHA-256 of the file of each (kind, name) that is not the package's own, by kind and name."""
    found = [find(kind, name) for kind, name in names]
    return {
        f"{entry.kind} {entry.name}": hashlib.sha256(entry.path.read_bytes()).hexdigest()
        for entry in found
        if not entry.path.is_relative_to(ROOT)
    }


def _sources(kind: str) -> Iterator[tuple[Path, str]]:
    folder, pattern = HOMES[kind]
    for path in sorted((ROOT / folder).glob(pattern)):
        yield path, f"rlplastic.{folder}.{path.stem}"
    for point in importlib.metadata.entry_points(group="rlplastic"):
        origin = _origin(point.value)
        if origin is not None:
            yield origin, point.value
    for number, path in enumerate(_plugins):
        yield path, f"rlplastic_plugin_{number}_{path.stem}"


def _origin(module: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(module)
    except Exception as error:  # an installed plugin that is broken must not stop the others
        warnings.warn(f"plugin {module}: {type(error).__name__}: {error}", stacklevel=2)
        return None
    return Path(spec.origin) if spec is not None and spec.origin else None


@cache
def _read(path: Path, module: str) -> tuple[Entry, ...]:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise UsageError(f"{path}: line {error.lineno}: {error.msg}") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: not Python source: {error}") from error
    return tuple(
        entry
        for node in tree.body
        if isinstance(node, ast.ClassDef | ast.FunctionDef)
        for entry in _entry(node, _lineage(node, tree), path, module)
    )


def _lineage(node: ast.AST, tree: ast.Module) -> list[ast.ClassDef]:
    """A class and those of the same file that it comes from, the most distant first."""
    if not isinstance(node, ast.ClassDef):
        return []
    classes = {other.name: other for other in tree.body if isinstance(other, ast.ClassDef)}
    bases = [
        classes[base.id] for base in node.bases if isinstance(base, ast.Name) and base.id in classes
    ]
    return [*(far for base in reversed(bases) for far in _lineage(base, tree)), node]


def _entry(
    node: ast.ClassDef | ast.FunctionDef, lineage: list[ast.ClassDef], path: Path, module: str
) -> Iterator[Entry]:
    for decorator in node.decorator_list:
        if not isinstance(decorator, ast.Call) or not decorator.args:
            continue
        called = decorator.func  # @shift("x") or @registry.shift("x")
        kind = getattr(called, "id", None) or getattr(called, "attr", "")
        if kind not in HOMES:
            continue
        try:
            name = ast.literal_eval(decorator.args[0])
            traits = {w.arg: ast.literal_eval(w.value) for w in decorator.keywords if w.arg}
        except ValueError:
            raise UsageError(
                f"{path}: line {node.lineno}: @{kind} takes literals only, since it is read and "
                "not run"
            ) from None
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise UsageError(
                f"{path}: line {node.lineno}: {kind} {name!r}: a name has letters, digits, '_' "
                "and '-' only"
            )
        fields, constants = _contents(lineage)
        yield Entry(
            kind=kind,
            name=name,
            path=path,
            module=module,
            attribute=node.name,
            doc="\n\n".join(filter(None, map(ast.get_docstring, [node, *_documented(lineage)]))),
            fields=tuple(fields.values()),
            traits={**traits, **constants},
        )


def _contents(lineage: list[ast.ClassDef]) -> tuple[dict[str, Field], dict[str, Any]]:
    """The fields of a dataclass and its literal class variables, with those that it inherits."""
    fields: dict[str, Field] = {}
    constants: dict[str, Any] = {}
    for line in (line for one in lineage for line in one.body):
        if not (isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)):
            continue
        name, annotation = line.target.id, ast.unparse(line.annotation)
        default = "" if line.value is None else ast.unparse(line.value)
        if annotation.startswith("ClassVar"):
            with suppress(ValueError, SyntaxError):  # what is not a literal is no trait
                constants[name] = ast.literal_eval(default)
        else:  # in the place of the one that it overrides, as dataclasses have it
            fields[name] = Field(name=name, annotation=annotation, default=default)
    return fields, constants


def _documented(lineage: list[ast.ClassDef]) -> list[ast.ClassDef]:
    """The classes that one inherits fields from, whose docstrings say what they are."""
    return [base for base in reversed(lineage[:-1]) if _contents([base])[0]]


def _import(entry: Entry) -> None:
    if (entry.kind, entry.name) in _registered:
        return
    what = f"{entry.kind} {entry.name!r}"
    try:
        if entry.module.startswith("rlplastic_plugin_"):
            _import_file(entry.path, entry.module)
        else:
            importlib.import_module(entry.module)
    except UsageError:
        raise
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        raise UsageError(
            f"{what} ({entry.path}) needs {error.name!r}, which is not installed: "
            f"pip install {package}"
        ) from error
    except Exception as error:
        raise UsageError(
            f"{what}: {entry.path} cannot be imported: {type(error).__name__}: {error}"
        ) from error


def _import_file(path: Path, name: str) -> None:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError("no loader for this file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
