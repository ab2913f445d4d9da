"""What a source of one's own images gives, before they are paired and split."""

from typing import NamedTuple

import numpy as np

from air_jax.data.dataset import Images


class Source(NamedTuple):
    """All images of a source, in its order.

    Attributes:
      images: the images, with `pairs` where the source itself says which images belong together.
      ids: `[n]`, their names, for lists of pairs; None where they have none.
      marks: `[n]` of `train`, `validation` or `test`; None where the source does not say.
    """

    images: Images
    ids: np.ndarray | None = None
    marks: np.ndarray | None = None
