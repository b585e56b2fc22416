"""Plasticity injection: a new head learns on top of the old one, which is frozen."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge

from rlplastic.interventions import Intervention, Learner
from rlplastic.registry import intervention

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.nn import Parameter


def tensors(modules: Sequence[nn.Module]) -> list[Tensor]:
    """The parameters and buffers of modules, in order."""
    return [x for module in modules for x in (*module.parameters(), *module.buffers())]


class Head:
    """The last hidden layer of a network and the outputs that read it.

    The frozen heads are copies outside the agent's networks, whose parameters are exchanged for
    the values that are kept: so the agent has the same parameters before and after, and its scopes,
    its optimizer and its newborns need not know.

    Args:
        modules: The weights of the layer, then what follows up to the outputs.
        outputs: The layers that read it.
    """

    def __init__(self, modules: Sequence[nn.Module], outputs: Sequence[nn.Module]) -> None:
        self.modules, self.outputs = list(modules), list(outputs)
        self._trunk, self._tops = copy.deepcopy((self.modules, self.outputs))
        for module in [*self._trunk, *self._tops]:
            module.requires_grad_(False).eval()
        self._frozen = tensors([*self._trunk, *self._tops])
        self._seen: list[Tensor] = []

    @property
    def parameters(self) -> list[Parameter]:
        """The parameters that learn."""
        return [p for module in (*self.modules, *self.outputs) for p in module.parameters()]

    def values(self) -> list[Tensor]:
        """Copies of what its parameters and buffers are."""
        return [x.detach().clone() for x in tensors([*self.modules, *self.outputs])]

    def attach(self, kept: dict[str, Any], key: str) -> None:
        """From now on the outputs are h + h_old - h_new, once `kept` holds the frozen two."""

        def look(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if f"{key}_old" in kept:
                self._seen[:] = inputs

        def add(number: int) -> Any:
            def hook(_: nn.Module, __: Any, output: Tensor) -> Tensor | None:
                if f"{key}_old" not in kept:
                    return None
                old, new = (self._frozen_output(number, kept[f"{key}_{x}"]) for x in ("old", "new"))
                # in this order the outputs keep their bits while h = h_new
                return old + (output - new)

            return hook

        self.modules[0].register_forward_pre_hook(look)
        for number, output in enumerate(self.outputs):
            output.register_forward_hook(add(number))

    def _frozen_output(self, number: int, values: Sequence[Tensor]) -> Tensor:
        for tensor, value in zip(self._frozen, values, strict=True):
            tensor.data = value
        x = self._seen[0]
        for module in [*self._trunk, self._tops[number]]:
            x = module(x)
        return x


class _Injection(Intervention):
    """What both ways to choose the moment share."""

    scope: Literal["critic", "actor", "all"]

    def check(self, agent: Learner) -> None:
        """The scope must have hidden units, the last of them in a layer."""
        from rlplastic.agents.mixture import refuse_mixture
        from rlplastic.agents.networks import refuse_residual
        from rlplastic.interventions.redo import refuse_no_units

        refuse_no_units(self, agent, self.scope)
        refuse_residual(agent.policy)
        refuse_mixture(agent.policy)

    def begin(self, agent: Learner) -> None:
        """Look at what passes through the heads; nothing changes yet."""
        from rlplastic.agents.networks import target_copy, top_layers

        paths = ("critic", "actor") if self.scope == "all" else (self.scope,)
        found = [layer for path in paths for layer in top_layers(agent.layers(path))]
        last = list({layer.weights: layer for layer in found}.values())
        self.__dict__["_heads"] = {}
        for number, layer in enumerate(last):
            ours = [layer.weights, *layer.between]
            twins = [target_copy(agent.policy, module) for module in (*ours, *layer.readers)]
            heads = [(f"head{number}", Head(ours, layer.readers))]
            if twins[0] is not None:
                target = [module for module in twins if module is not None]
                heads.append((f"target{number}", Head(target[: len(ours)], target[len(ours) :])))
            for key, head in heads:
                self.__dict__["_heads"][key] = head
                head.attach(self.state, key)

    def inject(self, agent: Learner) -> None:
        """Freeze the heads and put new ones on top of them, once in a life."""
        from rlplastic.interventions import surgery

        if "injected_after" in self.state:
            return
        heads: dict[str, Head] = self.__dict__["_heads"]
        old = {key: head.values() for key, head in heads.items()}
        fresh = surgery.newborn_values(agent, self.generator)
        for key, head in heads.items():
            if key.startswith("head"):
                for parameter in head.parameters:
                    surgery.overwrite(agent, parameter, fresh[parameter])
        for key, head in heads.items():
            self.state[f"{key}_old"], self.state[f"{key}_new"] = old[key], head.values()
        self.state["injected_after"] = agent.num_updates

    def new_objective(self, agent: Learner) -> None:
        """A new target network has the frozen heads of the network that it is a copy of."""
        for key in self.__dict__["_heads"]:
            ours = key.replace("target", "head")
            if key != ours and f"{ours}_old" in self.state:
                for kind in ("old", "new"):
                    self.state[f"{key}_{kind}"] = [x.clone() for x in self.state[f"{ours}_{kind}"]]


@intervention("inject")
@dataclass(frozen=True, kw_only=True)
class PlasticityInjection(_Injection):
    """Freeze the head and let a new one learn what to add to it, once, after N updates.

    With φ what comes into the last hidden layer and h the layer with the outputs above it
    (arXiv 2305.15555, Sec. 3)::

        h_θ(φ) + h_θ₁(φ) - h_θ₂(φ)        θ₁ and θ₂ start as the same newly drawn head

    Only θ₁ learns of the head; the layers below go on learning, through all three. The outputs are
    what they were at the moment of injection, bit for bit. θ₁ lives in the parameters that were
    θ's, with empty moments: what other interventions do to "the head" they then do to it. The
    target network gets the same new head on top of its own old one, and with each new target
    network the frozen ones of the network it is a copy of. What is frozen has no dropout.

    Attributes:
        after: N, in updates of the agent's life; ours (a re-implementation injects after two
            thirds of training).
        scope: Whose outputs; a last hidden layer that both share takes both.
    """

    after: Annotated[int, Ge(1)] = 20_000
    scope: Literal["critic", "actor", "all"] = "all"

    def after_update(self, agent: Learner) -> None:
        """Inject after the N-th update."""
        if agent.num_updates == self.after:
            self.inject(agent)


@intervention("inject-at-shift")
@dataclass(frozen=True, kw_only=True)
class PlasticityInjectionAtShift(_Injection):
    """Freeze the head and let a new one learn what to add to it, at one shift; it is told of it.

    As ``inject``, at a moment of Juliani & Ash (arXiv 2405.19153), who inject at each shift; here
    it is once, since every injection would add two heads to be computed for ever.

    Attributes:
        phase: The phase that begins with it; 1 is the first shift.
        scope: Whose outputs.
    """

    oracle: ClassVar[bool] = True

    phase: Annotated[int, Ge(1)] = 1
    scope: Literal["critic", "actor", "all"] = "all"

    def at_shift(self, agent: Learner, phase: int) -> None:
        """Inject where that phase begins."""
        if phase == self.phase:
            self.inject(agent)
