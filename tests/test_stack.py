"""Stacked frames, and the program that measures what streams cost."""

from __future__ import annotations

import numpy as np
import pytest

from rlplastic.benchmarks import streams
from rlplastic.envs.stack import Stack


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_the_last_frames_are_shown_and_what_was_shown_stays_as_it_was(size, channels):
    rng = np.random.default_rng(0)
    stack, frames = Stack(size), [np.zeros((2, channels, 5, 5), np.uint8)] * size
    shown = [stack.begin(np.concatenate(frames, axis=1))]
    expected = [shown[0].copy()]
    for step in range(60):
        frames.append(rng.integers(0, 256, (2, channels, 5, 5), dtype=np.uint8))
        shown.append(stack.push(frames[-1]))
        expected.append(np.concatenate(frames[-size:], axis=1))
        if step == 30:  # an episode ends in copy 1
            frames = [frame * np.array([1, 0], np.uint8)[:, None, None, None] for frame in frames]
            shown.append(stack.begin(np.concatenate(frames[-size:], axis=1)))
            expected.append(shown[-1].copy())
    for window, frame in zip(shown, expected, strict=True):
        assert window.dtype == np.uint8
        np.testing.assert_array_equal(window, frame)
    if size > 1:  # users keep what they were shown: Gymnasium's checker
        assert not any(map(np.shares_memory, shown[:30], shown[1:30]))


@pytest.mark.parametrize("shift", ["none", "action-permutation", "offset", "physics"])
def test_a_stream_is_measured_beside_a_base_that_plays_the_same_game(shift):
    (row,) = streams.compare("control", [shift], rounds=3)
    assert row.micros > 0
    assert row.ratio[0] <= row.ratio[1] <= row.ratio[2]
    assert f"| {shift} |" in streams.page([row], "", 3, 0.1)


def test_a_base_that_plays_another_game_is_no_measure():
    steps = {kind: streams.base_step("control") for kind in ("base", "shifted")}
    actions = np.zeros((10, streams.COPIES), dtype=int)
    with pytest.raises(RuntimeError, match="shifted does not play the game of the base"):
        streams.timed(steps, {"base": actions, "shifted": 1 - actions}, "reward")
