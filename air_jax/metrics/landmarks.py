"""Distances between landmarks. Plain `jax.numpy`, one pair at a time: pairs differ in how many landmarks they have."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates


def transform_points(displacement: jax.Array, points: jax.Array) -> jax.Array:
    """Carries points of the fixed image into the moving image: `p + u(p)`.

    Args:
      displacement: `[*S, N]` pull-back field, voxel units, array-index order. It is sampled linearly; outside the image
        it is as at the border.
      points: `[K, N]` in the fixed image's voxel coordinates, array-index order; they need not be integer.

    Returns:
      `[K, N]` in the moving image's voxel coordinates.

    Raises:
      ValueError: the shapes do not fit each other.
    """
    num_axes = displacement.shape[-1]
    if displacement.ndim != num_axes + 1 or points.ndim != 2 or points.shape[-1] != num_axes:
        raise ValueError(
            f"displacement of shape {displacement.shape} and points of shape {points.shape}; "
            "they must be [*S, N] and [K, N]"
        )
    points, displacement = jnp.asarray(points, jnp.float32), jnp.asarray(displacement, jnp.float32)
    at_points = jax.vmap(
        lambda component: map_coordinates(component, list(points.T), order=1, mode="nearest"), in_axes=-1, out_axes=-1
    )
    return points + at_points(displacement)


def tre(
    displacement: jax.Array, fixed_points: jax.Array, moving_points: jax.Array, spacing: Sequence[float]
) -> jax.Array:
    """Target registration error of each landmark: `|p + u(p) - q|` (Fitzpatrick et al., TMI 1998).

    The pull-back field carries points of the *fixed* image into the moving image, so the error is measured there.
    Learn2Reg's script takes `u` by cubic splines instead, which differs where the field is rough.

    Args:
      displacement: `[*S, N]` pull-back field, voxel units, array-index order.
      fixed_points: `[K, N]`, `p`, in the fixed image's voxel coordinates, array-index order.
      moving_points: `[K, N]`, `q`, the same landmarks in the moving image's voxel coordinates.
      spacing: `[N]`, the size of the moving image's voxels along each array axis, in mm; ones for an error in voxels.

    Returns:
      `[K]` in the unit of `spacing`. With `u = 0` it is the error before registration.

    Raises:
      ValueError: the shapes do not fit each other.
    """
    if fixed_points.shape != moving_points.shape or len(spacing) != displacement.shape[-1]:
        raise ValueError(
            f"points of shapes {fixed_points.shape} and {moving_points.shape} with spacing {tuple(spacing)}; "
            "each landmark must be in both images, with one entry of spacing an axis"
        )
    error = transform_points(displacement, fixed_points) - jnp.asarray(moving_points, jnp.float32)
    return jnp.linalg.norm(error * jnp.asarray(spacing, jnp.float32)[None], axis=-1)
