"""What hand-written policies earn in MinAtar, in every world of the shift `side`.

::

    python -m rlplastic.benchmarks.minatar_levels

A level that is known to be within reach, where no newborn has been piloted yet, and the evidence
that a reward world has another best policy: the one that heeds the world earns more in it than the
one that plays as in world 0. The policies see what an agent sees, one frame, and nothing else.
A level is the mean over the episodes of 8 copies that play 5,000 steps each, cut ones included: in
Breakout some never end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlplastic.envs.minatar import MinAtar
from rlplastic.envs.schedules import Listed
from rlplastic.envs.shifts_reward import Side
from rlplastic.envs.stream import Stream

Array = NDArray[Any]
WIDTH, COPIES, STEPS = 10, 8, 40_000
HALVES = (range(WIDTH), range(WIDTH // 2), range(WIDTH // 2, WIDTH))  # by world
STAY, LEFT, UP, RIGHT, DOWN, FIRE = range(6)
PACE = {STAY: (0, 0), LEFT: (0, -1), UP: (-1, 0), RIGHT: (0, 1), DOWN: (1, 0)}


def seen(channel: Array) -> list[tuple[int, int]]:
    """Rows and columns of what a channel shows."""
    return [(int(y), int(x)) for y, x in np.argwhere(channel)]


def towards(column: int, goal: int) -> int:
    """The move along a row."""
    return STAY if column == goal else LEFT if goal < column else RIGHT


def within(column: int, half: range) -> int:
    """The nearest column of a half."""
    return min(max(column, half[0]), half[-1])


def breakout(frame: Array, half: range) -> int:
    """Go where the ball will land; while it rises, below it, but within the half."""
    (_, paddle), (y, x) = seen(frame[0])[0], seen(frame[1])[0]
    (before_y, before_x) = next(iter(seen(frame[2])), (y, x))
    if y < before_y:
        return towards(paddle, within(x, half))
    pace = x - before_x or (1 if x == 0 else -1)  # it stands still at a wall for a step
    place = (x + pace * (9 - y)) % (2 * WIDTH)  # walls mirror: 1 0 0 1
    return towards(paddle, place if place < WIDTH else 2 * WIDTH - 1 - place)


def asterix(frame: Array, half: range) -> int:
    """Walk to the nearest gold in the half, never next to an enemy in its row."""
    (y, x), enemies = seen(frame[0])[0], seen(frame[1])
    gold = [place for place in seen(frame[3]) if place[1] in half]
    goal = min(gold, key=lambda g: abs(g[0] - y) + abs(g[1] - x), default=(y, within(x, half)))

    def cost(action: int) -> float:
        to_y = min(max(y + PACE[action][0], 1), 8)
        to_x = min(max(x + PACE[action][1], 0), WIDTH - 1)
        danger = any(row == to_y and abs(column - to_x) <= 2 for row, column in enemies)
        return 100.0 * danger + abs(goal[0] - to_y) + abs(goal[1] - to_x)

    return min(PACE, key=cost)


def space_invaders(frame: Array, half: range) -> int:
    """Step aside from bullets, else shoot at the nearest alien above the half."""
    (_, x), bullets = seen(frame[0])[0], seen(frame[5])
    if any(column == x and y >= 6 for y, column in bullets):
        safe = [c for c in (x - 1, x + 1) if c in half and not frame[5, 6:, c].any()]
        if safe:
            return towards(x, safe[0])
    columns = [column for _, column in seen(frame[1]) if column in half]
    goal = min(columns, key=lambda column: abs(column - x), default=within(x, half))
    return FIRE if goal == x else towards(x, goal)


def freeway(frame: Array, half: range) -> int:
    """Walk on."""
    return UP


POLICIES: dict[str, Callable[[Array, range], int]] = {
    policy.__name__: policy for policy in (asterix, breakout, freeway, space_invaders)
}


def level(game: str, world: int, heeded: int, outside: float, steps: int = STEPS) -> float:
    """Mean return of a game's policy in one world, playing for the half of another."""
    returns: list[float] = []
    base = MinAtar(game=game, minimal=False).make(COPIES)
    schedule = Listed(period=2 * COPIES * steps, worlds=(world,))
    stream = Stream(
        base,
        [Side(outside=outside)] if world else [],
        schedule,
        seed=0,
        listener=lambda episode: returns.append(episode.task_return),
    )
    frames, act = stream.reset(), POLICIES[game]
    for _ in range(steps // COPIES):
        actions = [act(np.asarray(frame), HALVES[heeded]) for frame in frames]
        frames = stream.step(np.array(actions))[0]
    stream.close_episodes()
    return float(np.mean(returns))


def main() -> None:
    """Print a table."""
    print("game            world  plays for world 0  plays for its own")
    for game in POLICIES:
        worlds = (0,) if game == "freeway" else (0, 1, 2)  # its player has one column
        for world in worlds:
            blind, own = (level(game, world, heeded, -1.0) for heeded in (0, world))
            print(f"{game:14}  {world:5}  {blind:17.2f}  {own:17.2f}", flush=True)


if __name__ == "__main__":
    main()
