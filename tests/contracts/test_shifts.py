"""Every shift of every suite, whoever wrote it: the promises of `rlplastic.envs.shifts`.

What their streams show is looked at by `rlplastic check`, in ``test_streams.py``.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_sb3

from rlplastic import options, registry
from rlplastic.envs.copies import GymCopies
from rlplastic.envs.moments import Moment
from rlplastic.envs.scalar import ShiftedEnv, SingleCopy
from rlplastic.envs.schedules import Gradual, Listed
from rlplastic.envs.shifts import Shift
from rlplastic.envs.stream import Stream
from rlplastic.errors import UsageError
from rlplastic.suitefile import load_suite, suite_files

EXAMPLES = [
    (f"{suite}/{name}", task)
    for suite in suite_files()
    for name, task in load_suite(suite).tasks.items()
    if task.shifts
]


class ColoursEnv(gymnasium.Env):
    """Frames of three colours, two continuous actions, rewards of several sizes, short episodes."""

    observation_space = gymnasium.spaces.Box(0, 255, (3, 8, 8), np.uint8)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.age = self.np_random.uniform(-1, 1, 2), 0
        return self.show(), {}

    def step(self, action):
        self.place = np.clip(self.place + 0.3 * action, -1, 1)
        self.age += 1
        return self.show(), float(round(2 * self.place.sum())), self.age == 13, False, {}

    def show(self):
        frame = np.zeros((3, 8, 8), np.uint8)
        row, column = ((self.place + 1) * 3.5).astype(int)
        frame[0, row, column], frame[1, :, column], frame[2, 1, 2] = 255, 90, 30 + self.age
        return frame


@registry.environment("Colours")
@dataclass(frozen=True, kw_only=True)
class Colours:
    """A small base of what the package's own bases lack."""

    def make(self, num_copies):
        copies = GymCopies(ColoursEnv, num_copies)
        copies.stack = 2
        return copies


BASES = [  # cheap ones first
    {"name": "CartPole"},
    {"name": "Pendulum"},
    {"name": "Colours"},
    {"name": "Atari", "game": "pong"},
]


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


def stream_of(shifts, base, worlds, seed=3, copies=2, period=1_200_000, **more):
    try:
        made = options.build("environment", base, "test").make(copies)
    except UsageError as error:
        if "pip install 'rlplastic[" not in str(error):
            raise
        pytest.skip(str(error))
    return Stream(
        made,
        [options.build("shift", shift, "test") for shift in shifts],
        Listed(period=period, worlds=worlds),
        seed=seed,
        **more,
    )


def distinct():
    """One task for each base environment and combination of shifts; `make games` runs all."""
    seen = set()
    for where, task in EXAMPLES:
        key = task.base["name"], *(shift["name"] for shift in task.shifts)
        if key not in seen or "RLPLASTIC_ALL_GAMES" in os.environ:
            seen.add(key)
            yield where, task


OTHERS = list(others())
CASES = [pytest.param(task.shifts, task.base, id=where) for where, task in distinct()] + [
    pytest.param([shift], base, id=shift["name"]) for shift, base in OTHERS
]


def some_actions(space, rng, copies):
    if isinstance(space, gymnasium.spaces.Discrete):
        return rng.integers(space.n, size=copies)
    return rng.uniform(space.low, space.high, (copies, *space.shape)).astype(space.dtype)


def play(stream, steps=30, seed=0, resets=None):
    rng = np.random.default_rng(seed)
    trace = [stream.reset(resets)]
    rewards = []
    for _ in range(steps):
        actions = some_actions(stream.action_space, rng, stream.num_envs)
        observation, reward, _, infos = stream.step(actions)
        trace.append(observation)
        rewards.append(reward)
        for info in infos:
            assert set(info) <= {"terminal_observation", "TimeLimit.truncated", "episode"}
    return np.stack(trace), np.stack(rewards)


def differ(shifts, base, worlds):
    """Whether two worlds show or pay something else, asked no further than the first time.

    Far enough for a shift to show: actions held for a while get farther than others.
    """
    streams = [stream_of(shifts, base, (world,), copies=4) for world in worlds]
    steps, hold = (300, 1) if streams[0].base.stack == 4 else (1500, 30)
    rng, seen = np.random.default_rng(0), [(stream.reset(),) for stream in streams]
    for step in range(steps + 1):
        if any(a.tobytes() != b.tobytes() for a, b in zip(*seen, strict=True)):
            return True
        if step % hold == 0:
            actions = some_actions(streams[0].action_space, rng, 4)
        seen = [stream.step(actions)[:2] for stream in streams]
    return False


