"""The state of an agent as bytes, and back: what a checkpoint holds.

A state is a tree of dictionaries, lists, tuples, tensors, arrays, numbers and texts. It is kept in
one safetensors file: the tensors as they are, the tree as JSON in its header. Reading one parses
JSON and copies numbers; nothing in it can run.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

TREE = "tree"  # key of the tree in the file's metadata


class Unreadable(Exception):
    """The bytes are not a state that `pack` has written."""


def pack(tree: Any) -> bytes:
    """A state as bytes.

    A tensor that occurs twice is kept once and is one tensor again after `unpack`. The order of a
    tensor's strides is kept (channels-last stays channels-last), since sums depend on it in their
    last bits.

    Raises:
        TypeError: something in the tree that cannot be kept; names where it is.
    """
    writer = _Writer()
    described = writer.describe(tree, "state")
    text = json.dumps(described, separators=(",", ":"), allow_nan=False)
    return save(writer.tensors, metadata={TREE: text})


def unpack(content: bytes) -> Any:
    """The state that `pack` was given, with new tensors, on the CPU.

    Raises:
        Unreadable: anything else than such bytes.
    """
    try:
        tensors = load(content)
        length = int.from_bytes(content[:8], "little")
        described = json.loads(content[8 : 8 + length])["__metadata__"][TREE]
        return _read(json.loads(described), tensors)
    except (SafetensorError, ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise Unreadable(f"{type(error).__name__}: {error}") from error
    except RuntimeError as error:  # torch's, of shapes and strides that do not fit
        raise Unreadable(str(error)) from error


class _Writer:
    """Collects the tensors of a tree on the way through it."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._known: dict[int, dict[str, Any]] = {}
        self._alive: list[Any] = []  # an id is only a name while its object lives

    def describe(self, value: Any, where: str) -> Any:
        """The value in JSON, with a name in place of each tensor."""
        if value is None or isinstance(value, bool | int | str):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else {"$float": str(value)}
        if isinstance(value, Tensor | np.ndarray):
            return self._tensor(value)
        if isinstance(value, np.generic):
            return {"$scalar": self._tensor(np.asarray(value))}
        if isinstance(value, dict):
            if all(isinstance(key, str) and not key.startswith("$") for key in value):
                return {k: self.describe(v, f"{where}.{k}") for k, v in value.items()}
            pairs = [
                [self.describe(k, where), self.describe(v, f"{where}.{k}")]
                for k, v in value.items()
            ]
            return {"$dict": pairs}
        if isinstance(value, list | tuple | deque):
            items = [self.describe(item, f"{where}[{i}]") for i, item in enumerate(value)]
            if isinstance(value, deque):
                return {"$deque": items, "most": value.maxlen}
            return items if isinstance(value, list) else {"$tuple": items}
        raise TypeError(f"{where}: a {type(value).__name__} cannot be kept in a checkpoint")

    def _tensor(self, value: Any) -> dict[str, Any]:
        if id(value) not in self._known:
            kind = "$tensor" if isinstance(value, Tensor) else "$array"
            tensor = value if isinstance(value, Tensor) else torch.from_numpy(np.array(value))
            strides = tensor.stride()
            order = sorted(range(tensor.dim()), key=lambda d: -strides[d])
            name = str(len(self.tensors))
            plain = tensor.detach().permute(order).cpu()
            self.tensors[name] = plain.clone(memory_format=torch.contiguous_format)
            described = {kind: name}
            if order != list(range(tensor.dim())):
                described["order"] = order  # type: ignore[assignment]
            self._known[id(value)] = described
            self._alive.append(value)
        return self._known[id(value)]


def _read(value: Any, tensors: dict[str, Any]) -> Any:
    if isinstance(value, list):
        return [_read(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    for mark, reader in _READERS.items():
        if mark in value:
            return reader(value[mark], value, tensors)
    return {k: _read(v, tensors) for k, v in value.items()}


def _tensor(name: str, value: dict[str, Any], tensors: dict[str, Any]) -> Any:
    order = value.get("order")
    if order is None:
        return tensors[name]
    key = f"{name} turned"  # one tensor wherever it occurs
    if key not in tensors:
        tensors[key] = tensors[name].permute(*np.argsort(order).tolist())
    return tensors[key]


_READERS: dict[str, Callable[[Any, dict[str, Any], dict[str, Any]], Any]] = {
    "$tensor": _tensor,
    "$array": lambda name, value, tensors: _tensor(name, value, tensors).numpy(),
    "$scalar": lambda array, _, tensors: _read(array, tensors)[()],
    "$float": lambda text, _, __: float(text),
    "$tuple": lambda items, _, tensors: tuple(_read(item, tensors) for item in items),
    "$deque": lambda items, value, tensors: deque(_read(items, tensors), value["most"]),
    "$dict": lambda pairs, _, tensors: {
        _key(_read(k, tensors)): _read(v, tensors) for k, v in pairs
    },
}


def _key(value: Any) -> Any:
    if not isinstance(value, bool | int | float | str | tuple | None):
        raise TypeError(f"{value!r:.50} is not the key of a dictionary")
    return value
