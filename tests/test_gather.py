"""The gridworld of gems and pits, and the levels of each world."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from rlplastic.envs.gather import COUNTS, SIZE, VALUE, Gather, GatherEnv, layout_of
from rlplastic.envs.schedules import Periodic
from rlplastic.envs.shifts_dynamics import Expand, Window
from rlplastic.envs.stream import Stream
from rlplastic.envs.toy import Cue
from rlplastic.errors import UsageError

MIDDLE = (SIZE // 2, SIZE // 2)


def channels(frame):
    agent, values, walls = frame.reshape(3, SIZE, SIZE)
    assert agent.sum() == 1
    return tuple(int(i) for i in np.argwhere(agent)[0]), values, walls.astype(bool)


def layouts(stream, resets=60):
    """The levels that a stream's episodes begin in, as they are seen."""
    frames = [*stream.reset()]
    for _ in range(resets):  # of the base: the stream's own gives the phase's first again
        frames += [*stream.base.reset()]
    return {frame[SIZE * SIZE :].tobytes() for frame in frames}


def test_a_level_has_its_walls_gems_and_pits_and_a_free_start():
    kinds = set()
    for level in range(200):
        walls, values = layout_of(level)
        assert walls[[0, -1]].all()
        assert walls[:, [0, -1]].all()
        assert walls.sum() == 4 * (SIZE - 1) + COUNTS["walls"]
        assert (values == VALUE).sum() == COUNTS["gems"]
        assert (values == -VALUE).sum() == COUNTS["pits"]
        assert not (walls & (values != 0)).any()
        assert not walls[MIDDLE]
        assert values[MIDDLE] == 0
        assert not values[[1, -2]].any()
        kinds.add(walls.tobytes() + values.tobytes())
    assert len(kinds) == 200


def test_an_agent_is_stopped_by_walls_and_paid_once():
    env = GatherEnv([3])
    env.reset(seed=0)
    walls, values = layout_of(3)
    place, paid, rng = MIDDLE, 0, np.random.default_rng(1)
    for number in range(1, 101):
        action = int(rng.integers(4))
        down, right = ((-1, 0), (0, 1), (1, 0), (0, -1))[action]
        if not walls[place[0] + down, place[1] + right]:
            place = place[0] + down, place[1] + right
        frame, reward, terminated, truncated, _ = env.step(action)
        assert reward == values[place]
        paid += reward != 0
        values[place] = 0
        at, shown, blocked = channels(frame)
        assert at == place
        np.testing.assert_array_equal(shown, values)
        np.testing.assert_array_equal(blocked, walls)
        assert not terminated
        assert truncated == (number == 100)
    assert paid > 0


def test_episodes_begin_in_each_level_of_the_world_in_the_same_share():
    env = GatherEnv(range(4))
    env.reset(seed=0)
    begun = [env.reset()[0][SIZE * SIZE :].tobytes() for _ in range(400)]
    counts = [begun.count(one) for one in set(begun)]
    assert len(counts) == 4
    assert min(counts) > 60  # of 100 on average, standard deviation 8.7


def streams(shift, seed):
    base = Gather(levels=3).make(4)
    return Stream(base, [shift], Periodic(period=400, phases=4), seed=seed)


def worlds_of(shift, seed=0):
    found = []
    for phase in range(4):
        stream = streams(shift, seed)
        stream.begin(phase)
        found.append(layouts(stream))
    return found


def test_a_window_shows_other_levels_in_every_world_and_no_old_ones():
    worlds = worlds_of(Window())
    assert [len(world) for world in worlds] == [3] * 4
    assert len(set.union(*worlds)) == 12


def test_an_expansion_keeps_the_levels_that_there_were():
    worlds = worlds_of(Expand())
    assert [len(world) for world in worlds] == [3, 6, 9, 12]
    for old, new in itertools.pairwise(worlds):
        assert old < new
    assert worlds[1] - worlds[0] == worlds_of(Window())[1]  # the same draws


@pytest.mark.parametrize("shift", [Window(), Expand()])
def test_levels_are_those_of_world_and_seed_and_world_0_of_none(shift):
    here, again, elsewhere = worlds_of(shift), worlds_of(shift), worlds_of(shift, seed=1)
    assert here == again
    assert here[0] == elsewhere[0]
    for mine, other in zip(here[1:], elsewhere[1:], strict=True):
        assert (mine & other) == (here[0] if isinstance(shift, Expand) else set())
    stream = streams(shift, 0)  # worlds come one after the other as they do alone, and back
    for phase in (0, 1, 2, 3, 1, 0):
        stream.begin(phase)
        assert layouts(stream) == here[phase]


def test_levels_are_refused_where_there_are_none():
    with pytest.raises(UsageError, match="'window' needs an environment with levels"):
        Stream(Cue().make(1), [Window()], Periodic(period=10, phases=2))
