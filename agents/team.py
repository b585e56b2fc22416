"""Learners that take their turns together: small networks of several seeds, in the same kernels.

The way to a kernel takes as long as the kernel where networks are small. Learners that differ in
their seed, or in what they see, do the same steps on weights of the same shapes, so the weights of
all of them lie side by side and each step is done once::

    weights of a seed  [outputs, inputs]  ->  a view of  [seeds, outputs, inputs]
    x W' + b, g' x, norms, steps          ->  the same of all seeds at once

Streams, scores, records, probes and checkpoints stay each learner's own. So does every bit of its
numbers: whether the kernels give a seed among others what they give it alone depends on processor
and shape, and is tried before learners are stacked. Those that cannot be stacked take their turns
one after the other.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlplastic.agents.direct import StackedLinear, by_hand, mean_loss, outputs, slopes, weights_of
from rlplastic.agents.learner import clip, refuse_infinite
from rlplastic.agents.predictor import answers_of
from rlplastic.agents.sgd import LeanSGD
from rlplastic.agents.supervised import Batch, SupervisedLearner, Turn
from rlplastic.errors import Diverged
from rlplastic.interventions import Learner, total
from rlplastic.interventions.ascent import moved_along, norm, norms

Raised = dict[SupervisedLearner, Exception | None]  # what each of several learners did


class Team:
    """Takes the turns of learners: stacked where that changes nothing, else one after the other."""

    def __init__(self) -> None:
        self._learners: list[SupervisedLearner] = []
        self._stacks: list[Stack] = []

    def take(self, turns: Sequence[Turn]) -> list[Exception | None]:
        """Take a turn of each learner, all to answer or all to update; for each, what it raised."""
        learners = [turn.learner for turn in turns]
        if turns[0].what == "answer":
            self._seat(learners)
        raised: Raised = {}
        for stack in self._stacks:
            raised |= stack.answer() if turns[0].what == "answer" else stack.update(learners)
        for turn in turns:
            if turn.learner not in raised:
                raised[turn.learner] = None
                try:
                    turn.take()
                except Exception as error:
                    raised[turn.learner] = error
        return [raised[learner] for learner in learners]

    def _seat(self, learners: list[SupervisedLearner]) -> None:
        """Stack those that can be, unless they still are: all have made one more update."""
        if learners == self._learners and all(stack.holds() for stack in self._stacks):
            return
        alike: dict[Hashable, list[SupervisedLearner]] = defaultdict(list)
        for learner in learners:
            kind = kind_of(learner)
            if kind is not None:
                # what a method does may depend on the number of the update
                number = 0 if learner.interventions.idle else learner.num_updates
                alike[kind, number].append(learner)
        self._learners, self._stacks = learners, []
        for stack in [Stack(group) for group in alike.values() if len(group) > 1]:
            if stack.is_exact():
                self._stacks.append(stack)
            else:
                stack.release()


def kind_of(learner: SupervisedLearner) -> Hashable:
    """What learners must have in common to be stacked; None for one that cannot be."""
    chain, optimizer = learner.chain(), learner.policy.optimizer
    interventions, space = learner.interventions, learner.action_space
    if chain is None or not isinstance(space, spaces.Discrete) or learner.device.type != "cpu":
        return None
    layers = _layers(learner)
    if any(module._parameters and type(module) is not nn.Linear for module in layers):
        return None
    (group, *more) = optimizer.param_groups
    if type(optimizer) is not LeanSGD or more or group["momentum"] or group["weight_decay"]:
        return None
    stacks = interventions.at_most_gradient and all(m.stacks for m in interventions.members)
    if not stacks:
        return None
    settings = tuple((name, value) for name, value in group.items() if name != "params")
    modules = tuple(map(repr, layers))
    shown = repr(learner.observation_space), learner.n_envs
    return modules, shown, space.n, interventions.members, settings, learner.max_grad_norm


class Stack:
    """Learners of one kind as one, for their interventions: its parameters are `ascent.Stacked`.

    Args:
        learners: Whose weights become views of the stack's.
    """

    def __init__(self, learners: Sequence[SupervisedLearner]) -> None:
        self.learners = list(learners)
        first = learners[0]
        chains = [_layers(learner) for learner in learners]
        self.chain: list[Any] = [
            StackedLinear(modules) if type(modules[0]) is nn.Linear else modules[0]
            for modules in zip(*chains, strict=True)
        ]
        self.weights = weights_of(self.chain)
        self._stacked = dict(zip(weights_of(chains[0]), self.weights, strict=True))
        self._own: list[nn.Parameter] = []
        for seed, chain in enumerate(chains):
            for stacked, own in zip(self.weights, weights_of(chain), strict=True):
                own.data = stacked.data[seed]
                self._own.append(own)
        self._places = [own.data_ptr() for own in self._own]
        self._rate: float = first.policy.optimizer.param_groups[0]["lr"]
        self.interventions = first.interventions

    @property
    def num_updates(self) -> int:
        """Of each learner, where an intervention may ask for it."""
        return self.learners[0].num_updates

    def scope(self, name: str) -> list[nn.Parameter]:
        """The stacked parameters of a scope."""
        return [self._stacked[own] for own in self.learners[0].scope(name)]

    def holds(self) -> bool:
        """False if the weights of a learner have been moved elsewhere since."""
        return [own.data_ptr() for own in self._own] == self._places

    def answer(self) -> Raised:
        """See `SupervisedLearner.answer`."""
        self._batches, inputs, answers = self._shown()
        self._slopes, found = by_hand(self.chain, inputs, answers)
        rows = answers_of(found.flatten(0, 1), self.learners[0].action_space)
        given = rows.view(answers.shape).numpy()
        for learner, mine in zip(self.learners, given, strict=True):
            learner.given = mine
        self._found = found.unbind()
        return dict.fromkeys(self.learners)

    def _shown(self) -> tuple[list[Batch], Tensor, Tensor]:
        """Each learner's minibatch; what goes into the first layers, and the right answers."""
        shape = len(self.learners), self.learners[0].n_envs
        seen = torch.from_numpy(np.concatenate([one._last_obs for one in self.learners]))
        answers = torch.from_numpy(np.concatenate([one.examples.answers for one in self.learners]))
        inputs, answers = self.learners[0].policy.inputs(seen).view(*shape, -1), answers.view(shape)
        batches = map(Batch, seen.view(*shape, *seen.shape[1:]).unbind(), answers.unbind())
        return list(batches), inputs, answers

    def update(self, learners: Sequence[SupervisedLearner]) -> Raised:
        """See `rlplastic.agents.learner.update`; those that are not there stay as they are."""
        for weight in self.weights:
            weight.grad = None
        losses: Any = SimpleNamespace(slopes=self._slopes)
        terms = self.interventions.gradient(cast(Learner, self), losses)
        gradients: list[Any] = [weight.grad for weight in self.weights]
        heights, limit = total(terms).tolist(), self.learners[0].max_grad_norm
        squares = sum(float(torch.dot(g.flatten(), g.flatten())) for g in gradients)
        short = squares < (limit / 2) ** 2  # all together, so each of them
        states = [member.state for member in self.interventions.members]
        there, raised = set(learners), Raised()
        for seed, learner in enumerate(self.learners):
            if short and learner in there and math.isfinite(heights[seed]):
                raised[learner] = None
                continue
            mine = [gradient[seed] for gradient in gradients]
            if learner in there:
                raised[learner] = _checked(learner, mine, heights[seed])
            if learner not in there or raised[learner] is not None:
                torch._foreach_zero_(mine)  # of SGD: its weights are left as they are
        with torch.no_grad():
            weights = [weight.data for weight in self.weights]
            torch._foreach_add_(weights, gradients, alpha=-self._rate)
        for learner, batch, found in zip(self.learners, self._batches, self._found, strict=True):
            if learner in there and raised[learner] is None:
                for member, state in zip(learner.interventions.members, states, strict=True):
                    member.state.update(state)
                learner.has_learnt(batch, partial(_loss, found, batch.answers))
        return raised

    def is_exact(self) -> bool:
        """Whether the kernels give each learner, to the bit, what they give it alone."""
        batches, inputs, answers = self._shown()
        together = self._trial(self.chain, inputs, answers)
        for seed, learner in enumerate(self.learners):
            mine = learner.policy.inputs(batches[seed].observations).flatten(1)
            alone = self._trial(_layers(learner), mine, answers[seed])
            if not all(map(_same, alone, (values[seed] for values in together))):
                return False
        return True

    def release(self) -> None:
        """Give each learner weights of its own again."""
        for own in self._own:
            own.data = own.data.clone()

    def _trial(self, chain: Sequence[Any], inputs: Tensor, answers: Tensor) -> list[Tensor]:
        """Everything that an update computes, of a stack or of one learner; no weight moves."""
        weights, made = weights_of(chain), list[Tensor]()
        before = [weight.data for weight in weights]
        with torch.no_grad():
            for _ in "ab":  # here, and at a point nearby
                passed = outputs(chain, inputs)
                found = slopes(chain, passed, mean_loss(passed[-1], answers)[1])
                length = norms(found) if inputs.ndim == 3 else norm(found)
                made += [passed[-1], *found, length]
                factor = length if inputs.ndim == 3 else float(length)
                for weight, moved in zip(weights, moved_along(before, found, factor), strict=True):
                    weight.data = moved
            made += [weight.data for weight in weights]
            for weight, values in zip(weights, before, strict=True):
                weight.data = values
            stepped = [values.clone() for values in before]
            if inputs.ndim == 3:
                torch._foreach_add_(stepped, found, alpha=-self._rate)
            else:
                for values, gradient in zip(stepped, found, strict=True):
                    values.grad = gradient
                LeanSGD(stepped, lr=self._rate, fused=True).step()
            return made + stepped


def _layers(learner: SupervisedLearner) -> list[nn.Module]:
    """The modules of a learner's chain, without the one that makes rows of images."""
    return [module for module in learner.chain() or () if type(module) is not nn.Flatten]


def _checked(learner: SupervisedLearner, gradients: list[Tensor], loss: float) -> Exception | None:
    """Clip a learner's gradient; what it raises if that, or the loss, is not finite."""
    try:
        refuse_infinite(clip(gradients, learner.max_grad_norm), loss, learner.num_updates + 1)
    except Diverged as error:
        return error
    return None


def _loss(found: Tensor, answers: Tensor) -> float:
    """The loss of one learner, as it has it alone."""
    with torch.no_grad():
        return mean_loss(found, answers)[0].item()


def _same(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one.contiguous().view(torch.int32), other.contiguous().view(torch.int32))
