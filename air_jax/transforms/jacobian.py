"""Jacobian determinants of `p -> p + u(p)`: the local change of volume, and folds (determinants <= 0)."""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from air_jax.checks import check_arrays
from air_jax.runtime.any_mesh import on_any_mesh


def _interior(array: jax.Array, offset: Sequence[int] | np.ndarray) -> jax.Array:
    """Cuts `[B, *S, N]` to the interior voxels, shifted by `offset`, which is -1, 0 or 1 along each axis."""
    spatial = [slice(1 + step, size - 1 + step) for step, size in zip(offset, array.shape[1:-1], strict=True)]
    return array[(slice(None), *spatial)]


def determinant(columns: Sequence[jax.Array]) -> jax.Array:
    """Computes the determinant `[...]` of 2x2 or 3x3 matrices from their columns, `[..., N]` each."""
    if len(columns) == 2:
        (a, c), (b, d) = (jnp.moveaxis(column, -1, 0) for column in columns)
        return a * d - b * c
    return jnp.sum(columns[0] * jnp.cross(columns[1], columns[2]), axis=-1)


def _check(function: str, displacement: jax.Array) -> int:
    check_arrays(function, "fiu", displacement=displacement)
    num_axes = displacement.shape[-1] if displacement.ndim else 0
    if num_axes not in (2, 3) or displacement.ndim != num_axes + 2:
        raise ValueError(
            f"{function}: displacement has shape {displacement.shape}; it must be [B, H, W, 2] or [B, D, H, W, 3]"
        )
    if any(size < 3 for size in displacement.shape[1:-1]):
        raise ValueError(
            f"{function}: displacement has shape {displacement.shape}; "
            "derivatives need at least 3 voxels along each axis"
        )
    return num_axes


def _differences(displacement: jax.Array, num_axes: int, low: int, high: int) -> list[jax.Array]:
    """Derivative of `p + u(p)` along each axis at interior voxels, from the values at offsets `low` and `high`."""
    columns = []
    for unit in np.eye(num_axes, dtype=int):
        difference = _interior(displacement, high * unit) - _interior(displacement, low * unit)
        columns.append(difference / (high - low) + jnp.broadcast_to(unit.astype(difference.dtype), difference.shape))
    return columns


def _corner_determinants(displacement: jax.Array, num_axes: int) -> list[jax.Array]:
    """Determinants at interior voxels, for each of the `2^N` combinations of backward and forward differences."""
    backward = _differences(displacement, num_axes, low=-1, high=0)
    forward = _differences(displacement, num_axes, low=0, high=1)
    return [determinant(list(columns)) for columns in itertools.product(*zip(backward, forward, strict=True))]


@on_any_mesh
def jacobian_determinant(displacement: jax.Array) -> jax.Array:
    """Computes the Jacobian determinant of `id + u` at interior voxels, by central differences.

    Args:
      displacement: `[B, *S, N]` in voxel units, 2-D or 3-D, at least 3 voxels along each axis.

    Returns:
      `[B, *(S - 2)]`: the ratio of volumes; 1 where volume is kept, <= 0 where the map folds.

    Raises:
      ValueError: the shape is not that of a 2-D or 3-D displacement.

    Examples:
      >>> scaled = 0.5 * air_jax.transforms.identity_grid((8, 8))[None]
      >>> float(air_jax.transforms.jacobian_determinant(scaled)[0, 4, 4])
      2.25
    """
    num_axes = _check("jacobian_determinant", displacement)
    return determinant(_differences(displacement, num_axes, low=-1, high=1))


@on_any_mesh
def corner_jacobian_determinant(displacement: jax.Array) -> jax.Array:
    """Computes the smallest Jacobian determinant of `id + u` over all combinations of forward and backward differences.

    Central differences skip the voxel itself, so they miss folds of one voxel. Where all of the `2^N` one-sided
    determinants are positive, no corner around the voxel folds (Liu et al., IJCV 2024, section 3).

    Args:
      displacement: `[B, *S, N]` in voxel units, 2-D or 3-D, at least 3 voxels along each axis.

    Returns:
      `[B, *(S - 2)]`, at interior voxels.

    Raises:
      ValueError: the shape is not that of a 2-D or 3-D displacement.

    Examples:
      >>> jumps = jnp.zeros((1, 8, 8, 2)).at[:, 4, 4, 0].set(1.5)
      >>> float(air_jax.transforms.corner_jacobian_determinant(jumps).min())
      -0.5
    """
    num_axes = _check("corner_jacobian_determinant", displacement)
    return jnp.stack(_corner_determinants(displacement, num_axes)).min(axis=0)


