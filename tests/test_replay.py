"""The replay memories hold what a plain list would, and draw what stable-baselines3's draw."""

from __future__ import annotations

import multiprocessing

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer, RolloutBuffer

from rlplastic.agents.replay import FrameReplay, replay_class
from rlplastic.agents.rollout import Rollout

GAMMA = 0.9
ACTIONS = spaces.Discrete(5)
FRAMES = spaces.Box(0, 255, (4, 3, 3), np.uint8)
PLANES = spaces.Box(0, 255, (6, 3, 3), np.uint8)  # what `notify` adds stays where it is
VECTORS = spaces.Box(-1e3, 1e3, (3,), np.float32)


class World:
    """Copies with random episodes: stacks that slide, padded afresh; shifts that empty or cut."""

    def __init__(self, space, copies, seed):
        self.space, self.copies = space, copies
        self.rng = np.random.default_rng(seed)
        self.padding = np.zeros((3, 3), np.uint8)
        self.planes = np.zeros((2 * (space is PLANES), 3, 3), np.uint8)
        self.obs = np.stack([self.first() for _ in range(copies)])

    def frame(self):  # few values: equal frames must not be confused
        return self.rng.integers(0, 2, (3, 3), dtype=np.uint8) * self.rng.integers(0, 2, dtype="u1")

    def first(self):
        if self.space is VECTORS:
            return self.rng.normal(size=3).astype(np.float32)
        return np.stack([self.padding] * 3 + [self.frame(), *self.planes])

    def step(self, ends):
        """`ends`: for each copy 0 (goes on), 1 (terminated), 2 (truncated)."""
        if self.space is VECTORS:
            after = self.rng.normal(size=self.obs.shape).astype(np.float32)
        else:
            new = np.stack([self.frame() for _ in range(self.copies)])[:, None]
            after = np.concatenate([self.obs[:, 1:4], new, self.obs[:, 4:]], axis=1)
            if self.rng.random() < 0.1:  # an observation that does not slide
                after[0] = self.first()
        infos = [{"TimeLimit.truncated": end == 2} if end else {} for end in ends]
        added = (
            self.obs,
            after,
            self.rng.integers(0, 5, self.copies),
            self.rng.normal(size=self.copies).astype(np.float32),
            np.array([end > 0 for end in ends]),
            infos,
        )
        self.obs = after.copy()
        for copy, end in enumerate(ends):
            if end:
                self.obs[copy] = self.first()
        return added

    def shift(self):
        """Another padding, and every copy starts afresh."""
        self.padding = np.full((3, 3), self.rng.integers(0, 3), np.uint8)
        self.planes[: self.rng.integers(0, 3)] ^= 255
        self.obs = np.stack([self.first() for _ in range(self.copies)])


def naive(kept, start, copy, n_steps):
    """Observation, action, return, next observation, done and discount from a list of steps."""
    total, factor = 0.0, 1.0
    for step in kept[start : start + n_steps]:
        total += factor * step[3][copy]
        factor *= GAMMA
        last = step
        if step[4][copy]:
            break
    truncated = last[5][copy].get("TimeLimit.truncated", False)
    done = bool(last[4][copy]) and not truncated
    return kept[start][0][copy], kept[start][2][copy], total, last[1][copy], done, factor


def make(kind, space, size, copies, n_steps, **extra):
    more = {"n_steps": n_steps, "gamma": GAMMA} if n_steps > 1 else {}
    return kind(size * copies, space, ACTIONS, "cpu", copies, **more, **extra)


EVENTS = st.lists(st.sampled_from([0, 0, 0, 0, 1, 2, "shift", "clear"]), min_size=1, max_size=60)


@pytest.mark.parametrize("space", [FRAMES, PLANES, VECTORS], ids=["frames", "planes", "vectors"])
@settings(max_examples=60, deadline=None)
@given(
    events=EVENTS,
    size=st.integers(1, 12),
    copies=st.integers(1, 3),
    n_steps=st.integers(1, 5),
    last=st.booleans(),
    seed=st.integers(0, 9),
)
def test_it_draws_what_a_list_and_stable_baselines3_hold(
    space, events, size, copies, n_steps, last, seed
):
    layout = {} if space is VECTORS else {"channels_last": last}
    ours = make(replay_class(space, n_steps), space, size, copies, n_steps, **layout)
    theirs = make(NStepReplayBuffer if n_steps > 1 else ReplayBuffer, space, size, copies, n_steps)
    world, kept = World(space, copies, seed), []
    for event in events:
        if event == "clear":
            ours.reset()
            theirs.reset()
            kept = []
        if event in ("clear", "shift"):
            world.shift()
            continue
        ends = [event if copy == 0 else int(world.rng.integers(0, 3)) for copy in range(copies)]
        added = world.step(ends)
        ours.add(*added)
        theirs.add(*added)
        kept = [*kept, added][-size:]
    assert ours.size() == theirs.size() == len(kept)
    assert (ours.pos, ours.full) == (theirs.pos, theirs.full)
    if not kept:
        return
    drawn = []
    for memory in (ours, theirs):
        np.random.seed(seed)
        drawn.append(memory.sample(16))
    for mine, other in zip(*drawn, strict=True):
        assert (mine is None) == (other is None)
        if mine is not None:
            assert mine.dtype == other.dtype
            np.testing.assert_array_equal(mine.numpy(), other.numpy())
    np.random.seed(seed)
    rows = np.random.randint(0, size if ours.full else ours.pos, size=16)
    chosen = np.random.randint(0, copies, size=16)
    oldest = ours.pos if ours.full else 0
    for i, (row, copy) in enumerate(zip(rows, chosen, strict=True)):
        obs, action, total, after, done, factor = naive(kept, (row - oldest) % size, copy, n_steps)
        batch = drawn[0]
        np.testing.assert_array_equal(batch.observations[i].numpy(), obs)
        np.testing.assert_array_equal(batch.next_observations[i].numpy(), after)
        assert batch.actions[i].item() == action
        assert batch.rewards[i].item() == pytest.approx(total, rel=1e-5, abs=1e-6)
        assert batch.dones[i].item() == done
        if batch.discounts is not None:
            assert batch.discounts[i].item() == pytest.approx(factor, rel=1e-6)