def test_every_shift_is_tested_here():
    used = {shift["name"] for _, task in EXAMPLES for shift in task.shifts}
    used |= {shift["name"] for shift, _ in OTHERS}
    assert used == set(registry.entries("shift")), "use it in a suite, or give it defaults that fit"


@pytest.mark.parametrize(("shifts", "base"), CASES)
def test_a_still_shift_sees_frames_and_their_world_alone(shifts, base):
    """So the frames of many steps may be given at once; `rlplastic.envs.ahead` does."""
    streams = [stream_of(shifts, base, (1,), copies=2) for _ in "ab"]
    space, never = streams[0].base.observation_space, np.zeros(2, dtype=bool)
    frames = np.stack([space.sample() for _ in range(6)])
    for by_step, at_once in zip(*(stream.shifts for stream in streams), strict=True):
        if not by_step.still:
            continue
        shown = []
        for step in range(3):
            by_step.tell(Moment(np.arange(2), step, "first" if step == 1 else "observation", never))
            shown.append(
                by_step.observation(frames[2 * step : 2 * step + 2], np.ones(2, dtype=int))
            )
            by_step.forget(np.arange(2))
        at_once.tell(Moment(np.tile([0, 1], 3), 7, "observation", np.zeros(6, dtype=bool)))
        found = at_once.observation(frames, np.ones(6, dtype=int))
        np.testing.assert_array_equal(found, np.concatenate(shown))


@pytest.mark.parametrize(("shifts", "base"), CASES)
def test_copies_do_not_depend_on_each_other(shifts, base):
    """A shift that mixes copies, or keeps them by row, shows when they are called alone."""
    streams = [stream_of(shifts, base, (1,), copies=3) for _ in "ab"]
    rng = np.random.default_rng(0)
    space, actions = streams[0].base.observation_space, streams[0].action_space
    worlds, never = np.ones(3, dtype=int), np.zeros(3, dtype=bool)
    for step in range(3):
        given = {
            "action": (some_actions(actions, rng, 3),),
            "observation": (np.stack([space.sample() for _ in range(3)]),),
            "reward": (
                rng.choice([0.0, 1.0, 5.0, 20.0], size=3),
                rng.normal(size=(3, *space.shape)),
            ),
        }
        for together, apart in zip(*(stream.shifts for stream in streams), strict=True):
            for method, (values, *more) in given.items():
                if getattr(type(together), method) is getattr(Shift, method):
                    continue
                together.tell(Moment(np.arange(3), step, method, never))
                expected = getattr(together, method)(values, worlds, *more)
                assert expected.dtype == values.dtype
                for i in (2, 0, 1):
                    row = slice(i, i + 1)
                    apart.tell(Moment(np.array([i]), step, method, never[:1]))
                    alone = getattr(apart, method)(values[row], worlds[:1], *(m[row] for m in more))
                    np.testing.assert_array_equal(alone, expected[row])


def test_a_world_does_not_differ_from_itself():
    assert not differ([{"name": "offset"}], {"name": "CartPole"}, (1, 1))


@pytest.mark.parametrize(("shifts", "base"), CASES)
def test_something_changes_in_world_1(shifts, base):
    assert differ(shifts, base, (0, 1))


@pytest.mark.parametrize(("shifts", "base"), CASES)
def test_worlds_1_and_2_differ_where_both_exist(shifts, base):
    if any(s.worlds is not None and s.worlds < 3 for s in stream_of(shifts, base, (0,)).shifts):
        with pytest.raises(UsageError, match="has 2 worlds"):
            stream_of(shifts, base, (1, 2))
        return
    assert differ(shifts, base, (1, 2))


