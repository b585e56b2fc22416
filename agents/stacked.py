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
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from rlplastic.interventions.ascent import Stacked

ALIGNMENT = 64  # bytes, of torch's tensors: kernels heed where a matrix begins
Slot = tuple[int, int, int]  # of a weight in a row: where it begins, height and width


class Part(Protocol):
    """Some weights of all seeds, which move together.

    Attributes:
        values: Where they lie: ``[seeds, ...]``.
    """

    values: Tensor

    @property
    def parameter(self) -> Stacked:
        """What stands for them, to interventions."""

    def seed(self, seed: int) -> Part:
        """Those of one seed, in the same place."""

    def views(self) -> list[Tensor]:
        """Each of the weights as `parameter` has it now: ``[seeds, *shape]``."""

    def gradient(self, found: Iterator[Tensor]) -> Tensor:
        """That of `parameter`, from those of the weights, which come next."""

    def at_most(self, gradient: Tensor) -> float:
        """What the square of no seed's length exceeds; nan or inf if a number is that."""

    def is_home(self) -> bool:
        """Whether `parameter` stands at `values`."""

    def descend(self, gradient: Tensor, rate: float) -> None:
        """Move `values` down a gradient of `parameter`."""


class Block:
    """Weights of small layers, those of a seed in one row.

    Args:
        rows: ``[seeds, numbers]``; what is in no slot is 0.
        slots: Of each weight, in order.
    """

    def __init__(self, rows: Tensor, slots: Sequence[Slot]) -> None:
        self.parameter, self.values, self.slots = Stacked(rows), rows, slots
        ends = [begin for begin, *_ in slots[1:]] + [rows.shape[1]]
        self._gaps = [
            rows.new_zeros(len(rows), end - begin - height * width)
            for end, (begin, height, width) in zip(ends, slots, strict=True)
        ]
        self._home = self._away = rows.data_ptr(), self._in_slots(rows)

    @classmethod
    def of(cls, weights: Sequence[Sequence[Tensor]]) -> Block:
        """Copies of weights, of each of which there is one for each seed."""
        unit = ALIGNMENT // weights[0][0].element_size()
        shapes = [(len(first), first.numel() // len(first)) for first, *_ in weights]
        begins = [0, *accumulate(-(-height * width // unit) * unit for height, width in shapes)]
        rows = weights[0][0].new_zeros(len(weights[0]), begins.pop())
        block = cls(rows, [(b, h, w) for b, (h, w) in zip(begins, shapes, strict=True)])
        for view, seeds in zip(block.views(), weights, strict=True):
            for mine, values in zip(view, seeds, strict=True):
                mine.copy_(values.view_as(mine))
        return block

    def seed(self, seed: int) -> Block:
        """See `Part`."""
        return Block(self.values[seed : seed + 1], self.slots)

    def views(self) -> list[Tensor]:
        """See `Part`."""
        place = self.parameter.data_ptr()
        if place == self._home[0]:
            return self._home[1]
        if place != self._away[0]:  # what it was is kept by its views: nothing else gets its place
            self._away = place, self._in_slots(self.parameter.data)
        return self._away[1]

    def gradient(self, found: Iterator[Tensor]) -> Tensor:
        """See `Part`."""
        return torch.cat([part for gap in self._gaps for part in (next(found).flatten(1), gap)], 1)

    def at_most(self, gradient: Tensor) -> float:
        """See `Part`."""
        return _square(gradient)

    def is_home(self) -> bool:
        """See `Part`."""
        return self.parameter.data_ptr() == self._home[0]

    def descend(self, gradient: Tensor, rate: float) -> None:
        """See `Part`."""
        self.values.add_(gradient, alpha=-rate)

    def _in_slots(self, rows: Tensor) -> list[Tensor]:
        (seeds, _), (step, _), origin = rows.shape, rows.stride(), rows.storage_offset()
        return [
            rows.as_strided((seeds, height, width), (step, width, 1), origin + begin)
            for begin, height, width in self.slots
        ]


class Coordinates(Stacked):
    """c of a minibatch: ``[seeds, outputs, batch]``, 0 but while somebody looks at a point nearby.

    Attributes:
        x: The minibatch: ``[seeds, batch, inputs]``.
    """

    x: Tensor
    _gram: Tensor | None

    def show(self, x: Tensor) -> None:
        """From now on they are of this minibatch."""
        self.x, self._gram = x, None

    @property
    def gram(self) -> Tensor:
        """K, of float64: lengths of sums that nearly cancel are to be as good as dense ones."""
        if self._gram is None:
            x = self.x.double()
            self._gram = torch.bmm(x, x.transpose(1, 2))
        return self._gram

    def squares(self, gradient: Tensor) -> Tensor:
        """<g, gK> of each seed."""
        g = gradient.double()
        return torch.bmm(g, self.gram).mul_(g).sum((1, 2))


class Span:
    """The weights of the layer that sees the minibatch, moved within its span.

    Args:
        values: ``[seeds, outputs, inputs]``.
        batch: Size of a minibatch.
    """

    def __init__(self, values: Tensor, batch: int) -> None:
        self._here = values.new_zeros(*values.shape[:2], batch)
        self.parameter, self.values = Coordinates(self._here), values

    @classmethod
    def of(cls, seeds: Sequence[Tensor], batch: int) -> Span:
        """Copies of the weights of each seed, each where a tensor of its own could begin."""
        first, unit = seeds[0], ALIGNMENT // seeds[0].element_size()
        room = first.new_empty(len(seeds), -(-first.numel() // unit) * unit)
        values = room[:, : first.numel()].view(len(seeds), *first.shape)
        for mine, other in zip(values, seeds, strict=True):
            mine.copy_(other)
        return cls(values, batch)

    def show(self, x: Tensor) -> None:
        """The minibatch of an update: ``[seeds, batch, inputs]``; the weights are as they are."""
        self.parameter.show(x)
        self._products = torch.bmm(self.values, x.transpose(1, 2))

    def outputs(self, bias: Tensor) -> Tensor:
        """What comes out for the minibatch: ``[seeds, outputs, batch]``."""
        found = self._products + bias
        if self._is_here():
            return found
        return found.baddbmm_(self.parameter, self.parameter.gram.float())

    def _is_here(self) -> bool:
        return self.parameter.data_ptr() == self._here.data_ptr()

    def seed(self, seed: int) -> Span:
        """See `Part`."""
        return Span(self.values[seed : seed + 1], self._here.shape[2])

    def views(self) -> list[Tensor]:
        """See `Part`: as they lie."""
        return [self.values]

    def gradient(self, found: Iterator[Tensor]) -> Tensor:
        """See `Part`."""
        return next(found)

    def at_most(self, gradient: Tensor) -> float:
        """See `Part`: ‖gx‖ <= ‖g‖ ‖x‖."""
        return _square(gradient) * _square(self.parameter.x)

    def is_home(self) -> bool:
        """See `Part`; who adds in place and takes away again does not come back to the bit."""
        return self._is_here() and not bool(self._here.any())

    def descend(self, gradient: Tensor, rate: float) -> None:
        """See `Part`."""
        self.values.baddbmm_(gradient, self.parameter.x, alpha=-rate)


class SpannedLinear:
    """The layer that sees the minibatch, whose weights are a `Span`.

    Args:
        span: Its weights.
        block: Where its bias is.
        place: In this slot.
    """

    def __init__(self, span: Span, block: Block, place: int) -> None:
        self._span, self._block, self._place = span, block, place

    def outputs(self, x: Tensor) -> Tensor:
        """What comes out for the minibatch that was shown, which `x` must be."""
        return self._span.outputs(self._block.views()[self._place])

    def slopes(self, g: Tensor, x: Tensor) -> list[Tensor]:
        """The gradients of coordinates and bias, from that by what comes out."""
        return [g, g.sum(2)]


class StackedLinear:
    """A linear layer of each seed: ``[seeds, inputs, batch]`` to ``[seeds, outputs, batch]``.

    Args:
        block: Where its weight and bias are.
        place: The weight's slot, which the bias's follows.
    """

    def __init__(self, block: Block, place: int) -> None:
        self._block, self._place = block, place

    def outputs(self, x: Tensor) -> Tensor:
        """A linear layer's numbers for each seed."""
        weight, bias = self._block.views()[self._place : self._place + 2]
        return torch.baddbmm(bias, weight, x)

    def slopes(self, g: Tensor, x: Tensor) -> list[Tensor]:
        """The gradients of weight and bias, from that by what comes out and by what went in."""
        return [torch.bmm(g, x.transpose(1, 2)), g.sum(2)]

    def back(self, g: Tensor) -> Tensor:
        """The gradient by what went in."""
        return torch.bmm(self._block.views()[self._place].transpose(1, 2), g)


class StackedNetwork:
    """Chains of linear layers and activations, one of each seed, on a CPU.

    Args:
        kinds: The modules of a chain, of which the first is linear.
        parts: Its weights: a `Span` if the first layer has one, and blocks.

    Attributes:
        chain: As one, for `rlplastic.agents.direct.outputs` and `slopes`.
    """

    def __init__(self, kinds: Sequence[nn.Module], parts: Sequence[Part]) -> None:
        self._kinds, self.parts = kinds, parts
        self._span = parts[0] if isinstance(parts[0], Span) else None
        blocks = [part for part in parts if isinstance(part, Block)]
        places = iter([(block, place) for block in blocks for place in range(len(block.slots))])
        self.chain: list[Any] = []
        for number, module in enumerate(kinds):
            if type(module) is not nn.Linear:
                self.chain.append(module)
            elif number == 0 and self._span is not None:
                self.chain.append(SpannedLinear(self._span, *next(places)))
            else:
                self.chain.append(StackedLinear(*next(places)))
                next(places)

    @classmethod
    def of(cls, chains: Sequence[Sequence[nn.Module]], batch: int) -> StackedNetwork:
        """Copies of chains of one kind, which see minibatches of so many examples.

        The head is a part of its own, since interventions may look at it alone.
        """
        linear = [i for i, module in enumerate(chains[0]) if type(module) is nn.Linear]
        own = [[p.detach() for i in linear for p in chain[i].parameters()] for chain in chains]
        weights = list(zip(*own, strict=True))
        parts: list[Part] = []
        if 2 * batch <= weights[0][0].shape[1]:
            parts.append(Span.of(weights.pop(0), batch))
        groups = [weights[:-2], weights[-2:]] if len(weights) > 2 else [weights]
        return cls(chains[0], parts + [Block.of(group) for group in groups])

    @property
    def parameters(self) -> list[Stacked]:
        """What stands for the parts, to interventions."""
        return [part.parameter for part in self.parts]

    @property
    def weights(self) -> list[tuple[Part, Tensor]]:
        """Each weight of the chains, in order, and the part it belongs to: ``[seeds, *shape]``."""
        return [(part, view) for part in self.parts for view in part.views()]

    def seed(self, seed: int) -> StackedNetwork:
        """The network of one seed, in the same place."""
        return StackedNetwork(self._kinds, [part.seed(seed) for part in self.parts])

    def show(self, x: Tensor) -> None:
        """Show it the minibatch of an update: ``[seeds, batch, inputs]``; without gradients."""
        if self._span is not None:
            self._span.show(x)

    def gradients(self, found: Sequence[Tensor]) -> dict[nn.Parameter, Tensor]:
        """From the gradients of all weights of the chain, in order, to those of `parameters`."""
        rest = iter(found)
        return {part.parameter: part.gradient(rest) for part in self.parts}

    def at_most(self, gradients: Sequence[Tensor]) -> float:
        """A length that no seed's gradient of `parameters` exceeds; nan or inf if one is that."""
        pairs = zip(self.parts, gradients, strict=True)
        return math.sqrt(sum(part.at_most(gradient) for part, gradient in pairs))

    def check_home(self) -> None:
        """Raise unless every parameter is where it was before an intervention looked nearby."""
        if not all(part.is_home() for part in self.parts):
            raise RuntimeError(
                "an intervention with `stacks` left weights moved: it must give parameters other "
                ".data and put the same tensor back, as rlplastic.interventions.ascent.two_passes"
            )

    def descend(self, gradients: Sequence[Tensor], rate: float) -> None:
        """A step of gradient descent, from the gradients of `parameters`; without gradients."""
        for part, gradient in zip(self.parts, gradients, strict=True):
            part.descend(gradient, rate)


def _square(values: Tensor) -> float:
    flat = values.view(-1)
    return float(torch.dot(flat, flat))
