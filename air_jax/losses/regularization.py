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


def bending(displacement: jax.Array) -> jax.Array:
    """Bending energy (Rueckert et al. 1999, equation 4).

    Args:
      displacement: `[B, *S, N]` in voxel units, at least 3 voxels along each axis.

    Returns:
      `[B]`: the sum of squared second derivatives over all pairs of axes, mixed ones therefore twice, as a mean over
      interior voxels and the N components; 0 for an affine map.

    Raises:
      ValueError: an axis has fewer than 3 voxels.
    """
    if min(displacement.shape[1:-1]) < 3:
        raise ValueError(
            f"displacement has shape {displacement.shape}; second derivatives need at least 3 voxels along each axis"
        )
    num_axes = displacement.ndim - 2
    sizes = displacement.shape[1:-1]

    def shifted(steps):
        """The interior, seen from voxels that many steps away along some axes."""
        starts = [1 + steps.get(axis, 0) for axis in range(num_axes)]
        index = (slice(start, start + size - 2) for start, size in zip(starts, sizes, strict=True))
        return displacement[(slice(None), *index)]

    energy = 0.0
    for a in range(num_axes):
        energy += jnp.square(shifted({a: 1}) - 2 * shifted({}) + shifted({a: -1}))
        for b in range(a):
            rising = shifted({a: 1, b: 1}) + shifted({a: -1, b: -1})
            falling = shifted({a: 1, b: -1}) + shifted({a: -1, b: 1})
            energy += 2 * jnp.square((rising - falling) / 4)
    return jnp.mean(energy, axis=tuple(range(1, displacement.ndim)))


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


REGULARIZERS = {"folding": folding, "diffusion": diffusion, "bending": bending}
