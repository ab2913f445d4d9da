"""Linear filters and resampling of images and fields: Gaussian smoothing, averaging onto a coarser grid, edges."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from air_jax.checks import check_number, check_shape, is_number, require
from air_jax.runtime.any_mesh import on_any_mesh
from air_jax.transforms.shapes import check_field

TRUNCATE = 3.0  # standard deviations
LARGEST_SIGMA = 10_000  # voxels; the weights are those of six times as many
EDGE_SIGMA = 0.7  # voxels
# Slopes are smaller than intensities; this factor gives both about the same contrast.
EDGE_WEIGHT = 2.0


@on_any_mesh
def smooth(field: jax.Array, sigma: float | Sequence[float]) -> jax.Array:
    """Smooths with a Gaussian, one axis after the other; the edge values continue beyond the border.

    Args:
      field: `[B, *S, F]`, images or displacements.
      sigma: standard deviation in voxels, one number for all axes or one for each; 0 leaves an axis unchanged.

    Returns:
      The same shape.

    Raises:
      ValueError: the field has no spatial axis.
      OptionError: a standard deviation is negative, not finite, or above 10,000.

    Examples:
      >>> image = jnp.zeros((1, 8, 8, 1)).at[:, 4, 4].set(1.0)
      >>> round(float(air_jax.transforms.smooth(image, 1.0).max()), 2)
      0.16
    """
    num_axes = check_field("smooth", field, "field")
    sigmas = _sigmas(sigma, num_axes)
    for axis, axis_sigma in enumerate(sigmas, start=1):
        if axis_sigma > 0 and field.shape[axis] > 1:
            matrix = _matrix(field.shape[axis], float(axis_sigma))
            # A matrix product beats shifted sums on CPUs, in full precision because coordinates need it.
            smoothed = jnp.tensordot(field, matrix, axes=(axis, 1), precision=jax.lax.Precision.HIGHEST)
            field = jnp.moveaxis(smoothed, -1, axis)
    return field


def _sigmas(sigma: float | Sequence[float], num_axes: int) -> Sequence[float]:
    """One standard deviation for each axis."""
    several: Any = sigma
    if not isinstance(sigma, (tuple, list, np.ndarray)):
        check_number("sigma", sigma, low=0)
        several = (sigma,) * num_axes
    sigmas = tuple(several)
    valid = all(is_number(each) and 0 <= each <= LARGEST_SIGMA for each in sigmas)
    require(valid, "sigma", sigma, f"must be numbers from 0 to {LARGEST_SIGMA:,}")
    require(len(sigmas) == num_axes, "sigma", sigma, f"must be one number, or {num_axes}, one an axis")
    return sigmas


def _matrix(size: int, sigma: float) -> np.ndarray:
    """`[size, size]`: the weight of each voxel (second axis) in each smoothed voxel; rows sum to 1."""
    radius = int(np.ceil(TRUNCATE * sigma))
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    weights /= weights.sum()
    matrix = np.zeros((size, size), np.float32)
    voxels = np.arange(size)
    for offset, weight in zip(offsets, weights, strict=True):
        np.add.at(matrix, (voxels, np.clip(voxels + offset, 0, size - 1)), weight)
    return matrix


@on_any_mesh
def shrink(image: jax.Array, shape: Sequence[int]) -> jax.Array:
    """Averages an image onto a coarser grid over the same extent.

    Args:
      image: `[B, *S, C]`. Voxels are cells, as in `air_jax.transforms.resize`.
      shape: the coarser grid `S'`. The same size returns the image itself.

    Returns:
      `[B, *S', C]`.

    Raises:
      ValueError: the image has no spatial axis.
      OptionError: the grid has another number of axes, or is finer.

    Examples:
      >>> image = jnp.zeros((1, 8, 8, 1)).at[:, :4].set(1.0)
      >>> small = air_jax.transforms.shrink(image, (2, 2))
      >>> small.shape, round(float(small.mean()), 3)
      ((1, 2, 2, 1), 0.5)
    """
    num_axes = check_field("shrink", image, "image")
    check_shape("shape", shape, num_axes)
    coarser = all(new <= old for new, old in zip(shape, image.shape[1:-1], strict=True))
    require(coarser, "shape", tuple(shape), f"must not be finer than the image's, {image.shape[1:-1]}")
    if image.shape[1:-1] == tuple(shape):
        return image
    return jax.image.resize(image, (image.shape[0], *shape, image.shape[-1]), method="linear", antialias=True)


@on_any_mesh
def with_edges(image: jax.Array) -> jax.Array:
    """Appends the gradient magnitude of each channel as a further channel.

    An objective on both channels weighs intensity changes as much as intensities. The second channel is warped like the
    first one, so it shows where the moving image's edges go.

    Args:
      image: `[B, *S, C]` in [0, 1].

    Returns:
      `[B, *S, 2 C]`; the gradient magnitude is that of the image smoothed by 0.7 voxels, times 2.

    Raises:
      ValueError: the image has no spatial axis, or one of fewer than 2 voxels.

    Examples:
      >>> image = jnp.zeros((1, 8, 8, 1)).at[:, 2:6, 2:6].set(1.0)
      >>> air_jax.transforms.with_edges(image).shape
      (1, 8, 8, 2)
    """
    check_field("with_edges", image, "image")
    if any(size < 2 for size in image.shape[1:-1]):
        raise ValueError(f"with_edges: image has shape {image.shape}; edges need at least 2 voxels along each axis")
    gradient = jnp.stack(jnp.gradient(smooth(image, EDGE_SIGMA), axis=tuple(range(1, image.ndim - 1))))
    # The small number keeps the square root differentiable where the image is flat.
    return jnp.concatenate([image, EDGE_WEIGHT * jnp.sqrt(jnp.sum(jnp.square(gradient), axis=0) + 1e-6)], axis=-1)
