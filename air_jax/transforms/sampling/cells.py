"""What the implementations of interpolation share: which voxel stands for a corner of the cell around a point."""

import jax
import jax.numpy as jnp

MODES = ("constant", "nearest", "mirror", "reflect", "wrap")

AxisSets = tuple[tuple[int, ...], ...]
Corner = tuple[int, ...]  # 0 for lower, 1 for upper along each axis


def voxel_within(index: jax.Array, size: int, mode: str) -> jax.Array:
    """The voxel along an axis of `size` that stands for `index`, which may lie outside; the nearest for `constant`."""
    if mode in ("constant", "nearest") or size == 1:
        return jnp.clip(index, 0, size - 1)
    if mode == "wrap":
        return index % size
    if mode == "mirror":
        return jnp.abs((index + size - 1) % (2 * size - 2) - (size - 1))
    period = index % (2 * size)  # reflect
    return jnp.minimum(period, 2 * size - 1 - period)
