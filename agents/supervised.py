"""Supervised learning on streams that tell the right answers: a network, a loss, an optimizer.

One step of all copies is one minibatch. Its answers are scored first, with the weights as they
are; then it is trained on, once::

    on_rollout_start -> answer -> step of the stream (score) -> on_step -> one update

The forward pass that answers is the one whose loss is trained on, so that a minibatch costs one
forward and one backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, Self

import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import obs_as_tensor, update_learning_rate
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

from rlplastic.agents.direct import by_hand
from rlplastic.agents.learner import Direct, Minibatch, Scopes, has_dropout
from rlplastic.agents.learner import update as one_update
from rlplastic.agents.losses import loss_of
from rlplastic.agents.networks import (
    Layer,
    default_optimizer,
    hidden_layers,
    last_linear,
    leaves,
    new_policy,
    scope_of,
)
from rlplastic.agents.pages import keep_pages
from rlplastic.agents.predictor import Predictor, answers_of
from rlplastic.agents.resume import restore, snapshot
from rlplastic.agents.team import Team
from rlplastic.envs.supervised import Supervised
from rlplastic.errors import UsageError
from rlplastic.interventions import Interventions

NO_CLIPPING = 1e6  # a gradient below this norm keeps its bytes


class Batch(NamedTuple):
    """One minibatch.

    Attributes:
        observations: What was shown: ``[batch, ...]``.
        answers: The right answers: int64 ``[batch]``, or float32 ``[batch, outputs]``.
    """

    observations: Tensor
    answers: Tensor

    @property
    def actions(self) -> Tensor:
        """The classes of the examples, where interventions look for them."""
        return self.answers


class Turn(NamedTuple):
    """What a learner has to do next: its ``answer`` or its ``update``."""

    learner: SupervisedLearner
    what: Literal["answer", "update"]

    def take(self) -> None:
        """Do it without a `rlplastic.agents.team.Team`, whose numbers may be rounded otherwise."""
        getattr(self.learner, self.what)()


class SupervisedLearner(BaseAlgorithm):
    """Cross-entropy (classes) or mean squared error (numbers), one update for each minibatch.

    Args:
        env: A stream whose base environment is `rlplastic.envs.supervised.Supervised`.
        learning_rate: Of the optimizer, constant.
        policy_kwargs: Of `Predictor`.
        max_grad_norm: The gradient is clipped to this norm.
        interventions: What is done to keep it plastic.
        seed: Fixes the initial weights and everything that is drawn.
        device: Of the network.

    Raises:
        UsageError: a stream that does not tell the right answers.
    """

    policy: Predictor
    given: Any  # its answers to what is shown now
    batch_type = Batch
    gamma = 0.0  # nothing that comes later matters

    def __init__(
        self,
        env: VecEnv,
        *,
        learning_rate: float,
        policy_kwargs: dict[str, Any],
        max_grad_norm: float = NO_CLIPPING,
        interventions: Interventions | None = None,
        seed: int | None = None,
        device: str = "cpu",
    ) -> None:
        base = getattr(env, "base", None)
        if not isinstance(base, Supervised):
            raise UsageError(
                "a supervised agent needs a stream that tells the right answers, as the suite "
                "MNIST-Permuted has; this one only pays rewards"
            )
        keep_pages()
        self.examples = base
        self.interventions = interventions or Interventions()
        self.loss: str = self.interventions.critic({"kind": "mean"})["kind"]
        self.max_grad_norm = max_grad_norm
        self.num_updates = 0
        self._scopes = Scopes()
        self.last_batch: Batch | None = None
        self.last_terms: dict[str, Tensor] = {}
        self._last_loss: Callable[[], float] | None = None
        super().__init__(
            Predictor,
            env,
            learning_rate,
            policy_kwargs=self.interventions.build(dict(policy_kwargs)),
            seed=seed,
            device=device,
            support_multi_env=True,
            supported_action_spaces=(spaces.Discrete, spaces.Box),
        )
        self._setup_model()

    def _setup_model(self) -> None:
        self._setup_lr_schedule()
        self.set_random_seed(self.seed)
        self.policy = self.policy_class(  # type: ignore[assignment]
            self.observation_space, self.action_space, self.lr_schedule, **self.policy_kwargs
        )
        self.interventions.rebuild(self.policy)
        self.policy.to(self.device)
        self.policy.set_training_mode(True)
        self.policy.optimizer = self.interventions.optimizer(
            lambda: default_optimizer(self, self.policy.parameters()), self.policy.parameters()
        )
        update_learning_rate(self.policy.optimizer, self.lr_schedule(1))  # one of another's too
        self.interventions.begin(self)

    def learn(  # type: ignore[override]
        self, total_timesteps: int, callback: Any = None, log_interval: int | None = None
    ) -> Self:
        """Answer and learn from so many examples, a minibatch at a time."""
        team = Team()
        for turn in self.turns(total_timesteps, callback):
            (raised,) = team.take([turn])
            if raised is not None:
                raise raised
        return self

    def turns(self, total_timesteps: int, callback: Any = None) -> Iterator[Turn]:
        """The same, but whoever iterates takes the turns: alone, or with those of other learners.

        Two for each minibatch: to answer, and to learn from it.
        """
        total, callback = self._setup_learn(total_timesteps, callback)
        callback.on_training_start(locals(), globals())
        answer, update = Turn(self, "answer"), Turn(self, "update")
        while self.num_timesteps < total:
            callback.on_rollout_start()
            yield answer
            assert self.env is not None
            self._last_obs, _, dones, infos = self.env.step(self.given)  # type: ignore[assignment]
            self.num_timesteps += self.n_envs
            if not callback.on_step():
                break
            if True in dones.tolist():
                self._update_info_buffer(infos, dones)
            yield update
        callback.on_training_end()

    def answer(self) -> None:
        """Answer what is shown now: the answers are put into `given`."""
        self._batch = batch = self._shown()
        chain = self.chain()
        if chain is not None:
            found, first = by_hand(chain, self.policy.inputs(batch.observations), batch.answers)
            self._minibatch = self._losses(batch, found)[0]
        else:
            self._minibatch, firsts = self._losses(batch)
            if has_dropout(self.policy):  # answers are given without masks
                self.policy.set_training_mode(False)
                with torch.no_grad():
                    firsts.append(self.policy(batch.observations))
                self.policy.set_training_mode(True)
            else:
                self._minibatch.peek()
            first = firsts[0]
        self.given = answers_of(first, self.action_space).cpu().numpy()

    def update(self) -> None:
        """Learn from the minibatch that has been answered."""
        self.last_batch = self._batch
        self._last_loss = one_update(self, self._minibatch)["critic"].detach().item

    def has_learnt(self, batch: Batch, loss: Callable[[], float]) -> None:
        """An update from this minibatch has been made elsewhere."""
        self.num_updates += 1
        self.last_batch, self._last_loss = batch, loss

    def chain(self) -> list[nn.Module] | None:
        """The network's modules, if the gradient of its loss needs no graph."""
        plain = self.loss == "mean" and self.interventions.plain_loss
        return self.policy.chain() if plain else None

    def _shown(self) -> Batch:
        """What is shown now, with its right answers."""
        return Batch(
            obs_as_tensor(self._last_obs, self.device),  # type: ignore[arg-type]
            torch.as_tensor(self.examples.answers, device=self.device),
        )

    def losses(self, batch: Batch) -> Minibatch:
        """The loss of a minibatch, under the name that interventions know: ``critic``."""
        return self._losses(batch)[0]

    def _losses(self, batch: Batch, direct: Direct | None = None) -> tuple[Minibatch, list[Tensor]]:
        """The losses, and where the outputs of the first pass are put."""
        first: list[Tensor] = []
        weights = self.interventions.weights(self, batch)

        def terms(_: tuple[str, ...]) -> dict[str, Tensor]:
            found = self.policy(batch.observations)
            if not first:
                first.append(found.detach())
            return {"critic": loss_of(self.loss, found, batch.answers, weights)}

        return Minibatch(self.policy, terms, direct), first

    def dump_logs(self) -> None:
        """Write what has been recorded for the log."""
        if self._last_loss is not None:
            self.logger.record("train/loss", self._last_loss())
        self.logger.record("train/n_updates", self.num_updates, exclude="tensorboard")
        self.logger.dump(step=self.num_timesteps)

    def values(self, observations: Tensor) -> Tensor:
        """The network's output: ``[batch, outputs]``."""
        values: Tensor = self.policy(observations)
        return values

    def scope(self, name: str) -> list[nn.Parameter]:
        """The parameters of a scope; the critic is the network, and there is no actor."""
        return self._scopes.of(name, self.policy.optimizer, self._scope)

    def _scope(self, name: str) -> list[nn.Parameter]:
        policy = self.policy
        return scope_of(name, critic=policy.parameters(), head=last_linear(policy), actor=())

    def layers(self, name: str) -> list[Layer]:
        """The hidden layers of a scope: of the network, which is all there is."""
        if name == "actor":
            return []
        return hidden_layers([leaves(*path) for path in self.policy.paths()])

    def targets(self) -> dict[nn.Parameter, nn.Parameter]:
        """There is no target network."""
        return {}

    def newborn(self, generator: torch.Generator) -> nn.Module:
        """A newly initialised network of the same architecture; draws from `generator` alone."""
        return new_policy(self, generator)

    def reference(self, size: int, generator: torch.Generator) -> Tensor:
        """Inputs of the minibatch that is shown now; draws from `generator` alone."""
        shown = self._shown().observations
        return shown[torch.randint(len(shown), (size,), generator=generator).to(shown.device)]

    def snapshot(self) -> dict[str, Any]:
        """Its complete state, before a minibatch."""
        return snapshot(self)

    def restore(self, state: dict[str, Any]) -> None:
        """Put back what `snapshot` returned, before a minibatch."""
        restore(self, state)

    def at_shift(self, phase: int, replay: Literal["clear", "keep"]) -> None:
        """The world has shifted: tell oracles, and show probes the new world's first minibatch.

        There is no replay memory.
        """
        self.interventions.at_shift(self, phase)
        update_learning_rate(self.policy.optimizer, self.lr_schedule(1))
        self.last_batch = self._shown()
