"""Streams: base environments, the shifts that change them, and the schedules that say when.

Importing this package registers ``rlplastic/<Base>-<Kind>-v0`` with Gymnasium, for every base
environment of the package's suites, those that a suite makes when asked included: each of ALE's
games. The kind is the second part of the suite's name, as in ``Control-Shifted``; where there is
none, the id is ``rlplastic/<Base>-v0``::

    import gymnasium
    import rlplastic.envs

    env = gymnasium.make("rlplastic/CartPole-Shifted-v0", track="observation", period=10_000)
"""

from __future__ import annotations

import inspect
from typing import Any

import gymnasium

from rlplastic import options
from rlplastic.envs.scalar import ShiftedEnv, SingleCopy
from rlplastic.errors import UsageError, unknown
from rlplastic.suite import full_schedule
from rlplastic.suitefile import load_suite, suite_files

PARTS = ("env", "shifts", "schedule")  # of a `ShiftedEnv`, which a suite fixes


def make_shifted(
    *,
    suite: str,
    base: str,
    track: str = "observation",
    period: int | None = None,
    phases: int | None = None,
    render_mode: str | None = None,
    **keywords: Any,
) -> ShiftedEnv:
    """One task of a suite as a Gymnasium environment; the entry point of the registered ids.

    Args:
        suite: Name of the suite.
        base: First part of the task's name, as ``CartPole``.
        track: Second part of the task's name, as ``observation``.
        period: Steps of a phase, over all copies; default: the suite's longest in ``small``.
        phases: Number of phases; default: the suite's in ``small``.
        render_mode: Only None: base environments are made without a screen.
        **keywords: Of `ShiftedEnv`: `copies`, `copy`, `seed`; to change the suite's, `boundary`,
            `clip_reward`, `reward_scale`, `notify`.
    """
    loaded = load_suite(suite)
    found = loaded.select([f"{base}-*"])
    tracks = {_parts_of(name)[1]: task for name, task in found.items()}
    if track not in tracks:
        raise unknown(f"track of {base}", str(track), tracks)
    known = {name for name in inspect.signature(ShiftedEnv).parameters if name not in PARTS}
    for keyword in keywords:
        if keyword not in known:
            own = inspect.signature(make_shifted).parameters.keys() - {"keywords"}
            raise unknown("option", keyword, known | own)
    if render_mode is not None:
        raise UsageError(f"render_mode {render_mode!r}: streams are not rendered; only None")
    task, budget = tracks[track], loaded.budgets["small"]
    where = f"{suite}/{base}-{track}"
    schedule = full_schedule(
        task.schedule,
        max(budget.period.values()) if period is None else period,
        budget.phases_of(task) if phases is None else phases,
    )
    return ShiftedEnv(
        SingleCopy(options.build("environment", task.base, where).make(1)),
        [options.build("shift", shift, where) for shift in task.shifts],
        options.build("schedule", schedule, where),
        **{
            "boundary": loaded.boundary,
            "clip_reward": loaded.clip_reward,
            "notify": task.notify,
            "reward_scale": loaded.reward_scale,
            **keywords,
        },
    )


def _parts_of(task: str) -> tuple[str, str]:
    base, _, track = task.partition("-")
    return base, track


def _register() -> None:
    for suite in suite_files():
        loaded = load_suite(suite)
        more = loaded.others.tasks() if loaded.others is not None else {}
        for name in [*loaded.tasks, *more]:
            base, track = _parts_of(name)
            env_id = f"rlplastic/{'-'.join(filter(None, (base, suite.partition('-')[2])))}-v0"
            if env_id not in gymnasium.registry:
                gymnasium.register(
                    env_id,
                    entry_point="rlplastic.envs:make_shifted",
                    kwargs={"suite": suite, "base": base, "track": track},
                )


_register()
