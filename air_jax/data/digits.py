"""scikit-learn's handwritten digits: 1,797 real images that need no download."""

from typing import Any

import numpy as np
from scipy.ndimage import zoom
from sklearn.datasets import load_digits

from air_jax.data.dataset import Images
from air_jax.data.source import Source


def load() -> Source:
    """Loads the digits (UCI "Optical Recognition of Handwritten Digits", test part), in scikit-learn's order.

    Returns:
      Images `[1797, 28, 28, 1]` uint8, upsampled linearly from 8 x 8, and their classes 0 to 9.
    """
    digits: Any = load_digits()
    small = digits.images / 16.0  # 17 grey levels
    large: Any = zoom(small, (1, 28 / 8, 28 / 8), order=1, mode="nearest", grid_mode=True)
    images = np.round(large * 255).astype(np.uint8)[..., None]
    return Source(Images(images, classes=digits.target.astype(np.int32)))
