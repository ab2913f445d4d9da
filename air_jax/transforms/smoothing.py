"""Gaussian smoothing of images and fields."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

TRUNCATE = 3.0  # standard deviations


def smooth(field: jax.Array, sigma: float | Sequence[float]) -> jax.Array:
    """Smooths with a Gaussian, one axis after the other; beyond the border the edge values go on.

    Args:
      field: `[B, *S, F]`, images or displacements.
      sigma: standard deviation in voxels, one for all axes or one for each; 0 leaves an axis as it is.

    Returns:
      The same shape.
    """
    num_axes = field.ndim - 2
    sigmas = [sigma] * num_axes if isinstance(sigma, (int, float)) else sigma
    for axis, axis_sigma in enumerate(sigmas, start=1):
        if axis_sigma > 0 and field.shape[axis] > 1:
            field = _smooth_axis(field, axis, axis_sigma)
    return field


def _smooth_axis(field: jax.Array, axis: int, sigma: float) -> jax.Array:
    radius = int(np.ceil(TRUNCATE * sigma))
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights = (weights / weights.sum()).astype(field.dtype)
    size = field.shape[axis]
    padded = jnp.pad(field, [(radius, radius) if other == axis else (0, 0) for other in range(field.ndim)], mode="edge")
    return sum(
        weight * jax.lax.slice_in_dim(padded, start, start + size, axis=axis) for start, weight in enumerate(weights)
    )
