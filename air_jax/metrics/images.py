"""Scores that compare two images, or a displacement with the true one. Plain `jax.numpy`."""

import jax
import jax.numpy as jnp

from air_jax.checks import check_arrays, check_number
from air_jax.runtime.any_mesh import on_any_mesh
from air_jax.transforms.shapes import check_images, check_same_shape, where_finite


@on_any_mesh
def mse(fixed: jax.Array, warped: jax.Array) -> jax.Array:
    """Computes the mean squared difference of two images.

    Args:
      fixed: `[B, *S, C]` in [0, 1].
      warped: the same shape.

    Returns:
      `[B]`: the mean over voxels and channels; NaN for a pair with values that are not finite.

    Raises:
      ValueError: the shapes differ.

    Examples:
      >>> fixed, warped = jnp.zeros((1, 8, 8, 1)), jnp.full((1, 8, 8, 1), 0.5)
      >>> float(air_jax.metrics.mse(fixed, warped)[0])
      0.25
    """
    check_images("mse", fixed, warped)
    return where_finite(jnp.mean(jnp.square(warped - fixed), axis=tuple(range(1, fixed.ndim))), fixed, warped)


@on_any_mesh
def mask_dice(fixed: jax.Array, warped: jax.Array, *, threshold: float = 0.5) -> jax.Array:
    """Computes the Dice overlap of the foregrounds of two images.

    Args:
      fixed: `[B, *S, C]`.
      warped: the same shape.
      threshold: foreground is where an image is greater; 0.5 by default.

    Returns:
      `[B]` in [0, 1]; NaN for a pair without any foreground, and for one with values that are not finite.

    Raises:
      ValueError: the shapes differ.
      OptionError: the threshold is not finite.

    Examples:
      >>> fixed = jnp.zeros((1, 8, 8, 1)).at[:, 2:6, 2:6].set(1.0)
      >>> float(air_jax.metrics.mask_dice(fixed, jnp.roll(fixed, 1, axis=1))[0])
      0.75
    """
    check_images("mask_dice", fixed, warped)
    check_number("threshold", threshold)
    axes = tuple(range(1, fixed.ndim))
    a, b = fixed > threshold, warped > threshold
    dice = 2 * jnp.sum(a & b, axis=axes) / (jnp.sum(a, axis=axes) + jnp.sum(b, axis=axes))
    return where_finite(dice, fixed, warped)


@on_any_mesh
def endpoint_errors(
    displacement: jax.Array, truth: jax.Array, fixed: jax.Array, *, threshold: float = 0.5
) -> dict[str, jax.Array]:
    """Computes the mean length of the difference of a displacement from the true one.

    Args:
      displacement: `[B, *S, N]` in voxel units.
      truth: the same shape.
      fixed: `[B, *S, C]`. Its foreground is where any channel is greater than `threshold`. In flat background, an image
        does not determine the displacement.
      threshold: 0.5 by default.

    Returns:
      By name, `[B]` in voxels each: `endpoint_error`, the mean over all voxels, and `foreground_endpoint_error`, the
      mean over the foreground, NaN for a pair without foreground.

    Raises:
      ValueError: the shapes do not fit each other.
      OptionError: the threshold is not finite.

    Examples:
      >>> truth = jnp.zeros((1, 8, 8, 2))
      >>> fixed = jnp.zeros((1, 8, 8, 1)).at[:, 2:6, 2:6].set(1.0)
      >>> found = truth.at[:, :4].set(jnp.array([3.0, 4.0]))
      >>> {name: float(error[0]) for name, error in air_jax.metrics.endpoint_errors(found, truth, fixed).items()}
      {'endpoint_error': 2.5, 'foreground_endpoint_error': 2.5}
    """
    check_same_shape("endpoint_errors", "[B, *S, N]", displacement=displacement, truth=truth)
    check_arrays("endpoint_errors", "fiub", fixed=fixed)
    check_number("threshold", threshold)
    if fixed.shape[:-1] != displacement.shape[:-1]:
        raise ValueError(
            f"endpoint_errors: fixed has shape {fixed.shape} and displacement has shape {displacement.shape}; "
            "they must be [B, *S, C] and [B, *S, N]"
        )
    length = jnp.linalg.norm(displacement - truth, axis=-1)
    foreground = jnp.any(fixed > threshold, axis=-1)
    axes = tuple(range(1, length.ndim))
    return {
        "endpoint_error": jnp.mean(length, axis=axes),
        "foreground_endpoint_error": jnp.sum(length * foreground, axis=axes) / jnp.sum(foreground, axis=axes),
    }


@on_any_mesh
def image_scores(fixed: jax.Array, warped: jax.Array) -> dict[str, jax.Array]:
    """Computes the scores that compare two images.

    Args:
      fixed: `[B, *S, C]` in [0, 1].
      warped: the same shape.

    Returns:
      `mse` and `dice` (see `mask_dice`) by name, `[B]` each.

    Raises:
      ValueError: the shapes differ.

    Examples:
      >>> fixed = jnp.zeros((1, 8, 8, 1)).at[:, 2:6, 2:6].set(1.0)
      >>> scores = air_jax.metrics.image_scores(fixed, jnp.roll(fixed, 1, axis=1))
      >>> {name: float(score[0]) for name, score in scores.items()}
      {'mse': 0.125, 'dice': 0.75}
    """
    return {"mse": mse(fixed, warped), "dice": mask_dice(fixed, warped)}
