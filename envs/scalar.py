"""The stream as a plain Gymnasium environment: for training loops of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np

from rlplastic.envs.copies import Array, Copies, GymCopies
from rlplastic.envs.schedules import Drawn, Schedule
from rlplastic.envs.shifts import Shift
from rlplastic.envs.stream import Stream
from rlplastic.suite import Boundary


class SingleCopy(gymnasium.Env[Array, Any]):
    """One copy of a base environment as a Gymnasium environment, for bases that have no other."""

    def __init__(self, copies: Copies) -> None:
        self.copies = copies
        self.observation_space = copies.observation_space
        self.action_space = copies.action_space
        self._first: Array | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """See `gymnasium.Env.reset`."""
        super().reset(seed=seed)
        first, self._first = self._first, None
        if first is None or seed is not None:
            first = self.copies.reset(None if seed is None else [seed])[0]
        return first, {}

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """See `gymnasium.Env.step`."""
        step = self.copies.step(np.asarray([action]))
        terminated, truncated = bool(step.terminated[0]), bool(step.truncated[0])
        self._first = step.observation[0] if terminated or truncated else None
        return step.final[0], float(step.reward[0]), terminated, truncated, {}

    def close(self) -> None:
        """See `gymnasium.Env.close`."""
        self.copies.close()


class ShiftedEnv(gymnasium.Env[Array, Any]):
    """A non-stationary environment: any Gymnasium environment, shifts and a schedule.

    It is a `Stream` of one copy and behaves exactly as copy number `copy` of a stream with
    `copies` copies. At the boundary of a phase `step` returns ``truncated=True`` with the old
    world's observation, and the next `reset` gives the new world's first. The base environment
    restarts within the step that ends an episode, not at the call of `reset`. The last phase ends
    with a truncation too and then goes on in its own world. The worlds depend on `seed` here, not
    on the seed of `reset`.

    Copies in a ``gymnasium.vector`` each count their own steps: give them ``copies=n, copy=i`` to
    share one schedule, and reset each within the step that ended its episode, as
    ``AutoresetMode.SAME_STEP`` does (stable-baselines3's ``DummyVecEnv`` too). Gymnasium's default,
    ``NEXT_STEP``, spends a step of the vector on each reset; a clock does not count those, so that
    copies with different numbers of episodes come to change worlds at different times.

    An environment and not a `gymnasium.Wrapper`: `unwrapped` is the stream, so that checkers and
    training loops that look below wrappers do not find an environment that never shifts.

    Args:
        env: The base environment.
        shifts: Applied in this order.
        schedule: Its clock is counted in steps summed over all copies.
        copies: How many copies are trained in all; each step here counts as so many.
        copy: Which of them this one is.
        seed: Fixes the contents of the worlds and the resets at the boundaries.
        boundary: See `Stream`.
        clip_reward: See `Stream`.
        notify: See `Stream`.
        reward_scale: See `Stream`.
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        shifts: Sequence[Shift],
        schedule: Schedule | Drawn,
        *,
        copies: int = 1,
        copy: int = 0,
        seed: int = 0,
        boundary: Boundary = "truncate",
        clip_reward: bool = False,
        notify: bool = False,
        reward_scale: float = 1.0,
    ) -> None:
        base = env.copies if isinstance(env, SingleCopy) else GymCopies(lambda: env, 1)
        self.stream = Stream(
            base,
            shifts,
            schedule,
            seed=seed,
            boundary=boundary,
            clip_reward=clip_reward,
            notify=notify,
            reward_scale=reward_scale,
            ticks=copies,
            first_copy=copy,
        )
        self.observation_space = self.stream.observation_space
        self.action_space = self.stream.action_space
        self._pending: Array | None = None

    @property
    def phase(self) -> int:
        """The phase that the next step belongs to: for logs, not for the agent."""
        return self.stream.phase

    @property
    def world(self) -> int:
        """The world that this environment is in: for logs, not for the agent."""
        return int(self.stream.worlds[0])

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """The first observation of an episode; with a seed, of a freshly seeded one."""
        first, self._pending = self._pending, None
        if seed is not None:
            super().reset(seed=seed)
            return self.stream.reset([seed])[0], {}  # type: ignore[index]
        return (self.stream.reset()[0] if first is None else first), {}  # type: ignore[index]

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """See `gymnasium.Env.step`."""
        observation, reward, done, infos = self.stream.step(np.asarray([action]))
        self._pending = None
        if not done[0]:
            return observation[0], float(reward[0]), False, False, {}  # type: ignore[index]
        self._pending = observation[0]  # type: ignore[index]
        truncated = bool(infos[0]["TimeLimit.truncated"])
        return infos[0]["terminal_observation"], float(reward[0]), not truncated, truncated, {}

    def close(self) -> None:
        """See `gymnasium.Env.close`."""
        self.stream.close()
