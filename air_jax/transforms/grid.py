"""The identity grid: the index coordinates of every voxel."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from air_jax.checks import check_shape


def identity_grid(shape: Sequence[int]) -> jax.Array:
    """Returns the index coordinates of every voxel.

    Args:
      shape: the image's spatial shape `S`, `(H, W)` or `(D, H, W)`.

    Returns:
      `[*S, N]` float32 in voxel units and array-index order, `N = len(S)`: `grid[i, j] == (i, j)`.

    Raises:
      OptionError: a size is no integer of at least 1.

    Examples:
      >>> air_jax.transforms.identity_grid((2, 2)).tolist()
      [[[0.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 1.0]]]
    """
    check_shape("shape", shape)
    axes = [jnp.arange(size, dtype=jnp.float32) for size in shape]
    return jnp.stack(jnp.meshgrid(*axes, indexing="ij"), axis=-1)
