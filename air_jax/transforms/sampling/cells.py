"""Steps that all implementations of sampling share: coordinates of points, and voxels for indices beyond the border."""

import jax
import jax.numpy as jnp

from air_jax.transforms.grid import identity_grid

MODES = ("constant", "nearest", "mirror", "reflect", "wrap")

AxisSets = tuple[tuple[int, ...], ...]
Corner = tuple[int, ...]  # 0 for lower, 1 for upper along each axis


def coordinates_of(points: jax.Array, relative: bool) -> jax.Array:
    """Returns the coordinates of `points` `[B, *S, N]`, which are displacements from their own grid if `relative`."""
    return identity_grid(points.shape[1:-1])[None] + points if relative else points


def voxel_within(index: jax.Array, size: int, mode: str) -> jax.Array:
    """Returns the voxel that stands for `index`, which may be outside, along an axis of `size` voxels.

    In the mode `constant`, which has no such voxel outside, it is the nearest one.
    """
    if mode in ("constant", "nearest") or size == 1:
        return jnp.clip(index, 0, size - 1)
    if mode == "wrap":
        return index % size
    if mode == "mirror":
        return jnp.abs((index + size - 1) % (2 * size - 2) - (size - 1))
    period = index % (2 * size)  # reflect
    return jnp.minimum(period, 2 * size - 1 - period)
