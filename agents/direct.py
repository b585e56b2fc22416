"""Known networks run by hand: the same kernels in the same order, so the same bytes, sooner.

Small networks spend more time on the way to their kernels than in them: modules that call modules,
a graph of the pass, an engine that walks it. For linear layers, convolutions and usual activations
in one chain, `outputs` calls the kernels of the forward pass, and `huber` is a loss whose gradient
calls those of the backward pass. To the rest of the program it is a loss like any other:
``backward()``, `torch.autograd.grad` and second derivatives work on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import FlattenExtractor, NatureCNN
from stable_baselines3.dqn.policies import QNetwork
from torch import Tensor, nn

from rlplastic.agents.features import SmallCNN
from rlplastic.agents.stacked import SpannedLinear, StackedLinear
from rlplastic.interventions import Part

KNOWN = (nn.Linear, nn.Conv2d, nn.ReLU, nn.Tanh, nn.Flatten)
STACKED = (SpannedLinear, StackedLinear)  # of several seeds
Slopes = dict[nn.Parameter, Tensor]
_aten: Any = torch.ops.aten  # with `.default`: to look for the overload takes as long as a kernel
_sees: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()
_MEAN, _NO_CLASS = 1, -100  # torch's own: the reduction, and the class that is left out


def chain_of(network: Any) -> list[nn.Module] | None:
    """The leaf modules of a Q-network in the order of its pass; None if it is not a known one.

    Looked up anew for each pass, since interventions replace modules and put hooks on them.
    """
    if type(network) is not QNetwork:
        return None
    if network not in _sees:
        _sees[network] = _space_of(network)
    extractor: Any = network.features_extractor
    if type(extractor) in (NatureCNN, SmallCNN) and _sees[network] == "images":
        containers = [extractor.cnn, extractor.linear, network.q_net]
    elif type(extractor) is FlattenExtractor and _sees[network] == "vectors":
        containers = [network.q_net]
    else:
        return None
    return chain_in(containers, network, extractor)


def learnt_chain(network: Any) -> list[nn.Module] | None:
    """As `chain_of`, if all of its weights are learnt: `slopes` has a gradient for each."""
    chain = chain_of(network)
    return chain if chain and all(weight.requires_grad for weight in weights_of(chain)) else None


def _space_of(network: QNetwork) -> str:
    """What the network sees, where that goes into it as `shown` makes it; asked once for each."""
    space = network.observation_space
    if is_image_space(space):
        return "images" if network.normalize_images else ""
    return "vectors" if isinstance(space, spaces.Box) and len(space.shape) == 1 else ""


def chain_in(containers: Sequence[Any], *others: Any) -> list[Any] | None:
    """The modules of containers that are passed in turn; None if one is not known, or watched.

    Args:
        containers: Modules or sequences of them, in the order of the pass.
        others: Modules that the pass goes through as well, which may have hooks.
    """
    chain: list[Any] = []
    for container in containers:
        chain += container._modules.values() if type(container) is nn.Sequential else [container]
    if not all(type(leaf) in KNOWN or is_leaky(leaf) for leaf in chain):
        return None
    return chain if all(map(unwatched, (*others, *containers, *chain))) else None


def unwatched(module: Any) -> bool:
    """True for a module without hooks."""
    return not any(hooks_of(module))


def hooks_of(module: Any) -> tuple[dict[int, Any], ...]:
    """The hooks of a module, as it keeps them."""
    return (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    )


def is_leaky(module: Any) -> bool:
    """True for a leaky ReLU, or a class of one's own that only sets its slope."""
    return type(module).forward is nn.LeakyReLU.forward


def weights_of(chain: Sequence[nn.Module]) -> list[nn.Parameter]:
    """Weight and bias of each module of a chain, in order."""
    return [p for module in chain for p in module._parameters.values() if p is not None]


def shown(observations: Tensor) -> Tensor:
    """Observations as known networks take them: floats, images divided by 255."""
    if observations.ndim == 4:
        return observations.float() / 255.0
    return observations.float()


