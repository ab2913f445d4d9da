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

    Examples:
      >>> images = air_jax.data.Images(np.zeros((5, 8, 8, 1), np.uint8))
      >>> source = air_jax.data.Source(images, names=np.array(["a", "b", "c", "d", "e"]))
      >>> source.names[0].item(), source.parts
      ('a', None)
    """

    images: Images
    names: np.ndarray | None = None
    parts: np.ndarray | None = None
