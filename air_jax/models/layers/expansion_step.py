"""Compression of a displacement: damping of the class forces where it is strong, and a step that undoes it."""

import jax
import jax.numpy as jnp

from air_jax.transforms import jacobian_determinant, smooth

DAMPING_RANGE = 0.5  # of the Jacobian determinant: from full damping to none
DAMPING_SIGMA = 1.0  # voxels, of the Gaussian that smooths the damping factor
DENSITY_SIGMA = 0.7  # voxels, of the Gaussian that smooths the density
MAX_DENSITY = 20.0  # densities above this one, and folded voxels, count as this density


def class_force_damping(displacement: jax.Array, min_jacobian: float) -> jax.Array:
    """Computes the factor that class forces are multiplied by.

    It is 0 where the Jacobian determinant is at most `min_jacobian`, 1 from `min_jacobian + 0.5` on, and linear in
    between. Without it, the overlap of classes grows when the whole of an uncertain structure is sampled from the
    certain middle of the other. A step may still overshoot: `min_jacobian` is no bound.

    Args:
      displacement: `[B, *S, N]` in voxels.
      min_jacobian: Jacobian determinant, at least 0. Values above 0.5 also damp forces where volume is kept.

    Returns:
      `[B, *S, 1]` in [0, 1], smoothed by a Gaussian of 1 voxel.
    """
    determinant = _padded_determinant(displacement)
    return smooth(jnp.clip((determinant - min_jacobian) / DAMPING_RANGE, 0.0, 1.0), DAMPING_SIGMA)


def expansion_displacement(displacement: jax.Array, min_jacobian: float) -> jax.Array:
    """Computes a small displacement that lets compressed regions expand into their surroundings.

    The density is `(min_jacobian + 0.5) / J` for a Jacobian determinant `J`. The result is minus the gradient of its
    logarithm, slightly smoothed, where the density is above 1, and 0 elsewhere. Composed with the displacement, it
    diffuses the density. Factors above 1 overshoot; factors of 2 and more are unstable. Around folds the result
    reaches 1.3 voxels, and a factor of 1 may fold rough displacements further.

    Args:
      displacement: `[B, *S, N]` in voxels.
      min_jacobian: Jacobian determinant, at least 0, as in `class_force_damping`.

    Returns:
      `[B, *S, N]` in voxels.
    """
    ratio = _padded_determinant(displacement) / (min_jacobian + DAMPING_RANGE)
    log_density = jnp.maximum(-jnp.log(jnp.maximum(ratio, 1 / MAX_DENSITY)), 0.0)
    return -jnp.concatenate(gradients(smooth(log_density, DENSITY_SIGMA)), axis=-1)


def gradients(image: jax.Array) -> list[jax.Array]:
    """Derivatives of `[B, *S, F]` along each spatial axis, by central differences; 0 along an axis of one voxel."""

    def along(axis: int) -> jax.Array:
        return jnp.asarray(jnp.gradient(image, axis=axis)) if image.shape[axis] > 1 else jnp.zeros_like(image)

    return [along(axis) for axis in range(1, image.ndim - 1)]


def _padded_determinant(displacement: jax.Array) -> jax.Array:
    """The Jacobian determinant at every voxel, `[B, *S, N]` to `[B, *S, 1]`.

    Voxels of the border take the value of their inner neighbour. The value is 1 where an axis has fewer than 3 voxels.
    """
    if any(size < 3 for size in displacement.shape[1:-1]):
        return jnp.ones((*displacement.shape[:-1], 1))
    inner = jacobian_determinant(displacement)
    return jnp.pad(inner, [(0, 0)] + [(1, 1)] * (inner.ndim - 1), mode="edge")[..., None]
