"""Networks of several seeds in one: the way to a kernel is gone once for all of them.

An example is a column here, ``[seeds, features, batch]``: a wide matrix of weights times a few
columns takes half as long as a few rows times its transpose.

The layers behind the first are small. Their weights lie in one row for each seed, so that a norm, a
step and a point nearby are one kernel each.

The first layer is wide, and sees the minibatch x itself in every pass of an update. The gradient of
its weights W is gx, g being the loss's gradient by what comes out: it lies in the span of the
minibatch, as does all that gradients at W and at points nearby add up to. So where a minibatch is
smaller than what goes in, neither a gradient nor a point nearby is written out. With coordinates
c, ``[outputs, batch]``, the layer stands at W + cx, and

=========  ================================================================
output     (W + cx) x' + b  =  Wx' + b + cK         K = xx', ``[batch, batch]``
gradient   g, in coordinates
length     ‖gx‖² = <g, gK>
step       W - η gx: one product, added to W where it lies
=========  ================================================================

Its numbers are those of dense gradients but for rounding: `tests/test_stacked.py` compares both
with float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rlplastic.interventions.ascent import Stacked

ALIGNMENT = 64  # bytes, of torch's tensors: kernels heed where a matrix begins
Array = np.ndarray[Any, Any]
Seen = tuple[int, list[Tensor]]  # where rows begin, and views of them
Slot = tuple[int, tuple[int, int], tuple[int, int]]  # where in a row, shape and strides


class Packed(Stacked):
    """Weights of several layers, those of a seed in one row: ``[seeds, numbers]``.

    Attributes:
        slots: Of each weight.
        gaps: What is between them and behind the last: zeros.
    """

    slots: Sequence[Slot]
    gaps: list[Tensor]
    _home: Seen
    _away: Seen

    @staticmethod
    def at(rows: Tensor, slots: Sequence[Slot]) -> Packed:
        """Rows of which the slots are known."""
        made = Packed(rows)
        made.slots, made.gaps = slots, []
        ends = [offset for offset, *_ in slots[1:]] + [rows.shape[1]]
        for end, (offset, (height, width), _) in zip(ends, slots, strict=True):
            made.gaps.append(rows.new_zeros(len(rows), end - offset - height * width))
        made._home = made._away = rows.data_ptr(), in_slots(rows, slots)
        return made

    def views(self) -> list[Tensor]:
        """What is in the slots now: ``[seeds, *shape]`` each."""
        place = self.data_ptr()
        if place == self._home[0]:
            return self._home[1]
        if place != self._away[0]:  # what it was is kept by its views: nothing else gets its place
            self._away = place, in_slots(self.data, self.slots)
        return self._away[1]


def in_slots(rows: Tensor, slots: Sequence[Slot]) -> list[Tensor]:
    """Views of rows: ``[seeds, *shape]`` each."""
    seeds, (step, _), begin = rows.shape[0], rows.stride(), rows.storage_offset()
    return [
        rows.as_strided((seeds, *shape), (step, *strides), begin + offset)
        for offset, shape, strides in slots
    ]


class StackedLinear:
    """A linear layer of each seed: ``[seeds, inputs, batch]`` to ``[seeds, outputs, batch]``.

    Args:
        block: Where its weight and bias are.
        place: The slot of the weight, which the bias follows.
    """

    def __init__(self, block: Packed, place: int) -> None:
        self.block, self.place = block, place

    def outputs(self, x: Tensor) -> Tensor:
        """A linear layer's numbers for each seed."""
        weight, bias = self.block.views()[self.place : self.place + 2]
        return torch.baddbmm(bias, weight, x)

    def slopes(self, g: Tensor, x: Tensor) -> list[Tensor]:
        """The gradients of weight and bias, from that by what comes out and by what went in."""
        return [torch.bmm(g, x.transpose(1, 2)), g.sum(2)]

    def back(self, g: Tensor) -> Tensor:
        """The gradient by what went in."""
        return torch.bmm(self.block.views()[self.place].transpose(1, 2), g)


