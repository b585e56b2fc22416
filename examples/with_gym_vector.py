"""A stream under `gymnasium.vector`, in a loop of one's own: advantage actor-critic in PyTorch.

Each copy is an environment that counts all copies' steps (``copies=8, copy=i``), so that they
change worlds together. That holds if a copy is reset within the step that ended its episode:
``AutoresetMode.SAME_STEP``, as here (or ``DISABLED``, with a reset by hand at once). Gymnasium's
default, ``NEXT_STEP``, spends a step of the vector on each reset, which a copy's clock rightly
does not count: copies with different numbers of episodes then change worlds at different times.
Run it::

python examples/with_gym_vector.py
"""

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import nn

COPIES, STEPS, PERIOD, PHASES, GAMMA = 8, 5, 12_000, 3, 0.9


def copy(index):
    """What makes copy number `index`."""
    return lambda: gymnasium.make(
        "rlplastic.envs:rlplastic/Cue-Shifted-v0",
        track="observation",
        period=PERIOD,
        phases=PHASES,
        copies=COPIES,
        copy=index,
    )


torch.set_num_threads(1)
torch.manual_seed(0)
envs = SyncVectorEnv([copy(i) for i in range(COPIES)], autoreset_mode=AutoresetMode.SAME_STEP)
body = nn.Sequential(nn.Linear(2, 32), nn.Tanh())
actor, critic = nn.Linear(32, 2), nn.Linear(32, 1)
weights = [*body.parameters(), *actor.parameters(), *critic.parameters()]
optimizer = torch.optim.Adam(weights, lr=3e-3)


def value(observations):
    """The critic's estimate, without a gradient."""
    with torch.no_grad():
        return critic(body(torch.as_tensor(observations))).squeeze(-1)


observations, _ = envs.reset()
totals, returns, phase = np.zeros(COPIES), [[] for _ in range(PHASES)], 0
for _ in range(PHASES * PERIOD // (COPIES * STEPS)):
    rollout = []
    for _ in range(STEPS):
        seen = torch.as_tensor(observations)
        actions = torch.distributions.Categorical(logits=actor(body(seen)).detach()).sample()
        observations, rewards, terminated, truncated, infos = envs.step(actions.numpy())
        totals += rewards
        ended = terminated | truncated
        led_to = observations.copy()
        for i in np.flatnonzero(ended):  # the old world's last, not the new world's first
            led_to[i] = infos["final_obs"][i]
            returns[phase].append(totals[i])
        totals[ended] = 0.0
        rollout.append((seen, actions, torch.as_tensor(rewards), terminated, ended, led_to))
        phase = envs.envs[0].unwrapped.phase  # for the log; the learner is not told
    target, loss = value(observations), 0.0
    for seen, actions, rewards, terminated, ended, led_to in reversed(rollout):
        ahead = torch.where(torch.as_tensor(ended), value(led_to), target)
        target = (rewards + GAMMA * ahead * ~torch.as_tensor(terminated)).float()
        features = body(seen)
        policy = torch.distributions.Categorical(logits=actor(features))
        error = target - critic(features).squeeze(-1)
        gain = policy.log_prob(actions) * error.detach() + 0.05 * policy.entropy()
        loss = loss + (0.5 * error.square() - gain).mean() / STEPS
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
envs.close()

for phase, earned in enumerate(returns):
    first, last = np.mean(earned[: 2 * COPIES]), np.mean(earned[-50:])
    print(f"phase {phase}: {len(earned)} episodes, first 16 {first:.2f}, last 50 {last:.2f}")
