"""One stream, whoever steps its copies: ours, stable-baselines3's and Gymnasium's vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from rlplastic.envs.scalar import ShiftedEnv
from rlplastic.envs.tasks import Subject, find_subjects

COPIES, PERIOD, PHASES, STEPS = 3, 180, 4, 260  # 60 steps of each copy in a phase
TASKS = [
    "Control-Shifted/CartPole-observation",
    "Control-Shifted/CartPole-reward",
    "Toy-Shifted/Corridor-reward",
]
Step = tuple[
    np.ndarray, np.ndarray, np.ndarray, np.ndarray
]  # observation, reward, 1 if terminated and 2 if cut, final
Play = Callable[[Subject, np.ndarray], Iterator[Step]]


def scalars(subject: Subject) -> list[Callable[[], ShiftedEnv]]:
    timetable = subject.timetable(PERIOD, PHASES)
    return [lambda i=i: subject.scalar(COPIES, i, timetable, seed=5) for i in range(COPIES)]


def stream(subject: Subject, actions: np.ndarray) -> Iterator[Step]:
    vector = subject.stream(COPIES, subject.timetable(PERIOD, PHASES), seed=5)
    yield from sb3(vector, actions)


def dummy(subject: Subject, actions: np.ndarray) -> Iterator[Step]:
    yield from sb3(DummyVecEnv([lambda m=m: Monitor(m()) for m in scalars(subject)]), actions)


def sb3(vector: VecEnv, actions: np.ndarray) -> Iterator[Step]:
    now = vector.reset()
    yield now.copy(), np.zeros(COPIES), np.zeros(COPIES), now.copy()
    returns = np.zeros(COPIES)
    for action in actions:
        now, reward, done, infos = vector.step(action)
        final = now.copy()
        returns += reward
        for i in np.flatnonzero(done):
            final[i] = infos[i]["terminal_observation"]
            assert infos[i]["episode"]["r"] == pytest.approx(returns[i])
            returns[i] = 0
        cut = np.array([info.get("TimeLimit.truncated", False) for info in infos])
        yield now.copy(), reward.copy(), 1 * (done & ~cut) + 2 * (done & cut), final


def same_step(subject: Subject, actions: np.ndarray) -> Iterator[Step]:
    vector = SyncVectorEnv(scalars(subject), autoreset_mode=AutoresetMode.SAME_STEP)
    now, _ = vector.reset()
    yield now, np.zeros(COPIES), np.zeros(COPIES), now
    for action in actions:
        now, reward, terminated, truncated, infos = vector.step(action)
        final = now.copy()
        for i in np.flatnonzero(terminated | truncated):
            final[i] = infos["final_obs"][i]
        yield now, reward, 1 * terminated + 2 * truncated, final


def by_hand(subject: Subject, actions: np.ndarray) -> Iterator[Step]:
    vector = SyncVectorEnv(scalars(subject), autoreset_mode=AutoresetMode.DISABLED)
    now, _ = vector.reset()
    yield now, np.zeros(COPIES), np.zeros(COPIES), now
    for action in actions:
        final, reward, terminated, truncated, _ = vector.step(action)
        now, ended = final.copy(), terminated | truncated
        if ended.any():
            now, _ = vector.reset(options={"reset_mask": ended.copy()})
        yield now, reward, 1 * terminated + 2 * truncated, final


@pytest.mark.parametrize("play", [dummy, same_step, by_hand])
@pytest.mark.parametrize("task", TASKS)
def test_every_vector_gives_the_same_steps_and_returns(task: str, play: Play) -> None:
    (subject,) = find_subjects(task)
    actions = np.random.default_rng(3).integers(2, size=(STEPS, COPIES))
    returns: dict[str, list[float]] = {"ours": [], "theirs": []}
    sums = {who: np.zeros(COPIES) for who in returns}
    pairs = zip(stream(subject, actions), play(subject, actions), strict=True)
    for number, (ours, theirs) in enumerate(pairs):
        for mine, yours in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(mine, yours, err_msg=f"step {number}")
        for who, (_, reward, end, _) in zip(returns, (ours, theirs), strict=True):
            sums[who] += reward
            returns[who] += sums[who][end > 0].tolist()
            sums[who][end > 0] = 0
    assert returns["ours"] == returns["theirs"]
    assert len(returns["ours"]) > 20
    assert len(set(returns["ours"])) > 1


def test_with_next_step_a_copys_clock_counts_its_own_steps_only() -> None:
    """Why the examples use SAME_STEP: copies whose episodes are shorter fall behind."""
    (subject,) = find_subjects(TASKS[0])
    vector = SyncVectorEnv(scalars(subject), autoreset_mode=AutoresetMode.NEXT_STEP)
    vector.reset()
    ends = np.zeros(COPIES, dtype=int)
    changed: list[dict[int, int]] = [{} for _ in range(COPIES)]
    waited = np.zeros(COPIES, dtype=bool)
    for step in range(1, STEPS + 1):
        ends += waited
        action = np.array([step % 2, 1, 1])  # the first copy balances for longer
        *_, terminated, truncated, _ = vector.step(action)
        waited = terminated | truncated
        for i, env in enumerate(vector.envs):
            changed[i].setdefault(env.phase, step)
            assert env.stream.clock == COPIES * (step - ends[i])
    assert changed[0][2] < changed[1][2]
