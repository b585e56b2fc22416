"""Replay memories in stable-baselines3's interface that cost less and sample the same numbers.

Only storage differs: which transitions are drawn and how time limits are treated is as in
stable-baselines3, and n-step returns are its own code, run on arrays that stand in for its
``observations`` and ``next_observations``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

Array = NDArray[Any]

SPARE = 0.01  # frames beyond one a transition: two for each episode, in episodes of 200 steps


COMMON = ("actions", "rewards", "dones", "timeouts")  # rings that every memory has


def in_bytes(stack: Array) -> list[bytes]:
    """The bytes of each frame of a stack ``[channels, height, width]``."""
    return [frame.tobytes() for frame in stack]


class Gathered:
    """Stacks of frames, put together when they are asked for.

    Stands for the array ``[transitions, copies, channels, height, width]``; understands only the
    index pair that stable-baselines3 samples with.
    """

    def __init__(self, memory: FrameReplay, half: int) -> None:
        self._memory = memory
        self._half = half

    def __getitem__(self, index: Any) -> Array:
        """The stacks ``[batch, channels, height, width]`` at (transitions, copies)."""
        return self._memory.gather(self._memory.places[index[0], index[1], self._half])


class LeanReplay(ReplayBuffer):
    """stable-baselines3's memory without its second copies of what is stored and of what is drawn.

    Args: as for `stable_baselines3.common.buffers.ReplayBuffer`.
    """

    arrays: tuple[str, ...] = ("observations", "next_observations")  # rings, beside the common ones

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._added = 0  # rows since the last `news`

    @property
    def divisible(self) -> bool:
        """Whether one large sample holds the minibatches that as many small ones would draw."""
        return self.n_envs == 1  # of several copies, steps and copies are drawn in turn

    def news(self) -> dict[str, Any]:
        """What has come since this was last called, for a checkpoint; `add_news` puts it back.

        Its ``whole`` is true if nothing else is needed: all that is in the memory has come since.
        """
        count = min(self._added, self.buffer_size)
        rows = (self.pos - count + np.arange(count)) % self.buffer_size
        self._added = 0
        return {
            "whole": count == (self.buffer_size if self.full else self.pos),
            "pos": self.pos,
            "full": self.full,
            "rows": rows,
            **{name: getattr(self, name)[rows] for name in (*self.arrays, *COMMON)},
        }

    def add_news(self, news: dict[str, Any]) -> None:
        """Put back what `news` returned, in the order in which it was returned."""
        self.pos, self.full = news["pos"], news["full"]
        for name in (*self.arrays, *COMMON):
            getattr(self, name)[news["rows"]] = news[name]

    def add(
        self,
        obs: Array,
        next_obs: Array,
        action: Array,
        reward: Array,
        done: Array,
        infos: list[dict[str, Any]],
    ) -> None:
        """One transition of every copy; `next_obs` shows the end of an episode, not a new one."""
        pos = self.pos
        self._keep(pos, obs, next_obs)
        self.actions[pos] = action.reshape((self.n_envs, self.action_dim))
        self.rewards[pos] = reward
        self.dones[pos] = done
        if self.handle_timeout_termination:
            self.timeouts[pos] = [info.get("TimeLimit.truncated", False) for info in infos]
        self._added += 1
        self.pos = pos + 1
        if self.pos == self.buffer_size:
            self.full = True
            self.pos = 0

    def _keep(self, pos: int, obs: Array, next_obs: Array) -> None:
        shape = (self.n_envs, *self.obs_shape)
        self.observations[pos] = obs.reshape(shape)
        self.next_observations[pos] = next_obs.reshape(shape)

    def _get_samples(
        self, batch_inds: Array, env: VecNormalize | None = None
    ) -> ReplayBufferSamples:
        """As stable-baselines3's, with its draws."""
        if env is not None:
            return super()._get_samples(batch_inds, env)
        copies = np.random.randint(0, self.n_envs, len(batch_inds))  # noqa: NPY002 - its draw
        observations, next_observations = self._both(batch_inds, copies)
        ended = self.dones[batch_inds, copies] * (1 - self.timeouts[batch_inds, copies])
        drawn = (
            observations,
            self.actions[batch_inds, copies],
            next_observations,
            ended.reshape(-1, 1),
            self.rewards[batch_inds, copies].reshape(-1, 1),
        )
        return ReplayBufferSamples(*map(self.to_torch, drawn))

    def _both(self, steps: Array, copies: Array) -> tuple[Array, Array]:
        """What was seen before the steps, and after."""
        return self.observations[steps, copies], self.next_observations[steps, copies]

    def to_torch(self, array: Array, copy: bool = True) -> Tensor:
        """The array as a tensor; what is drawn by index is a copy already."""
        tensor = torch.from_numpy(array)
        return tensor if self.device.type == "cpu" else tensor.to(self.device)


