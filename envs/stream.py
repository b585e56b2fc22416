r"""The stream: a base environment, its shifts and their schedule, behind one clock.

::

    action -> shifts -> base copies -> reward -> shifts -> record -> clip -> target -> learner
                                  \-> frame  -> shifts -> stack ------------------> learner

The boundary between two phases happens inside `step`. With ``boundary="truncate"`` the last step
of a phase returns every copy truncated (a real termination wins), with what the old world showed
as ``terminal_observation`` and the new world's first observation, reset with a seed derived from
(stream seed, phase, copy): a phase does not depend on anything that happened before it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from rlplastic.envs.ahead import Ahead
from rlplastic.envs.chain import Chain
from rlplastic.envs.copies import Array, Copies, Transition
from rlplastic.envs.episodes import Accounts, Episode
from rlplastic.envs.notice import Notice
from rlplastic.envs.refusals import (
    refuse_arguments,
    refuse_boundary,
    refuse_impossible,
    refuse_misfit,
)
from rlplastic.envs.schedules import Drawn, Listed, Ramped, Schedule, bound, worlds_of
from rlplastic.envs.shifts import Shift
from rlplastic.envs.stack import Stack
from rlplastic.errors import Diverged, UsageError
from rlplastic.suite import Boundary

_EVALUATION = 0x4556414C  # keeps evaluation apart from training
_RESETS = 0x5245534554  # keeps the seeds of resets apart from the draws of contents


class Stream(VecEnv):
    """A non-stationary environment with the interface of stable-baselines3's vector environments.

    ``seed()`` does nothing: what happens is fixed by the stream's own seed.

    Args:
        base: The copies of the base environment.
        shifts: Unbound shifts, applied in this order.
        schedule: When the world changes; one that draws is bound to the stream's seed.
        seed: Fixes the contents of the worlds and the resets.
        boundary: When a copy enters the new world: ``truncate`` at once, ending its episode;
            ``episode`` at its next own reset; ``step`` in mid-episode: the frame that the last
            step of a phase led to is still the old world's, all after it are the new one's.
        clip_reward: Pay the learner the sign of the reward; the recorded returns are not clipped.
        notify: Tell the learner the world it acts in, as `rlplastic.envs.notice` says; which of
            them there are, if not those of the schedule.
        reward_scale: What the learner is paid is divided by it; the recorded returns are not.
        ticks: Clock steps that one step of all copies takes, if not the number of copies.
        first_copy: Index of the first copy here, where others are stepped elsewhere.
        reset_key: What the seeds of resets are derived from, if not the stream's seed.
        listener: Called with each finished `Episode`.

    Raises:
        UsageError: a boundary, seed, scale or copy that cannot be, a shift that does not fit the
            base or has too few worlds for the schedule, a phase that is not a whole number of
            steps, a ramp that cannot be, a space or a world that `notify` does not fit.
    """

    def __init__(
        self,
        base: Copies,
        shifts: Sequence[Shift],
        schedule: Schedule | Drawn,
        *,
        seed: int = 0,
        boundary: Boundary = "truncate",
        clip_reward: bool = False,
        notify: bool | Sequence[int] = False,
        reward_scale: float = 1.0,
        ticks: int | None = None,
        first_copy: int = 0,
        reset_key: tuple[int, ...] = (),
        listener: Callable[[Episode], None] | None = None,
    ) -> None:
        self.ticks = base.num_copies if ticks is None else ticks
        refuse_arguments(seed, boundary, reward_scale, first_copy, base.num_copies, self.ticks)
        self.base = base
        self.schedule = bound(schedule, seed)
        self._ramped = self.schedule if isinstance(self.schedule, Ramped) else None
        self.stream_seed = seed
        self.boundary = boundary
        self.clip_reward = clip_reward
        self.reward_scale = reward_scale
        self.first_copy = first_copy
        base.share(first_copy, self.ticks)
        base.draw(seed)
        self.reset_key = reset_key or (seed,)
        self.listener = listener
        self._unbound = tuple(shifts)
        self.shifts = tuple(shift.bind(base, seed, i) for i, shift in enumerate(shifts))
        self._chain = Chain(self.shifts, base.num_copies)
        ramps, by_method = self._ramped is not None, self._chain.by_method
        refuse_boundary(boundary, by_method, ramps, clip_reward)
        refuse_impossible(self.schedule, self.ticks)
        refuse_misfit(self.shifts, self.schedule, base.observation_space)
        space = base.observation_space
        for shift in by_method["observation"]:
            space = shift.space(space)
        self._stack = Stack(base.stack)
        space = self._stack.space(space)
        self.notice: Notice | None = None
        if notify:
            worlds = worlds_of(self.schedule)
            if notify is not True and not set(worlds) <= set(notify):
                raise UsageError(f"notify = {list(notify)}; valid: all of the worlds {worlds}")
            self.notice = Notice(space, worlds if notify is True else notify)
            space = self.notice.space
        super().__init__(base.num_copies, space, base.action_space)
        self._ahead = Ahead(base, self._chain, plain=not (ramps or notify or base.stack > 1))
        self._accounts = Accounts(base.num_copies)
        self._everyone = np.arange(base.num_copies)
        self.begin(0)

    # Where the clock stands

    @property
    def phase(self) -> int:
        """The phase that the next step belongs to."""
        return self._phase

    @property
    def worlds(self) -> Array:
        """The world each copy is in: int ``[copies]``."""
        return self._worlds

    def begin(self, phase: int) -> None:
        """Put the clock at the start of a phase; the next `reset` enters it.

        The worlds and the seeds of the resets are those of a stream that came there by itself.
        """
        if not 0 <= phase < self.schedule.phases:
            raise UsageError(
                f"phase {phase}: this stream has phases 0 to {self.schedule.phases - 1}"
            )
        self.clock = self.schedule.start(phase)
        self._enter(phase)
        self._worlds = np.full(self.base.num_copies, self.schedule.world(phase))
        self._configure()

    def at(self, world: int, base: Copies, *, seed: int = 0) -> Stream:
        """The frozen environment of one world, for evaluation, on copies of its own.

        Its world is this stream's; its resets, fixed by `seed`, are none of this stream's.
        """
        return Stream(
            base,
            self._unbound,
            Listed(period=base.num_copies * 2**40, worlds=(world,)),
            seed=self.stream_seed,
            reset_key=(self.stream_seed, world, seed, _EVALUATION),
            clip_reward=self.clip_reward,
            notify=False if self.notice is None else self.notice.worlds.tolist(),
            reward_scale=self.reward_scale,
        )

    # The interface of VecEnv

    def reset(self, seeds: Sequence[int] | None = None) -> VecEnvObs:
        """Restart every copy; the clock stays. At the start of a phase, with the derived seeds."""
        if seeds is None and self.clock == self.schedule.start(self._phase):
            seeds = self._derived_seeds(self._phase)
        frames = self._restart(seeds)
        self._ahead.forget()
        self._worlds = np.full(self.num_envs, self.schedule.world(self._phase))
        self._open_episodes(np.ones(self.num_envs, dtype=bool))
        self.reset_infos = [{} for _ in range(self.num_envs)]
        return self._told(self._stack.begin(self._first(frames, self._everyone)))

    def step_async(self, actions: Array) -> None:
        """See `VecEnv`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """One step of all copies; see the module's head for the order of things."""
        ahead = self._ahead
        if ahead.shown or (ahead.knows and ahead.look(self._quiet_steps, self._worlds)):
            return self._quiet_step()
        worlds, through = self._worlds, self._chain.through
        self._chain.tick()
        step = self.base.step(through("action", self._actions, worlds))
        self._refuse_infinite(step)
        self.clock += self.ticks

        ended = step.terminated | step.truncated
        due = self.clock >= self._next and not self._last
        last = self.clock == self._next and self._last
        cut = self.boundary == "truncate" and (due or last)
        done = np.ones_like(ended) if cut else ended
        some = True in done.tolist()
        leave = np.ones_like(ended) if due and self.boundary == "step" else done
        paid = through("reward", step.reward, worlds, step.final, last=leave)
        self._accounts.add(paid, step.reward)
        after = self._stack.push(through("observation", step.final, worlds))
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if some:
            finals = self._told(after)
            for copy in np.flatnonzero(done):
                infos[copy] = self._close(
                    int(copy), finals[copy], step.terminated[copy], not ended[copy]
                )
        learned = through("target", self._learned(paid), worlds, last=leave)

        if due:
            self._enter(self._phase + 1)
        self._ramp()
        if cut:
            self._worlds = np.full(self.num_envs, self.schedule.world(self._phase))
            self._configure()
            seeds = self._derived_seeds(self._phase + int(last))
            first = self._first(self._restart(seeds), self._everyone)
            observation = self._stack.begin(first)
        else:
            observation = self._go_on(step.observation, after, ended, some)
        if some:
            self._open_episodes(done)
        return self._told(observation), learned.astype(np.float32), done, infos

    def close_episodes(self) -> None:
        """Record the episodes in progress as cut by the end of a life; the next `reset` goes on.

        With ``boundary="truncate"`` there are none at the end of a phase.
        """
        for copy in np.flatnonzero(self._accounts.length):
            episode = self._accounts.close(int(copy), self.clock, cut=True)
            if self.listener is not None:
                self.listener(episode)
        self._open_episodes(np.ones(self.num_envs, dtype=bool))

    def close(self) -> None:
        """See `VecEnv`."""
        self.base.close()

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Nothing: a stream is seeded once, when it is made."""
        return [None] * self.num_envs

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """The stream's own attribute, once for each copy asked for."""
        value = None if attr_name == "render_mode" else getattr(self, attr_name)
        return [value] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Refused: a stream changes only by its schedule."""
        raise NotImplementedError("a stream's attributes cannot be set from outside")

    def env_method(
        self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any
    ) -> list[Any]:
        """Refused, like `set_attr`."""
        raise NotImplementedError("a stream's copies cannot be called from outside")

    def env_is_wrapped(self, wrapper_class: type[Any], indices: VecEnvIndices = None) -> list[bool]:
        """No copy is wrapped; episodes are reported as by SB3's Monitor."""
        return [False] * len(list(self._get_indices(indices)))

    # Inside a step

    @property
    def _quiet_steps(self) -> int:
        """The steps before the one with which the phase ends."""
        return (self._next - self.clock - 1) // self.ticks

    def _quiet_step(self) -> VecEnvStepReturn:
        """A step in which nothing begins or ends, and whose frames are known."""
        self._chain.tick()
        reward, shown = self._ahead.step(self._actions)
        self._refuse_in("reward", reward)
        self.clock += self.ticks
        self._accounts.add(reward, reward)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        done = np.zeros(self.num_envs, dtype=bool)
        return shown, self._learned(reward).astype(np.float32), done, infos

    def _learned(self, paid: Array) -> Array:
        """What the learner is paid, before any shift of it."""
        learned = np.sign(paid) if self.clip_reward else paid
        return learned if self.reward_scale == 1.0 else learned / self.reward_scale

    def _refuse_infinite(self, step: Transition) -> None:
        """Raise `Diverged` at a NaN or infinity: a policy may drive an environment there."""
        self._refuse_in("reward", step.reward)
        if step.final.dtype.kind == "f":
            self._refuse_in("observation", step.final)

    def _refuse_in(self, name: str, values: Array) -> None:
        if math.isfinite(np.vdot(values, values)):  # in a third of the time
            return
        finite = np.isfinite(values)
        if not finite.all():
            copy = int(np.argwhere(~finite)[0][0])
            raise Diverged(
                f"{name} of copy {copy} is not finite after step {self.clock + self.ticks}"
            )

    def _told(self, observation: Array) -> Array:
        if self.notice is None:
            return observation
        before = np.full_like(self._worlds, self._chain.before)
        return self.notice.beside(observation, before, self._worlds, self._chain.mix)

    def _restart(self, seeds: Sequence[int] | None) -> Array:
        """The frames of all copies restarted; with seeds, random shifts begin anew too."""
        self._chain.tick()
        if seeds is not None:
            self._chain.reseed(seeds)
        return self.base.reset(seeds)

    def _first(self, frames: Array, copies: Array) -> Array:
        """What the learner sees of the episodes that begin in some copies.

        A fresh stack is padded with the world's image of zero.
        """
        worlds, padding = self._worlds[copies], []

        def seen(values: Array, event: str) -> Array:
            self._chain.forget(copies)
            return self._chain.through("observation", values, worlds, copies=copies, event=event)

        if self.base.stack > 1:
            padding = [seen(np.zeros_like(frames), "padding")] * (self.base.stack - 1)
        shown = seen(frames, "first")
        return np.concatenate([*padding, shown], axis=1) if padding else shown

    def _go_on(self, frames: Array, after: Array, ended: Array, some: bool) -> Array:
        """The next observations where no boundary cut the episodes."""
        if self.boundary == "step":
            before = self._worlds
            self._worlds = np.full(self.num_envs, self.schedule.world(self._phase))
            self._chain.forget(np.flatnonzero(before != self._worlds))
        if not some:
            return after
        rows = np.flatnonzero(ended)
        self._worlds = self._worlds.copy()
        self._worlds[rows] = self.schedule.world(self._phase)
        observation = after.copy()
        observation[rows] = self._first(frames[rows], rows)
        return self._stack.begin(observation)

    def _close(self, copy: int, final: Array, terminated: bool, cut: bool) -> dict[str, Any]:
        """The info of a copy whose episode ends here, and the record of it."""
        episode = self._accounts.close(copy, self.clock, cut=cut)
        if self.listener is not None:
            self.listener(episode)
        return {
            "terminal_observation": final.copy(),
            "TimeLimit.truncated": not terminated,
            "episode": {"r": episode.task_return, "l": episode.length, "t": 0.0},
        }

    def _open_episodes(self, rows: Array) -> None:
        self._accounts.open(rows, self.clock, self._phase, self._worlds)

    # Between phases

    def _enter(self, phase: int) -> None:
        self._phase = phase
        self._next = self.schedule.start(phase + 1)
        self._last = phase + 1 == self.schedule.phases
        self._chain.before = self.schedule.world(max(0, phase - 1))
        self._ramp()

    def _ramp(self) -> None:
        """How far the next step is on the way from the world before."""
        if self._ramped is not None:
            self._chain.mix = self._ramped.mix(self.clock)

    def _configure(self) -> None:
        for shift in self._chain.by_method["configure"]:
            world = int(self._worlds[0])
            self.base.configure(partial(shift.configure, world=world))

    def _derived_seeds(self, phase: int) -> list[int]:
        """Seeds of the resets that begin a phase; int32, since ALE takes no more."""
        return [
            int(np.random.SeedSequence(words).generate_state(1)[0] >> 1)
            for words in (
                [_RESETS, *self.reset_key, phase, 0 if self.base.joint else self.first_copy + copy]
                for copy in range(self.base.num_copies)
            )
        ]
