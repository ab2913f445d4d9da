"""Steps that the similarities share: a sufficient dtype, weights of voxels, and the mean over a window."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from air_jax.checks import NOT_VALUES, check_arrays, is_integer
from air_jax.errors import OptionError


def at_least_float32(image: jax.Array) -> jax.Array:
    """Converts to float32, keeps float64. bfloat16 has 8 significant bits, too few for variances."""
    return image.astype(jnp.promote_types(image.dtype, jnp.float32))


# Lower bound of a sum of weights: avoids a division by 0 where nothing counts.
SMALLEST_WEIGHT = 1e-6


def check_weights(function: str, image: jax.Array, weights: jax.Array | None, *, name: str = "weights") -> None:
    """Checks the shape of the weights of an image, and that none is negative; inside of `jax.jit` only the shape.

    Args:
      function: name of the calling function, for the message.
      image: `[B, *S, C]`.
      weights: `[B, *S]`, or None.
      name: of the argument.

    Raises:
      ValueError: the shapes do not fit, or a weight is negative.
    """
    if weights is None:
        return
    check_arrays(function, "fiub", **{name: weights})
    if weights.shape != image.shape[:-1]:
        raise ValueError(f"{function}: {name} has shape {weights.shape}; for its image it must be {image.shape[:-1]}")
    known = not isinstance(weights, NOT_VALUES) and getattr(weights, "is_fully_addressable", True)
    if known and np.min(np.asarray(weights), initial=0) < 0:
        raise ValueError(f"{function}: {name} has negative values; weights are in [0, 1]")


def voxel_weights(function: str, image: jax.Array, weights: jax.Array | None) -> jax.Array | None:
    """Checks weights of voxels and gives them the rank of the image.

    Args:
      function: name of the calling function, for the message.
      image: `[B, *S, C]`.
      weights: `[B, *S]` in [0, 1], or None.

    Returns:
      `[B, *S, 1]`, at least float32, or None.

    Raises:
      ValueError: the shapes do not fit, or a weight is negative.
    """
    if weights is None:
        return None
    check_weights(function, image, weights)
    return at_least_float32(weights)[..., None]


def seen(image: jax.Array, weights: jax.Array | None) -> jax.Array:
    """Sets voxels of weight 0 to 0, so that neither their value nor a NaN has an influence.

    Args:
      image: `[B, *S, C]`.
      weights: `[B, *S, 1]`, or None: all voxels count.

    Returns:
      `[B, *S, C]`.
    """
    return image if weights is None else jnp.where(weights > 0, image, 0)


def weighted_mean(
    values: jax.Array, weights: jax.Array | None, axes: Sequence[int], *, keepdims: bool = False
) -> jax.Array:
    """Weighted mean `sum(w v) / sum(w)` over some axes; 0 where nothing counts.

    Args:
      values: any shape.
      weights: a shape that broadcasts to that of `values`, or None: the mean.
      axes: the axes that are averaged.
      keepdims: whether they stay, with size 1.

    Returns:
      `values` without `axes`.
    """
    if weights is None:
        return jnp.mean(values, axis=tuple(axes), keepdims=keepdims)
    total = jnp.sum(jnp.broadcast_to(weights, values.shape), axis=tuple(axes), keepdims=keepdims)
    return jnp.sum(weights * values, axis=tuple(axes), keepdims=keepdims) / jnp.maximum(total, SMALLEST_WEIGHT)


def check_window(window: int) -> None:
    """Raises `OptionError` unless `window` is odd and positive."""
    if not is_integer(window) or window < 1 or window % 2 == 0:
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


def _reciprocal_counts(image: jax.Array, axis: int, radius: int) -> np.ndarray | jax.Array:
    """One over the number of voxels in each voxel's window along an axis, in a shape that broadcasts to the image."""
    size = image.shape[axis]
    numpy = np if isinstance(size, int) else jnp  # an exported program may have symbols as sizes
    index = numpy.arange(size)
    counts = numpy.minimum(index + radius, size - 1) - numpy.maximum(index - radius, 0) + 1
    return (1 / counts).astype(image.dtype).reshape([size if other == axis else 1 for other in range(image.ndim)])
