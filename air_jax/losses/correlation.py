"""Correlation similarities: 1 minus the linear correlation of intensities, in the whole image or in windows."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from air_jax.losses.windows import (
    SMALLEST_WEIGHT,
    at_least_float32,
    box_mean,
    check_window,
    seen,
    voxel_weights,
    weighted_mean,
)
from air_jax.runtime.any_mesh import on_any_mesh
from air_jax.transforms.shapes import check_images

# Lower bound of a variance: the square of one grey level of an 8-bit image, for images in [0, 1]. Flat background then
# has correlation 0 whatever its noise, and gradients are finite. Windows with more contrast keep their exact
# correlation, which a constant added to the denominator would bias. Rounding errors are a hundred times smaller.
VARIANCE_FLOOR = (1 / 255) ** 2


@on_any_mesh
def ncc_loss(fixed: jax.Array, warped: jax.Array, *, weights: jax.Array | None = None) -> jax.Array:
    """1 minus the normalised cross-correlation of the whole images.

    With weights `w` all means are weighted: `mean(x) = sum(w x) / sum(w)`, and the covariance of `f` and `g` is
    `mean((f - mean(f)) (g - mean(g)))`.

    Args:
      fixed: `[B, *S, C]` in [0, 1].
      warped: the same shape.
      weights: `[B, *S]` in [0, 1], the share by which a voxel counts. Default: all count alike.

    Returns:
      `[B]`: the mean over channels. 0: equal up to brightness and contrast. 1: unrelated, or one image is constant.
      2: inverted contrast.

    Raises:
      ValueError: the shapes do not fit each other.

    Examples:
      >>> fixed = jnp.zeros((1, 8, 8, 1)).at[:, 2:6, 2:6].set(1.0)
      >>> pairs = (fixed, 0.5 * fixed), (fixed, 1 - fixed)
      >>> [round(1 - float(air_jax.losses.ncc_loss(*pair)[0]), 3) for pair in pairs]
      [1.0, -1.0]
    """
    check_images("ncc_loss", fixed, warped)
    weights = voxel_weights("ncc_loss", fixed, weights)
    fixed, warped = _centred(fixed, weights), _centred(warped, weights)
    covariance, fixed_variance, warped_variance = (
        weighted_mean(product, weights, range(1, fixed.ndim - 1))
        for product in (fixed * warped, jnp.square(fixed), jnp.square(warped))
    )
    correlation = _correlation(covariance, fixed_variance, warped_variance)
    return 1 - jnp.mean(correlation, axis=-1)


@on_any_mesh
def lncc_loss(fixed: jax.Array, warped: jax.Array, *, window: int = 9, weights: jax.Array | None = None) -> jax.Array:
    """1 minus the mean local correlation, with its sign (Cachier & Pennec 2000, who use Gaussian windows).

    With weights `w` the means of a window are weighted: `mean(x) = sum(w x) / sum(w)` over its voxels. So is the mean
    of the correlations over all voxels.

    Args:
      fixed: `[B, *S, C]` in [0, 1].
      warped: the same shape.
      window: side of the box around each voxel, in voxels, odd; 9 by default. Boxes are cut off at the border.
      weights: `[B, *S]` in [0, 1], the share by which a voxel counts. Default: all count alike.

    Returns:
      `[B]`: the mean over voxels and channels. 0: locally equal up to brightness and contrast. 2: inverted contrast.
      Windows in which an image is constant contribute 1.

    Raises:
      ValueError: the shapes do not fit each other.
      OptionError: `window` is not odd and positive.

    Examples:
      >>> fixed = jnp.zeros((1, 8, 8, 1)).at[:, 2:6, 2:6].set(1.0)
      >>> pairs = (fixed, 0.5 * fixed), (fixed, 1 - fixed)
      >>> [round(1 - float(air_jax.losses.lncc_loss(*pair, window=5)[0]), 3) for pair in pairs]
      [1.0, -1.0]
    """
    check_images("lncc_loss", fixed, warped)
    check_window(window)
    weights = voxel_weights("lncc_loss", fixed, weights)
    return 1 - _voxel_mean(_local_correlation(fixed, warped, window, weights), weights)


@on_any_mesh
def squared_lncc_loss(
    fixed: jax.Array, warped: jax.Array, *, window: int = 9, weights: jax.Array | None = None
) -> jax.Array:
    """1 minus the mean squared local correlation (Avants et al. 2008; Balakrishnan et al. 2019, VoxelMorph).

    The square ignores the sign, so inverted contrast counts as aligned. Weights are those of `lncc_loss`.

    Args:
      fixed: `[B, *S, C]` in [0, 1].
      warped: the same shape.
      window: side of the box around each voxel, in voxels, odd; 9 by default. Boxes are cut off at the border.
      weights: `[B, *S]` in [0, 1], the share by which a voxel counts. Default: all count alike.

    Returns:
      `[B]` in [0, 1]: the mean over voxels and channels. Windows in which an image is constant contribute 1.

    Raises:
      ValueError: the shapes do not fit each other.
      OptionError: `window` is not odd and positive.

    Examples:
      >>> fixed = jnp.zeros((1, 8, 8, 1)).at[:, 2:6, 2:6].set(1.0)
      >>> pairs = (fixed, 0.5 * fixed), (fixed, 1 - fixed)
      >>> [round(1 - float(air_jax.losses.squared_lncc_loss(*pair, window=5)[0]), 3) for pair in pairs]
      [1.0, 1.0]
    """
    check_images("squared_lncc_loss", fixed, warped)
    check_window(window)
    weights = voxel_weights("squared_lncc_loss", fixed, weights)
    return 1 - _voxel_mean(jnp.square(_local_correlation(fixed, warped, window, weights)), weights)


def _local_correlation(fixed: jax.Array, warped: jax.Array, window: int, weights: jax.Array | None = None) -> jax.Array:
    """Correlation in the window around each voxel, `[B, *S, C]`; weights are `[B, *S, 1]`."""
    local_mean = _local_mean(window, weights)
    # The images are centred first: the mean square minus the squared mean loses the digits that the two share.
    fixed, warped = _centred(fixed, weights), _centred(warped, weights)
    fixed_mean, warped_mean = local_mean(fixed), local_mean(warped)
    covariance = local_mean(fixed * warped) - fixed_mean * warped_mean
    fixed_variance = local_mean(jnp.square(fixed)) - jnp.square(fixed_mean)
    warped_variance = local_mean(jnp.square(warped)) - jnp.square(warped_mean)
    return _correlation(covariance, fixed_variance, warped_variance)


def _local_mean(window: int, weights: jax.Array | None) -> Callable[[jax.Array], jax.Array]:
    """The mean, or weighted mean, in the window around each voxel."""
    if weights is None:
        return lambda image: box_mean(image, window)
    total = jnp.maximum(box_mean(weights, window), SMALLEST_WEIGHT)
    return lambda image: box_mean(weights * image, window) / total


def _correlation(covariance: jax.Array, fixed_variance: jax.Array, warped_variance: jax.Array) -> jax.Array:
    fixed_scale, warped_scale = (
        lax.rsqrt(jnp.maximum(variance, VARIANCE_FLOOR)) for variance in (fixed_variance, warped_variance)
    )
    return covariance * fixed_scale * warped_scale


def _centred(image: jax.Array, weights: jax.Array | None) -> jax.Array:
    """Subtracts the weighted mean of each channel; voxels of weight 0 become 0."""
    image = seen(at_least_float32(image), weights)
    return seen(image - weighted_mean(image, weights, range(1, image.ndim - 1), keepdims=True), weights)


def _voxel_mean(image: jax.Array, weights: jax.Array | None) -> jax.Array:
    # Without the barrier XLA fuses the correlations into the sum, which takes a CPU five times as long.
    return weighted_mean(lax.optimization_barrier(image), weights, range(1, image.ndim))
