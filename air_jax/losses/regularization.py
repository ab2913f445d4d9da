"""Regularizers: how irregular a displacement is. Lower is smoother; one value a pair."""

import jax
import jax.numpy as jnp


def diffusion(displacement: jax.Array) -> jax.Array:
    """Diffusion regularizer (Balakrishnan et al. 2019, VoxelMorph, section III-B).

    Args:
      displacement: `[B, *S, N]` in voxel units.

    Returns:
      `[B]`: the mean over the N axes of the mean squared forward difference along each; 0 for a translation.
    """
    axes = range(1, displacement.ndim - 1)
    reduce = tuple(range(1, displacement.ndim))
    return sum(jnp.mean(jnp.square(jnp.diff(displacement, axis=axis)), axis=reduce) for axis in axes) / len(axes)


REGULARIZERS = {"diffusion": diffusion}
