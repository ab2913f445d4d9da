"""Steps that the similarities share: a sufficient dtype and the mean over a window."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from air_jax.errors import OptionError


def at_least_float32(image: jax.Array) -> jax.Array:
    """Converts to float32, keeps float64. bfloat16 has 8 significant bits, too few for variances."""
    return image.astype(jnp.promote_types(image.dtype, jnp.float32))


def check_window(window: int) -> None:
    """Raises `OptionError` unless `window` is odd and positive."""
    if window < 1 or window % 2 == 0:
        raise OptionError("window", window, "must be odd and positive, so that a voxel is at its centre")


def box_mean(image: jax.Array, window: int) -> jax.Array:
    """Mean over the box of `window` voxels a side around each voxel. Boxes are cut off at the image's border.

    The axes are averaged one after the other, so the cost is proportional to `window` times the number of axes. On a
    CPU this is faster than sums of shifted slices, doubling, a banded matrix, and cumulative sums, which lose digits.

    Args:
      image: `[B, *S, C]`, float.
      window: side of the box in voxels, odd.

    Returns:
      `[B, *S, C]`.

    Raises:
      OptionError: `window` is not odd and positive.
    """
    check_window(window)
    radius, zero = window // 2, np.zeros((), image.dtype)
    for axis in range(1, image.ndim - 1):
        along = [1] * image.ndim
        along[axis] = window
        padding = [(size // 2, size // 2) for size in along]
        sums = lax.reduce_window(image, zero, lax.add, along, [1] * image.ndim, padding)
        image = sums * _reciprocal_counts(image, axis, radius)
    return image


def _reciprocal_counts(image: jax.Array, axis: int, radius: int) -> np.ndarray:
    """One over the number of voxels in each voxel's window along an axis, in a shape that broadcasts to the image."""
    size = image.shape[axis]
    index = np.arange(size)
    counts = np.minimum(index + radius, size - 1) - np.maximum(index - radius, 0) + 1
    return (1 / counts).astype(image.dtype).reshape([size if other == axis else 1 for other in range(image.ndim)])
