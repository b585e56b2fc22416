"""Emulators whose rules can be changed show what ALE's vector environment shows."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from rlplastic.envs.atari import Atari
from rlplastic.envs.atari_modes import AtariModes, AtariModesEnv, Shrink
from rlplastic.envs.control import CartPole
from rlplastic.envs.schedules import Cyclic, Listed
from rlplastic.envs.shifts_game import AleSticky, Mode
from rlplastic.envs.stream import Stream
from rlplastic.errors import UsageError


def play(copies, steps, seed, actions):
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        yield copies.step(rng.integers(0, actions, copies.num_copies))


@pytest.mark.parametrize("game", ["pong", "breakout", "space_invaders", "seaquest", "freeway"])
def test_mode_0_is_ales_vector_environment_byte_for_byte(game):
    # no no-ops: how many of them there are is drawn by another generator
    settings = {"game": game, "noops": 1, "max_frames": 1210}
    theirs, ours = Atari(**settings).make(2), AtariModes(**settings).make(2)
    assert (ours.observation_space, ours.stack) == (theirs.observation_space, theirs.stack)
    assert ours.action_space == theirs.action_space
    ends = 0
    for seeds in ([5, 6], [7, 5]):
        np.testing.assert_array_equal(theirs.reset(seeds), ours.reset(seeds))
        number = theirs.action_space.n
        for a, b in zip(play(theirs, 350, 0, number), play(ours, 350, 0, number), strict=True):
            for name in ("final", "observation", "reward", "terminated", "truncated"):
                np.testing.assert_array_equal(getattr(a, name), getattr(b, name), name)
            ends += (a.terminated | a.truncated).sum()
    assert ends >= 4


def test_a_reset_with_a_seed_forgets_the_past():
    def shown(env):
        return [env.reset(seed=5)[0], *(env.step(i % 3)[0] for i in range(60))]

    fresh = shown(AtariModesEnv(Atari(game="breakout")))
    used = AtariModesEnv(Atari(game="breakout"))
    used.reset(seed=1)
    for _ in range(37):
        used.step(1)
    np.testing.assert_array_equal(shown(used), fresh)


def test_gymnasiums_checker_accepts_it():
    check_env(AtariModesEnv(Atari(game="pong")), skip_render_check=True)


def test_a_frame_of_one_grey_keeps_it_and_a_shrunk_axis_averages():
    shrink = Shrink(210, 84)
    for grey in range(256):
        assert (np.rint(shrink(np.full((210, 1), grey, np.float32))) == grey).all()
    halves = Shrink(5, 2)(np.array([[10], [20], [30], [40], [50]], np.float32))
    np.testing.assert_allclose(halves[:, 0], [18, 42])


def stream_of(shift, world, game="freeway", seed=2):
    return Stream(
        AtariModes(game=game).make(1), [shift], Listed(period=10**6, worlds=(world,)), seed=seed
    )


def screens(stream, steps=150):
    return [stream.reset(), *(stream.step(np.array([1]))[0] for _ in range(steps))]


def test_each_world_is_another_flavour_and_world_0_is_the_games_own():
    shift = Mode(flavours=[(1, 0), (1, 1), (4, 0)])
    shown = [np.stack(screens(stream_of(shift, world))) for world in range(4)]
    plain = Stream(
        AtariModes(game="freeway").make(1), [], Listed(period=10**6, worlds=(0,)), seed=2
    )
    np.testing.assert_array_equal(shown[0], np.stack(screens(plain)))
    for a in range(4):  # at difficulty 1 a chicken that is hit goes all the way back
        for b in range(a):
            assert (shown[a] != shown[b]).any()


def test_a_mode_comes_back_as_it_was_and_a_phase_does_not_depend_on_those_before():
    schedule = Cyclic(period=20, phases=5, worlds=2)
    shift = Mode(flavours=[(12, 0)])
    came = Stream(AtariModes(game="breakout").make(1), [shift], schedule, seed=2)
    began = came.reset()
    for phase in range(1, 5):
        for _ in range(20):
            began = came.step(np.array([1]))[0]
        begun = Stream(AtariModes(game="breakout").make(1), [shift], schedule, seed=2)
        begun.begin(phase)
        np.testing.assert_array_equal(began, begun.reset())
        assert came.base.envs[0].flavour == ((0, 0) if phase % 2 == 0 else (12, 0))


def test_the_emulator_repeats_actions_as_often_as_the_world_says():
    shift = AleSticky(probabilities=[0.0, 1.0])
    stuck = stream_of(shift, 2, "pong")
    first = stuck.reset()
    for action in (2, 3) * 10:  # up, down: nothing but the no-op from before is ever done
        moved = stuck.step(np.array([action]))[0]
    still = stream_of(shift, 2, "pong")
    np.testing.assert_array_equal(first, still.reset())
    for _ in range(20):
        rested = still.step(np.array([0]))[0]
    np.testing.assert_array_equal(moved, rested)
    free = stream_of(shift, 1, "pong")
    free.reset()
    for action in (2, 3) * 10:
        freed = free.step(np.array([action]))[0]
    assert (freed != rested).any()


@pytest.mark.parametrize(
    ("shift", "game", "words"),
    [
        (Mode(flavours=[(3, 0)]), "breakout", "no mode 3; valid: 0, 4, 8, 12"),
        (Mode(flavours=[(4, 2)]), "breakout", "no difficulty 2; valid: 0, 1"),
        (Mode(flavours=[(4, 0), (4, 0)]), "breakout", "is there already"),
        (Mode(flavours=[(0, 0)]), "breakout", "which is world 0"),
        (AleSticky(probabilities=[0.5, 0.25]), "breakout", "differ from each other and from 0.25"),
    ],
)
def test_what_a_game_does_not_have_is_refused_with_what_it_has(shift, game, words):
    with pytest.raises(UsageError, match=words):
        stream_of(shift, 1, game)


@pytest.mark.parametrize("shift", [Mode(flavours=[(4, 0)]), AleSticky(probabilities=[0.0])])
@pytest.mark.parametrize("base", [CartPole(), Atari(game="breakout")])
def test_other_environments_are_refused(shift, base):
    with pytest.raises(UsageError, match="needs the environment 'AtariModes'"):
        Stream(base.make(1), [shift], Cyclic(period=8, phases=2, worlds=2))
