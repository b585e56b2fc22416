"""What the suite raises at its users."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LONGEST_SHOWN = 80  # characters of what the user wrote


class UsageError(Exception):
    """Something the user wrote cannot be used.

    The message says what, where, and what would be valid.

    The command line prints it as it is and leaves with exit code 2. It is raised before anything
    is written or trained.
    """


class Diverged(Exception):
    """The learner produced NaN or infinity: an outcome to be recorded, not a fault of the suite."""


def unknown(kind: str, name: str, choices: Iterable[str]) -> UsageError:
    r"""The error for a name that is not there, with the nearest one that is.

    >>> str(unknown("agent", "dqm", ["dqn", "ppo"]))
    "unknown agent 'dqm'. Did you mean 'dqn'?\nValid: dqn, ppo"
    """
    valid = sorted(choices)
    lowered = {choice.lower(): choice for choice in valid}
    # letters in another order are the commonest slip, and difflib prefers longer words
    near = [c for c in lowered if sorted(c) == sorted(name.lower())]
    near = near or difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.0)
    guess = f" Did you mean {lowered[near[0]]!r}?" if near else ""
    shown = ", ".join(valid[:30]) + (", ..." if len(valid) > 30 else "")
    short = name if len(name) <= LONGEST_SHOWN else name[:LONGEST_SHOWN] + "..."
    return UsageError(f"unknown {kind} {short!r}.{guess}\nValid: {shown}")