class SpannedLinear:
    """As `StackedLinear`, moved within the span of the minibatch that it is shown.

    Args:
        weight: ``[seeds, outputs, inputs]``, which only `step` changes.
        block: Where its bias is: in the first slot.
        batch: Size of a minibatch.

    Attributes:
        coordinates: c, ``[seeds, outputs, batch]``: 0 but while somebody looks at a point nearby.
    """

    def __init__(self, weight: Tensor, block: Packed, batch: int) -> None:
        self.weight, self.block = weight, block
        here = weight.new_zeros(*weight.shape[:2], batch)
        self.coordinates = Stacked(here)
        self.coordinates.squares = self._squares
        self._here = here.data_ptr()

    @property
    def reach(self) -> float:
        """The square of the minibatch's norm: a gradient is no longer than c's norm times it."""
        x = self._x.numpy()
        return float(np.vdot(x, x))

    def show(self, x: Tensor) -> None:
        """Show it the minibatch of an update: ``[seeds, batch, inputs]``."""
        self._x = x
        self._gram: Tensor | None = None
        self._products = torch.bmm(self.weight, x.transpose(1, 2))

    def outputs(self, x: Tensor) -> Tensor:
        """What comes out for the minibatch that it was shown, which `x` must be."""
        found = self._products + self.block.views()[0]
        if self.coordinates.data_ptr() == self._here:
            return found
        return found.baddbmm_(self.coordinates, self.gram.float())

    def slopes(self, g: Tensor, x: Tensor) -> list[Tensor]:
        """The gradients of coordinates and bias, from that by what comes out."""
        return [g, g.sum(2)]

    @property
    def gram(self) -> Tensor:
        """K, of float64: lengths of sums that nearly cancel are to be as good as dense ones."""
        if self._gram is None:
            x = self._x.double()
            self._gram = torch.bmm(x, x.transpose(1, 2))
        return self._gram

    def step(self, gradient: Tensor, rate: float) -> None:
        """Move the weights down a gradient."""
        self.weight.baddbmm_(gradient, self._x, alpha=-rate)

    def _squares(self, gradient: Tensor) -> Array:
        g = gradient.double()
        products, rows = torch.bmm(g, self.gram).numpy(), g.numpy()
        squares: Array = np.vecdot(products.reshape(len(rows), -1), rows.reshape(len(rows), -1))
        return squares


