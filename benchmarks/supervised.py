"""How many updates a second does a supervised agent make, beside a plain loop of torch?

::

    python -m rlplastic.benchmarks.supervised --repeats 5

Tasks of permuted images of MNIST's shape (random ones, or those of ``--data-dir``), a network of
two hidden layers of 100, minibatches of 16, one thread. In turn, within each repeat:

==================  ===========================================================================
torch, torch-adam   forward, loss, backward and ``optimizer.step()`` (fused), and nothing else
none, sam, gnp      the agent ``mlp`` on its stream, which scores every answer, with ``sgd``
adam, adam+l2init   the same with ``adam``
none-10, ...        ten seeds of the agent in one process, as a bench runs them
==================  ===========================================================================

Printed are medians over the repeats: updates per second of wall-clock and of processor time (of
ten seeds, those of all of them), and the ratios of the latter within each repeat (the ones to go
by on a shared machine): to the plain loop with the same optimizer, of the time of an update to that
of one with ``none``, and of ten seeds together to one.
"""

from __future__ import annotations

import argparse
import os
import time
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from stable_baselines3.common.logger import Logger
from torch import nn

from rlplastic import options, registry
from rlplastic.agents.team import Team
from rlplastic.benchmarks.pages import spread
from rlplastic.envs import datasets
from rlplastic.envs.schedules import Periodic
from rlplastic.envs.stream import Stream
from rlplastic.envs.supervised import Examples
from rlplastic.interventions import Interventions
from rlplastic.teams import LARGEST

BATCH = 16
WARM = 100  # updates that are not timed
RATES = {"sgd": 0.01, "adam": 1e-3}
LOOPS = {"torch": ("sgd", torch.optim.SGD), "torch-adam": ("adam", torch.optim.Adam)}
ARMS = {
    "none": ("sgd", "none"),
    "sam": ("sgd", "sam"),
    "gnp": ("sgd", "gnp"),
    "adam": ("adam", "none"),
    "adam+l2init": ("adam", "l2init"),
}
TEAMS = {f"{kind}-{LARGEST}": kind for kind in ("none", "sam", "gnp")}
PLAIN = {"sgd": ("torch", "none"), "adam": ("torch-adam", "adam")}
Timed = tuple[float, float]  # seconds for one update: wall-clock, processor


def images_of(number: int) -> datasets.Dataset:
    """The first so many of the folder of data, or random images and labels of MNIST's shape."""
    if datasets.data_dir() is not None:
        known = datasets.load("mnist")
        images, labels = known.images[:number], known.labels[:number]
        return datasets.Dataset(name=known.name, images=images, labels=labels)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (number, 1, 28, 28), dtype=np.uint8)
    return datasets.Dataset(name="random", images=images, labels=rng.integers(0, 10, number))


