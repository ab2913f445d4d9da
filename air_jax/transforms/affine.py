"""Affine maps of points, `x -> linear x + translation`, as matrices `[B, N, N + 1]` with the translation last."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from air_jax.checks import check_arrays, check_shape
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

    Examples:
      >>> turn = jnp.array([[[0.0, -1.0, 5.0], [1.0, 0.0, 0.0]]])
      >>> air_jax.transforms.apply_affine(turn, jnp.array([[[1.0, 2.0]]])).tolist()
      [[[3.0, 1.0]]]
    """
    check_arrays("apply_affine", "fiu", matrix=matrix, points=points)
    if matrix.ndim != 3 or points.ndim < 2 or matrix.shape[1:] != (points.shape[-1], points.shape[-1] + 1):
        raise ValueError(
            f"apply_affine: matrix has shape {matrix.shape} and points has shape {points.shape}; "
            "they must be [B, N, N + 1] and [B, *S, N]"
        )
    batches = matrix.shape[0], points.shape[0]
    if batches[0] != batches[1] and 1 not in batches:
        raise ValueError(f"apply_affine: matrix has a batch of {batches[0]} and points one of {batches[1]}")
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
      OptionError: a size is no integer of at least 1, or the shapes have different numbers of axes.

    Examples:
      >>> air_jax.transforms.between_grids((8, 8), (4, 8)).tolist()
      [[2.0, 0.0, 0.5], [0.0, 1.0, 0.0]]
    """
    check_shape("old_shape", old_shape)
    check_shape("new_shape", new_shape, len(old_shape))
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

    Raises:
      ValueError: the shapes are not those of affine maps, or differ.

    Examples:
      >>> turn = jnp.array([[0.0, -1.0, 5.0], [1.0, 0.0, 0.0]])
      >>> air_jax.transforms.compose_affine(turn, turn).tolist()
      [[-1.0, 0.0, 5.0], [0.0, -1.0, 5.0]]
    """
    _check_matrix("compose_affine", "outer", outer)
    _check_matrix("compose_affine", "inner", inner)
    if outer.shape[-2:] != inner.shape[-2:]:
        raise ValueError(f"compose_affine: outer has shape {outer.shape} and inner has shape {inner.shape}")
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

    Raises:
      ValueError: the shape is not that of affine maps.

    Examples:
      >>> scale = jnp.array([[2.0, 0.0, 6.0], [0.0, 4.0, 8.0]])
      >>> air_jax.transforms.invert_affine(scale)[0].tolist()
      [0.5, 0.0, -3.0]
    """
    _check_matrix("invert_affine", "matrix", matrix)
    linear = jnp.linalg.inv(matrix[..., :-1])
    translation = -jnp.matmul(linear, matrix[..., -1:], precision=jax.lax.Precision.HIGHEST)
    return jnp.concatenate([linear, translation], axis=-1)


def _check_matrix(function: str, name: str, matrix: jax.Array) -> None:
    check_arrays(function, "fiu", **{name: matrix})
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2] + 1:
        raise ValueError(f"{function}: {name} has shape {matrix.shape}; it must be [..., N, N + 1]")
