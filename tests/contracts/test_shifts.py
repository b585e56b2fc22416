"""Every shift of every suite, whoever wrote it: the promises of `rlplastic.envs.shifts`."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from rlplastic import options, registry
from rlplastic.envs.schedules import Listed
from rlplastic.envs.stream import Stream
from rlplastic.errors import UsageError
from rlplastic.suite import load_suite, suite_files

EXAMPLES = [
    (f"{suite}/{name}", task)
    for suite in suite_files()
    for name, task in load_suite(suite).tasks.items()
    if task.shifts
]
BASES = [{"name": "CartPole"}, {"name": "Atari", "game": "pong"}]


def others():
    """The shifts that no suite uses, with their defaults, on the first base that they fit."""
    used = {shift["name"] for _, task in EXAMPLES for shift in task.shifts}
    for name in sorted(set(registry.entries("shift")) - used):
        for base in BASES:
            try:
                stream_of([{"name": name}], base, (0, 1)).close()
            except UsageError:
                continue
            yield {"name": name}, base
            break


def stream_of(shifts, base, worlds, seed=3, copies=2):
    return Stream(
        options.build("environment", base, "test").make(copies),
        [options.build("shift", shift, "test") for shift in shifts],
        Listed(period=10**6, worlds=worlds),
        seed=seed,
    )


OTHERS = list(others())
CASES = [pytest.param(task.shifts, task.base, id=where) for where, task in EXAMPLES] + [
    pytest.param([shift], base, id=shift["name"]) for shift, base in OTHERS
]


def some_actions(stream, rng):
    space, copies = stream.action_space, stream.num_envs
    if isinstance(space, gymnasium.spaces.Discrete):
        return rng.integers(space.n, size=copies)
    return rng.uniform(space.low, space.high, (copies, *space.shape)).astype(space.dtype)


def play(stream, steps=30, seed=0, hold=1):
    rng = np.random.default_rng(seed)
    trace = [stream.reset()]
    rewards = []
    for step in range(steps):
        if step % hold == 0:
            actions = some_actions(stream, rng)
        observation, reward, _, infos = stream.step(actions)
        trace.append(observation)
        rewards.append(reward)
        for info in infos:
            assert set(info) <= {"terminal_observation", "TimeLimit.truncated", "episode"}
    return np.stack(trace), np.stack(rewards)


def test_every_shift_is_tested_here():
    used = {shift["name"] for _, task in EXAMPLES for shift in task.shifts}
    used |= {shift["name"] for shift, _ in OTHERS}
    assert used == set(registry.entries("shift")), "use it in a suite, or give it defaults that fit"


@pytest.mark.parametrize(("shifts", "base"), CASES)
def test_world_0_is_the_stream_without_shifts(shifts, base):
    plain, shifted = stream_of([], base, (0,)), stream_of(shifts, base, (0,))
    for a, b in zip(play(plain), play(shifted), strict=True):
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize(("shifts", "base"), CASES)
def test_a_world_is_the_same_whenever_it_is_made(shifts, base):
    first, again = stream_of(shifts, base, (1,)), stream_of(shifts, base, (1,))
    for a, b in zip(play(first), play(again), strict=True):
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize(("shifts", "base"), CASES)
def test_observations_stay_in_the_declared_space_with_shape_and_dtype(shifts, base):
    stream = stream_of(shifts, base, (1,))
    trace, rewards = play(stream)
    assert trace.dtype == stream.observation_space.dtype
    assert rewards.dtype == np.float32
    for observation in trace.reshape(-1, *stream.observation_space.shape):
        assert stream.observation_space.contains(observation)


@pytest.mark.parametrize(("shifts", "base"), CASES)
def test_copies_do_not_depend_on_each_other(shifts, base):
    """A shift that mixes copies shows when one of two equal worlds is masked away."""
    bound = stream_of(shifts, base, (1,)).shifts
    rng = np.random.default_rng(0)
    space = stream_of(shifts, base, (1,)).base.observation_space
    frames = np.stack([space.sample() for _ in range(3)])
    worlds = np.array([1, 1, 1])
    for shift in bound:
        if shift.on == "observation":
            together = shift.observation(frames, worlds)
            alone = [shift.observation(frames[i : i + 1], worlds[:1])[0] for i in range(3)]
            np.testing.assert_array_equal(together, np.stack(alone))
            assert together.dtype == frames.dtype
        reward = rng.choice([0.0, 1.0, 5.0, 20.0], size=3)
        if shift.on == "reward" and type(shift).reward is not type(shift).__mro__[1].reward:
            together = shift.reward(reward, worlds, frames)
            alone = [
                shift.reward(reward[i : i + 1], worlds[:1], frames[i : i + 1])[0] for i in range(3)
            ]
            np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize(("shifts", "base"), CASES)
def test_something_changes_in_world_1(shifts, base):
    steps = 300 if base["name"] == "Atari" else 1500
    outcomes = []
    for world in (0, 1):
        stream = stream_of(shifts, base, (world,), copies=4)
        # actions held for a while get farther than independent ones
        outcomes.append(play(stream, steps, hold=1 if base["name"] == "Atari" else 30))
    assert any(a.tobytes() != b.tobytes() for a, b in zip(*outcomes, strict=True))


def test_every_field_of_every_shift_has_a_documented_meaning_and_a_default_or_an_example():
    for entry in registry.entries("shift").values():
        assert entry.summary.endswith(".")
        assert entry.traits["on"] in {"observation", "reward", "target", "action", "dynamics"}
