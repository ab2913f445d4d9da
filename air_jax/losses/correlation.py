"""Correlation similarities: 1 minus the linear correlation of intensities, in the whole image or in windows."""

import jax
import jax.numpy as jnp
from jax import lax

from air_jax.losses.windows import at_least_float32, box_mean
from air_jax.transforms.shapes import check_images

# Lower bound of a variance: the square of one grey level of an 8-bit image, for images in [0, 1]. Flat background then
# has correlation 0 whatever its noise, and gradients are finite. Windows with more contrast keep their exact
# correlation, which a constant added to the denominator would bias. Rounding errors are a hundred times smaller.
VARIANCE_FLOOR = (1 / 255) ** 2


def ncc_loss(fixed: jax.Array, warped: jax.Array) -> jax.Array:
    """1 minus the normalised cross-correlation of the whole images.

    Args:
      fixed: `[B, *S, C]` in [0, 1].
      warped: the same shape.

    Returns:
      `[B]`: the mean over channels. 0: equal up to brightness and contrast. 1: unrelated, or one image is constant.
      2: inverted contrast.

    Raises:
      ValueError: the shapes differ.
    """
    check_images("ncc_loss", fixed, warped)
    fixed, warped = _centred(fixed), _centred(warped)
    covariance, fixed_variance, warped_variance = (
        jnp.mean(product, axis=tuple(range(1, fixed.ndim - 1)))
        for product in (fixed * warped, jnp.square(fixed), jnp.square(warped))
    )
    correlation = _correlation(covariance, fixed_variance, warped_variance)
    return 1 - jnp.mean(correlation, axis=-1)


def lncc_loss(fixed: jax.Array, warped: jax.Array, *, window: int = 9) -> jax.Array:
    """1 minus the mean local correlation, with its sign (Cachier & Pennec 2000, who use Gaussian windows).

    Args:
      fixed: `[B, *S, C]` in [0, 1].
      warped: the same shape.
      window: side of the box around each voxel, in voxels, odd; 9 by default. Boxes are cut off at the border.

    Returns:
      `[B]`: the mean over voxels and channels. 0: locally equal up to brightness and contrast. 2: inverted contrast.
      Windows in which an image is constant contribute 1.

    Raises:
      ValueError: the shapes differ.
      OptionError: `window` is not odd and positive.
    """
    check_images("lncc_loss", fixed, warped)
    return 1 - _voxel_mean(_local_correlation(fixed, warped, window))


def squared_lncc_loss(fixed: jax.Array, warped: jax.Array, *, window: int = 9) -> jax.Array:
    """1 minus the mean squared local correlation (Avants et al. 2008; Balakrishnan et al. 2019, VoxelMorph).

    The square ignores the sign, so inverted contrast counts as aligned.

    Args:
      fixed: `[B, *S, C]` in [0, 1].
      warped: the same shape.
      window: side of the box around each voxel, in voxels, odd; 9 by default. Boxes are cut off at the border.

    Returns:
      `[B]` in [0, 1]: the mean over voxels and channels. Windows in which an image is constant contribute 1.

    Raises:
      ValueError: the shapes differ.
      OptionError: `window` is not odd and positive.
    """
    check_images("squared_lncc_loss", fixed, warped)
    return 1 - _voxel_mean(jnp.square(_local_correlation(fixed, warped, window)))


def _local_correlation(fixed: jax.Array, warped: jax.Array, window: int) -> jax.Array:
    """Correlation in the window around each voxel, `[B, *S, C]`."""
    # The images are centred first: the mean square minus the squared mean loses the digits that the two share.
    fixed, warped = _centred(fixed), _centred(warped)
    fixed_mean, warped_mean = box_mean(fixed, window), box_mean(warped, window)
    covariance = box_mean(fixed * warped, window) - fixed_mean * warped_mean
    fixed_variance = box_mean(jnp.square(fixed), window) - jnp.square(fixed_mean)
    warped_variance = box_mean(jnp.square(warped), window) - jnp.square(warped_mean)
    return _correlation(covariance, fixed_variance, warped_variance)


def _correlation(covariance: jax.Array, fixed_variance: jax.Array, warped_variance: jax.Array) -> jax.Array:
    fixed_scale, warped_scale = (
        lax.rsqrt(jnp.maximum(variance, VARIANCE_FLOOR)) for variance in (fixed_variance, warped_variance)
    )
    return covariance * fixed_scale * warped_scale


def _centred(image: jax.Array) -> jax.Array:
    """Subtracts the mean of each channel."""
    image = at_least_float32(image)
    return image - jnp.mean(image, axis=tuple(range(1, image.ndim - 1)), keepdims=True)


def _voxel_mean(image: jax.Array) -> jax.Array:
    # Without the barrier XLA fuses the correlations into the sum, which takes a CPU five times as long.
    return jnp.mean(lax.optimization_barrier(image), axis=tuple(range(1, image.ndim)))
