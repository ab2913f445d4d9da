"""Displacement algebra: composing, exponentiating and resizing displacements `[B, *S, N]`, and moving points.

Outside the image a displacement continues with its edge values, so translations compose and invert exactly. Zeros
outside would leak inward from the border.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from air_jax.checks import MOST_SQUARINGS, check_arrays, check_integer, check_shape
from air_jax.runtime.any_mesh import on_any_mesh
from air_jax.transforms.sampling.sampler import sample, warp
from air_jax.transforms.shapes import check_displacement


@on_any_mesh
def compose(first: jax.Array, second: jax.Array) -> jax.Array:
    """Composes two displacements into one: `warp(warp(image, first), second)` with a single interpolation.

    As pull-back maps, `id + compose(first, second) = (id + first) o (id + second)`.

    Args:
      first: `[B, *S, N]` in voxel units, applied to the image first. It is sampled linearly.
      second: the same shape, applied second.

    Returns:
      `[B, *S, N]` in voxel units: `second(p) + first(p + second(p))`.

    Raises:
      ValueError: the shapes differ, or are not those of displacements.

    Examples:
      >>> first = jnp.zeros((1, 8, 8, 2)).at[..., 0].set(2.0)
      >>> second = jnp.zeros((1, 8, 8, 2)).at[..., 1].set(1.0)
      >>> air_jax.transforms.compose(first, second)[0, 4, 4].tolist()
      [2.0, 1.0]
    """
    check_displacement("compose", first, "first")
    check_displacement("compose", second, "second")
    if first.shape != second.shape:
        raise ValueError(
            f"compose: first has shape {first.shape} and second has shape {second.shape}; "
            "they must be the same, [B, *S, N]"
        )
    return second + warp(first, second, mode="nearest")


@on_any_mesh
def exponential(velocity: jax.Array, *, integration_steps: int = 7) -> jax.Array:
    """Integrates a stationary velocity field over one unit of time, by scaling and squaring (Arsigny et al. 2006).

    Args:
      velocity: `[B, *S, N]` in voxels per unit of time.
      integration_steps: number of squarings, from 0 to 30; 7 by default. The velocity is divided by
        `2^integration_steps`, and the small displacement is composed with itself as often. More steps keep a smooth
        velocity from folding; the discrete exponential can still fold, so measure it.

    Returns:
      `[B, *S, N]` in voxel units: `u` with `id + u = exp(velocity)`.

    Raises:
      OptionError: `integration_steps` is no integer from 0 to 30.
      ValueError: the shape is not that of a displacement.

    Examples:
      >>> velocity = jnp.zeros((1, 8, 8, 2)).at[..., 0].set(0.5)
      >>> air_jax.transforms.exponential(velocity)[0, 4, 4].tolist()
      [0.5, 0.0]
    """
    check_displacement("exponential", velocity, "velocity")
    check_integer("integration_steps", integration_steps, 0, MOST_SQUARINGS)
    displacement = velocity / 2**integration_steps
    for _ in range(integration_steps):
        displacement = compose(displacement, displacement)
    return displacement


@on_any_mesh
def resize(displacement: jax.Array, shape: Sequence[int]) -> jax.Array:
    """Resamples a displacement to another grid over the same extent, and scales its vectors to the new voxels.

    Args:
      displacement: `[B, *S, N]` in voxels of the grid `S`.
      shape: new spatial shape `S'`. Voxels are cells, so both grids have the same edges.

    Returns:
      `[B, *S', N]` in voxels of the grid `S'`, interpolated linearly; averaged along axes that become coarser.

    Raises:
      ValueError: the shape is not that of a displacement, or `shape` has another number of axes.
      OptionError: `shape` has a size that is no integer of at least 1.

    Examples:
      >>> displacement = jnp.ones((1, 8, 8, 2))
      >>> air_jax.transforms.resize(displacement, (16, 8))[0, 4, 4].tolist()
      [2.0, 1.0]
    """
    check_displacement("resize", displacement)
    batch, *old_shape, num_axes = displacement.shape
    check_shape("shape", shape)
    if len(shape) != len(old_shape):
        raise ValueError(f"resize: shape {tuple(shape)} does not fit a displacement of shape {displacement.shape}")
    scale = jnp.asarray([new / old for new, old in zip(shape, old_shape, strict=True)], displacement.dtype)
    resized = jax.image.resize(displacement, (batch, *shape, num_axes), method="linear")
    return resized * scale.reshape((1,) * (displacement.ndim - 1) + (num_axes,))


@on_any_mesh
def transform_points(displacement: jax.Array, points: jax.Array) -> jax.Array:
    """Moves points of the fixed image into the moving image: `p + u(p)`.

    Args:
      displacement: `[*S, N]` pull-back displacement, voxel units, array-index order. It is sampled linearly, and
        continues with its edge values outside the image.
      points: `[K, N]` in voxel coordinates of the fixed image, array-index order; not necessarily integers.

    Returns:
      `[K, N]` float32, in voxel coordinates of the moving image if both images have the same grid. Otherwise in voxels
      of the fixed image's grid, to be mapped on, see `air_jax.transforms.spaces`.

    Raises:
      ValueError: the shapes do not fit each other.

    Examples:
      >>> displacement = jnp.zeros((8, 8, 2)).at[..., 1].set(3.0)
      >>> air_jax.transforms.transform_points(displacement, jnp.array([[2.0, 1.0]])).tolist()
      [[2.0, 4.0]]
    """
    check_arrays("transform_points", "fiu", displacement=displacement, points=points)
    num_axes = displacement.shape[-1] if displacement.ndim else 0
    if displacement.ndim != num_axes + 1 or points.ndim != 2 or points.shape[-1] != num_axes:
        raise ValueError(
            f"transform_points: displacement has shape {displacement.shape} and points has shape {points.shape}; "
            "they must be [*S, N] and [K, N]"
        )
    points, displacement = jnp.asarray(points, jnp.float32), jnp.asarray(displacement, jnp.float32)
    on_grid = points.reshape(1, points.shape[0], *(1,) * (num_axes - 1), num_axes)
    return points + sample(displacement[None], on_grid, mode="nearest").reshape(points.shape)
