"""Edge tensor: a description of an image that is the same for its negative."""

import jax
import jax.numpy as jnp

from air_jax.transforms import smooth

WINDOW_SIGMA = 2.0  # voxels, of the Gaussian window with whose edges a voxel's are compared
SMALLEST_SLOPE = 0.05  # grey values a voxel; windows with smaller slopes count as flat
# Keeps the squared distances of untrained features so small that their softmax is not saturated, and can be trained.
SCALE = 0.25


def edge_tensor(image: jax.Array) -> jax.Array:
    """Computes the products of the slopes of an image, relative to the slopes around.

    For slopes `g` and a Gaussian window `G`, `T_ij(p) = c g_i(p) g_j(p) / (G * |g|^2 (p) + s^2)` with constants `c` and
    `s`. A factor or a sign of the grey values changes nothing but the influence of `s`.

    Args:
      image: `[B, *S, C]` in [0, 1], at least 2 voxels along each axis. Products are summed over channels.

    Returns:
      `[B, *S, N (N + 1) / 2]`, the products of each two axes, `i <= j`.
    """
    num_axes = image.ndim - 2
    slopes = [_slope(image, axis) for axis in range(1, 1 + num_axes)]
    products = [
        jnp.sum(slopes[i] * slopes[j], axis=-1, keepdims=True) for i in range(num_axes) for j in range(i, num_axes)
    ]
    squared = sum((jnp.sum(jnp.square(slope), axis=-1, keepdims=True) for slope in slopes), start=jnp.zeros(()))
    return SCALE * jnp.concatenate(products, axis=-1) / (smooth(squared, WINDOW_SIGMA) + SMALLEST_SLOPE**2)


def _slope(image: jax.Array, axis: int) -> jax.Array:
    """Half of the difference of the two neighbours; the edge values continue outside."""
    widths = [(1, 1) if i == axis else (0, 0) for i in range(image.ndim)]
    padded, size = jnp.pad(image, widths, mode="edge"), image.shape[axis]
    after, before = (jax.lax.slice_in_dim(padded, start, start + size, axis=axis) for start in (2, 0))
    return 0.5 * (after - before)
