"""A stack of one's own images, in one `.npz` file; see `air_jax.io.arrays` for the arrays in it."""

from pathlib import Path

import numpy as np

from air_jax.data.dataset import Images
from air_jax.data.source import Source
from air_jax.io import read_stack


def load(path: str | Path, *, frames: bool = False) -> Source:
    """Loads all images of a stack, in its order.

    Args:
      path: of the file; `~` is the user's home.
      frames: whether the second axis holds two frames of each subject, `[n, 2, *S]`, of which the first is the fixed
        image and the second the moving one; they become `2 n` images and n pairs.

    Returns:
      Images `[n, *S, C]`, with values and dtype as stored. The stack's `label` are classes where there is one for each
      image, and segmentations where there is one for each voxel.

    Raises:
      UserError: there is no such file, or it is no stack.
    """
    path = Path(path).expanduser()
    stack = read_stack(path, frames=frames)
    has_channels = stack.image.ndim == stack.num_axes + 2
    image = stack.image if has_channels else stack.image[..., None]
    has_classes = stack.label is not None and stack.label.ndim == 1
    segmentations = None if has_classes or stack.label is None else stack.label
    if segmentations is not None and segmentations.dtype == bool:
        segmentations = segmentations.astype(np.uint8)
    images = Images(
        image,
        stack.label.astype(np.int32) if has_classes else None,
        segmentations,
        np.arange(len(image)).reshape(-1, 2) if frames else None,
    )
    return Source(images, stack.ids, stack.split)
