"""scikit-learn's bundled handwritten digits: 1,797 real images that need no download."""

import numpy as np
from scipy.ndimage import zoom
from sklearn.datasets import load_digits

from air_jax.data.dataset import Images


def load() -> Images:
    """Loads the digits (UCI "Optical Recognition of Handwritten Digits", test part), in the bundle's order.

    Returns:
      Images `[1797, 28, 28, 1]` uint8, upsampled linearly from 8 x 8, and their classes 0 to 9.
    """
    digits = load_digits()
    small = digits.images / 16.0  # 17 grey levels
    large = zoom(small, (1, 28 / 8, 28 / 8), order=1, mode="nearest", grid_mode=True)
    return Images(np.round(large * 255).astype(np.uint8)[..., None], digits.target.astype(np.int32))
