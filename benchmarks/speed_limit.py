"""The limits: the bare matrix work of the same updates, and the memory that a replay takes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from gymnasium import spaces
from torch import Tensor, nn

from rlplastic.benchmarks.speed_run import Job, configured

FRAMES = spaces.Box(0, 255, (4, 84, 84), np.uint8)
SECONDS = 0.1  # that a product is repeated for, at least


class Product(NamedTuple):
    """A layer of weights and what came into it.

    Attributes:
        layer: Linear layer or convolution.
        x: Its input ``[batch, ...]``.
        first: Nothing below it learns, so that its input needs no gradient.
    """

    layer: Any
    x: Tensor
    first: bool

    def forward(self) -> Tensor:
        """The product alone."""
        layer = self.layer
        if isinstance(layer, nn.Conv2d):
            return F.conv2d(self.x, layer.weight, layer.bias, layer.stride)
        return F.linear(self.x, layer.weight, layer.bias)

    def backward(self, gradient: Tensor) -> tuple[Tensor, Tensor | None]:
        """The products of its gradient: of the weights, and of the input where that is needed."""
        layer, x = self.layer, self.x
        if isinstance(layer, nn.Conv2d):
            below, weights, _ = torch.ops.aten.convolution_backward(
                gradient, x, layer.weight, [layer.out_channels], layer.stride, layer.padding,
                layer.dilation, False, [0, 0], 1, [not self.first, True, True],
            )  # fmt: skip
            return weights, below
        return gradient.T @ x, None if self.first else gradient @ layer.weight


def products(agent: Any, batch: int, networks: Callable[[Any, Tensor], Any]) -> list[Product]:
    """Every layer of weights that a pass of some networks goes through, with its input."""
    space = agent.observation_space
    shown = torch.zeros((batch, *space.shape))
    if len(space.shape) == 3 and agent.channels_last:
        shown = shown.contiguous(memory_format=torch.channels_last)
    found: list[Product] = []
    hooks = [
        module.register_forward_hook(
            lambda layer, inputs, _: found.append(
                Product(layer, inputs[0].detach(), not inputs[0].requires_grad)
            )
        )
        for module in agent.policy.modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    ]
    networks(agent, shown)
    for hook in hooks:
        hook.remove()
    return found


def seconds(work: list[Product], *, backward: bool) -> float:
    """Processor time of all products once, forward, or backward."""
    with torch.no_grad():
        gradients = [torch.ones_like(product.forward()) for product in work]

        def once() -> None:
            for product, gradient in zip(work, gradients, strict=True):
                if backward:
                    product.backward(gradient)
                else:
                    product.forward()

        once()
        start, times = time.process_time(), 0
        while times < 5 or time.process_time() - start < SECONDS:
            once()
            times += 1
        return (time.process_time() - start) / times


def limit(job: Job) -> float:
    """Processor seconds an environment step of nothing but the matrix products of `none`.

    Of a DQN one pass for acting, and at each update a pass of the target network, one of the
    online network, and its gradient. Of a PPO one pass for acting, and as many passes with their
    gradients as it has epochs.
    """
    from rlplastic import runner

    torch.set_num_threads(1)
    config = configured(job.cell)
    agent = config.build(
        runner.build_stream(job.cell),
        seed=0,
        interventions=runner.build_interventions(job.cell),
        device="cpu",
        horizon=1_000,
    )
    copies = config.num_envs
    networks: Callable[[Any, Tensor], Any]
    if job.cell.agent == "dqn":
        networks = lambda agent, x: agent.q_net(x)  # noqa: E731
        updates = config.gradient_steps / config.rollout
        passes = 2  # the target network has the same shapes
    else:
        networks = lambda agent, x: agent.policy(x)  # noqa: E731
        updates = config.n_epochs / config.batch_size
        passes = 1
    acting = seconds(products(agent, copies, networks), backward=False) / float(copies)
    batch = products(agent, config.batch_size, networks)
    forward, backward = (seconds(batch, backward=b) for b in (False, True))
    return float(acting + updates * (passes * forward + backward))


def resident() -> int:
    """Bytes of this process that are in memory, by the operating system's account."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def growth(ours: bool, transitions: int = 20_000) -> float:
    """Bytes by which the process grows for each Atari transition that a replay memory takes."""
    from stable_baselines3.common.buffers import ReplayBuffer

    from rlplastic.agents.replay import replay_class

    kind = replay_class(FRAMES, 1) if ours else ReplayBuffer
    fill(kind(500, FRAMES, spaces.Discrete(4), "cpu"))  # what any first use of the code takes
    before = resident()
    memory = kind(transitions, FRAMES, spaces.Discrete(4), "cpu")
    fill(memory)
    return (resident() - before) / memory.size()


def fill(memory: Any) -> None:
    """Episodes of 250 steps of noise: no page stays untouched, none is shared by chance."""
    rng = np.random.default_rng(0)
    obs = np.zeros((1, 4, 84, 84), np.uint8)
    for step in range(memory.buffer_size):
        new = rng.integers(0, 256, (1, 1, 84, 84), np.uint8)
        after = np.concatenate([obs[:, 1:], new], axis=1)
        end = step % 250 == 249
        memory.add(obs, after, np.array([1]), np.array([0.0]), np.array([end]), [{}])
        obs = np.zeros_like(obs) if end else after
