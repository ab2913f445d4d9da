"""Images of a stack, one `.npz` file; see `air_jax.io.arrays` for its arrays."""

from pathlib import Path

import numpy as np

from air_jax.data.dataset import Images
from air_jax.data.source import Source
from air_jax.io import read_stack


def load(path: str | Path, *, frames: bool = False) -> Source:
    """Loads all images of a stack, in its order.

    Args:
      path: path of the file; `~` is the home folder.
      frames: whether the second axis of `image` holds two frames of each subject, `[n, 2, *S]`. They become `2 n`
        images and n pairs; the first frame is the fixed image. Default: no.

    Returns:
      Images `[n, *S, C]`, with values and type as stored. The stack's `label` becomes classes where it is `[n]`, and
      segmentations where it is `[n, *S]`.

    Raises:
      UserError: there is no such file, or it is not a stack.
    """
    stack = read_stack(Path(path).expanduser(), frames=frames)
    has_channels = stack.image.ndim == stack.num_axes + 2
    image = stack.image if has_channels else stack.image[..., None]
    classes = segmentations = None
    if stack.label is not None and stack.label.ndim == 1:
        classes = stack.label.astype(np.int32)
    elif stack.label is not None:
        segmentations = stack.label.astype(np.uint8) if stack.label.dtype == bool else stack.label
    pairs = np.arange(len(image)).reshape(-1, 2) if frames else None
    return Source(Images(image, classes=classes, segmentations=segmentations, pairs=pairs), stack.ids, stack.split)
