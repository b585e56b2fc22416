"""Games that take turns: each is its own environment, in spaces that hold them all."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from rlplastic.envs.atari import Atari, AtariSwitch
from rlplastic.envs.control import Acrobot, CartPole, ControlSwitch, MountainCar
from rlplastic.envs.copies import Copies, GymCopies, Transition
from rlplastic.envs.minatar import MinAtar, MinAtarSwitch
from rlplastic.envs.schedules import Cyclic, Listed
from rlplastic.envs.shifts_game import Game
from rlplastic.envs.stream import Stream
from rlplastic.envs.switching import SwitchCopies
from rlplastic.errors import UsageError

MINATAR = ("breakout", "seaquest", "freeway")
CONTROL = {"CartPole": CartPole(), "Acrobot": Acrobot(), "MountainCar": MountainCar()}
CASES = [
    (MinAtarSwitch(games=MINATAR), [MinAtar(game=g, minimal=False) for g in MINATAR]),
    (ControlSwitch(games=tuple(CONTROL)), list(CONTROL.values())),
]


def stream_of(base, schedule, copies=2, seed=3, **options):
    return Stream(base.make(copies), [Game(**options)], schedule, seed=seed)


@pytest.mark.parametrize(("base", "members"), CASES)
@pytest.mark.parametrize("world", [0, 1, 2])
def test_each_world_is_its_own_game_filled_up_with_zeros(base, members, world):
    schedule = Listed(period=10**6, worlds=(world,))
    ours = stream_of(base, schedule)
    theirs = Stream(members[world].make(2), [], schedule, seed=3)
    size = theirs.observation_space.shape[0]
    shown, expected = ours.reset(), theirs.reset()
    rng = np.random.default_rng(0)
    for _ in range(300):
        assert shown.shape[1:] == ours.observation_space.shape
        assert ours.observation_space.contains(shown[0])
        np.testing.assert_array_equal(shown[:, :size], expected)
        assert not shown[:, size:].any()
        actions = rng.integers(theirs.action_space.n, size=2)
        shown, paid, dones, infos = ours.step(actions)
        expected, reward, ended, told = theirs.step(actions)
        np.testing.assert_array_equal(paid, reward)
        np.testing.assert_array_equal(dones, ended)
        for copy in np.flatnonzero(ended):
            final = infos[copy]["terminal_observation"]
            np.testing.assert_array_equal(final[:size], told[copy]["terminal_observation"])
            assert ours.observation_space.contains(final)


def test_atari_games_take_turns_with_all_eighteen_actions():
    base = AtariSwitch(games=("pong", "breakout"))
    stream = stream_of(base, Cyclic(period=40, phases=3, worlds=2))
    assert stream.action_space == gymnasium.spaces.Discrete(18)
    assert stream.observation_space.shape == (4, 84, 84)
    shown = stream.reset()
    for phase, game in enumerate(("pong", "breakout", "pong")):
        alone = Atari(game=game).make(2, all_actions=True)
        expected = alone.reset(stream._derived_seeds(phase))
        for action in range(20):
            np.testing.assert_array_equal(shown[:, 3:], expected)
            shown = stream.step(np.array([action % 18, 0]))[0]
            expected = alone.step(np.array([action % 18, 0])).observation


def test_a_stream_begun_in_a_game_is_one_that_came_there_by_itself():
    schedule = Cyclic(period=20, phases=4, worlds=3)
    came, begun = (stream_of(CASES[0][0], schedule) for _ in range(2))
    came.reset()
    for _ in range(20):
        shown = came.step(np.array([1, 5]))[0]
    begun.begin(2)
    np.testing.assert_array_equal(shown, begun.reset())
    for _ in range(10):
        for a, b in zip(came.step(np.array([5, 2])), begun.step(np.array([5, 2])), strict=True):
            if isinstance(a, np.ndarray):
                np.testing.assert_array_equal(a, b)


class Paying(Copies):
    """Pays what it is told to, and tells what it was asked to do."""

    def __init__(self, pay, actions):
        self.num_copies, self.pay, self.closed = 1, pay, False
        self.observation_space = gymnasium.spaces.Box(1, 2, (actions,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(actions)

    def reset(self, seeds=None):
        return np.ones((1, *self.observation_space.shape), np.float32)

    def step(self, actions):
        self.asked = int(actions[0])
        no = np.array([False])
        return Transition(self.reset(), np.array([self.pay]), no, no, self.reset())

    def close(self):
        self.closed = True


def test_rewards_are_in_units_of_the_first_game():
    games = [Paying(10.0, 2), Paying(3.0, 4)]
    seen = []
    stream = Stream(
        SwitchCopies(games, ("two", "four")),
        [Game(units=(100.0, 5.0))],
        Cyclic(period=1, phases=2, worlds=2),
        listener=seen.append,
    )
    stream.reset()
    rewards = [stream.step(np.array([0]))[1][0] for _ in range(2)]
    assert rewards == [10.0, 60.0]  # good play in either is worth the same
    assert [(e.task_return, e.base_return) for e in seen] == [(10.0, 10.0), (60.0, 3.0)]


def test_an_action_that_a_game_lacks_is_its_first_and_the_spaces_hold_the_filling():
    games = [Paying(0.0, 2), Paying(0.0, 4)]
    copies = SwitchCopies(games, ("two", "four"))
    assert copies.action_space == gymnasium.spaces.Discrete(4)
    assert copies.observation_space.low.tolist() == [1, 1, 0, 0]  # filled up with 0
    for action, asked in ((1, 1), (2, 0), (3, 0)):
        copies.step(np.array([action]))
        assert games[0].asked == asked
    copies.choose(1)
    copies.step(np.array([3]))
    assert games[1].asked == 3
    copies.close()
    assert all(game.closed for game in games)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: AtariSwitch(games=("pong", "brakeout")), "Did you mean 'breakout'"),
        (lambda: MinAtarSwitch(games=("pong", "breakout")), "unknown MinAtar game 'pong'"),
        (lambda: ControlSwitch(games=("CartPole", "Pendulum")), "classic-control environment"),
        (
            lambda: MinAtarSwitch(games=("asterix", "breakout", "asterix")).make(1),
            "'asterix' is there 2 times",
        ),
        (
            lambda: Stream(CartPole().make(1), [Game()], Cyclic(period=8, phases=2, worlds=2)),
            "needs an environment of several games",
        ),
        (
            lambda: stream_of(CASES[1][0], Cyclic(period=8, phases=4, worlds=4)),
            "has 3 worlds",
        ),
        (
            lambda: stream_of(CASES[1][0], Cyclic(period=8, phases=2, worlds=2), units=(1.0,)),
            "one for each of 3 games, not 1",
        ),
        (
            lambda: SwitchCopies(
                [CartPole().make(1), MinAtar(game="breakout").make(1)], ("CartPole", "breakout")
            ),
            "differ in their first dimension alone",
        ),
        (
            lambda: SwitchCopies(
                [
                    CartPole().make(1),
                    GymCopies(lambda: gymnasium.make("MountainCarContinuous-v0"), 1),
                ],
                ("CartPole", "MountainCar"),
            ),
            "actions are numbered from 0",
        ),
    ],
)
def test_what_cannot_take_turns_is_refused(make, words):
    with pytest.raises(UsageError, match=words):
        make()
