"""Permutations that move a given share of the places, and no other."""

from __future__ import annotations

import math

import numpy as np

from rlplastic.envs.copies import Array

_COUNTED = 20  # above so many places the orders are as good as endless


def moving(places: int, share: float) -> int:
    """How many places a share comes to: at least two, since one alone has nowhere to go.

    >>> [moving(10, share) for share in (0.01, 0.25, 0.5, 1.0)]
    [2, 2, 5, 10]
    """
    return min(places, max(2, round(share * places)))


def number_of(places: int, moved: int) -> int | None:
    """How many orders move exactly so many places: C(n, m) times the derangements of m.

    None where they are too many to count.

    >>> [number_of(2, 2), number_of(4, 2), number_of(4, 4), number_of(7056, 7056)]
    [1, 6, 9, None]
    """
    if places > _COUNTED:
        return None
    deranged = 1  # D(n) = n D(n - 1) + (-1)^n
    for n in range(1, moved + 1):
        deranged = n * deranged + (1 if n % 2 == 0 else -1)
    return math.comb(places, moved) * deranged


def draw(rng: np.random.Generator, places: int, moved: int) -> Array:
    """One of those orders, each with the same probability: int ``[places]``."""
    chosen = np.sort(rng.choice(places, moved, replace=False))
    while True:  # a permutation moves every place with a probability of at least 1/3
        among = rng.permutation(moved)
        if (among != np.arange(moved)).all():
            break
    order = np.arange(places)
    order[chosen] = chosen[among]
    return order
