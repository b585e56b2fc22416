"""One update of two passes: the critic's gradient here and at a point nearby."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor
from torch.nn import Parameter

from rlplastic.interventions import Learner, Losses, total

Gradients = list[Tensor | None]
Factor = float | Tensor  # a number; of stacked seeds one for each: ``[seeds]``
Offset = tuple[Sequence[Tensor], Factor]  # ε: tensors and the factor that is common to them
Step = Callable[[list[Parameter], list[Tensor]], Offset]
Combine = Callable[[Gradients, Gradients, list[Parameter]], Gradients]
Look = Callable[[Tensor], Tensor]


class Stacked(Parameter):
    """A parameter of several seeds: its first dimension is the seed.

    An intervention with `stacks` works on these as it does on one seed's; the gradient of each
    seed's loss by its own share stands in ``.grad``. To look at a point nearby it gives them other
    ``.data``, as `two_passes` does, and puts the same tensor back: it never changes it in place.
    """

    def squares(self, gradient: Tensor) -> Tensor:
        """The square of the L2 norm of a gradient by it, of each seed: float64 ``[seeds]``."""
        lengths: Tensor = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
        return lengths.double().square_()


def radius(rho: float, num_updates: int, warmup: int = 0, cycle: int = 0) -> float:
    """ρ for the update after `num_updates` others.

    Rises linearly from 0 over `warmup` updates (arXiv 2406.09723); with `cycle` it rises from 0 to
    ρ along half a cosine in each cycle and starts again (the schedule of the adversarial budget in
    arXiv 2006.08403)::

        ρ min(1, (t + 1) / warmup)      ρ (1 - cos(π ((t mod cycle) + 1) / cycle)) / 2
    """
    if cycle:
        rho *= (1 - math.cos(math.pi * (num_updates % cycle + 1) / cycle)) / 2
    return rho * min(1.0, (num_updates + 1) / warmup) if warmup else rho


def norm(tensors: Sequence[Tensor]) -> Tensor:
    """The L2 norm of all tensors together."""
    found: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(tensors))))
    return found


def norms(weights: Sequence[Parameter], gradients: Sequence[Tensor]) -> Tensor:
    """The L2 norm of each seed's share of the gradients of stacked weights: float64 ``[seeds]``."""
    first, *others = (
        cast(Stacked, weight).squares(gradient)
        for weight, gradient in zip(weights, gradients, strict=True)
    )
    for squares in others:
        first += squares
    return first.clamp_(min=0).sqrt_()  # of coordinates, sums may cancel to less


def per_norm(rho: float, tensors: Sequence[Tensor]) -> float:
    """ρ / (‖·‖₂ + 1e-12), one norm over all tensors: makes an ε as long as ρ of them."""
    return rho / (float(norm(tensors)) + 1e-12)


def inner(left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
    """The inner product of all tensors together."""
    return torch.stack([(a * b).sum() for a, b in zip(left, right, strict=True)]).sum()


def plain(losses: Losses) -> dict[str, Tensor]:
    """The gradient at the weights, as without any intervention."""
    slopes = getattr(losses, "slopes", None)
    if slopes is None:
        terms = losses()
        total(terms).backward()  # type: ignore[no-untyped-call]
        return terms
    known: dict[str, Tensor]
    known, (found,) = slopes("total")
    for parameter, gradient in found.items():
        parameter.grad = gradient
    return known


def critic_gradient(
    losses: Losses, reached: Sequence[Parameter], *names: str, look: Look | None = None
) -> tuple[dict[str, Tensor], Gradients]:
    """The terms, or the named ones, and the critic's gradient; the others' is left in ``.grad``.

    Args:
        losses: The terms of the minibatch.
        reached: By which parameters; None stands for one that the critic's term does not reach.
        names: ``critic``, or none for all terms.
        look: From the critic's term to what is differentiated in its place.
    """
    slopes = getattr(losses, "slopes", None)
    if slopes is not None and look is None:
        terms, (known, *others) = slopes("critic", *([] if names else ["others"]))
        for parameter, gradient in (others[0] if others else {}).items():
            parameter.grad = gradient
        return terms, [known.get(parameter) for parameter in reached]
    terms = losses(*names)
    rest = {name: term for name, term in terms.items() if name != "critic"}
    there = terms["critic"] if look is None else look(terms["critic"])
    found = torch.autograd.grad(there, reached, retain_graph=bool(rest), allow_unused=True)
    if rest:
        total(rest).backward()  # type: ignore[no-untyped-call]
    return terms, list(found)


def two_passes(
    agent: Learner,
    losses: Losses,
    scope: str,
    step: Step,
    combine: Combine = lambda first, second, reached: second,
    look: Look | None = None,
) -> dict[str, Tensor]:
    """Leave in ``.grad`` what `combine` makes of the critic's gradients at w and at w + ε.

    The gradient of the other terms is taken at w and added. The weights themselves stay as they
    are and others stand in for them: adding ε and taking it away again changes the last bit.

    Args:
        agent: The learner.
        losses: The terms of the minibatch.
        scope: The parameters that move.
        step: From those that the critic's term reaches, and its gradient at w, to ε.
        combine: From both gradients over `reached`, where None means that the term does not
            reach the parameter, to the one that is used.
        look: From the critic's term, at w and then at w + ε, to what is differentiated there.
    """
    reached = agent.scope("all")
    terms, first = critic_gradient(losses, reached, look=look)
    place = {id(parameter): g for parameter, g in zip(reached, first, strict=True)}
    moving: list[Parameter] = [w for w in agent.scope(scope) if place[id(w)] is not None]
    gradients = [g for w in moving if (g := place[id(w)]) is not None]
    with torch.no_grad():
        before = [weight.data for weight in moving]
        direction, factor = step(moving, gradients)
        moved = moved_along(before, direction, factor)
    for weight, values in zip(moving, moved, strict=True):
        weight.data = values
    try:
        _, second = critic_gradient(losses, reached, "critic", look=look)
    finally:
        for weight, values in zip(moving, before, strict=True):
            weight.data = values
    with torch.no_grad():
        for parameter, used in zip(reached, combine(first, second, reached), strict=True):
            if used is not None:
                kept = parameter.grad
                parameter.grad = used if kept is None else kept.add_(used)
    return terms


def moved_along(
    weights: Sequence[Tensor], direction: Sequence[Tensor], factor: Factor
) -> list[Tensor]:
    """The weights and a factor of the direction; `addcmul` has the other's bytes for each seed."""
    if not isinstance(factor, Tensor):
        return list(torch._foreach_add(list(weights), list[Tensor](direction), alpha=factor))
    return [
        torch.addcmul(weight, along, factor.view(-1, *[1] * (weight.ndim - 1)))
        for weight, along in zip(weights, direction, strict=True)
    ]


def along_gradient(rho: float, *, normalised: bool = True) -> Step:
    """ε = ρ g / (‖g‖₂ + 1e-12), one norm over all tensors (arXiv 2010.01412, Eq. 2), or ρ g.

    Of stacked seeds, one norm over all tensors of each.
    """

    def step(weights: list[Parameter], gradients: list[Tensor]) -> Offset:
        if not normalised:
            return gradients, rho
        if isinstance(weights[0], Stacked):
            return gradients, (rho / (norms(weights, gradients) + 1e-12)).float()
        return gradients, per_norm(rho, gradients)

    return step
