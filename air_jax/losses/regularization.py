"""Regularizers: how irregular a displacement is. Lower is smoother; one value a pair."""

import jax
import jax.numpy as jnp

from air_jax.transforms import cell_jacobian_determinants

# Determinants below it cost: a margin, because a penalty that starts at 0 leaves some of them on the wrong side.
FOLDING_MARGIN = 0.05


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


def folding(displacement: jax.Array) -> jax.Array:
    """Folding penalty: how far Jacobian determinants are below 0.05, at every corner of every cell between voxels.

    A penalty on one combination of differences (as in Kuang & Schmah 2019, FAIM) misses folds at the other corners, and
    an optimiser makes them there.

    Args:
      displacement: `[B, *S, N]` in voxel units, 2-D or 3-D.

    Returns:
      `[B]`: the mean of `max(0.05 - J, 0)` over corners and cells; 0 where all are at least 0.05.
    """
    lacking = jax.nn.relu(FOLDING_MARGIN - cell_jacobian_determinants(displacement))
    return jnp.mean(lacking, axis=(0, *range(2, lacking.ndim)))


REGULARIZERS = {"folding": folding, "diffusion": diffusion}
