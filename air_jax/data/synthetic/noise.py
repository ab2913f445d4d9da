"""Smooth random arrays, a function of their key only."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from air_jax.transforms import bspline

# The mean over a cell of the sum of a cubic B-spline's squared weights, along one axis.
_MEAN_SQUARE = 151 / 315
_MARGIN = 2  # cells beyond each border, so that no voxel of the image sees a repeated control point


def smooth_noise(key: jax.Array, shape: Sequence[int], spacing: int, num_channels: int) -> jax.Array:
    """Draws cubic B-splines with independent normal coefficients.

    Args:
      key: random key.
      shape: spatial shape `S`.
      spacing: voxels between control points, at least 1; larger is smoother.
      num_channels: number C of independent channels.

    Returns:
      `[*S, C]` float32 of mean 0 and root mean square 1, over the image and over draws.
    """
    cells = [-(-size // spacing) + 2 * _MARGIN for size in shape]
    control = jax.random.normal(key, (1, *cells, num_channels))
    noise = bspline(control, (spacing,) * len(shape), [count * spacing for count in cells])[0]
    inside = tuple(slice(_MARGIN * spacing, _MARGIN * spacing + size) for size in shape)
    return noise[inside] * _MEAN_SQUARE ** (-len(shape) / 2)


def multiscale_noise(
    key: jax.Array, shape: Sequence[int], spacings: Sequence[int], num_channels: int, *, largest: Sequence[float]
) -> jax.Array:
    """Draws a sum of `smooth_noise` of several spacings, each with a random amplitude.

    Args:
      key: random key.
      shape: spatial shape `S`.
      spacings: voxels between control points, one number for each summand.
      num_channels: number C of channels.
      largest: upper bounds of the amplitudes (root mean square), one for each summand. Amplitudes are uniform from 0
        on, and the same for all channels.

    Returns:
      `[*S, C]` float32.
    """
    amplitude_key, *keys = jax.random.split(key, 1 + len(spacings))
    amplitudes = jax.random.uniform(amplitude_key, (len(spacings),), maxval=jnp.asarray(largest, jnp.float32))
    summands = [smooth_noise(key, shape, spacing, num_channels) for key, spacing in zip(keys, spacings, strict=True)]
    return sum((a * noise for a, noise in zip(amplitudes, summands, strict=True)), start=jnp.zeros(()))
