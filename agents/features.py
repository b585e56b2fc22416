"""Feature extractors for frames that stable-baselines3's NatureCNN has no room for."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

SMALLEST_FOR_NATURE = 36  # pixels: NatureCNN's three strides leave nothing of less


class SmallCNN(BaseFeaturesExtractor):
    """MinAtar's network (arXiv 1903.03176, Sec. 4): 16 filters of 3 x 3, then a dense layer.

    Args:
        observation_space: Frames ``[channels, height, width]``.
        features_dim: Width of the dense layer.
    """

    def __init__(self, observation_space: spaces.Box, features_dim: int = 128) -> None:
        super().__init__(observation_space, features_dim)
        channels, height, width = observation_space.shape
        self.cnn = nn.Sequential(nn.Conv2d(channels, 16, kernel_size=3), nn.ReLU(), nn.Flatten())
        self.linear = nn.Sequential(
            nn.Linear(16 * (height - 2) * (width - 2), features_dim), nn.ReLU()
        )

    def forward(self, observations: Tensor) -> Tensor:
        """``[batch, channels, height, width]`` to ``[batch, features_dim]``."""
        features: Tensor = self.linear(self.cnn(observations))
        return features


def features_for(space: spaces.Space[Any]) -> dict[str, Any]:
    """The policy arguments that choose the extractor; empty where stable-baselines3's own fits."""
    if space.shape is None or len(space.shape) != 3:
        return {}
    small = min(space.shape[1:]) < SMALLEST_FOR_NATURE
    return {"features_extractor_class": SmallCNN} if small else {}