class StackedNetwork:
    """Chains of linear layers and activations, one of each seed, on a CPU.

    Attributes:
        chain: As one, for `rlplastic.agents.direct.outputs` and `slopes`.
        parameters: What can be moved: of the first layer its coordinates, where it has them, then
            the weights up to the last layer, then those of the last layer.
        values: ``[seeds, ...]`` each: where the weights lie.
    """

    def __init__(
        self, kinds: Sequence[nn.Module], wide: Tensor | None, blocks: Sequence[Packed], batch: int
    ) -> None:
        self._made = kinds, batch
        self.chain: list[Any] = []
        self._first: SpannedLinear | None = None
        places = [(block, place) for block in blocks for place in range(len(block.slots))]
        for module in kinds:
            if type(module) is not nn.Linear:
                self.chain.append(module)
            elif wide is not None and self._first is None:
                self._first = SpannedLinear(wide, places.pop(0)[0], batch)
                self.chain.append(self._first)
            else:
                self.chain.append(StackedLinear(*places.pop(0)))
                places.pop(0)
        self.blocks = blocks
        self.parameters: list[Stacked] = [*blocks]
        self.values = [block.data for block in blocks]
        if self._first is not None:
            self.parameters.insert(0, self._first.coordinates)
            self.values.insert(0, self._first.weight)

    @classmethod
    def of(cls, chains: Sequence[Sequence[nn.Module]], batch: int) -> StackedNetwork:
        """Copies of chains of one kind, which see minibatches of so many rows."""
        linear = [i for i, module in enumerate(chains[0]) if type(module) is nn.Linear]
        own = [[p.detach() for i in linear for p in chain[i].parameters()] for chain in chains]
        weights = [list(seeds) for seeds in zip(*own, strict=True)]
        spans = 2 * batch <= weights[0][0].shape[1]
        wide = _side_by_side(weights.pop(0)) if spans else None
        groups = [weights[:-2], weights[-2:]] if len(weights) > 2 else [weights]
        return cls(chains[0], wide, [_packed(group) for group in groups], batch)

    def seed(self, seed: int) -> StackedNetwork:
        """The network of one seed, in the same place."""
        mine = slice(seed, seed + 1)
        wide = None if self._first is None else self._first.weight[mine]
        blocks = [Packed.at(block.data[mine], block.slots) for block in self.blocks]
        return StackedNetwork(self._made[0], wide, blocks, self._made[1])

    def owned(self, seed: int) -> list[Tensor]:
        """The weights of a seed, in the order of its chain's."""
        found = [] if self._first is None else [self._first.weight]
        for block in self.blocks:
            found += block.views()
        return [values[seed] for values in found]

    def parameter_of(self) -> list[Stacked]:
        """For each weight of a chain, in order, the parameter that it is a part of."""
        found = [] if self._first is None else [self.parameters[0]]
        for block in self.blocks:
            found += [block] * len(block.slots)
        return found

    def show(self, x: Tensor) -> None:
        """Show it the minibatch of an update: ``[seeds, batch, inputs]``; without gradients."""
        if self._first is not None:
            self._first.show(x)

    def gather(self, found: Sequence[Tensor]) -> dict[nn.Parameter, Tensor]:
        """From the gradients of all weights of the chain, in order, to those of `parameters`."""
        rest, gradients = iter(found), dict[nn.Parameter, Tensor]()
        if self._first is not None:
            gradients[self._first.coordinates] = next(rest)
        for block in self.blocks:
            parts = [part for gap in block.gaps for part in (next(rest).flatten(1), gap)]
            gradients[block] = torch.cat(parts, 1)
        return gradients

    def at_most(self, gradients: Sequence[Tensor]) -> float:
        """A length that no seed's gradient of `parameters` exceeds; nan or inf if one is that."""
        squares = [float(np.vdot(g, g)) for g in map(Tensor.numpy, gradients)]
        if self._first is not None:
            squares[0] *= self._first.reach
        return math.sqrt(sum(squares))

    def descend(self, gradients: Sequence[Tensor], rate: float) -> None:
        """A step of gradient descent, from the gradients of `parameters`; without gradients."""
        values, rest = self.values, list(gradients)
        if self._first is not None:
            self._first.step(rest.pop(0), rate)
            values = values[1:]
        torch._foreach_add_(values, rest, alpha=-rate)


def _packed(weights: Sequence[Sequence[Tensor]]) -> Packed:
    """Copies of weights, of each of which there is one for each seed."""
    like, unit = weights[0][0], ALIGNMENT // weights[0][0].element_size()
    sizes = [-(-seeds[0].numel() // unit) * unit for seeds in weights]
    offsets = [0, *accumulate(sizes)]
    rows = like.new_zeros(len(weights[0]), offsets.pop())
    shapes = [seeds[0].shape if seeds[0].ndim == 2 else (len(seeds[0]), 1) for seeds in weights]
    slots = [(o, (h, w), (w, 1)) for o, (h, w) in zip(offsets, shapes, strict=True)]
    found = Packed.at(rows, slots)
    for view, seeds in zip(found.views(), weights, strict=True):
        for mine, values in zip(view, seeds, strict=True):
            mine.copy_(values.view_as(mine))
    return found


def _side_by_side(seeds: Sequence[Tensor]) -> Tensor:
    """Copies in one tensor, each where a tensor of its own could begin."""
    unit = ALIGNMENT // seeds[0].element_size()
    room = seeds[0].new_empty(len(seeds), -(-seeds[0].numel() // unit) * unit)
    stacked = room[:, : seeds[0].numel()].view(len(seeds), *seeds[0].shape)
    for mine, values in zip(stacked, seeds, strict=True):
        mine.copy_(values)
    return stacked
