"""The result of reading a source of images, before the images are paired and split."""

from typing import NamedTuple

import numpy as np

from air_jax.data.dataset import Images


class Source(NamedTuple):
    """All images of a source, in its order.

    Attributes:
      images: the images, with `pairs` where the source itself pairs them.
      names: `[n]` strings, the images' names for lists of pairs, or None.
      parts: `[n]` strings `train`, `validation` or `test`, or None where the source is not divided.
    """

    images: Images
    names: np.ndarray | None = None
    parts: np.ndarray | None = None