@pytest.mark.parametrize(("shifts", "base"), CASES)
def test_the_checkers_accept_a_scalar_environment_in_world_1(shifts, base):
    """With boundary and reset(seed): a random shift must forget what it drew before."""
    env = ShiftedEnv(
        SingleCopy(options.build("environment", base, "test").make(1)),
        [options.build("shift", shift, "test") for shift in shifts],
        Listed(period=10**6, worlds=(1,)),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # what has no bound: moves and factors of a Gaussian, velocities of CartPole
        warnings.filterwarnings("ignore", ".*Box observation space m\\w+ value is -?infinity")
        warnings.filterwarnings("ignore", ".*we recommend using a symmetric")  # Pendulum's own
        warnings.filterwarnings("ignore", ".*The minimal resolution for an image")  # MinAtar
        check_env(env, skip_render_check=True)
        if isinstance(env.action_space, gymnasium.spaces.Discrete):
            check_env_sb3(env)
    env.close()


@pytest.mark.parametrize(("shifts", "base"), CASES)
def test_a_seeded_reset_forgets_the_past(shifts, base):
    fresh, used = (stream_of(shifts, base, (1,)) for _ in "ab")
    play(used, 17, seed=9)
    for a, b in zip(play(fresh, resets=[4, 5]), play(used, resets=[4, 5]), strict=True):
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("boundary", ["truncate", "episode", "step"])
@pytest.mark.parametrize(("shifts", "base"), CASES)
def test_scalar_environments_are_the_copies_of_the_vectorised_one(shifts, base, boundary):
    length = 12 if base["name"].startswith("Atari") else 30
    worlds, period = (0, 1, 0, 1), 3 * length
    builds = any(
        type(s).configure is not Shift.configure for s in stream_of(shifts, base, (0,)).shifts
    )
    if builds and boundary != "truncate":
        with pytest.raises(UsageError, match="needs boundary 'truncate'"):
            stream_of(shifts, base, worlds, copies=3, period=period, boundary=boundary)
        return
    vector = stream_of(shifts, base, worlds, copies=3, period=period, boundary=boundary)
    scalars = [
        ShiftedEnv(
            SingleCopy(options.build("environment", base, "test").make(1)),
            [options.build("shift", shift, "test") for shift in shifts],
            Listed(period=period, worlds=worlds),
            copies=3,
            copy=i,
            seed=3,
            boundary=boundary,
        )
        for i in range(3)
    ]
    observations = vector.reset()
    for env, observation in zip(scalars, observations, strict=True):
        np.testing.assert_array_equal(env.reset()[0], observation)
    rng = np.random.default_rng(1)
    for _ in range(3 * length + 10):
        actions = some_actions(vector.action_space, rng, 3)
        observations, rewards, dones, infos = vector.step(actions)
        for i, env in enumerate(scalars):
            seen, reward, terminated, truncated, _ = env.step(actions[i])
            assert (reward, terminated or truncated) == (rewards[i], dones[i])
            if dones[i]:
                np.testing.assert_array_equal(seen, infos[i]["terminal_observation"])
                seen, _ = env.reset()
            np.testing.assert_array_equal(seen, observations[i])
    for stream in [vector, *scalars]:
        stream.close()


@pytest.mark.parametrize(("shifts", "base"), CASES)
def test_a_shift_that_mixes_goes_from_world_to_world_in_a_straight_line(shifts, base):
    kinds = [registry.load("shift", shift["name"]) for shift in shifts]
    environment = options.build("environment", base, "test")
    bound = [options.build("shift", shift, "test") for shift in shifts]
    schedule = Gradual(period=20, phases=2, ramp=1.0)  # 10 steps of 2 copies in each world
    if not all(kind.mixes for kind in kinds):
        with pytest.raises(UsageError, match="has nothing between two of its worlds"):
            Stream(environment.make(2), bound, schedule)
        return
    ramp = Stream(environment.make(2), bound, schedule, seed=3, boundary="step")
    ends = [stream_of(shifts, base, (world,)) for world in (0, 1)]
    assert not any(shift.memory(1) for shift in ramp.shifts)
    shape = ramp.base.observation_space.shape
    for stream in (ramp, *ends):
        stream.reset()
    for step in range(20):
        actions = np.stack([ramp.action_space.sample() for _ in range(2)])
        mix = max(0, step - 10) / 10
        (seen, paid, dones, _), (seen_0, paid_0, *_), (seen_1, paid_1, *_) = (
            stream.step(actions) for stream in (ramp, *ends)
        )
        line = (1 - mix) * paid_0 + mix * paid_1
        np.testing.assert_allclose(paid, line, rtol=1e-5, atol=1e-5)
        frames = [frame[:, -shape[0] :].astype(float) for frame in (seen, seen_0, seen_1)]
        rounding = 0.5 if seen.dtype == np.uint8 else 1e-5
        mix = np.where(dones, max(0, step - 9) / 10, mix)  # an episode's first frame is the next's
        mix = mix.reshape(2, *[1] * len(shape))
        line = (1 - mix) * frames[1] + mix * frames[2]
        np.testing.assert_allclose(frames[0], line, rtol=1e-5, atol=rounding)


def test_every_field_of_every_shift_has_a_documented_meaning_and_a_default_or_an_example():
    for entry in registry.entries("shift").values():
        _, _, attributes = entry.doc.partition("Attributes:")
        for field in entry.fields:
            assert f"\n    {field.name}: " in attributes, f"{entry.name}: say what {field.name} is"
        assert entry.summary.endswith(".")
        assert entry.traits["on"] in {"observation", "reward", "target", "action", "dynamics"}
