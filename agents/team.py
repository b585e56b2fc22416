"""Learners that take their turns together: small networks of several seeds, in the same kernels.

The way to a kernel takes as long as the kernel where networks are small. Learners that differ in
their seed, or in what they see, do the same steps on weights of the same shapes, so the weights of
all of them lie side by side and each step is done once (`rlplastic.agents.stacked`).

Streams, scores, records, probes and checkpoints stay each learner's own. So does every bit of its
numbers: a learner that is alone is a stack of one, and whether the kernels give a seed among others
what they give it alone, which depends on processor and shape, is tried before learners are stacked.
Those of which that is not so, or that cannot be stacked, take their turns one after the other.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from functools import partial
from operator import is_
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlplastic.agents.direct import by_hand, hooks_of, mean_loss, outputs, slopes, weights_of
from rlplastic.agents.learner import refuse_infinite, shorten
from rlplastic.agents.sgd import LeanSGD
from rlplastic.agents.stacked import StackedNetwork
from rlplastic.errors import Diverged
from rlplastic.interventions import Learner, total
from rlplastic.interventions.ascent import moved_along, norms

if TYPE_CHECKING:
    from rlplastic.agents.supervised import SupervisedLearner, Turn

OTHER = ("momentum", "weight_decay", "maximize")  # than plain gradient descent
Raised = dict[Any, Exception | None]  # what each of several learners did


class Team:
    """Takes the turns of learners: in one stack where that changes nothing, else one by one."""

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
            try:
                raised |= stack.answer() if turns[0].what == "answer" else stack.update(learners)
            except Exception as error:
                if len(stack.learners) > 1:  # nobody can say whose it is
                    raise
                raised[stack.learners[0]] = error
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
        for group in alike.values():
            stack = Stack(group)
            if len(group) == 1 or stack.is_exact():
                self._stacks.append(stack)
            else:
                self._stacks += [Stack([learner]) for learner in group]


def kind_of(learner: SupervisedLearner) -> Hashable:
    """What learners must have in common to be stacked; None for one that cannot be."""
    chain, optimizer = learner.chain(), learner.policy.optimizer
    interventions, space = learner.interventions, learner.action_space
    if chain is None or not isinstance(space, spaces.Discrete) or learner.device.type != "cpu":
        return None
    layers = _layers(learner)
    if not _fits(layers[0]) or any(m._parameters and not _fits(m) for m in layers):
        return None
    (group, *more) = optimizer.param_groups
    if type(optimizer) is not LeanSGD or more or any(group[name] for name in OTHER):
        return None
    stacks = interventions.at_most_gradient and all(m.stacks for m in interventions.members)
    if not stacks:
        return None
    settings = tuple((name, value) for name, value in group.items() if name != "params")
    modules = tuple(map(repr, layers))
    shown = repr(learner.observation_space), learner.n_envs
    return modules, shown, space.n, interventions.members, settings, learner.max_grad_norm


class Seat:
    """What a learner is while it is stacked.

    Args:
        learner: Which.
        chain: Its modules.
        weights: Their weights, in order.
    """

    def __init__(
        self, learner: SupervisedLearner, chain: Sequence[nn.Module], weights: list[nn.Parameter]
    ) -> None:
        (self._group,) = learner.policy.optimizer.param_groups
        self._rate, self._weights = self._group["lr"], weights
        self._places = [weight.data_ptr() for weight in weights]
        self._hooks = [hooks for module in chain for hooks in hooks_of(module)]

    def holds(self) -> bool:
        """False if its weights, its step size or what watches it is another now."""
        return (
            self._group["lr"] == self._rate
            and all(map(is_, self._group["params"], self._weights))
            and [weight.data_ptr() for weight in self._weights] == self._places
            and not any(self._hooks)
        )


class Stack:
    """Learners of one kind as one, for their interventions: its parameters are `ascent.Stacked`.

    Args:
        learners: Whose weights become views of the stack's.
    """

    def __init__(self, learners: Sequence[SupervisedLearner]) -> None:
        self.learners = list(learners)
        first = learners[0]
        chains = [_layers(learner) for learner in learners]
        own = [weights_of(chain) for chain in chains]
        self.network = StackedNetwork.of(chains, first.n_envs)
        self.parameters = self.network.parameters
        self._stacked: dict[nn.Parameter, nn.Parameter] = {}
        for (part, values), weights in zip(
            self.network.weights, zip(*own, strict=True), strict=True
        ):
            self._stacked[weights[0]] = part.parameter
            for mine, weight in zip(values, weights, strict=True):
                weight.data = mine.view(weight.shape)
        self._seats = [Seat(*each) for each in zip(learners, chains, own, strict=True)]
        self._scopes: dict[str, list[nn.Parameter]] = {}
        self._inputs = torch.empty(len(learners), first.n_envs, own[0][0].shape[1])
        self._answers = torch.empty(len(learners), first.n_envs, dtype=torch.int64)
        self.interventions = first.interventions

    @property
    def num_updates(self) -> int:
        """Of each learner, where an intervention may ask for it."""
        return self.learners[0].num_updates

    def scope(self, name: str) -> list[nn.Parameter]:
        """The stacked parameters of a scope."""
        if name not in self._scopes:
            own = self.learners[0].scope(name)
            self._scopes[name] = list(dict.fromkeys(self._stacked[one] for one in own))
        return self._scopes[name]

    @property
    def _rate(self) -> float:
        rate: float = self.learners[0].policy.optimizer.param_groups[0]["lr"]
        return rate

    def holds(self) -> bool:
        """False if a learner is no longer what it was when it was stacked."""
        return all(seat.holds() for seat in self._seats)

    def answer(self) -> Raised:
        """See `SupervisedLearner.answer`."""
        network, columns = self.network, self._look()
        self._slopes, self._found = by_hand(
            network.chain, columns, self._answers, network.gradients
        )
        for learner, mine in zip(self.learners, self._found.numpy().argmax(1), strict=True):
            learner.given = mine
        return dict.fromkeys(self.learners)

    def _look(self) -> Tensor:
        """Take up what is shown to each learner; what goes into the first layers."""
        self._batches = [learner._shown() for learner in self.learners]
        places = zip(self.learners, self._inputs.numpy(), self._answers.numpy(), strict=True)
        for learner, inputs, answers in places:
            learner.policy.write_inputs(cast(Any, learner._last_obs), inputs)
            answers[:] = learner.examples.answers
        with torch.no_grad():
            self.network.show(self._inputs)
        return self._inputs.transpose(1, 2)

    def update(self, learners: Sequence[SupervisedLearner]) -> Raised:
        """See `rlplastic.agents.learner.update`; those that are not there stay as they are."""
        for parameter in self.parameters:
            parameter.grad = None
        members = self.interventions.members
        before = [dict(member.state) for member in members]
        losses: Any = SimpleNamespace(slopes=self._slopes)
        terms = self.interventions.gradient(cast(Learner, self), losses)
        self.network.check_home()
        gradients: list[Any] = [parameter.grad for parameter in self.parameters]
        heights = total(terms).tolist()
        fine = self._are_short(gradients) and all(map(math.isfinite, heights))
        lengths = [] if fine else norms(self.parameters, gradients).float().unbind()
        states = [dict(member.state) for member in members]
        there, raised, left = set(learners), Raised(), list[int]()
        for seed, learner in enumerate(self.learners):
            if learner in there:
                raised[learner] = None
                if not fine:
                    mine = [gradient[seed] for gradient in gradients]
                    raised[learner] = _checked(learner, mine, lengths[seed], heights[seed])
            if learner not in there or raised[learner] is not None:
                left.append(seed)
            known = states if learner in there else before
            for member, state in zip(learner.interventions.members, known, strict=True):
                member.state.clear()
                member.state.update(state)
        self._step(gradients, left)
        for seed, learner in enumerate(self.learners):
            if seed not in left:
                batch = self._batches[seed]
                learner.has_learnt(batch, partial(_loss, self._found, seed, batch.answers))
        return raised

    def is_exact(self) -> bool:
        """Whether the kernels give each learner, to the bit, what they give it alone."""
        self._look()
        inputs, answers = self._inputs, self._answers
        together = _trial(self.network, inputs, answers, self._rate)
        for seed in range(len(self.learners)):
            mine = slice(seed, seed + 1)
            alone = _trial(self.network.seed(seed), inputs[mine], answers[mine], self._rate)
            if not all(map(_same, alone, (values[mine] for values in together))):
                return False
        return True

    def _are_short(self, gradients: Sequence[Tensor]) -> bool:
        """Whether all of them together are so short that no norm need be looked at."""
        return self.network.at_most(gradients) < self.learners[0].max_grad_norm / 2

    def _step(self, gradients: Sequence[Tensor], left: list[int]) -> None:
        """Gradient descent, of all seeds but those that are left as they are."""
        kept = [(part.values, part.values[left]) for part in self.network.parts if left]
        with torch.no_grad():
            self.network.descend(gradients, self._rate)
        for values, before in kept:
            values[left] = before


def _trial(network: StackedNetwork, inputs: Tensor, answers: Tensor, rate: float) -> list[Tensor]:
    """Everything that an update computes; no weight moves."""
    parameters, made = network.parameters, list[Tensor]()
    here = [parameter.data for parameter in parameters]
    with torch.no_grad():
        network.show(inputs)
        for _ in "ab":  # here, and at a point nearby
            passed = outputs(network.chain, inputs.transpose(1, 2))
            losses, slope = mean_loss(passed[-1], answers)
            found = network.gradients(slopes(network.chain, passed, slope))
            gradients = [found[parameter] for parameter in parameters]
            lengths = norms(parameters, gradients)
            made += [passed[-1], losses, *gradients, lengths]
            nearby = moved_along(here, gradients, lengths.float())
            for parameter, data in zip(parameters, nearby, strict=True):
                parameter.data = data
        for parameter, data in zip(parameters, here, strict=True):
            parameter.data = data
        before = [part.values.clone() for part in network.parts]
        network.descend(gradients, rate)
        made += [part.values.clone() for part in network.parts]
        for part, kept in zip(network.parts, before, strict=True):
            part.values.copy_(kept)
    return made


def _fits(module: Any) -> bool:
    return type(module) is nn.Linear and module.bias is not None


def _layers(learner: SupervisedLearner) -> list[nn.Module]:
    """The modules of a learner's chain, without the one that makes rows of images."""
    return [module for module in learner.chain() or () if type(module) is not nn.Flatten]


def _checked(
    learner: SupervisedLearner, gradients: list[Tensor], length: Tensor, loss: float
) -> Exception | None:
    """Clip a learner's gradient; what it raises if that, or the loss, is not finite."""
    try:
        found = shorten(gradients, length, learner.max_grad_norm)
        refuse_infinite(found, loss, learner.num_updates + 1)
    except Diverged as error:
        return error
    return None


def _loss(found: Tensor, seed: int, answers: Tensor) -> float:
    """The loss of one learner, as it has it alone."""
    with torch.no_grad():
        return mean_loss(found[seed].t(), answers)[0].item()


def _same(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one.contiguous().view(torch.int32), other.contiguous().view(torch.int32))
