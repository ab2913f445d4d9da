"""The Jacobian determinant of `p -> p + u(p)`: local volume change, and where the map folds."""

import itertools

import jax
import jax.numpy as jnp


def _interior(array: jax.Array, axis: int, start: int, num_axes: int) -> jax.Array:
    """Cuts `[B, *S, N]` to the interior voxels, shifted by `start - 1` along one spatial axis."""
    index = [slice(None)] + [slice(1, -1)] * num_axes + [slice(None)]
    size = array.shape[axis + 1]
    index[axis + 1] = slice(start, size - 2 + start)
    return array[tuple(index)]


def determinant(columns: list[jax.Array]) -> jax.Array:
    """Determinant of the 2x2 or 3x3 matrix whose columns are given, each `[..., N]`."""
    if len(columns) == 2:
        (a, c), (b, d) = (jnp.moveaxis(column, -1, 0) for column in columns)
        return a * d - b * c
    return jnp.sum(columns[0] * jnp.cross(columns[1], columns[2]), axis=-1)


def _check(displacement: jax.Array) -> int:
    num_axes = displacement.shape[-1]
    if num_axes not in (2, 3) or displacement.ndim != num_axes + 2:
        raise ValueError(f"displacement has shape {displacement.shape}; it must be [B, H, W, 2] or [B, D, H, W, 3]")
    if min(displacement.shape[1:-1]) < 3:
        raise ValueError(
            f"displacement has shape {displacement.shape}; derivatives need at least 3 voxels along each axis"
        )
    return num_axes


def _differences(displacement: jax.Array, num_axes: int, low: int, high: int) -> list[jax.Array]:
    """Derivative of `p + u(p)` along each axis at interior voxels, from the values at offsets `low - 1`, `high - 1`."""
    columns = []
    for axis in range(num_axes):
        upper, lower = (_interior(displacement, axis, start, num_axes) for start in (high, low))
        unit = jnp.zeros(num_axes, displacement.dtype).at[axis].set(1)
        columns.append((upper - lower) / (high - low) + jnp.broadcast_to(unit, upper.shape))
    return columns


def jacobian_determinant(displacement: jax.Array) -> jax.Array:
    """Jacobian determinant of `id + u` at interior voxels, by central differences.

    Args:
      displacement: `[B, *S, N]` in voxel units, 2-D or 3-D, at least 3 voxels along each axis.

    Returns:
      `[B, *(S - 2)]`: 1 where volume is kept, <= 0 where the map folds.

    Raises:
      ValueError: the shape is not that of a 2-D or 3-D displacement.
    """
    num_axes = _check(displacement)
    return determinant(_differences(displacement, num_axes, low=0, high=2))


def corner_jacobian_determinant(displacement: jax.Array) -> jax.Array:
    """The smallest determinant of `id + u` over every combination of forward and backward differences.

    Central differences skip the voxel itself and so miss folds of one voxel; where each of the `2^N` one-sided
    determinants is positive, none of the corners around the voxel folds (Liu et al., IJCV 2024, section 3).

    Args:
      displacement: `[B, *S, N]` in voxel units, 2-D or 3-D, at least 3 voxels along each axis.

    Returns:
      `[B, *(S - 2)]`, at interior voxels.

    Raises:
      ValueError: the shape is not that of a 2-D or 3-D displacement.
    """
    num_axes = _check(displacement)
    backward = _differences(displacement, num_axes, low=0, high=1)
    forward = _differences(displacement, num_axes, low=1, high=2)
    corners = [determinant(list(columns)) for columns in itertools.product(*zip(backward, forward, strict=True))]
    return jnp.stack(corners).min(axis=0)


def cell_jacobian_determinants(displacement: jax.Array) -> jax.Array:
    """The determinant of `id + u` at every corner of every cell, a cell being the square or cube between voxels.

    Each corner's determinant is that of the cell's edges that meet there. In 2-D the bilinear map of a cell folds
    exactly where one of its four is not positive; those at an interior voxel are what `corner_jacobian_determinant`
    takes the smallest of.

    Args:
      displacement: `[B, *S, N]` in voxel units, 2-D or 3-D, at least 3 voxels along each axis.

    Returns:
      `[2^N, B, *(S - 1)]`.

    Raises:
      ValueError: the shape is not that of a 2-D or 3-D displacement.
    """
    num_axes = _check(displacement)
    edges = []
    for axis in range(num_axes):
        unit = jnp.zeros(num_axes, displacement.dtype).at[axis].set(1)
        difference = jnp.diff(displacement, axis=axis + 1)
        edges.append(difference + jnp.broadcast_to(unit, difference.shape))

    def at_corner(edge, axis, corner):
        """The edges along `axis` that leave the given corner of each cell."""
        spatial = [slice(None) if other == axis else slice(side, side - 1 or None) for other, side in enumerate(corner)]
        return edge[(slice(None), *spatial)]

    corners = itertools.product((0, 1), repeat=num_axes)
    return jnp.stack(
        [determinant([at_corner(edge, axis, corner) for axis, edge in enumerate(edges)]) for corner in corners]
    )
