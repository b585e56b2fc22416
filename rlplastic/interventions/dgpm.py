"""Climb within the directions that old tasks need, and descend outside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge, Gt, Le

from rlplastic.interventions import Intervention, Learner, Losses
from rlplastic.registry import intervention

if TYPE_CHECKING:
    from torch import Tensor

MOMENTUM = 0.9  # of the importance's descent (danruod/FS-DGPM: that of the weights' SGD)
ALL_BUT = 1e-11  # the share of the inputs that is never asked for (danruod/FS-DGPM)


@intervention("fs-dgpm")
@dataclass(frozen=True, kw_only=True)
class FlatteningSharpness(Intervention):
    """Climb within the directions that old tasks need, descend outside them; it is told of shifts.

    Flattening Sharpness for Dynamic Gradient Projection Memory (arXiv 2110.04593). A reservoir
    keeps examples of all worlds; B is a minibatch with as many of them. At each shift the columns
    of M, for each layer of weights, become the directions that hold a share of its inputs' squares
    (over the reservoir), and their importance λ is 1 again. An update, with the n parts of the
    minibatch in turn, and ε = 0 at first::

        ε ← ε + η₁ clamp(∇L_part(w + ε) M diag(λ) Mᵀ)        then g_part = ∇L_B(w + ε)
        v ← 0.9 v + ∂L_B(w + ε) / ∂λ,  l ← l - η₂ v,  λ = sigmoid(T l)        l = 1 at a shift
        the update uses g - g M diag(λ) Mᵀ,  g the mean of g_part

    Before the first shift there is no M: all directions are climbed and descended. Biases and norms
    have none either. In ∂/∂λ, ∇L_part is constant (first order, as the code's on permuted digits)
    and nothing is clamped. The weights' momentum is forgotten at a shift, as there.

    It fits classifiers and regressions with linear layers and convolutions that learn by SGD: the
    step of another optimizer would leave the space that the gradient was put into. Not DQN and PPO,
    whose old targets change after their worlds are gone. Two things are ours. The code applies the
    sigmoid to λ itself again and again, and its optimizer goes on with the λ of before, so that
    there all λ end at 1; here l is kept. Its reservoir is filled by the first pass of a task, ours
    by every example that is shown, since the number of passes is not told.

    Attributes:
        climb: η₁ (0.05: danruod/FS-DGPM on permuted digits; 0.001 to 0.01 on images).
        rate: η₂ (0.01: danruod/FS-DGPM); 0 keeps every direction of M as important as at first.
        temperature: T (10: danruod/FS-DGPM).
        parts: n, of a minibatch (2: danruod/FS-DGPM).
        share: Of the inputs' squares, that M holds after the first world (0.99: danruod/FS-DGPM).
        growth: What is added to the share with each world (0.0005: danruod/FS-DGPM).
        memory: Examples in the reservoir (200: danruod/FS-DGPM on permuted digits).
        limit: g is clipped to this norm, and so is ∂/∂λ; every entry of what is climbed, to this
            size (2: danruod/FS-DGPM).
    """

    oracle: ClassVar[bool] = True
    agents: ClassVar[tuple[str, ...]] = ("mlp", "cnn")
    cost: ClassVar[float] = 5.0

    climb: Annotated[float, Ge(0)] = 0.05
    rate: Annotated[float, Ge(0)] = 0.01
    temperature: Annotated[float, Gt(0)] = 10.0
    parts: Annotated[int, Ge(1)] = 2
    share: Annotated[float, Gt(0), Le(1)] = 0.99
    growth: Annotated[float, Ge(0)] = 0.0005
    memory: Annotated[int, Ge(1)] = 200
    limit: Annotated[float, Gt(0)] = 2.0

    def check(self, agent: Learner) -> None:
        """The optimizer must step along the gradient."""
        from rlplastic.interventions.surgery import require_optimizer

        require_optimizer(
            agent, "SGD", "fs-dgpm", "whose steps stay outside the directions that are kept"
        )

    def begin(self, agent: Learner) -> None:
        """Nothing has been seen."""
        self.state.update(seen=0, observations=[], answers=[], bases=[], logits=[], momentum=[])

    def gradient(self, agent: Any, losses: Losses) -> dict[str, Tensor]:
        """Leave the gradient outside the directions that are kept."""
        import torch

        from rlplastic.interventions import ascent

        batch, everything = agent.last_batch, agent.scope("all")
        whole = agent.interventions.penalised(agent, agent.losses(self._joined(batch)))
        parts = _split(batch, self.parts)
        kept = self._kept(agent)
        offset = [torch.zeros_like(p) for p in everything]
        climbed = [torch.zeros_like(p) for p in everything]  # the sum of what ε is made of
        found = [torch.zeros_like(p) for p in everything]
        slopes = [torch.zeros_like(x) for x in self.state["logits"]]
        heights = []
        for part in parts:
            _, uphill = self._gradient_at(agent.losses(part), everything, offset)
            for place, g in enumerate(uphill):
                up = g if place not in kept else self._within(g, kept[place])
                offset[place] = offset[place] + self.climb * up.clamp(-self.limit, self.limit)
                climbed[place] += g
            terms, downhill = self._gradient_at(whole, everything, offset)
            heights.append(terms["critic"].detach())
            for place, g in enumerate(downhill):
                found[place] += g / len(parts)
                if place in kept:
                    slopes[kept[place]] += self._slope(g, climbed[place], kept[place]) / len(parts)
        scale = min(1.0, self.limit / (float(ascent.norm(found)) + 1e-6))
        self._weigh(slopes)
        for place, (parameter, g) in enumerate(zip(everything, found, strict=True)):
            g = g * scale
            parameter.grad = g - self._within(g, kept[place]) if place in kept else g
        self._remember(batch)
        return {"critic": torch.stack(heights).mean()}

    def at_shift(self, agent: Learner, phase: int) -> None:
        """A world is over: find the directions that its examples and the older ones need."""
        import torch

        from rlplastic.interventions import subspace, surgery

        count = min(self.state["seen"], self.memory)
        if not count:
            return
        share = min(self.share + (phase - 1) * self.growth, 1 - ALL_BUT)
        layers = surgery.weight_layers(agent, "all")
        rows = subspace.inputs_of(agent, layers, self.state["observations"][:count])
        self.state["bases"] = [subspace.basis(each, share) for each in rows]
        self.state["logits"] = [torch.ones(m.shape[1]).to(m) for m in self.state["bases"]]
        self.state["momentum"] = [torch.zeros_like(x) for x in self.state["logits"]]
        for parameter in agent.scope("all"):
            surgery.forget(agent.policy.optimizer, parameter)

    def importance(self, layer: int) -> Tensor:
        """λ of a layer's directions: ``[k]``."""
        found: Tensor = (self.temperature * self.state["logits"][layer]).sigmoid()
        return found

    def _kept(self, agent: Learner) -> dict[int, int]:
        """From a parameter's place among all to its layer's among those with directions."""
        from rlplastic.interventions import surgery

        if not self.state["bases"]:
            return {}
        places = {id(p): place for place, p in enumerate(agent.scope("all"))}
        layers = surgery.weight_layers(agent, "all")
        return {places[id(layer.weight)]: number for number, layer in enumerate(layers)}

    def _within(self, gradient: Tensor, layer: int) -> Tensor:
        from rlplastic.interventions import subspace

        return subspace.within(gradient, self.state["bases"][layer], self.importance(layer))

    def _slope(self, gradient: Tensor, climbed: Tensor, layer: int) -> Tensor:
        """∂L / ∂λ at w + η₁ C M diag(λ) Mᵀ, with C what has been climbed: ``[k]``."""
        directions = self.state["bases"][layer]
        pairs = (gradient.flatten(1) @ directions) * (climbed.flatten(1) @ directions)
        found: Tensor = self.climb * pairs.sum(dim=0)
        return found

    @staticmethod
    def _gradient_at(
        losses: Losses, everything: list[Any], offset: list[Tensor]
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """The loss and its gradient at w + ε; zero for what it does not reach."""
        import torch

        from rlplastic.interventions import ascent, surgery

        moved = [p.detach() + e for p, e in zip(everything, offset, strict=True)]
        with surgery.swapped(everything, moved):
            terms, found = ascent.critic_gradient(losses, everything, "critic")
        pairs = zip(everything, found, strict=True)
        return terms, [torch.zeros_like(p) if g is None else g for p, g in pairs]

    def _weigh(self, slopes: list[Tensor]) -> None:
        """One step of descent of the directions' importance."""
        from rlplastic.interventions import ascent

        if not slopes:
            return
        scale = min(1.0, self.limit / (float(ascent.norm(slopes)) + 1e-6))
        for logit, momentum, slope in zip(
            self.state["logits"], self.state["momentum"], slopes, strict=True
        ):
            momentum.mul_(MOMENTUM).add_(slope, alpha=scale)
            logit.sub_(momentum, alpha=self.rate)

    def _joined(self, batch: Any) -> Any:
        """A minibatch with as many examples of the reservoir, or all if it has fewer."""
        import torch

        count = min(self.state["seen"], self.memory)
        drawn = torch.randperm(count, generator=self.generator)[: len(batch.observations)]
        if not count:
            return batch
        drawn = drawn.to(batch.observations.device)
        return type(batch)(
            *(torch.cat([getattr(batch, x), self.state[x][drawn]]) for x in batch._fields)
        )

    def _remember(self, batch: Any) -> None:
        """Reservoir sampling: every example that was ever shown is as likely to be in it."""
        import torch

        if not self.state["seen"]:
            for name in batch._fields:
                values = getattr(batch, name)
                self.state[name] = values.new_zeros((self.memory, *values.shape[1:]))
        size = len(batch.observations)
        ages = torch.arange(self.state["seen"] + 1, self.state["seen"] + size + 1)
        drawn = torch.rand(size, generator=self.generator, dtype=torch.float64) * ages
        places = torch.where(ages <= self.memory, ages - 1, drawn.long())
        for number, place in enumerate(places.tolist()):
            if place < self.memory:
                for name in batch._fields:
                    self.state[name][place] = getattr(batch, name)[number]
        self.state["seen"] += size


def _split(batch: Any, parts: int) -> list[Any]:
    """A minibatch in as many parts, the first ones larger; in fewer if it has fewer examples."""
    columns = [x.tensor_split(min(parts, len(batch.observations))) for x in batch]
    return [type(batch)(*part) for part in zip(*columns, strict=True)]
