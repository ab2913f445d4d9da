"""Affine maps of points, `x -> linear x + translation`: matrices `[B, N, N + 1]` with the translation last."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def apply_affine(matrix: jax.Array, points: jax.Array) -> jax.Array:
    """Maps points, component by component, so that nothing is computed in fewer bits than float32.

    Args:
      matrix: `[B, N, N + 1]`.
      points: `[B, *S, N]`.

    Returns:
      `[B, *S, N]`.
    """
    num_axes = points.shape[-1]

    def entry(row: int, column: int) -> jax.Array:
        return matrix[:, row, column].reshape(-1, *(1,) * (points.ndim - 2))

    rows = range(num_axes)
    return jnp.stack(
        [sum(entry(i, j) * points[..., j] for j in rows) + entry(i, num_axes) for i in rows],
        axis=-1,
    )


def between_grids(old_shape: Sequence[int], new_shape: Sequence[int]) -> jax.Array:
    """The matrix `[N, N + 1]` from the voxels of a resized grid to those of the old one, over the same extent.

    Voxels are cells, as in `resize`: the first edge stays the first edge, the last the last.
    """
    scale = jnp.asarray([old / new for old, new in zip(old_shape, new_shape, strict=True)], jnp.float32)
    return jnp.concatenate([jnp.diag(scale), (0.5 * scale - 0.5)[:, None]], axis=1)


def compose_affine(outer: jax.Array, inner: jax.Array) -> jax.Array:
    """`x -> outer(inner(x))`, matrices `[..., N, N + 1]`."""
    linear, translation = outer[..., :-1], outer[..., -1:]
    product = jnp.matmul(linear, inner, precision=jax.lax.Precision.HIGHEST)
    return product.at[..., -1:].add(translation)


def invert_affine(matrix: jax.Array) -> jax.Array:
    """The map back, matrices `[..., N, N + 1]`."""
    linear = jnp.linalg.inv(matrix[..., :-1])
    translation = -jnp.matmul(linear, matrix[..., -1:], precision=jax.lax.Precision.HIGHEST)
    return jnp.concatenate([linear, translation], axis=-1)