def loop(data: datasets.Dataset, kind: str, updates: int) -> Timed:
    """A plain loop of torch; its images are floats in one tensor before it begins."""
    name, optimizer_class = LOOPS[kind]
    torch.manual_seed(0)
    width, classes = data.images[0].size, int(data.labels.max()) + 1
    network = nn.Sequential(
        *(nn.Linear(width, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU()),
        nn.Linear(100, classes),
    )
    optimizer: Any = optimizer_class(network.parameters(), lr=RATES[name], fused=True)
    inputs = torch.as_tensor(data.images).flatten(1).float() / 255
    answers = torch.as_tensor(data.labels)
    began: Timed = (0.0, 0.0)
    for number in range(WARM + updates):
        if number == WARM:
            began = time.perf_counter(), time.process_time()
        place = number * BATCH % (len(answers) - BATCH + 1)
        optimizer.zero_grad()
        loss = F.cross_entropy(network(inputs[place : place + BATCH]), answers[place:][:BATCH])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return _since(began, updates)


def arm(data: datasets.Dataset, kind: str, updates: int, tasks: int) -> Timed:
    """The agent on its stream."""
    agent = learner(data, kind, tasks, seed=0)
    agent.learn(WARM * BATCH)
    began = time.perf_counter(), time.process_time()
    agent.learn(updates * BATCH)
    return _since(began, updates)


def team(data: datasets.Dataset, kind: str, updates: int, tasks: int) -> Timed:
    """Ten of them, in turn; the time of an update is that of one seed."""
    agents = [learner(data, TEAMS[kind], tasks, seed) for seed in range(LARGEST)]
    members, rounds = Team(), updates // LARGEST
    turns = [agent.turns((WARM + rounds) * BATCH) for agent in agents]
    began: Timed = (0.0, 0.0)
    for number in range(2 * (WARM + rounds)):  # to answer, to update
        if number == 2 * WARM:
            began = time.perf_counter(), time.process_time()
        members.take([next(turn) for turn in turns])
    return _since(began, rounds * LARGEST)


def learner(data: datasets.Dataset, kind: str, tasks: int, seed: int) -> Any:
    """The agent of one seed."""
    optimizer, reg = ARMS[kind]
    stream = Stream(
        Examples(data, BATCH, (), 0),
        [options.build("shift", {"name": "pixels"}, "benchmark")],
        Periodic(period=len(data.labels) // BATCH * BATCH, phases=tasks),
        seed=seed,
    )
    members = [options.build("intervention", s, "benchmark") for s in options.parse_reg(reg)]
    config = registry.load("agent", "mlp")(
        num_envs=BATCH, hidden=(100, 100), optimizer=optimizer, learning_rate=RATES[optimizer]
    )
    interventions = Interventions(members, "mlp")
    agent = config.build(
        stream, seed=seed, interventions=interventions, device="cpu", horizon=BATCH
    )
    agent.set_logger(Logger(None, []))
    return agent


def _since(began: Timed, updates: int) -> Timed:
    wall, processor = time.perf_counter(), time.process_time()
    return (wall - began[0]) / updates, (processor - began[1]) / updates


def report(timed: dict[str, list[Timed]]) -> list[str]:
    """One line for each kind."""
    lines = []
    for kind, runs in timed.items():
        wall, busy = (median(1 / run[clock] for run in runs) for clock in (0, 1))
        line = f"{kind:12} {wall:7,.0f} updates/s, {busy:7,.0f} per processor second"
        one = TEAMS.get(kind, kind)
        if one in ARMS:
            plain, none = PLAIN[ARMS[one][0]]
            line += f", {median(_over(timed[plain], runs)):.2f} of {plain}"
            if one != none:
                there = none if one == kind else f"{none}-{LARGEST}"
                line += f", {spread(_over(runs, timed[there]))} times {there}"
        if one != kind:
            line += f", {spread(_over(timed[one], runs))} of the updates of {one}"
        lines.append(line)
    return lines


def _over(runs: list[Timed], others: list[Timed]) -> list[float]:
    """The processor time of one kind's updates over another's, within each repeat."""
    return [run[1] / other[1] for run, other in zip(runs, others, strict=True)]


def main() -> int:
    """See the head of this file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tasks", type=int, default=20)
    parser.add_argument("--images", type=int, default=10_000, help="of a task")
    parser.add_argument("--updates", type=int, help="timed; default: all of the tasks")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--data-dir", help="a folder with MNIST; default: random images")
    given = parser.parse_args()
    if given.data_dir:
        os.environ[datasets.VARIABLE] = given.data_dir
    torch.set_num_threads(1)
    data = images_of(given.images)
    updates = given.updates or given.tasks * (len(data.labels) // BATCH)
    timed: dict[str, list[Timed]] = {kind: [] for kind in (*LOOPS, *ARMS, *TEAMS)}
    for _ in range(given.repeats):
        for kind, runs in timed.items():
            if kind in LOOPS:
                runs.append(loop(data, kind, updates))
            elif kind in TEAMS:
                runs.append(team(data, kind, updates, given.tasks))
            else:
                runs.append(arm(data, kind, updates, given.tasks))
    print(f"{data.name} images, {given.repeats} x {updates:,} updates of {BATCH}")
    print("\n".join(report(timed)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