class FrameReplay(LeanReplay):
    """Stores each frame of stacked observations once.

    A transition keeps the places of its frames. What is shared is found by comparing contents, so
    that nothing is assumed of the padding of fresh stacks, of the ends of episodes, or of shifts:
    an observation that does not continue the one before is stored as it comes. A place is free
    again once no transition in the memory shows its frame.

    Args:
        buffer_size: Transitions, all copies together.
        observation_space: Of stacks ``[channels, height, width]``, one frame a channel.
        *args: As for `stable_baselines3.common.buffers.ReplayBuffer`.
        channels_last: Memory layout of what is drawn.
        **kwargs: As for `stable_baselines3.common.buffers.ReplayBuffer`.
    """

    arrays = ("places",)

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space[Any],
        *args: Any,
        channels_last: bool = False,
        **kwargs: Any,
    ) -> None:
        assert observation_space.shape is not None
        self.channels_last = channels_last
        self.stack = observation_space.shape[0]
        # everything but observations is stable-baselines3's; these are one number in its eyes
        placeholder = spaces.Box(0, 1, (1,), np.uint8)
        super().__init__(buffer_size, placeholder, *args, **kwargs)
        self.observation_space = observation_space
        self.obs_shape = observation_space.shape
        rows = (self.buffer_size, self.n_envs)
        room = int(self.buffer_size * self.n_envs * (1 + SPARE)) + 2 * self.stack * self.n_envs
        self.frames: Array = np.zeros((room, *self.obs_shape[1:]), observation_space.dtype)
        # places of the frames of both stacks, [transitions, copies, now or next, channels]
        self.places: Array = np.zeros((*rows, 2, self.stack), np.int32)
        self.observations = Gathered(self, 0)  # type: ignore[assignment]
        self.next_observations = Gathered(self, 1)  # type: ignore[assignment]
        self._forget()

    @property
    def divisible(self) -> bool:
        """See `LeanReplay.divisible`; not of frames, which would lie there all at once."""
        return False

    def reset(self) -> None:
        """Empty the memory."""
        super().reset()
        self._forget()

    def news(self) -> dict[str, Any]:
        """See `LeanReplay.news`; with the frames that the new transitions show."""
        found = super().news()
        places = np.unique(found["places"])
        return {
            **found,
            "frame_places": places,
            "frames": self.frames[places],
            "room": len(self.frames),
            "untouched": self._untouched,
            "free": np.array(self._free, np.int32),
            "shown": [
                np.frombuffer(b"".join(frames), self.frames.dtype).reshape(self.obs_shape)
                if frames
                else None
                for frames in self._shown
            ],
            "shown_at": self._shown_at,
        }

    def add_news(self, news: dict[str, Any]) -> None:
        """See `LeanReplay.add_news`."""
        super().add_news(news)
        self.frames.resize((news["room"], *self.frames.shape[1:]), refcheck=False)
        self.frames[news["frame_places"]] = news["frames"]
        self._untouched = news["untouched"]
        self._free[:] = news["free"].tolist()
        self._shown[:] = [[] if stack is None else in_bytes(stack) for stack in news["shown"]]
        self._shown_at[:] = news["shown_at"]

    def gather(self, places: Array) -> Array:
        """The stacks ``[batch, channels, height, width]`` of frames at places [batch, channels]."""
        if not self.channels_last:
            return self.frames.take(places, axis=0)
        stacks = np.empty((len(places), *self.frames.shape[1:], self.stack), self.frames.dtype)
        for channel in range(self.stack):
            stacks[..., channel] = self.frames.take(places[:, channel], axis=0)
        return stacks.transpose(0, 3, 1, 2)

    def _both(self, steps: Array, copies: Array) -> tuple[Array, Array]:
        """See `LeanReplay._both`; put together at once."""
        places = self.places[steps, copies].swapaxes(0, 1).reshape(-1, self.stack)
        stacks = self.gather(places)
        return stacks[: len(steps)], stacks[len(steps) :]

    def _forget(self) -> None:
        self._untouched = 0  # places from here on have never been used
        self._free: list[int] = []
        # the frames of each copy's last `next_obs`, in bytes: those are compared soonest
        self._shown: list[list[bytes]] = [[] for _ in range(self.n_envs)]
        self._shown_at: list[list[int]] = [[] for _ in range(self.n_envs)]

    def _keep(self, pos: int, obs: Array, next_obs: Array) -> None:
        obs = np.asarray(obs, self.frames.dtype)
        next_obs = np.asarray(next_obs, self.frames.dtype)
        for copy in range(self.n_envs):
            now, then = in_bytes(obs[copy]), in_bytes(next_obs[copy])
            at = self._shown_at[copy] if now == self._shown[copy] else self._store(obs[copy], now)
            if then[:-1] == now[1:]:
                after = [*at[1:], self._place(next_obs[copy, -1])]
            else:
                after = self._follow(next_obs[copy], then, now, at)
            gone = set(self.places[pos, copy].ravel().tolist()) if self.full else None
            self.places[pos, copy] = at, after
            self._shown[copy] = then
            self._shown_at[copy] = after
            if gone is not None:  # frames are shared by neighbours: what the next oldest shows not
                oldest = self.places[(pos + 1) % self.buffer_size, copy]
                self._free += gone.difference(at, after, oldest.ravel().tolist())

    def _follow(
        self, stack: Array, then: list[bytes], now: list[bytes], at: list[int]
    ) -> list[int]:
        """The places of a stack in which some frames moved up by one, or stayed: planes do."""
        places: list[int] = []
        for channel, frame in enumerate(then):
            if frame == (now[channel + 1] if channel + 1 < self.stack else None):
                places.append(at[channel + 1])
            else:
                stayed = frame == now[channel]
                places.append(at[channel] if stayed else self._place(stack[channel]))
        return places

    def _store(self, stack: Array, frames: list[bytes]) -> list[int]:
        """The places of a stack that continues nothing; equal neighbours (padding) share one."""
        places = [self._place(stack[0])]
        for channel in range(1, self.stack):
            same = frames[channel] == frames[channel - 1]
            places.append(places[-1] if same else self._place(stack[channel]))
        return places

    def _place(self, frame: Array) -> int:
        """Where the frame has been put."""
        if self._free:
            place = self._free.pop()
        else:
            place = self._untouched
            self._untouched += 1
            if place == len(self.frames):  # many short episodes; in place where the system can
                room = int(place * (1 + SPARE)) + 64
                self.frames.resize((room, *self.frames.shape[1:]), refcheck=False)
        self.frames[place] = frame
        return place


class NStepLeanReplay(NStepReplayBuffer, LeanReplay):
    """`LeanReplay` with stable-baselines3's n-step returns."""


class NStepFrameReplay(NStepReplayBuffer, FrameReplay):
    """`FrameReplay` with stable-baselines3's n-step returns."""


def replay_class(space: spaces.Space[Any], n_steps: int) -> type[ReplayBuffer]:
    """The memory for observations of a space and returns of so many steps."""
    if space.shape is not None and len(space.shape) == 3:
        return NStepFrameReplay if n_steps > 1 else FrameReplay
    return NStepLeanReplay if n_steps > 1 else LeanReplay
