"""Scores of a displacement alone: where it folds, how much of it, what it compresses, how unevenly volume changes."""

import math

import jax
import jax.numpy as jnp

from air_jax.transforms import corner_jacobian_determinant, jacobian_determinant, simplex_jacobian_determinants

COMPRESSED = 0.3  # of its volume


def _percent(condition: jax.Array) -> jax.Array:
    return 100 * jnp.mean(condition, axis=tuple(range(1, condition.ndim)))


def folding_percent(displacement: jax.Array) -> jax.Array:
    """Share of interior voxels with a determinant <= 0 by central differences, in percent. `[B, *S, N]` to `[B]`."""
    return _percent(jacobian_determinant(displacement) <= 0)


def any_corner_folding_percent(displacement: jax.Array) -> jax.Array:
    """Share of interior voxels with a determinant <= 0 for any combination of one-sided differences, in percent.

    Never less than what really folds at a corner; central differences under-count. `[B, *S, N]` to `[B]`.
    """
    return _percent(corner_jacobian_determinant(displacement) <= 0)


def ndv_percent(displacement: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Non-diffeomorphic volume (in 2-D: area) as a percentage of the volume of the interior voxels.

    The shares of folded voxels count folds; this tells how large they are (Liu et al., IJCV 2024, and the authors'
    github.com/yihao6/digital_diffeomorphism). Each triangle or tetrahedron of `simplex_jacobian_determinants` whose `J`
    is negative adds half its volume after the map, `-J / N!`: half, because each cell is divided in two ways. The LUMIR
    challenge's script does the same, and takes as its mask where the moving image is above zero.

    Args:
      displacement: `[B, *S, N]` in voxel units, 2-D or 3-D, at least 3 voxels along each axis.
      mask: `[B, *S]` bool, the voxels that count; all by default. Voxels at the image's border never count.

    Returns:
      `[B]`: 0 where nothing folds, 100 for a reflection; more is possible, as folded simplices may be large. NaN for a
      pair without any voxel that counts.

    Raises:
      ValueError: the shape is not that of a 2-D or 3-D displacement.
    """
    determinants = simplex_jacobian_determinants(displacement)
    folded = jnp.sum(jax.nn.relu(-determinants), axis=0) / (2 * math.factorial(displacement.shape[-1]))
    if mask is None:
        return _percent(folded)
    interior = mask[(slice(None), *[slice(1, -1)] * (mask.ndim - 1))]
    axes = tuple(range(1, mask.ndim))
    return 100 * jnp.sum(folded * interior, axis=axes) / jnp.sum(interior, axis=axes)


def compressed_percent(displacement: jax.Array, mask: jax.Array) -> jax.Array:
    """Share of a structure that is left less than `COMPRESSED` of its volume, folds among it, in percent.

    Overlap of labels does not see it: a structure that is sampled from a small part of the other has it all the same.
    What is much depends on the anatomy, as a heart does it at every beat, and a score of one threshold does not see
    what lies above it: look at the Jacobian, too.

    Args:
      displacement: `[B, *S, N]` in voxel units, at least 3 voxels along each axis.
      mask: `[B, *S]` bool, the structure in the fixed image. Voxels at the image's border never count.

    Returns:
      `[B]`, by central differences; NaN for a pair without any voxel that counts.
    """
    inside = mask[(slice(None), *[slice(1, -1)] * (mask.ndim - 1))]
    compressed = inside & (jacobian_determinant(displacement) < COMPRESSED)
    axes = tuple(range(1, mask.ndim))
    return 100.0 * jnp.sum(compressed, axis=axes) / jnp.sum(inside, axis=axes)


def sd_log_jacobian(displacement: jax.Array) -> jax.Array:
    """Standard deviation over interior voxels of `log(clip(J, 1e-9))`, central differences. `[B, *S, N]` to `[B]`."""
    log_jacobian = jnp.log(jnp.maximum(jacobian_determinant(displacement), 1e-9))
    return jnp.std(log_jacobian, axis=tuple(range(1, log_jacobian.ndim)))


def sd_log_jacobian_learn2reg(displacement: jax.Array) -> jax.Array:
    """`SDlogJ` as the Learn2Reg challenge's script has it, for comparison with its tables only.

    Standard deviation of `log(clip(J + 3, 1e-9, 1e9))`, central differences, over the voxels that are at least two away
    from the border (github.com/MDL-UzL/L2R, `evaluation/`). The 3 makes it several times smaller than
    `sd_log_jacobian` and hides folds of `J > -3`. The script is for 3-D.

    Args:
      displacement: `[B, *S, N]` in voxel units, at least 5 voxels along each axis.

    Returns:
      `[B]`.

    Raises:
      ValueError: the shape is not that of a 2-D or 3-D displacement, or an axis is too short.
    """
    if min(displacement.shape[1:-1], default=0) < 5:
        raise ValueError(f"displacement has shape {displacement.shape}; this score needs 5 voxels along each axis")
    determinant = jacobian_determinant(displacement)
    inner = determinant[(slice(None), *[slice(1, -1)] * (determinant.ndim - 1))]
    return jnp.std(jnp.log(jnp.clip(inner + 3, 1e-9, 1e9)), axis=tuple(range(1, inner.ndim)))


def displacement_scores(displacement: jax.Array) -> dict[str, jax.Array]:
    """Scores of a displacement `[B, *S, N]` alone, by name; each `[B]`."""
    return {
        "folding_percent": folding_percent(displacement),
        "any_corner_folding_percent": any_corner_folding_percent(displacement),
        "ndv_percent": ndv_percent(displacement),
        "sd_log_jacobian": sd_log_jacobian(displacement),
    }