def outputs(chain: Sequence[Any], inputs: Tensor) -> list[Tensor]:
    """What goes into each module of a chain, and last what comes out; call it without gradients."""
    found = [inputs]
    x = inputs
    for module in chain:
        kind = type(module)
        if kind is nn.Linear:
            x = F.linear(x, module.weight, module.bias)
        elif kind in STACKED:
            x = module.outputs(x)
        elif kind is nn.ReLU:
            x = torch.relu_(x)  # of weights that nobody else has seen
        elif kind is nn.Tanh:
            x = torch.tanh_(x)
        elif kind is nn.Conv2d:
            x = module._conv_forward(x, module.weight, module.bias)
        elif kind is nn.Flatten:
            x = x.flatten(1)
        else:
            x = F.leaky_relu(x, module.negative_slope)
        found.append(x)
    return found


def huber(network: nn.Module, chain: Sequence[nn.Module], batch: Any, targets: Tensor) -> Tensor:
    """The mean Huber loss of the values of the actions taken; targets ``[batch, 1]``."""
    weights = weights_of(chain)
    loss: Tensor = _Huber.apply(network, chain, batch, targets, *weights)  # type: ignore[no-untyped-call]
    return loss


def huber_slopes(
    chain: Sequence[nn.Module], inputs: Tensor, actions: Tensor, targets: Tensor
) -> tuple[Tensor, Slopes]:
    """`huber` and its gradient by each weight, without a graph; inputs as `shown` makes them."""
    with torch.no_grad():
        passed = outputs(chain, inputs)
        chosen = torch.gather(passed[-1], 1, actions)
        loss = _aten.smooth_l1_loss.default(chosen, targets, _MEAN, 1.0)
        # smooth_l1_loss_backward's numbers, in less time than the way to it takes
        by_chosen = (chosen - targets).clamp_(-1, 1).mul_(1 / chosen.numel())
        g = torch.zeros_like(passed[-1]).scatter_add_(1, actions, by_chosen)
        return loss, by_weight(chain, slopes(chain, passed, g))


def by_weight(chain: Sequence[nn.Module], found: Sequence[Tensor]) -> Slopes:
    """Gradients beside their weights, in their layout, as the optimizer's kernel takes them."""
    return {
        weight: _laid_out(g, weight) for weight, g in zip(weights_of(chain), found, strict=True)
    }


def _laid_out(values: Tensor, like: Tensor) -> Tensor:
    """Values in the memory layout of another tensor of their shape."""
    return values if values.stride() == like.stride() else torch.empty_like(like).copy_(values)


