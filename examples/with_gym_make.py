"""A stream through `gymnasium.make`, under a learner of one's own: tabular Q-learning.

In each phase the other end of a corridor pays. Run it::

python examples/with_gym_make.py
"""

import gymnasium
import numpy as np

PERIOD, PHASES = 1500, 4

env = gymnasium.make(
    "rlplastic.envs:rlplastic/Corridor-Shifted-v0",
    track="reward",
    period=PERIOD,
    phases=PHASES,
)
rng = np.random.default_rng(0)
values = np.zeros((7, 2))  # of each place and direction
returns = [[] for _ in range(PHASES)]

observation, _ = env.reset()
total, phase = 0.0, 0
for _ in range(PHASES * PERIOD):
    place = int(observation.argmax())
    greedy = int(rng.choice(np.flatnonzero(values[place] == values[place].max())))
    action = int(rng.integers(2)) if rng.random() < 0.2 else greedy
    observation, reward, terminated, truncated, _ = env.step(action)
    total += reward
    ahead = 0.0 if terminated else values[observation.argmax()].max()  # not where it is truncated
    values[place, action] += 0.2 * (reward + 0.9 * ahead - values[place, action])
    if terminated or truncated:
        returns[phase].append(total)
        observation, _ = env.reset()  # at the end of a phase: the next world's first
        total, phase = 0.0, env.unwrapped.phase  # for the log; the learner is not told
env.close()

for phase, earned in enumerate(returns):
    first, last = np.mean(earned[:10]), np.mean(earned[-50:])
    print(f"phase {phase}: {len(earned)} episodes, first 10 {first:.2f}, last 50 {last:.2f}")
