"""What `notify` tells, and that nothing is told without it."""

from __future__ import annotations

import warnings
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from bases import Counter, Frames, steps
from gymnasium.utils.env_checker import check_env
from running import DATA, TINY
from stable_baselines3.common.env_checker import check_env as check_env_sb3

import rlplastic.envs
from rlplastic import runner
from rlplastic.agents.dqn import DQN
from rlplastic.envs.copies import GymCopies
from rlplastic.envs.notice import Notice
from rlplastic.envs.scalar import ShiftedEnv
from rlplastic.envs.schedules import Cyclic, Gradual, Listed, Periodic, Random
from rlplastic.envs.shifts_observation import Inversion, Offset
from rlplastic.envs.stream import Stream
from rlplastic.errors import UsageError
from rlplastic.plan import make_plan
from rlplastic.request import Request
from rlplastic.suitefile import load_suite, stream_digest


class Wide(Frames):
    """The same frames with a border: room for planes."""

    def __init__(self, num_copies=2, ends_at=5):
        super().__init__(num_copies, ends_at)
        self.observation_space = gymnasium.spaces.Box(0, 255, (1, 8, 8), np.uint8)

    def show(self):
        return np.pad(super().show(), ((0, 0), (0, 0), (2, 2), (2, 2)))


def pair(base, shifts, schedule, **keywords):
    return [
        Stream(base(), shifts, schedule, seed=3, notify=told, **keywords) for told in (False, True)
    ]


@pytest.mark.parametrize("boundary", ["truncate", "step", "episode"])
def test_vectors_are_told_the_world_that_the_next_action_is_taken_in(boundary):
    schedule = Listed(period=8, worlds=(0, 4, 2, 4))  # returns to 4; worlds 1 and 3 do not occur
    plain, told = pair(lambda: Counter(2, ends_at=6), [Offset()], schedule, boundary=boundary)
    codes = {0: [1, 0, 0], 2: [0, 1, 0], 4: [0, 0, 1]}
    first = told.reset()
    np.testing.assert_array_equal(first[:, :2], plain.reset())
    np.testing.assert_array_equal(first[:, 2:], [codes[0]] * 2)
    for (a, paid, _, finals), (b, gained, dones, infos) in zip(
        steps(plain, 20), steps(told, 20), strict=True
    ):
        np.testing.assert_array_equal(b[:, :2], a)
        np.testing.assert_array_equal(paid, gained)
        np.testing.assert_array_equal(b[:, 2:], [codes[int(world)] for world in told.worlds])
        assert told.observation_space.contains(b[0])
        for copy in np.flatnonzero(dones):
            last, without = (i[copy]["terminal_observation"] for i in (infos, finals))
            np.testing.assert_array_equal(last[:2], without)
    assert (told.worlds == 4).all()


def test_the_end_of_a_phase_is_told_under_the_old_world():
    stream = Stream(Counter(), [], Periodic(period=3, phases=3), notify=True)
    stream.reset()
    *_, (obs, _, dones, infos) = steps(stream, 6)
    assert dones[0]
    assert infos[0]["terminal_observation"][2:].tolist() == [0, 1, 0]
    assert obs[0, 2:].tolist() == [0, 0, 1]


def test_images_get_a_plane_for_each_world_after_the_stack():
    plain, told = pair(Wide, [Inversion()], Listed(period=8, worlds=(0, 1, 0)))
    assert told.observation_space.shape == (3 + 2, 8, 8)
    np.testing.assert_array_equal(told.reset()[:, :3], plain.reset())
    for (a, *_), (b, _, dones, infos) in zip(steps(plain, 12), steps(told, 12), strict=True):
        np.testing.assert_array_equal(b[:, :3], a)
        assert b.dtype == np.uint8
        world = int(told.worlds[0])
        assert (b[:, 3 + world] == 255).all()
        assert (b[:, 4 - world] == 0).all()
        if dones.any():
            assert infos[0]["terminal_observation"].shape == (5, 8, 8)


def test_a_ramp_is_told_as_it_is():
    stream = Stream(
        Counter(), [Offset()], Gradual(period=4, phases=3, ramp=1.0), notify=True, boundary="step"
    )
    stream.reset()
    codes = [obs[0, 2:].tolist() for obs, *_ in steps(stream, 11)]
    assert codes[3:8] == [[1, 0, 0], [0.75, 0.25, 0], [0.5, 0.5, 0], [0.25, 0.75, 0], [0, 1, 0]]


