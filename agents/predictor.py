"""The network of a supervised agent: features, hidden layers, an output for every answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, FlattenExtractor
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn

from rlplastic.agents.direct import chain_in


class Convolutions(BaseFeaturesExtractor):
    """3 x 3 convolutions with stride 2, for images from 8 x 8 on."""

    def __init__(
        self, observation_space: spaces.Box, channels: Sequence[int], activation: type[nn.Module]
    ) -> None:
        inputs, height, width = observation_space.shape
        modules: list[nn.Module] = []
        for outputs in channels:
            modules += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), activation()]
            inputs, height, width = outputs, -(-height // 2), -(-width // 2)
        super().__init__(observation_space, inputs * height * width)
        self.net = nn.Sequential(*modules, nn.Flatten())

    def forward(self, observations: Tensor) -> Tensor:
        """``[batch, channels, height, width]`` to ``[batch, features]``."""
        features: Tensor = self.net(observations)
        return features


class Predictor(BasePolicy):
    """A network from observations to logits of classes, or to numbers.

    Attributes:
        net: The layers after the features, the output among them.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        *,
        net_arch: Sequence[int],
        activation_fn: type[nn.Module],
        dropout: float = 0.0,
        channels: Sequence[int] = (),
        optimizer_class: type[torch.optim.Optimizer] = torch.optim.SGD,
        optimizer_kwargs: dict[str, Any] | None = None,
    ) -> None:
        extractor: dict[str, Any] = {"features_extractor_class": FlattenExtractor}
        if channels:
            settings = {"channels": tuple(channels), "activation": activation_fn}
            extractor = {
                "features_extractor_class": Convolutions,
                "features_extractor_kwargs": settings,
            }
        super().__init__(
            observation_space,
            action_space,
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
            **extractor,
        )
        self._images = is_image_space(observation_space)
        self.features_extractor = self.make_features_extractor()
        width, modules = self.features_extractor.features_dim, list[nn.Module]()
        for units in net_arch:
            modules += [nn.Linear(width, units), activation_fn()]
            modules += [nn.Dropout(dropout)] * bool(dropout)
            width = units
        self.net = nn.Sequential(*modules, nn.Linear(width, _outputs(action_space)))
        self.optimizer = optimizer_class(
            self.parameters(),
            lr=lr_schedule(1),  # type: ignore[call-arg]
            **self.optimizer_kwargs,
        )

    def paths(self) -> list[tuple[nn.Module, ...]]:
        """The modules from the input to each output."""
        return [(self.features_extractor, self.net)]

    def inputs(self, observations: Tensor) -> Tensor:
        """What the features are made of: float, images between 0 and 1."""
        inputs = observations.float()
        if self._images:  # as `stable_baselines3.common.preprocessing`, asked once
            inputs = inputs / 255.0
        return inputs

    def write_inputs(self, observations: np.ndarray[Any, Any], place: np.ndarray[Any, Any]) -> None:
        """What `inputs` makes of observations, flat, into an array of float32 that is there."""
        flat = observations.reshape(place.shape)
        if self._images:
            np.divide(flat, 255.0, out=place, dtype=np.float32)
        else:
            place[:] = flat

    def forward(self, observations: Tensor) -> Tensor:
        """``[batch, classes]`` logits, or ``[batch, outputs]`` numbers."""
        outputs: Tensor = self.net(self.features_extractor(self.inputs(observations)))
        return outputs

    def chain(self) -> list[nn.Module] | None:
        """As `rlplastic.agents.direct.chain_of`: all that there is, and all of it is learnt."""
        extractor = self.features_extractor
        if type(extractor) not in (Convolutions, FlattenExtractor) or len(self._modules) != 2:
            return None
        below = extractor.net if isinstance(extractor, Convolutions) else extractor.flatten
        chain = chain_in([below, self.net], self, extractor)
        if chain is None:
            return None
        learnt = all(p.requires_grad for leaf in chain for p in leaf._parameters.values())
        return chain if learnt else None

    def _predict(self, observation: Any, deterministic: bool = True) -> Tensor:
        return answers_of(self(observation), self.action_space)


def _outputs(space: spaces.Space[Any]) -> int:
    return int(space.n) if isinstance(space, spaces.Discrete) else int(np.prod(space.shape or ()))


def answers_of(outputs: Tensor, space: spaces.Space[Any]) -> Tensor:
    """The most likely class ``[batch]``, or the numbers themselves."""
    return outputs.argmax(dim=1) if isinstance(space, spaces.Discrete) else outputs
