"""The embedded data set. A module of its own, since scikit-learn takes a second to import.

Planning imports it where it is used, and so the fork server does, once for all cells
(`rlplastic.pool`).
"""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from rlplastic.envs.copies import Array


def digits() -> tuple[Array, Array]:
    """Images uint8 ``[1797, 1, 8, 8]`` (17 levels of grey become 0 to 255), labels ``[1797]``."""
    images, labels = load_digits(return_X_y=True)
    grey = np.rint(images * (255 / 16)).astype(np.uint8)
    return grey.reshape(-1, 1, 8, 8), labels.astype(np.int64)
