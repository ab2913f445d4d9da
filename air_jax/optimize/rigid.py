"""Regions that move rigidly: the rigid motion closest to a map, and its blend into the surroundings."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from air_jax.optimize.geometry import Sizes
from air_jax.transforms import apply_affine, identity_grid, invert_affine

BLEND = 8.0  # distance over which a body's motion fades outside of it, in the smallest voxel length of the grid
MARGIN = 1.0  # around a body the motion is also its own, in the same unit; interpolation uses these voxels
_AXIS_WEIGHT = 1e6  # of directions that a rotation must keep, relative to the spread of the points
_PRIOR = 1e-4  # weight of the affine's own rotation, in squared voxel lengths; bodies may be thin, or one voxel


def blend_weights(regions: jax.Array, voxel_size: Sizes) -> jax.Array:
    """Computes how much each voxel follows each body.

    Args:
      regions: `[B, *S, K]`, above 0 inside.
      voxel_size: `[N]`, lengths of the voxels.

    Returns:
      `[B, *S, K]` in [0, 1], with a sum of at most 1: 1 inside of the body and 0 inside of the others, falling
      smoothly to 0 at a distance of `MARGIN + BLEND`.
    """
    smallest = min(voxel_size)
    inside, weights = regions > 0, []
    for body in range(regions.shape[-1]):
        distance = _distance(inside[..., body], voxel_size, (BLEND + MARGIN) * smallest) / smallest
        near = jnp.clip(1 - (distance - MARGIN) / BLEND, 0, 1)
        others = jnp.any(jnp.delete(inside, body, axis=-1, assume_unique_indices=True), axis=-1)
        weights.append(jnp.where(others & ~inside[..., body], 0, near * near * (3 - 2 * near)))
    together = jnp.stack(weights, axis=-1)
    return together / jnp.maximum(jnp.sum(together, axis=-1, keepdims=True), 1)


def project_rigid(
    displacement: jax.Array,
    regions: jax.Array,
    blend: jax.Array,
    matrix: jax.Array | None,
    sizes: tuple[Sizes, Sizes],
    free: Sequence[float],
) -> jax.Array:
    """Replaces the map inside of each body by the rigid motion closest to it.

    The motion minimises the squared distance in lengths over the body (Procrustes). Where `matrix` mirrors, so does the
    motion. Outside it fades by `blend`.

    Args:
      displacement: `[B, *S, N]` in voxels.
      regions: `[B, *S, K]`, the weight of each voxel in the fit.
      blend: `[B, *S, K]`, see `blend_weights`.
      matrix: `[B, N, N + 1]` that follows the displacement, or None: the identity.
      sizes: lengths of the fixed and the moving voxels.
      free: `[N]`, 0 for axes along which the displacement is zero: the motion then keeps this coordinate.

    Returns:
      `[B, *S, N]`.

    Reference:
      Arun, Huang, Blostein 1987, Least-squares fitting of two 3-D point sets.
    """
    shape, num_axes = displacement.shape[1:-1], displacement.shape[-1]
    if matrix is None:
        matrix = jnp.broadcast_to(jnp.eye(num_axes, num_axes + 1), (displacement.shape[0], num_axes, num_axes + 1))
    voxel, moving_voxel = (jnp.asarray(size).reshape((1,) * (num_axes + 1) + (-1,)) for size in sizes)
    middle = (jnp.asarray(shape, jnp.float32) - 1) / 2
    grid = identity_grid(shape)[None]
    points = (grid - middle.reshape(voxel.shape)) * voxel  # around 0, where float32 is finest
    moved = apply_affine(matrix, grid + displacement) * moving_voxel
    axes = tuple(range(1, num_axes + 1))
    back, corrections = invert_affine(matrix), []
    for body in range(regions.shape[-1]):
        weights = regions[..., body, None]
        mass = jnp.maximum(jnp.sum(weights, axis=axes, keepdims=True), 1e-6)
        here, there = (jnp.sum(weights * each, axis=axes, keepdims=True) / mass for each in (points, moved))
        from_here, from_there = weights * (points - here) / mass, moved - there
        covariance = jnp.einsum("b...i,b...j->bij", from_here, from_there, precision="highest")
        rotation = _rotation(covariance, matrix, sizes, free)
        rotated = jnp.einsum("bij,b...j->b...i", rotation, points - here, precision="highest")
        target = apply_affine(back, (rotated + there) / moving_voxel)
        corrections.append(blend[..., body, None] * (target - grid - displacement))
    return displacement + sum(corrections[1:], start=corrections[0])


def _rotation(covariance: jax.Array, matrix: jax.Array, sizes: tuple[Sizes, Sizes], free: Sequence[float]) -> jax.Array:
    """The orthogonal matrices `[B, N, N]` closest to covariances of here and there, mirrored as `matrix` is."""
    linear = matrix[..., :-1] * (jnp.asarray(sizes[1])[:, None] / jnp.asarray(sizes[0])[None])[None]
    covariance = covariance + _PRIOR * min(sizes[0]) ** 2 * jnp.swapaxes(linear, 1, 2)
    covariance = covariance / jnp.sqrt(jnp.sum(jnp.square(covariance), axis=(1, 2), keepdims=True))
    # A map that keeps the coordinate along an axis leads the axis to the same row of the inverse of its linear part.
    rows = jnp.linalg.inv(linear)
    for axis, is_free in enumerate(free):
        if not is_free:
            kept = rows[:, axis] / jnp.linalg.norm(rows[:, axis], axis=-1, keepdims=True)
            here = jnp.eye(len(free))[axis]
            # Without the part along the axis, the rest of the rotation is about it.
            covariance = covariance - here[None, :, None] * covariance[:, axis, None, :]
            covariance = covariance - jnp.sum(covariance * kept[:, None], axis=-1, keepdims=True) * kept[:, None]
            covariance = covariance + _AXIS_WEIGHT * here[None, :, None] * kept[:, None]
    left, _, right = jnp.linalg.svd(covariance)
    sign = jnp.sign(jnp.linalg.det(linear)) * jnp.sign(jnp.linalg.det(left) * jnp.linalg.det(right))
    last = jnp.concatenate([jnp.ones((sign.shape[0], len(free) - 1)), sign[:, None]], axis=1)
    return jnp.einsum("bki,bk,bjk->bij", right, last, left, precision="highest")


def _distance(inside: jax.Array, voxel_size: Sizes, longest: float) -> jax.Array:
    """Distance in lengths `[B, *S]` to the closest voxel inside `[B, *S]`, exact up to `longest` (one axis at a time:
    Felzenszwalb, Huttenlocher 2012, Distance transforms of sampled functions).
    """
    far = (2 * longest) ** 2
    square = jnp.where(inside, 0.0, far)
    for axis, length in enumerate(voxel_size, start=1):
        reach = min(math.ceil(longest / length), square.shape[axis] - 1)
        padding = [(reach, reach) if each == axis else (0, 0) for each in range(square.ndim)]
        padded, size = jnp.pad(square, padding, constant_values=far), square.shape[axis]
        for step in range(-reach, reach + 1):
            shifted = jax.lax.slice_in_dim(padded, reach + step, reach + step + size, axis=axis)
            square = jnp.minimum(square, shifted + (step * length) ** 2)
    return jnp.sqrt(square)
