"""Nearest-neighbour sampling (order 0), by index, so that values of every dtype stay exact."""

import jax
import jax.numpy as jnp

from air_jax.transforms.sampling.cells import voxel_within


def nearest(volumes: jax.Array, coordinates: jax.Array, mode: str) -> jax.Array:
    """Takes the voxel nearest to each point.

    A point halfway between two voxels takes the one with the larger index, like SciPy's `map_coordinates` of order 0.
    SciPy maps a point beyond the border into the image first; this function takes the same voxel in every mode.

    Args:
      volumes: `[B, *V, C]`, any dtype.
      coordinates: `[B, *S, N]` float32, in voxels of the volumes, array-index order.
      mode: one of `cells.MODES`, see `air_jax.warp`.

    Returns:
      `[B, *S, C]`, in the dtype of `volumes`.
    """
    shape = volumes.shape[1:-1]
    indices = [_nearest_index(coordinates[..., axis], size, mode) for axis, size in enumerate(shape)]
    voxels = [voxel_within(index, size, mode) for index, size in zip(indices, shape, strict=True)]
    # `voxel_within` keeps every index inside.
    found = jax.vmap(lambda volume, at: volume.at[at].get(mode="promise_in_bounds"))(volumes, tuple(voxels))
    if mode != "constant":
        return found
    inside = jnp.ones_like(indices[0], bool)
    for index, size in zip(indices, shape, strict=True):
        inside &= (index >= 0) & (index < size)
    return jnp.where(inside[..., None], found, jnp.zeros((), found.dtype))


def _nearest_index(coordinate: jax.Array, size: int, mode: str) -> jax.Array:
    """Index of the nearest voxel along an axis of `size` voxels; it may be outside."""
    # `floor(coordinate + 0.5)` rounds 0.49999997 up to 1 in float32. This difference is exact.
    index = jnp.round(coordinate)
    difference = coordinate - index
    if mode == "mirror" and size > 1:
        # Where the mapped point moves backwards, the larger index inside the image is the smaller one outside. SciPy
        # does not yet mirror the cell just beyond the last voxel.
        lower = jnp.floor(coordinate)
        backwards = lower % (2 * size - 2) >= jnp.where(lower < 0, size - 1, size)
    elif mode == "reflect":
        backwards = jnp.floor(coordinate) % (2 * size) >= size
    else:
        backwards = jnp.zeros_like(index, bool)
    # Halves are rounded to even until here.
    up = (difference == 0.5) & ~backwards
    down = (difference == -0.5) & backwards
    return (index + up - down).astype(jnp.int32)