@pytest.mark.parametrize("planes", [0, 3])
def test_a_transition_takes_little_more_than_a_frame_and_frames_are_given_back(planes):
    space = spaces.Box(0, 255, (4 + planes, 84, 84), np.uint8)
    memory = FrameReplay(5_000, space, ACTIONS, "cpu")
    rng = np.random.default_rng(0)
    obs = np.zeros((1, 4 + planes, 84, 84), np.uint8)
    for step in range(12_000):
        new = rng.integers(0, 255, (1, 1, 84, 84), "u1")
        after = np.concatenate([obs[:, 1:4], new, obs[:, 4:]], axis=1)
        end = step % 250 == 249
        memory.add(obs, after, np.array([1]), np.array([0.0]), np.array([end]), [{}])
        obs = np.zeros_like(obs) if end else after
    arrays = [value for value in vars(memory).values() if isinstance(value, np.ndarray)]
    places = 8 * planes  # one more number a plane, for each half
    assert sum(array.nbytes for array in arrays) / 5_000 <= 7_200 + places
    assert memory._untouched <= len(memory.frames) < 5_000 * 1.02


def test_the_process_grows_by_no_more_for_a_transition():
    from rlplastic.benchmarks.speed_limit import growth

    # in processes of their own: this one has pages that other tests have freed
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as alone:
        ours = alone.apply(growth, (True,))  # by the operating system's account
        theirs = alone.apply(growth, (False, 1_000))
    assert 7_056 < ours <= 7_200
    assert theirs > 56_000  # the measure sees what there is


def test_channels_last_stacks_lie_in_memory_as_the_networks_want_them():
    memory = make(FrameReplay, FRAMES, 8, 1, 1, channels_last=True)
    world = World(FRAMES, 1, 0)
    for _ in range(5):
        memory.add(*world.step([0]))
    batch = memory.sample(4)
    assert batch.observations.is_contiguous(memory_format=torch.channels_last)
    assert batch.next_observations.is_contiguous(memory_format=torch.channels_last)


def test_a_channels_last_rollout_draws_what_stable_baselines3_draws():
    drawn = []
    for kind, kwargs in ((RolloutBuffer, {}), (Rollout, {"channels_last": True})):
        world = World(FRAMES, 2, 0)
        rollout = kind(6, FRAMES, ACTIONS, "cpu", n_envs=2, **kwargs)
        for _ in range(6):
            obs, _, actions, rewards, done, _ = world.step([0, 1])
            numbers = torch.as_tensor(rewards)
            rollout.add(obs, actions, rewards, done, numbers, numbers * 2)
        rollout.compute_returns_and_advantage(torch.zeros(2), done)
        np.random.seed(0)
        drawn.append([batch for _ in range(2) for batch in rollout.get(4)])
    assert len(drawn[0]) == 6
    for theirs, ours in zip(*drawn, strict=True):
        for name, values in theirs._asdict().items():
            np.testing.assert_array_equal(getattr(ours, name).numpy(), values.numpy())
        assert ours.observations.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("space", [FRAMES, PLANES])
def test_a_memory_that_is_put_back_goes_on_as_the_one_it_was(space):
    world, rng = World(space, 2, 0), np.random.default_rng(1)
    memories = [FrameReplay(40, space, ACTIONS, "cpu", n_envs=2) for _ in range(2)]
    for part in range(3):
        for _ in range(11):
            added = world.step(rng.choice(3, 2, p=[0.7, 0.2, 0.1]))
            for memory in memories[: 1 + part // 2]:  # in the last part both
                memory.add(*added)
        if part < 2:
            memories[1].add_news(memories[0].news())
    assert memories[0].full
    assert memories[0]._free == memories[1]._free
    assert np.array_equal(memories[0].places, memories[1].places)
    used = memories[0]._untouched
    assert np.array_equal(memories[0].frames[:used], memories[1].frames[:used])
