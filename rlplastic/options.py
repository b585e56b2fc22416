"""From what users write (command line, TOML, Python) to frozen configuration objects, or a reason.

A configuration is a frozen keyword-only dataclass owned by the thing it configures. Ranges are
part of the annotation: ``rho: Annotated[float, Ge(0)] = 0.05``. Three views, one definition::

    sam:rho=0.1                      command line (--reg)
    {name = "sam", rho = 0.1}        TOML
    SAM(rho=0.1)                     Python
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from rlplastic import registry
from rlplastic.errors import UsageError, unknown


def build(kind: str, spec: Mapping[str, Any], where: str) -> Any:
    """The configuration object of ``{"name": ..., option: value, ...}``.

    Raises:
        UsageError: unknown name or option, wrong type, value out of range; says where.
    """
    values = dict(spec)
    name = values.pop("name", None)
    if not isinstance(name, str):
        raise UsageError(f"{where}: a {kind} needs a name, as in {{name = '...'}}; got {spec!r}")
    return make(registry.load(kind, name), values, f"{where}: {kind} {name!r}")


def make(config: type[Any], values: Mapping[str, Any], where: str) -> Any:
    """An instance of a configuration dataclass from unchecked values."""
    if "__dataclass_fields__" not in vars(config):
        raise UsageError(f"{where}: its class needs @dataclass(frozen=True, kw_only=True)")
    known = [field.name for field in dataclasses.fields(config) if field.init]
    for key in values:
        if key not in known:
            error = unknown("option", key, known)
            raise UsageError(f"{where}: {error}")
    for key, value in values.items():
        if isinstance(value, float | str) and _infinite(value):
            raise UsageError(f"{where}: {key} = {value!r}: not a finite number")
        if isinstance(value, list | tuple) and any(map(_infinite, _floats(value))):
            raise UsageError(f"{where}: {key} = {value!r}: not all of them are finite numbers")
    try:
        made = _adapter(config).validate_python(dict(values))  # type: ignore[arg-type]
    except ValidationError as error:
        raise UsageError(f"{where}: {_reason(error)}") from None
    for key, value in values.items():
        for place in _became_numbers(value, getattr(made, key), key):
            raise UsageError(f"{where}: {place} = true or false: a number is wanted here")
    return made


def _became_numbers(given: Any, made: Any, place: str) -> Iterator[str]:
    """Where a boolean was read as 0 or 1, which pydantic does."""
    if isinstance(given, bool) and not isinstance(made, bool | str):
        yield place
    elif isinstance(given, Mapping):
        for key, value in given.items():
            found = made.get(key) if isinstance(made, Mapping) else getattr(made, key, value)
            yield from _became_numbers(value, found, f"{place}.{key}")
    elif isinstance(given, list | tuple) and isinstance(made, list | tuple):
        for number, (value, found) in enumerate(zip(given, made, strict=False)):
            yield from _became_numbers(value, found, f"{place}[{number}]")


def _reason(error: ValidationError) -> str:
    """The fault that says most: a key that does not exist rather than the one it was meant for."""
    faults = error.errors()
    first = next((f for f in faults if f["type"] == "unexpected_keyword_argument"), faults[0])
    key = ".".join(str(part) for part in first["loc"]) or "value"
    message = f"{first['msg'][0].lower()}{first['msg'][1:]}"
    if first["type"] == "value_error":
        return f"{key}: {first['ctx']['error']}"
    if first["type"] == "missing":
        return f"{key} is missing"
    if first["type"] == "unexpected_keyword_argument":
        word = str(first["loc"][-1])
        wanted = [str(f["loc"][-1]) for f in faults if f["type"] == "missing"]
        near = difflib.get_close_matches(word, wanted, n=1)
        return f"{key} is no key here" + (f". Did you mean {near[0]!r}?" if near else "")
    if first["type"] == "sequence_str":
        message = "write a list, as [64,64]"
    return f"{key} = {first['input']!r}: {message}"


def _floats(values: Iterable[Any]) -> Iterator[float]:
    """The floats of a list, and of the lists in it."""
    for value in values:
        if isinstance(value, float):
            yield value
        elif isinstance(value, list | tuple):
            yield from _floats(value)


def _infinite(value: float | str) -> bool:
    """True for NaN and infinity, which no range excludes and JSON cannot hold."""
    try:
        return not math.isfinite(float(value))
    except ValueError:
        return False


def spec_of(config: Any) -> dict[str, Any]:
    """The opposite of `build`: name and every option, defaults included, as JSON values.

    An option that a class names in ``later``, since it came after cells had been published, is left
    out while it has its default: their identities stay.
    """
    later = getattr(config, "later", ())
    fields = [field for field in dataclasses.fields(config) if field.init]
    values = {field.name: _plain(getattr(config, field.name)) for field in fields}
    for field in fields:
        if field.name in later and values[field.name] == _plain(field.default):
            del values[field.name]
    return {"name": config.name, **values}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


@cache
def _adapter(config: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(config)


def parse_reg(text: str) -> list[dict[str, Any]]:
    """The interventions of one ``--reg``: ``sam:rho=0.1:every=2+layernorm``.

    Returns one spec per intervention, sorted by name, with every option filled in; ``none`` is
    the empty list. The same set always gives the same list, so it names the same arm.

    Raises:
        UsageError: unknown name or option, a value out of range, a name given twice, ``fresh``.
    """
    specs: dict[str, dict[str, Any]] = {}
    for part in text.split("+"):
        name, *options = part.strip().split(":")
        if not name:
            raise UsageError(f"--reg {text!r}: an empty name beside '+'")
        if "=" in name:
            raise UsageError(
                f"--reg {text!r}: {name!r} is not an intervention; options follow a ':', "
                "as sam:rho=0.1:every=2, and ',' begins another arm"
            )
        if name == "fresh":
            raise UsageError(
                f"--reg {text!r}: 'fresh' is not an intervention; the newborn arm of every "
                "intervention runs beside it anyway"
            )
        if name == "none":
            continue
        registry.find("intervention", name)
        if name in specs:
            raise UsageError(f"--reg {text!r}: {name!r} is given twice")
        values: dict[str, Any] = {"name": name}
        for option in options:
            key, equals, value = option.partition("=")
            if not equals:
                raise UsageError(
                    f"--reg {text!r}: {option!r} is not an option; write {name}:key=value"
                )
            if key in values:
                raise UsageError(f"--reg {text!r}: {key!r} is given twice")
            values[key] = value
        specs[name] = spec_of(build("intervention", values, f"--reg {text!r}"))
    return [specs[name] for name in sorted(specs)]


def reg_label(specs: list[dict[str, Any]]) -> str:
    """The shortest text that `parse_reg` reads back: ``none``, ``layernorm+sam:rho=0.1``."""
    parts = []
    for spec in specs:
        config = registry.load("intervention", spec["name"])
        default = {field.name: _plain(field.default) for field in dataclasses.fields(config)}
        given = {key: value for key, value in spec.items() if key != "name"}
        changed = [f"{key}={value}" for key, value in given.items() if default[key] != value]
        parts.append(":".join([spec["name"], *changed]))
    return "+".join(parts) or "none"
