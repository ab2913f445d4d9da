"""Affine maps of points, `x -> linear x + translation`, as matrices `[B, N, N + 1]` with the translation last."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from air_jax.runtime.any_mesh import on_any_mesh


@on_any_mesh
def apply_affine(matrix: jax.Array, points: jax.Array) -> jax.Array:
    """Applies affine maps to points.

    It computes each component as a sum, because accelerators multiply matrices in fewer bits than float32.

    Args:
      matrix: `[B, N, N + 1]`, in the units of the points and of the result.
      points: `[B, *S, N]`, for example in voxels. A batch of 1 is used for every item of the other argument.

    Returns:
      `[B, *S, N]`.

    Raises:
      ValueError: the shapes do not fit each other.
    """
    if matrix.ndim != 3 or matrix.shape[1:] != (points.shape[-1], points.shape[-1] + 1):
        raise ValueError(
            f"apply_affine: matrix has shape {matrix.shape} and points has shape {points.shape}; "
            "they must be [B, N, N + 1] and [B, *S, N]"
        )
    num_axes = points.shape[-1]

    def entry(row: int, column: int) -> jax.Array:
        return matrix[:, row, column].reshape(-1, *(1,) * (points.ndim - 2))

    rows = range(num_axes)
    return jnp.stack(
        [sum(entry(i, j) * points[..., j] for j in rows) + entry(i, num_axes) for i in rows],
        axis=-1,
    )


def between_grids(old_shape: Sequence[int], new_shape: Sequence[int]) -> jax.Array:
    """Returns the affine map from the voxels of a resized grid to those of the old grid, over the same extent.

    Args:
      old_shape: spatial shape of the old grid.
      new_shape: spatial shape of the resized grid. Voxels are cells, as in `resize`, so both grids have the same edges.

    Returns:
      `[N, N + 1]` float32, from voxels of the new grid to voxels of the old one.

    Raises:
      ValueError: the shapes have different numbers of axes.
    """
    scale = jnp.asarray([old / new for old, new in zip(old_shape, new_shape, strict=True)], jnp.float32)
    return jnp.concatenate([jnp.diag(scale), (0.5 * scale - 0.5)[:, None]], axis=1)


@on_any_mesh
def compose_affine(outer: jax.Array, inner: jax.Array) -> jax.Array:
    """Composes two affine maps: `x -> outer(inner(x))`.

    Args:
      outer: `[..., N, N + 1]`, the map that is applied second.
      inner: the same shape, the map that is applied first. Its result has the unit that `outer` takes.

    Returns:
      `[..., N, N + 1]`.
    """
    linear, translation = outer[..., :-1], outer[..., -1:]
    product = jnp.matmul(linear, inner, precision=jax.lax.Precision.HIGHEST)
    return product.at[..., -1:].add(translation)


@on_any_mesh
def invert_affine(matrix: jax.Array) -> jax.Array:
    """Inverts affine maps.

    Args:
      matrix: `[..., N, N + 1]`. A singular matrix gives values that are not finite.

    Returns:
      `[..., N, N + 1]`, from the unit of the results to that of the points.
    """
    linear = jnp.linalg.inv(matrix[..., :-1])
    translation = -jnp.matmul(linear, matrix[..., -1:], precision=jax.lax.Precision.HIGHEST)
    return jnp.concatenate([linear, translation], axis=-1)
