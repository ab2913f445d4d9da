"""What similarities of windows around each voxel share."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def at_least_float32(image: jax.Array) -> jax.Array:
    """The image in float32, or in float64 if it is: bfloat16 has 8 bits, too few for variances."""
    return image.astype(jnp.promote_types(image.dtype, jnp.float32))


def box_mean(image: jax.Array, window: int) -> jax.Array:
    """Mean over the box of `window` voxels a side around each voxel; beyond the border there are no voxels to count.

    One axis after the other, so that the cost grows with `window` times N and not with its N-th power. On a CPU this is
    faster than sums of shifted slices, doubling, cumulative sums (which lose digits as well) and a banded matrix.

    Args:
      image: `[B, *S, C]`, float.
      window: voxels, odd.

    Returns:
      `[B, *S, C]`.

    Raises:
      ValueError: `window` is not odd and positive.
    """
    if window < 1 or window % 2 == 0:
        raise ValueError(f"window is {window}; it must be odd and positive, so that a voxel is at its centre")
    radius, zero = window // 2, np.zeros((), image.dtype)
    for axis in range(1, image.ndim - 1):
        along = [1] * image.ndim
        along[axis] = window
        padding = [(size // 2, size // 2) for size in along]
        sums = lax.reduce_window(image, zero, lax.add, along, [1] * image.ndim, padding)
        image = sums * _reciprocal_counts(image, axis, radius)
    return image


def _reciprocal_counts(image: jax.Array, axis: int, radius: int) -> np.ndarray:
    """One over the number of voxels in the window of each voxel along an axis, in the shape that broadcasts."""
    size = image.shape[axis]
    index = np.arange(size)
    counts = np.minimum(index + radius, size - 1) - np.maximum(index - radius, 0) + 1
    return (1 / counts).astype(image.dtype).reshape([size if other == axis else 1 for other in range(image.ndim)])
