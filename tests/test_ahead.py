"""A stream that looks ahead shows, pays, ends and records what one does that does not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlplastic import options
from rlplastic.envs.shifts import Shift
from rlplastic.envs.stream import Stream
from rlplastic.envs.supervised import Supervised

DIGITS = {"name": "Images", "data": "digits"}
CASES = {
    "plain": (DIGITS, []),
    "pixels": (DIGITS, [{"name": "pixels"}]),
    "pixels and labels": (DIGITS, [{"name": "pixels"}, {"name": "labels"}]),
    "chunks": ({**DIGITS, "size": 90}, [{"name": "chunks"}]),
    "pairs": ({**DIGITS, "classes": [0, 1]}, [{"name": "pairs"}, {"name": "tiles"}]),
    "numbers": ({"name": "Bits"}, [{"name": "flip"}]),
    "points": ({"name": "Spirals", "number": 7}, [{"name": "points"}]),
}


def stream_of(case, schedule, boundary, copies, listener, look=True, **more):
    base, shifts = CASES[case]
    stream = Stream(
        options.build("environment", base, "test").make(copies),
        [options.build("shift", shift, "test") for shift in shifts],
        options.build("schedule", schedule, "test"),
        seed=3,
        boundary=boundary,
        listener=listener,
        **more,
    )
    assert stream._ahead.knows
    stream._ahead.knows = look
    return stream


def trace(stream, episodes, steps, resets):
    """Everything that a learner, a runner or a record can see of so many steps."""
    rng = np.random.default_rng(0)
    discrete = hasattr(stream.action_space, "n")
    seen = [stream.reset()]
    for step in range(steps):
        if step in resets:
            stream.close_episodes()
            seen.append(stream.reset())
        actions = (
            rng.integers(stream.action_space.n, size=stream.num_envs)
            if discrete
            else rng.normal(size=(stream.num_envs, 1)).astype(np.float32)
        )
        observation, reward, done, infos = stream.step(actions)
        seen += [observation, reward, done, stream.base.answers]
        seen += [np.array([stream.clock, stream.phase, *stream.worlds])]
        seen += [info["terminal_observation"] for info in infos if info]
        seen += [np.array([info["episode"]["r"] for info in infos if info])]
    return [(value.dtype.str, value.shape, value.tobytes()) for value in seen], episodes


@settings(deadline=None, max_examples=60)
@given(
    case=st.sampled_from(sorted(CASES)),
    copies=st.sampled_from([1, 3, 8]),
    steps_of_a_phase=st.sampled_from([7, 25, 26, 60]),
    boundary=st.sampled_from(["truncate", "episode", "step"]),
    first=st.integers(0, 1),
    resets=st.sets(st.integers(0, 150), max_size=3),
    clip=st.booleans(),
)
def test_the_steps_are_those_of_a_stream_that_does_not_look(
    case, copies, steps_of_a_phase, boundary, first, resets, clip
):
    schedule = {"name": "periodic", "period": copies * steps_of_a_phase, "phases": 4}
    if CASES[case][1] not in ([], [{"name": "pixels"}]):
        boundary = "truncate"  # what shows other examples is refused elsewhere
    found = []
    for look in (True, False):
        episodes = []
        stream = stream_of(
            case,
            schedule,
            boundary,
            copies,
            episodes.append,
            look,
            clip_reward=clip,
            reward_scale=3.0,
        )
        stream.begin(first)
        found.append(trace(stream, episodes, 160, resets))
    assert found[0] == found[1]
    assert found[0][1], "no episode ended"


def test_nearly_every_step_is_a_known_one(monkeypatch):
    paid = []
    pay = Supervised.pay
    monkeypatch.setattr(Supervised, "pay", lambda *a: paid.append(1) or pay(*a))
    schedule = {"name": "periodic", "period": 16 * 100, "phases": 3}
    stream = stream_of("pixels", schedule, "truncate", 16, None)
    trace(stream, [], 200, ())
    assert len(paid) == 8 * 24, "all steps but the last of each episode"


@dataclass(frozen=True, kw_only=True)
class ReadsTheStep(Shift):
    """Brighter with each step."""

    on, name = "observation", "reads-the-step"

    def observation(self, frames, world):
        return frames + np.float32(self.now.step)


@pytest.mark.parametrize(
    ("base", "shifts", "schedule", "more"),
    [
        ({"name": "Bits"}, [ReadsTheStep()], "periodic", {}),
        (DIGITS, [{"name": "reward-noise"}], "periodic", {}),
        (DIGITS, [{"name": "pixels"}], "periodic", {"notify": True}),
        (DIGITS, [{"name": "brightness"}], "gradual", {}),
        ({"name": "CartPole"}, [{"name": "offset"}], "periodic", {}),
    ],
)
def test_what_depends_on_more_is_not_looked_at_ahead(base, shifts, schedule, more):
    stream = Stream(
        options.build("environment", base, "test").make(4),
        [s if isinstance(s, Shift) else options.build("shift", s, "test") for s in shifts],
        options.build("schedule", {"name": schedule, "period": 400, "phases": 2}, "test"),
        **more,
    )
    assert not stream._ahead.knows