@on_any_mesh
def simplex_jacobian_determinants(displacement: jax.Array) -> jax.Array:
    """Computes `N!` times the signed volume of each triangle (2-D) or tetrahedron (3-D) after `p -> p + u(p)`.

    A square between voxels has two divisions into two triangles, one for each diagonal. A cube has two divisions into
    five tetrahedra: four at every other corner and one in the middle. The simplex at a corner belongs to the voxel
    there; the smallest of their determinants is `corner_jacobian_determinant`. The tetrahedra in the middle belong to
    the cube's first and last voxel; their edges are the diagonals of the three faces there (Liu et al., IJCV 2024,
    section 3: `J1*` and `J2*`).

    Args:
      displacement: `[B, *S, N]` in voxel units, 2-D or 3-D, at least 3 voxels along each axis.

    Returns:
      `[4, B, *(S - 2)]` or `[10, B, *(S - 2)]`, at interior voxels: the determinants of the corners; in 3-D followed by
      those of the tetrahedra in the middle of the cubes before and after the voxel. The identity gives 1 at corners,
      and 2 in the middle.

    Raises:
      ValueError: the shape is not that of a 2-D or 3-D displacement.

    Examples:
      >>> air_jax.transforms.simplex_jacobian_determinants(jnp.zeros((1, 4, 4, 4, 3)))[:, 0, 0, 0, 0].tolist()
      [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 2.0]
    """
    num_axes = _check("simplex_jacobian_determinants", displacement)
    determinants = _corner_determinants(displacement, num_axes)
    if num_axes == 3:
        center = _interior(displacement, (0, 0, 0))
        for side in (-1, 1):
            offsets = side * np.array([[1, 1, 0], [1, 0, 1], [0, 1, 1]])
            edges = [
                _interior(displacement, offset) - center + jnp.broadcast_to(offset.astype(center.dtype), center.shape)
                for offset in offsets
            ]
            determinants.append(-side * determinant(edges))  # the edges have the opposite orientation on the other side
    return jnp.stack(determinants)


@on_any_mesh
def cell_jacobian_determinants(displacement: jax.Array) -> jax.Array:
    """Computes the Jacobian determinant of `id + u` at every corner of every cell, the square or cube between voxels.

    The determinant at a corner is that of the cell's edges that meet there. In 2-D the bilinear map of a cell folds if
    and only if one of its four determinants is not positive. The smallest determinant at an interior voxel is
    `corner_jacobian_determinant`.

    Args:
      displacement: `[B, *S, N]` in voxel units, 2-D or 3-D, at least 3 voxels along each axis.

    Returns:
      `[2^N, B, *(S - 1)]`, corners first.

    Raises:
      ValueError: the shape is not that of a 2-D or 3-D displacement.

    Examples:
      >>> scaled = 0.5 * air_jax.transforms.identity_grid((8, 8))[None]
      >>> determinants = air_jax.transforms.cell_jacobian_determinants(scaled)
      >>> determinants.shape, float(determinants.min())
      ((4, 1, 7, 7), 2.25)
    """
    num_axes = _check("cell_jacobian_determinants", displacement)
    edges = []
    for axis in range(num_axes):
        unit = jnp.zeros(num_axes, displacement.dtype).at[axis].set(1)
        difference = jnp.diff(displacement, axis=axis + 1)
        edges.append(difference + jnp.broadcast_to(unit, difference.shape))

    def at_corner(edge, axis, corner):
        """Edges along `axis` at the given corner of each cell."""
        spatial = [slice(None) if other == axis else slice(side, side - 1 or None) for other, side in enumerate(corner)]
        return edge[(slice(None), *spatial)]

    corners = itertools.product((0, 1), repeat=num_axes)
    return jnp.stack(
        [determinant([at_corner(edge, axis, corner) for axis, edge in enumerate(edges)]) for corner in corners]
    )
