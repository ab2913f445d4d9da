"""Cubic B-spline control grids (free-form deformations; Rueckert et al. 1999, section II-B)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from air_jax.checks import check_shape
from air_jax.runtime.any_mesh import on_any_mesh
from air_jax.transforms.shapes import check_field


@on_any_mesh
def bspline(control: jax.Array, spacing: Sequence[int], shape: Sequence[int]) -> jax.Array:
    """Evaluates the cubic B-spline of a control grid at every voxel.

    A control point is the centre of a cell of `spacing` voxels. The cells cover the image from its first voxel on.
    Control points are repeated beyond the border, so a constant grid gives a constant field. The spline is twice
    continuously differentiable. It smooths and does not pass through its control points.

    Args:
      control: `[B, *K, F]`, coefficients, in the unit of the result.
      spacing: voxels between control points along each axis, at least 1.
      shape: spatial shape `S` of the image, at most `K * spacing` and more than `(K - 1) * spacing`.

    Returns:
      `[B, *S, F]`.

    Raises:
      ValueError: the control grid does not fit the image.
      OptionError: as `control_shape`.

    Examples:
      >>> control = jnp.full((1, 2, 2, 1), 3.0)
      >>> field = air_jax.transforms.bspline(control, (4, 4), (8, 8))
      >>> field.shape, float(field.max())
      ((1, 8, 8, 1), 3.0)
    """
    check_field("bspline", control, "control")
    needed = control_shape(shape, spacing)
    if control.shape[1:-1] != needed:
        raise ValueError(
            f"bspline: an image of {tuple(shape)} voxels with a spacing of {tuple(spacing)} voxels needs a "
            f"control grid of {needed}, not {control.shape[1:-1]}"
        )
    field = control
    # Full precision: accelerators multiply matrices in fewer bits by default, and coordinates need all 24.
    for axis, (size, step) in enumerate(zip(shape, spacing, strict=True), start=1):
        matrix = _matrix(control.shape[axis], step)[:size]
        field = jnp.moveaxis(
            jnp.tensordot(field, matrix, axes=(axis, 1), precision=jax.lax.Precision.HIGHEST), -1, axis
        )
    return field


def control_shape(shape: Sequence[int], spacing: Sequence[int]) -> tuple[int, ...]:
    """Returns the shape of the control grid whose cells cover an image.

    Args:
      shape: spatial shape `S` of the image.
      spacing: voxels between control points along each axis, at least 1.

    Returns:
      `K`, the shape of the control grid.

    Raises:
      OptionError: a size or a spacing is no integer of at least 1, or their lengths differ.

    Examples:
      >>> air_jax.transforms.control_shape((9, 8), (4, 4))
      (3, 2)
    """
    check_shape("shape", shape)
    check_shape("spacing", spacing, len(shape))
    return tuple(-(-size // step) for size, step in zip(shape, spacing, strict=True))


def _matrix(num_points: int, spacing: int) -> np.ndarray:
    """Weight of each control point at each voxel, `[num_points * spacing, num_points]`; rows sum to 1."""
    position = (np.arange(num_points * spacing) + 0.5) / spacing - 0.5  # in control points
    cell = np.floor(position).astype(int)
    t = position - cell
    weights = ((1 - t) ** 3 / 6, (3 * t**3 - 6 * t**2 + 4) / 6, (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6, t**3 / 6)
    matrix = np.zeros((len(position), num_points), np.float32)
    for offset, weight in enumerate(weights, start=-1):
        np.add.at(matrix, (np.arange(len(position)), np.clip(cell + offset, 0, num_points - 1)), weight)
    return matrix
