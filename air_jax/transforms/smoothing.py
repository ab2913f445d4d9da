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
            matrix = _matrix(field.shape[axis], float(axis_sigma))
            # A matrix product beats shifted sums on CPUs, in full precision because coordinates need it.
            smoothed = jnp.tensordot(field, matrix, axes=(axis, 1), precision=jax.lax.Precision.HIGHEST)
            field = jnp.moveaxis(smoothed, -1, axis)
    return field


def _matrix(size: int, sigma: float) -> np.ndarray:
    """`[size, size]`: the weight of each voxel (second axis) in each smoothed one; rows sum to 1."""
    radius = int(np.ceil(TRUNCATE * sigma))
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    weights /= weights.sum()
    matrix = np.zeros((size, size), np.float32)
    voxels = np.arange(size)
    for offset, weight in zip(offsets, weights, strict=True):
        np.add.at(matrix, (voxels, np.clip(voxels + offset, 0, size - 1)), weight)
    return matrix
