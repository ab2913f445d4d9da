"""A stack of one's own images, in one `.npz` file; see `air_jax.io.arrays` for the arrays in it."""

from pathlib import Path

import numpy as np

from air_jax.data.dataset import Images
from air_jax.io import read_stack


def load(path: str | Path) -> tuple[Images, np.ndarray | None]:
    """Loads all images of a stack, in its order.

    Args:
      path: of the file; `~` is the user's home.

    Returns:
      Images `[n, *S, C]`, with values and dtype as stored, and the stack's `label` where it has one class for each
      image, since segmentations say nothing about which images make a pair; and the stack's `split` `[n]`, or None.

    Raises:
      UserError: there is no such file, or it is no stack.
    """
    stack = read_stack(Path(path).expanduser())
    has_channels = stack.image.ndim == stack.num_axes + 2
    images = stack.image if has_channels else stack.image[..., None]
    has_classes = stack.label is not None and stack.label.ndim == 1
    return Images(images, stack.label.astype(np.int32) if has_classes else None), stack.split
