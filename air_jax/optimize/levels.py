"""From coarse to fine: the same pairs on grids of fewer, larger voxels."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from air_jax.transforms import apply_affine, between_grids, compose_affine, identity_grid, invert_affine, sample, warp

# Coarser than this many voxels along an axis, an image tells too little.
FEWEST_VOXELS = 8


def level_shape(shape: Sequence[int], coarse: float, voxel_size: Sequence[float]) -> tuple[int, ...]:
    """The grid of a level: axes are shrunk by powers of two, until their voxels are about `coarse` long.

    Args:
      shape: `S`.
      coarse: length of a level's voxels, in the unit of `voxel_size`; axes with longer ones stay as they are.
      voxel_size: `[N]`.
    """
    sizes = []
    for size, length in zip(shape, voxel_size, strict=True):
        times = 1
        while times * length * 2**0.5 < coarse and size // (2 * times) >= FEWEST_VOXELS:
            times *= 2
        sizes.append(-(-size // times))
    return tuple(sizes)


def shares(num_steps: int, num_levels: int) -> list[int]:
    """Steps shared out among levels, coarse to fine; what is left over goes to the last ones."""
    return [num_steps // num_levels + (index >= num_levels - num_steps % num_levels) for index in range(num_levels)]


def level_matrix(
    matrix: jax.Array,
    fixed: Sequence[int],
    moving: Sequence[int],
    level_fixed: Sequence[int],
    level_moving: Sequence[int],
) -> jax.Array:
    """`matrix` `[B, N, N + 1]`, from fixed to moving voxels, in the voxels of a level's grids."""
    to_fixed = jnp.broadcast_to(between_grids(fixed, level_fixed), matrix.shape)
    to_moving = jnp.broadcast_to(between_grids(moving, level_moving), matrix.shape)
    return compose_affine(invert_affine(to_moving), compose_affine(matrix, to_fixed))


def warp_between(moving: jax.Array, displacement: jax.Array, matrix: jax.Array | None) -> jax.Array:
    """`moving(matrix(p + u(p)))`, in one interpolation; what lies outside has the value of the border.

    Args:
      moving: `[B, *V, C]`.
      displacement: `u` `[B, *S, N]`, in voxels of the fixed grid `S`.
      matrix: `[B, N, N + 1]` from fixed to moving voxels; None where both are the same.

    Returns:
      `[B, *S, C]`.
    """
    if matrix is None:
        return warp(moving, displacement, mode="nearest")
    points = identity_grid(displacement.shape[1:-1])[None] + displacement
    return sample(moving, apply_affine(matrix, points), mode="nearest")
