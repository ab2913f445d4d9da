"""Correlation similarities: 1 minus how well intensities fit a straight line, over the whole image or in windows."""

import jax
import jax.numpy as jnp
from jax import lax

from air_jax.losses.windows import at_least_float32, box_mean

# Variances below it count as this much: the square of one grey level of an 8-bit image, in images of [0, 1]. Flat
# background then has correlation 0 whatever its noise, and gradients are finite, while windows with more contrast keep
# their exact correlation (an addend in the denominator would bias them). Rounding stays two orders of magnitude below.
VARIANCE_FLOOR = (1 / 255) ** 2


def ncc(fixed: jax.Array, warped: jax.Array) -> jax.Array:
    """1 minus the normalised cross-correlation of the whole images.

    Args:
      fixed, warped: `[B, *S, C]` in [0, 1].

    Returns:
      `[B]`: the mean over channels, from 0 (equal up to brightness and contrast) over 1 (unrelated, or one is constant)
      to 2 (inverted contrast).
    """
    fixed, warped = _centred(fixed), _centred(warped)
    covariance, fixed_variance, warped_variance = (
        jnp.mean(product, axis=tuple(range(1, fixed.ndim - 1)))
        for product in (fixed * warped, jnp.square(fixed), jnp.square(warped))
    )
    correlation = _correlation(covariance, fixed_variance, warped_variance)
    return 1 - jnp.mean(correlation, axis=-1)


def lncc(fixed: jax.Array, warped: jax.Array, *, window: int = 9) -> jax.Array:
    """1 minus the mean local correlation, with its sign (Cachier & Pennec 2000, there in Gaussian windows).

    Args:
      fixed, warped: `[B, *S, C]` in [0, 1].
      window: side of the box around each voxel, in voxels, odd. Windows at the border have fewer voxels.

    Returns:
      `[B]`: the mean over voxels and channels, from 0 (locally equal up to brightness and contrast) to 2 (inverted);
      windows where an image is constant contribute 1.

    Raises:
      ValueError: `window` is not odd and positive.
    """
    return 1 - _voxel_mean(_local_correlation(fixed, warped, window))


def squared_lncc(fixed: jax.Array, warped: jax.Array, *, window: int = 9) -> jax.Array:
    """1 minus the mean squared local correlation (Avants et al. 2008; Balakrishnan et al. 2019, VoxelMorph).

    The square sees no sign, so that inverted contrast counts as aligned.

    Args:
      fixed, warped: `[B, *S, C]` in [0, 1].
      window: side of the box around each voxel, in voxels, odd. Windows at the border have fewer voxels.

    Returns:
      `[B]`: the mean over voxels and channels, from 0 to 1; windows where an image is constant contribute 1.

    Raises:
      ValueError: `window` is not odd and positive.
    """
    return 1 - _voxel_mean(jnp.square(_local_correlation(fixed, warped, window)))


def _local_correlation(fixed: jax.Array, warped: jax.Array, window: int) -> jax.Array:
    """Correlation of the windows around each voxel, `[B, *S, C]`."""
    # Centred first, because the mean square minus the squared mean loses the digits that the two have in common.
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
    """Minus its mean in each channel."""
    image = at_least_float32(image)
    return image - jnp.mean(image, axis=tuple(range(1, image.ndim - 1)), keepdims=True)


def _voxel_mean(image: jax.Array) -> jax.Array:
    # Fused into the sum, what computes the correlations takes XLA on a CPU five times as long.
    return jnp.mean(lax.optimization_barrier(image), axis=tuple(range(1, image.ndim)))
