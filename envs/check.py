"""Does a task keep what streams promise? Found out by playing it: ``rlplastic check``.

==============  =============================================================================
builds          the parts fit together and the schedule is one
spaces          what is shown has the declared shape, dtype and range
inputs          shifts do not write into what they are given
determinism     the same seed and actions give the same bytes
forgets         after a reset with a seed nothing remains of any past
base            world 0, at first and when it comes back, is the base environment byte for byte
timing          phases, worlds, truncations, resets change at the schedule's steps and no other
begins          a newborn's stream is the one that came there by itself
leaks           infos, spaces and attributes do not tell the agent of phase or world
agree           Gymnasium environments are the copies of the vectorised stream
worlds          consecutive worlds differ; without shifts nothing does
resources       files, threads and processes are released
gymnasium, sb3  their own `check_env`, with warnings as errors
==============  =============================================================================

Each check is a function that returns what it has seen, or raises `Broken` with what is wrong and
where. The contract tests run the same checks on every shift of every suite.
"""

from __future__ import annotations

import gc
import os
import textwrap
import threading
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
from gymnasium.utils import env_checker as gymnasium_checker
from stable_baselines3.common import env_checker as sb3_checker

from rlplastic.doctor import Broken, Check
from rlplastic.envs.check_boundaries import agree, begins, leaks, timing
from rlplastic.envs.check_contents import base, determinism, forgets, inputs, spaces, worlds
from rlplastic.envs.stream import Stream
from rlplastic.envs.tasks import Subject, find_subjects
from rlplastic.envs.traces import FULL, QUICK, Effort, play
from rlplastic.errors import UsageError

INDENT: dict[str, Any] = {"subsequent_indent": " " * 23, "break_on_hyphens": False}
ALLOWED = (  # warnings of the two checkers that say nothing about a stream
    ".*Box observation space m\\w+ value is -?infinity",  # Gaussian offsets have no bound
    ".*symmetric and normalized (Box action )?space",  # the base environment's own actions
    ".*minimal resolution for an image is 36x36",  # MinAtar's 10 x 10 have a network of their own
    ".*not having a spec",  # a task of a suite is built without `gymnasium.make`
)


def show(env: str, *, quick: bool = False) -> int:
    """Print a table of the checks of each task; returns the number that failed."""
    failed = total = 0
    for subject in find_subjects(env):
        print(subject.name, flush=True)
        for found in examine(subject, quick=quick):
            head = f"  {'ok' if found.ok else 'FAILED':6}  {found.name:11}  "
            print(textwrap.fill(found.text, 100, **INDENT, initial_indent=head), flush=True)
            failed, total = failed + (not found.ok), total + 1
    print(f"{total} checks, {failed} failed")
    return failed


def examine(subject: Subject, *, quick: bool = False, names: Iterable[str] = ()) -> Iterator[Check]:
    """The checks of these names, or every one, in turn; if the task cannot be built, only that."""
    for name in ["builds", *names] if names else CHECKS:
        found = _tried(name, CHECKS[name], subject, QUICK if quick else FULL)
        yield found
        if name == "builds" and not found.ok:
            return


def _tried(
    name: str, check: Callable[[Subject, Effort], str], subject: Subject, effort: Effort
) -> Check:
    try:
        return Check(name=name, ok=True, text=check(subject, effort))
    except Broken as broken:
        return Check(name=name, ok=False, text=str(broken))
    except UsageError as error:
        return Check(name=name, ok=False, text=str(error).replace("\n", " "))
    except Exception as error:  # whatever it is, it is what the user wants to know, and where
        place = traceback.extract_tb(error.__traceback__)[-1]
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return Check(
            name=name, ok=False, text=f"{text} ({Path(place.filename).name}, line {place.lineno})"
        )


# -- the checks ------------------------------------------------------------------------------


def builds(subject: Subject, effort: Effort) -> str:
    """The parts fit together, and the schedule is one."""
    schedule = subject.short(2, effort.phase)
    first, listed = schedule.world(0), subject.schedule["name"] == "list"
    if first != 0 and not listed:  # who lists another world has said so
        raise Broken(f"phase 0 is in world {first}; it must be in world 0, the unshifted one")
    stream = subject.stream(2, schedule)
    stream.close()
    worlds = ", ".join(str(world) for world in subject.worlds())
    return f"{_space(stream)}; worlds {worlds}, ..."


def resources(subject: Subject, effort: Effort) -> str:
    """What is opened is closed: files, threads, processes."""
    schedule = subject.short(2, effort.phase)

    def cycle() -> None:
        stream, env = subject.stream(2, schedule), subject.scalar(1, 0, schedule)
        list(play(stream, 3, seed=1))
        env.reset()
        stream.close()
        env.close()

    gc.freeze()  # what was there before is not looked through each time, which takes a while
    try:
        cycle()  # what is loaded once and for all is no leak
        before = _held()
        for _ in range(effort.cycles):
            cycle()
        after = _held()
    finally:
        gc.unfreeze()
    grown = {what: (before[what], after[what]) for what in after if after[what] > before[what]}
    if grown:
        text = ", ".join(f"{what} from {a} to {b}" for what, (a, b) in grown.items())
        raise Broken(f"opened and closed {effort.cycles} times: {text}")
    return ", ".join(f"{number} {what}" for what, number in after.items()) + " before and after"


def gymnasiums(subject: Subject, effort: Effort) -> str:
    """Gymnasium's own `check_env`, with warnings as errors."""
    return _external(subject, lambda env: gymnasium_checker.check_env(env, skip_render_check=True))


def sb3s(subject: Subject, effort: Effort) -> str:
    """stable-baselines3's own `check_env`, with warnings as errors."""
    return _external(subject, sb3_checker.check_env)


def _external(subject: Subject, check: Callable[[Any], None]) -> str:
    env: Any = None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for pattern in ALLOWED:
            warnings.filterwarnings("ignore", pattern)
        if subject.env_id:
            track = subject.name.partition("/")[2].partition("-")[2]
            env = gymnasium.make(subject.env_id, track=track).unwrapped
        else:
            env = subject.scalar(1, 0, subject.timetable(subject.period, subject.phases))
        check(env)
    env.close()
    return subject.env_id or "as ShiftedEnv"


def _space(stream: Stream) -> str:
    space = stream.observation_space
    return f"shows {space.dtype} {space.shape}, takes {stream.action_space}"


def _held() -> dict[str, int]:
    """How many files, threads and child processes this process has."""
    gc.collect()
    proc = Path("/proc/self/task")
    if not proc.exists():  # not Linux
        files = len(os.listdir("/dev/fd")) if Path("/dev/fd").exists() else 0
        return {"open files": files, "threads": threading.active_count()}
    children = [word for task in proc.iterdir() for word in (task / "children").read_text().split()]
    return {
        "open files": len(os.listdir("/proc/self/fd")),
        "threads": len(list(proc.iterdir())),
        "child processes": len(children),
    }


CHECKS: dict[str, Callable[[Subject, Effort], str]] = {
    "builds": builds,
    "spaces": spaces,
    "inputs": inputs,
    "determinism": determinism,
    "forgets": forgets,
    "base": base,
    "timing": timing,
    "begins": begins,
    "leaks": leaks,
    "agree": agree,
    "worlds": worlds,
    "resources": resources,
    "gymnasium": gymnasiums,
    "sb3": sb3s,
}
