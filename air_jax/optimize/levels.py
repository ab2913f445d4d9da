"""Levels of an optimisation, from coarse to fine: grids of fewer and larger voxels, numbers of steps, the warp."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from air_jax.checks import check_integer
from air_jax.transforms import apply_affine, between_grids, compose_affine, identity_grid, invert_affine, sample, warp

FEWEST_VOXELS = 8  # along each axis of a coarse level


def level_shape(shape: Sequence[int], coarse: float, voxel_size: Sequence[float]) -> tuple[int, ...]:
    """Returns the shape of a level's grid: each axis is divided by a power of 2, for voxels of about one length.

    Args:
      shape: `S`.
      coarse: length of the level's voxels, in the unit of `voxel_size`. Axes with longer voxels keep their size.
      voxel_size: `[N]`, lengths of the voxels of `shape`.

    Returns:
      `N` sizes, at least `FEWEST_VOXELS` along axes that were divided.
    """
    sizes = []
    for size, length in zip(shape, voxel_size, strict=True):
        times = 1
        while times * length * 2**0.5 < coarse and size // (2 * times) >= FEWEST_VOXELS:
            times *= 2
        sizes.append(-(-size // times))
    return tuple(sizes)


def shares(num_steps: int, num_levels: int) -> list[int]:
    """Shares steps equally among levels.

    Args:
      num_steps: number of all steps, 0 or more.
      num_levels: number of levels, at least 1.

    Returns:
      The number of steps for each level, from coarse to fine. The last levels get the remainder.

    Raises:
      OptionError: a number that is no integer, negative, or without levels.

    Examples:
      >>> air_jax.optimize.shares(10, 3)
      [3, 3, 4]
    """
    check_integer("num_steps", num_steps, 0)
    check_integer("num_levels", num_levels, 1)
    return [num_steps // num_levels + (index >= num_levels - num_steps % num_levels) for index in range(num_levels)]


def level_matrix(
    matrix: jax.Array,
    fixed: Sequence[int],
    moving: Sequence[int],
    level_fixed: Sequence[int],
    level_moving: Sequence[int],
) -> jax.Array:
    """Converts an affine to the voxels of a level's grids.

    Args:
      matrix: `[B, N, N + 1]`, from fixed to moving voxels.
      fixed, moving: shapes of the images.
      level_fixed, level_moving: shapes of the level's grids over the same extents.

    Returns:
      `[B, N, N + 1]`, from voxels of the level's fixed grid to voxels of its moving grid.
    """
    to_fixed = jnp.broadcast_to(between_grids(fixed, level_fixed), matrix.shape)
    to_moving = jnp.broadcast_to(between_grids(moving, level_moving), matrix.shape)
    return compose_affine(invert_affine(to_moving), compose_affine(matrix, to_fixed))


def warp_between(
    moving: jax.Array, displacement: jax.Array, matrix: jax.Array | None, *, mode: str = "nearest"
) -> jax.Array:
    """Warps images by a displacement and an affine after it, `moving(matrix(p + u(p)))`, in one interpolation.

    Args:
      moving: `[B, *V, C]`.
      displacement: `u` `[B, *S, N]`, in voxels of the fixed grid `S`.
      matrix: `[B, N, N + 1]` from fixed to moving voxels. None: the identity.
      mode: values outside, see `air_jax.transforms.warp`. Default: that of the nearest voxel at the border.

    Returns:
      `[B, *S, C]`.
    """
    if matrix is None:
        return warp(moving, displacement, mode=mode)
    points = identity_grid(displacement.shape[1:-1])[None] + displacement
    return sample(moving, apply_affine(matrix, points), mode=mode)