class _Huber(torch.autograd.Function):
    """`huber`, with a gradient for the weights of the chain."""

    @staticmethod
    def forward(
        ctx: Any, network: nn.Module, chain: Any, batch: Any, targets: Tensor, *weights: Tensor
    ) -> Tensor:
        """The loss at the weights, which are those of the chain."""
        passed = outputs(chain, shown(batch.observations))
        chosen = torch.gather(passed[-1], 1, batch.actions.long())
        ctx.save_for_backward(*weights)
        ctx.kept = network, chain, batch, targets, passed, chosen
        return F.smooth_l1_loss(chosen, targets)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The kernels that autograd would call, in its order."""
        network, chain, batch, targets, passed, chosen = ctx.kept
        weights = ctx.saved_tensors  # raises if they have been changed since
        actions = batch.actions.long()
        if torch.is_grad_enabled():  # somebody wants the gradient's own gradient
            values = torch.gather(network(batch.observations), 1, actions)
            loss = F.smooth_l1_loss(values, targets) * gradient
            return None, None, None, None, *torch.autograd.grad(loss, weights, create_graph=True)
        by_chosen = _aten.smooth_l1_loss_backward.default(gradient, chosen, targets, 1, 1.0)
        g = torch.zeros_like(passed[-1]).scatter_add_(1, actions, by_chosen)
        return None, None, None, None, *slopes(chain, passed, g)


def slopes(chain: Sequence[Any], passed: Sequence[Tensor], g: Tensor) -> list[Tensor]:
    """The gradient of each weight and bias of a chain, in order; see `through`."""
    return through(chain, passed, g, further=False)[0]


def through(
    chain: Sequence[Any], passed: Sequence[Tensor], g: Tensor, *, further: bool
) -> tuple[list[Tensor], Tensor]:
    """The gradient of each weight and bias of a chain, in order, and of what comes into it.

    Call it without gradients.

    Args:
        chain: The modules.
        passed: What `outputs` returned, with the same weights.
        g: The loss's gradient by what comes out.
        further: Whether somebody asks for the gradient of what comes in; else it may be anything.
    """
    found: list[Tensor] = []
    first = 0 if further else next(i for i, module in enumerate(chain) if _learns(module))
    for place in reversed(range(first, len(chain))):
        module, x = chain[place], passed[place]
        kind = type(module)
        if kind is nn.Linear:
            found += [g.sum(0), g.t().mm(x)]
            if place > first or further:
                g = g.mm(module.weight)
        elif kind in STACKED:
            found += reversed(module.slopes(g, x))
            if place > first or further:
                g = module.back(g)
        elif kind is nn.ReLU:
            g = _aten.threshold_backward.default(g, x, 0)
        elif kind is nn.Tanh:
            g = _aten.tanh_backward.default(g, x)  # which has become its output
        elif kind is nn.Conv2d:
            g, *by_weights = _through_convolution(module, g, x, further or place > first)
            found += reversed(by_weights)
        elif kind is nn.Flatten:
            g = _laid_out(g.reshape(x.shape), x)  # what meets two layouts takes 6 times as long
        else:
            g = _aten.leaky_relu_backward.default(g, x, module.negative_slope, False)
    return found[::-1], g


def _learns(module: Any) -> bool:
    return type(module) in STACKED or bool(module._parameters)


def by_hand(
    chain: Sequence[Any],
    inputs: Tensor,
    answers: Tensor,
    gather: Callable[[Sequence[Tensor]], Slopes] | None = None,
) -> tuple[Callable[..., tuple[dict[str, Tensor], list[Slopes]]], Tensor]:
    """A critic's `rlplastic.interventions.Losses.slopes`, and the outputs at the weights as are.

    Args:
        chain: The modules, whose weights are all learnt.
        inputs: What goes into the first.
        answers: As in `mean_loss`.
        gather: From the gradients of all weights, in order, to those that are known to others.
    """
    with torch.no_grad():
        passes = [outputs(chain, inputs)]
    first = passes[0][-1]

    def terms_and_slopes(*parts: Part) -> tuple[dict[str, Tensor], list[Slopes]]:
        with torch.no_grad():
            passed = passes.pop() if passes else outputs(chain, inputs)
            loss, slope = mean_loss(passed[-1], answers)
            found = slopes(chain, passed, slope)
            known = gather(found) if gather else by_weight(chain, found)
            return {"critic": loss}, [{} if part == "others" else known for part in parts]

    return terms_and_slopes, first


def mean_loss(found: Tensor, answers: Tensor) -> tuple[Tensor, Tensor]:
    """The mean loss of outputs, and its gradient by them; call it without gradients.

    Cross-entropy where there are classes to choose from, squared error where there are numbers.

    Args:
        found: ``[batch, outputs]``; of several seeds ``[seeds, classes, batch]``, with a loss each,
            whose last bits are not those of one seed alone.
        answers: int64 ``[batch]``, or float32 ``[batch, outputs]``; int64 ``[seeds, batch]``.
    """
    if found.ndim == 3:
        return _mean_losses(found, answers)
    one = torch.ones((), dtype=found.dtype, device=found.device)
    if found.ndim == answers.ndim:
        loss: Tensor = _aten.mse_loss.default(found, answers, _MEAN)
        return loss, _aten.mse_loss_backward.default(one, found, answers, _MEAN)
    logs = torch.log_softmax(found, 1)
    loss, count = _aten.nll_loss_forward.default(logs, answers, None, _MEAN, _NO_CLASS)
    by_logs = _aten.nll_loss_backward.default(one, logs, answers, None, _MEAN, _NO_CLASS, count)
    return loss, _aten._log_softmax_backward_data.default(by_logs, logs, 1, found.dtype)


def _mean_losses(found: Tensor, answers: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of each seed."""
    chosen, share = answers.unsqueeze(1), 1 / answers.shape[1]
    logs = torch.log_softmax(found, 1)
    losses = logs.gather(1, chosen).sum(2).flatten().mul_(-share)
    ones = torch.full(chosen.shape, -1.0, dtype=logs.dtype)
    return losses, logs.exp().scatter_add_(1, chosen, ones).mul_(share)


def _through_convolution(
    module: nn.Conv2d, gradient: Tensor, x: Tensor, further: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of the input, if it goes on from there, of the weight and of the bias."""
    found: tuple[Tensor, Tensor, Tensor] = _aten.convolution_backward.default(
        gradient,
        x,
        module.weight,
        [len(module.weight)],
        module.stride,
        module.padding,
        module.dilation,
        False,
        [0, 0],
        module.groups,
        [further, True, True],
    )
    return found
