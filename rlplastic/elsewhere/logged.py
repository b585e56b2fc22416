"""Episodes that other programs have logged: CSV files, monitor.csv and TensorBoard event files.

=================  ==========================================================================
a CSV file         one row an episode: its return, and its last step
``monitor.csv``    of stable-baselines3: one file a copy, whose lengths add up to steps
a TensorBoard log  one point an episode, at its last step: CleanRL's ``charts/episodic_return``
=================  ==========================================================================

A tag such as stable-baselines3's ``rollout/ep_rew_mean`` is none of these. It is a moving mean over
up to 100 episodes. After a shift the old world's returns are still in it, so falls look too small
and recoveries too late; and a newborn, whose window begins empty, looks better than it is. Such a
curve is read only where it is asked for by name, and it is shown and not scored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

NAMES = ("task", "agent", "arm", "seed", "copy", "phase")
"""What a path may say of a run. ``phase``: it is one newborn's life, which begins with that phase
and whose steps count from there. All but that may be columns too."""

GUESSES: dict[str, tuple[str, ...]] = {
    "return": ("return", "episodic_return", "episode_return", "r", "charts/episodic_return"),
    "length": ("length", "episodic_length", "episode_length", "l", "charts/episodic_length"),
    "step": ("step", "global_step", "end", "timesteps", "total_timesteps"),
    "begin": ("begin",),
    "cut": ("cut",),
    "task": ("task", "env_id"),
    "agent": ("agent", "algo"),
    "arm": ("arm", "reg", "intervention"),
    "seed": ("seed",),
    "copy": ("copy", "env_index"),
}
"""Columns and tags that are looked for, in any case, where the user names none."""

AVERAGE = re.compile(r"(^|[/_])(mean|avg|average|smoothed)$", re.IGNORECASE)
TRUTH = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False, "": False}
LARGEST = 2**53  # a step above is not exact in a log that holds floats


@dataclass(frozen=True, kw_only=True, slots=True)
class Logged:
    """One episode as it was logged; None is what the log does not say.

    Attributes:
        where: File and line, for messages.
        log: File, or folder of event files, that continues one run.
        names: What path, row and head say of the run, by `NAMES`.
        value: Return.
        length: Steps of the copy.
        begin: Clock before its first step.
        end: Clock after its last step.
        cut: Whether only the boundary of a phase ended it.
        average: Whether it is a point of a moving mean, and no episode.
    """

    where: str
    log: str
    names: Mapping[str, str]
    value: float
    length: int | None = None
    begin: int | None = None
    end: int | None = None
    cut: bool = False
    average: bool = False
