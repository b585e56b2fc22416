"""What several probes ask of the same minibatch is computed once while they look on together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar

T = TypeVar("T")


class _Look:
    """The agent and the minibatch that are looked at, and what has been found."""

    def __init__(self, agent: Any, batch: Any) -> None:
        self.agent, self.batch = agent, batch
        self.found: dict[Any, Any] = {}


_looks: list[_Look] = []


@contextmanager
def looking(agent: Any, batch: Any) -> Iterator[None]:
    """While probes are measured one after another; the weights stay as they are in between."""
    _looks.append(_Look(agent, batch))
    try:
        yield
    finally:
        _looks.pop()


def once(function: Callable[[Any, Any], T]) -> Callable[[Any, Any], T]:
    """A function of agent and minibatch, computed once in a look; nobody may change what it says.

    Of other minibatches, or outside of a look, it is computed anew each time.
    """

    @wraps(function)
    def asked(agent: Any, batch: Any) -> T:
        look = _looks[-1] if _looks else None
        if look is None or look.agent is not agent or look.batch is not batch:
            return function(agent, batch)
        if function not in look.found:
            look.found[function] = function(agent, batch)
        known: T = look.found[function]
        return known

    return asked
