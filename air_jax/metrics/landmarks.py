"""Distances between landmarks. Plain `jax.numpy`, one pair at a time, because their number differs."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from air_jax.checks import check_arrays, check_finite, check_spacing
from air_jax.runtime.any_mesh import on_any_mesh
from air_jax.transforms import transform_points
from air_jax.transforms.shapes import Array, check_same_shape


@on_any_mesh
def tre(displacement: Array, fixed_points: Array, moving_points: Array, spacing: Sequence[float]) -> jax.Array:
    """Computes the target registration error of each landmark: `|p + u(p) - q|` (Fitzpatrick et al., TMI 1998).

    The pull-back displacement moves points of the fixed image into the moving image, so the error is measured there.
    The displacement is sampled linearly. The script of Learn2Reg uses cubic splines, which differ where the
    displacement is rough.

    Args:
      displacement: `[*S, N]` pull-back displacement, voxel units, array-index order.
      fixed_points: `p` `[K, N]`, in voxel coordinates of the fixed image, array-index order.
      moving_points: `q` `[K, N]`, the same landmarks in voxel coordinates of the moving image.
      spacing: `[N]`, size of the moving image's voxels along each array axis in mm; ones for an error in voxels.

    Returns:
      `[K]` in the unit of `spacing`. With `u = 0` it is the error before registration.

    Raises:
      ValueError: the shapes do not fit each other, or values are NaN or infinite.
      OptionError: a length that is not a finite number above 0.

    Examples:
      >>> displacement = jnp.zeros((8, 8, 2)).at[..., 0].set(1.0)
      >>> fixed_points, moving_points = np.array([[2.0, 3.0]]), np.array([[3.0, 5.0]])
      >>> air_jax.metrics.tre(displacement, fixed_points, moving_points, (2.0, 0.5)).tolist()
      [1.0]
    """
    arrays = dict(displacement=displacement, fixed_points=fixed_points, moving_points=moving_points)
    check_arrays("tre", "fiu", **arrays)
    check_finite("tre", **arrays)
    check_same_shape("tre", "[K, N]", fixed_points=fixed_points, moving_points=moving_points)
    check_spacing("spacing", spacing)
    if len(spacing) != displacement.shape[-1]:
        raise ValueError(
            f"tre: spacing is {tuple(spacing)} for a displacement of shape {displacement.shape}; "
            "it must have one entry for each axis"
        )
    moved = transform_points(jnp.asarray(displacement), jnp.asarray(fixed_points))
    error = moved - jnp.asarray(moving_points, jnp.float32)
    return jnp.linalg.norm(error * jnp.asarray(spacing, jnp.float32)[None], axis=-1)
