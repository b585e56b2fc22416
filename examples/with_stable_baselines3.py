"""A stream under stable-baselines3's own PPO and DQN.

A stream is a vector environment of stable-baselines3, so its agents take it as it is. A period is
a multiple of PPO's rollout (``n_steps`` x copies), else one update mixes two worlds. Run it::

python examples/with_stable_baselines3.py
"""

import numpy as np
import torch
from stable_baselines3 import DQN, PPO

from rlplastic.envs.schedules import Cyclic
from rlplastic.envs.shifts_observation import Inversion
from rlplastic.envs.stream import Stream
from rlplastic.envs.toy import Cue

PERIOD, PHASES = 4096, 3


def learn(agent, copies, **options):
    """Train a stock agent over all phases and print what it earned in each."""
    episodes = []
    stream = Stream(
        Cue().make(copies),
        [Inversion()],
        Cyclic(period=PERIOD, phases=PHASES, worlds=2),
        seed=1,
        listener=episodes.append,
    )
    model = agent("MlpPolicy", stream, seed=0, device="cpu", **options)
    model.learn(PHASES * PERIOD)
    for phase in range(PHASES):
        earned = [episode.task_return for episode in episodes if episode.phase == phase]
        first, last = np.mean(earned[:10]), np.mean(earned[-50:])
        print(
            f"{agent.__name__} phase {phase}: {len(earned)} episodes, "
            f"first 10 {first:.2f}, last 50 {last:.2f}"
        )


torch.set_num_threads(1)
learn(PPO, copies=4, n_steps=64, batch_size=64, learning_rate=3e-3)
learn(DQN, copies=1, learning_rate=1e-3, buffer_size=1000, learning_starts=200)