def test_an_evaluation_is_told_in_the_same_code():
    stream = Stream(Counter(), [Offset()], Random(period=4, phases=5), notify=True)
    frozen = stream.at(3, Counter(2))
    assert frozen.observation_space == stream.observation_space
    assert frozen.reset()[:, 2:].tolist() == [[0, 0, 0, 1, 0]] * 2


class Nothing(gymnasium.Env):
    """Shows a number."""

    observation_space = gymnasium.spaces.Discrete(3)
    action_space = gymnasium.spaces.Discrete(2)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: ShiftedEnv(Nothing(), [], Periodic(period=4, phases=2), notify=True),
            "vectors of floats or images; this stream shows Discrete",
        ),
        (
            lambda: Notice(gymnasium.spaces.Box(0, 1, (3, 3), np.float32), [0, 1]),
            "vectors of floats or images",
        ),
        (
            lambda: Notice(gymnasium.spaces.Box(0, 9, (3,), np.int64), [0, 1]),
            "vectors of floats or images",
        ),
        (
            lambda: Stream(Frames(), [], Periodic(period=4, phases=2), notify=True),
            r"2 worlds need as many planes, but images of \(3, 4, 4\) have room for 1",
        ),
    ],
)
def test_what_it_does_not_fit_is_refused(make, words):
    with pytest.raises(UsageError, match=words):
        make()


@pytest.mark.parametrize("base", ["CartPole", "Cue"])
def test_the_checkers_accept_an_environment_that_tells(base):
    env = gymnasium.make(f"rlplastic/{base}-Shifted-v0", period=5000, notify=True)
    plain = gymnasium.make(f"rlplastic/{base}-Shifted-v0", period=5000)
    worlds = len({env.unwrapped.stream.schedule.world(k) for k in range(10)})
    assert env.observation_space.shape[0] == plain.observation_space.shape[0] + worlds
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Gaussian offsets have no bound
        warnings.filterwarnings("ignore", ".*Box observation space m\\w+ value is -?infinity")
        check_env(env.unwrapped, skip_render_check=True)
        check_env_sb3(env.unwrapped)
    assert rlplastic.envs.__doc__


def test_a_cell_says_so_only_where_it_is_so():
    suite = str(DATA / "Schedules.toml")
    cells = make_plan(Request(agents=["ppo"], regs=["none"], env=suite, budget="short")).cells
    told = {cell.task for cell in cells if "notify" in cell.stream}
    assert told == {"Cue-told"}
    one = next(cell for cell in cells if cell.task == "Cue-told" and cell.agent == "ppo")
    assert one.stream["notify"] is True
    assert runner.build_stream(one).observation_space.shape == (4,)
    other = next(cell for cell in cells if cell.task == "Cue-list" and cell.agent == "ppo")
    assert runner.build_stream(other).observation_space.shape == (2,)


def test_a_pilot_of_a_task_that_tells_is_not_one_of_a_task_that_does_not(tmp_path):
    text = Path(TINY).read_text()
    (tmp_path / "Told.toml").write_text(
        text.replace('track = "reward"', 'track = "reward"\nnotify = true')
    )
    plain, told = load_suite(TINY), load_suite(str(tmp_path / "Told.toml"))
    digests = [stream_digest(suite.tasks["Corridor-reward"]) for suite in (plain, told)]
    assert digests[0] != digests[1]
    assert stream_digest(told.tasks["Cue-observation"]) == stream_digest(
        plain.tasks["Cue-observation"]
    )


def test_a_learner_keeps_what_it_was_told():
    schedule = Cyclic(period=8, phases=3, worlds=2)
    stream = Stream(GymCopies(lambda: gymnasium.make("CartPole-v1"), 2), [], schedule, notify=True)
    model = DQN("MlpPolicy", stream, seed=0, device="cpu", learning_starts=1000, buffer_size=200)
    model.learn(24)
    memory = model.replay_buffer
    codes = memory.observations[:12, 0, 4:].tolist()
    assert codes == [[1, 0]] * 4 + [[0, 1]] * 4 + [[1, 0]] * 4
    assert memory.next_observations[3, 0, 4:].tolist() == [1, 0]
