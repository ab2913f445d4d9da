"""Scores of a displacement: folds, their volume, compression, and the variation of the volume change.

Each is NaN for a pair whose displacement has a value that is not finite.
"""

import math

import jax
import jax.numpy as jnp

from air_jax.checks import check_arrays
from air_jax.runtime.any_mesh import on_any_mesh
from air_jax.transforms import corner_jacobian_determinant, jacobian_determinant, simplex_jacobian_determinants
from air_jax.transforms.shapes import where_finite

# Jacobian determinants below this value count as compressed.
COMPRESSED = 0.3


@on_any_mesh
def folding_percent(displacement: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
    """Computes the share of interior voxels with a Jacobian determinant <= 0 by central differences.

    Central differences miss folds of one voxel, see `any_corner_folding_percent`.

    Args:
      displacement: `[B, *S, N]` in voxel units, 2-D or 3-D, at least 3 voxels along each axis.
      mask: `[B, *S]` bool, the voxels that count; all by default. Voxels at the image's border never count.

    Returns:
      `[B]` in percent.

    Raises:
      ValueError: the shape is not that of a 2-D or 3-D displacement, or the mask does not fit it.

    Examples:
      >>> jumps = jnp.zeros((1, 8, 8, 2)).at[:, 4, 4, 0].set(1.5)
      >>> float(air_jax.metrics.folding_percent(jumps)[0])
      0.0
      >>> mirrored = jnp.zeros((1, 8, 8, 2)).at[..., 0].set(-2 * jnp.arange(8.0)[:, None])
      >>> float(air_jax.metrics.folding_percent(mirrored)[0])
      100.0
    """
    return where_finite(
        _percent("folding_percent", jacobian_determinant(displacement) <= 0, displacement, mask), displacement
    )


@on_any_mesh
def any_corner_folding_percent(displacement: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
    """Computes the share of interior voxels with a determinant <= 0 for any combination of one-sided differences.

    It is never less than the share of voxels with a fold at a corner.

    Args:
      displacement: `[B, *S, N]` in voxel units, 2-D or 3-D, at least 3 voxels along each axis.
      mask: `[B, *S]` bool, the voxels that count; all by default. Voxels at the image's border never count.

    Returns:
      `[B]` in percent.

    Raises:
      ValueError: the shape is not that of a 2-D or 3-D displacement, or the mask does not fit it.

    Examples:
      >>> jumps = jnp.zeros((1, 8, 8, 2)).at[:, 4, 4, 0].set(1.5)
      >>> round(float(air_jax.metrics.any_corner_folding_percent(jumps)[0]), 1)
      5.6
    """
    folded = corner_jacobian_determinant(displacement) <= 0
    return where_finite(_percent("any_corner_folding_percent", folded, displacement, mask), displacement)


@on_any_mesh
def ndv_percent(displacement: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
    """Computes the non-diffeomorphic volume (in 2-D: area) in percent of the volume of the interior voxels.

    The shares of folded voxels count folds; this score measures their size (Liu et al., IJCV 2024, and the authors'
    github.com/yihao6/digital_diffeomorphism). Each triangle or tetrahedron of `simplex_jacobian_determinants` with
    negative `J` adds half its volume after the map, `-J / N!`; half, because each cell has two divisions. The script of
    the LUMIR challenge does the same; its mask is where the moving image is above 0.

    Args:
      displacement: `[B, *S, N]` in voxel units, 2-D or 3-D, at least 3 voxels along each axis.
      mask: `[B, *S]` bool, the voxels that count; all by default. Voxels at the image's border never count.

    Returns:
      `[B]` in percent: 0 without folds, 100 for a reflection. It can exceed 100, because folded simplices can be large.
      NaN for a pair without a voxel that counts.

    Raises:
      ValueError: the shape is not that of a 2-D or 3-D displacement, or the mask does not fit it.

    Examples:
      >>> mirrored = jnp.zeros((1, 8, 8, 2)).at[..., 0].set(-2 * jnp.arange(8.0)[:, None])
      >>> float(air_jax.metrics.ndv_percent(mirrored)[0])
      100.0
    """
    determinants = simplex_jacobian_determinants(displacement)
    folded = jnp.sum(jax.nn.relu(-determinants), axis=0) / (2 * math.factorial(displacement.shape[-1]))
    return where_finite(_percent("ndv_percent", folded, displacement, mask), displacement)


@on_any_mesh
def compressed_percent(displacement: jax.Array, mask: jax.Array) -> jax.Array:
    """Computes the share of a structure with a Jacobian determinant below 0.3, in percent. Folds are included.

    The overlap of segmentations does not measure it: a structure that is sampled from a small part of the other one can
    overlap fully. The amount that is too much depends on the anatomy; a heart compresses at every beat. Compression
    above the threshold does not count, so look at the Jacobian determinants also.

    Args:
      displacement: `[B, *S, N]` in voxel units, at least 3 voxels along each axis.
      mask: `[B, *S]` bool, the structure in the fixed image. Voxels at the image's border never count.

    Returns:
      `[B]` in percent, by central differences; NaN for a pair without a voxel that counts.

    Raises:
      ValueError: the shape is not that of a 2-D or 3-D displacement, or the mask does not fit it.

    Examples:
      >>> rows = jnp.arange(8.0)[:, None]
      >>> squeezed = jnp.zeros((1, 8, 8, 2)).at[..., 0].set(-0.8 * rows)
      >>> float(air_jax.metrics.compressed_percent(squeezed, jnp.ones((1, 8, 8), bool))[0])
      100.0
    """
    determinant = jacobian_determinant(displacement)
    inside = _interior("compressed_percent", displacement, mask)
    axes = tuple(range(1, mask.ndim))
    percent = 100.0 * jnp.sum(inside & (determinant < COMPRESSED), axis=axes) / jnp.sum(inside, axis=axes)
    return where_finite(percent, displacement)


@on_any_mesh
def sd_log_jacobian(displacement: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
    """Computes the standard deviation of `log(clip(J, 1e-9))` over interior voxels, by central differences.

    Args:
      displacement: `[B, *S, N]` in voxel units, 2-D or 3-D, at least 3 voxels along each axis.
      mask: `[B, *S]` bool, the voxels that count; all by default. Voxels at the image's border never count.

    Returns:
      `[B]`, without a unit; 0 for an affine map.

    Raises:
      ValueError: the shape is not that of a 2-D or 3-D displacement, or the mask does not fit it.

    Examples:
      >>> jumps = jnp.zeros((1, 8, 8, 2)).at[:, 4, 4, 0].set(1.5)
      >>> round(float(air_jax.metrics.sd_log_jacobian(jumps)[0]), 2)
      0.25
    """
    log_jacobian = jnp.log(jnp.maximum(jacobian_determinant(displacement), 1e-9))
    interior = None if mask is None else _interior("sd_log_jacobian", displacement, mask)
    return where_finite(jnp.std(log_jacobian, axis=tuple(range(1, log_jacobian.ndim)), where=interior), displacement)


@on_any_mesh
def sd_log_jacobian_learn2reg(displacement: jax.Array) -> jax.Array:
    """Computes `SDlogJ` like the script of the Learn2Reg challenge, only for comparison with its tables.

    It is the standard deviation of `log(clip(J + 3, 1e-9, 1e9))`, by central differences, over the voxels at least two
    away from the border (github.com/MDL-UzL/L2R, `evaluation/`). The 3 makes it several times smaller than
    `sd_log_jacobian` and hides folds with `J > -3`. The script is for 3-D.

    Args:
      displacement: `[B, *S, N]` in voxel units, 2-D or 3-D, at least 5 voxels along each axis.

    Returns:
      `[B]`, without a unit.

    Raises:
      ValueError: the shape is not that of a 2-D or 3-D displacement, or an axis is too short.

    Examples:
      >>> jumps = jnp.zeros((1, 8, 8, 2)).at[:, 4, 4, 0].set(1.5)
      >>> round(float(air_jax.metrics.sd_log_jacobian_learn2reg(jumps)[0]), 3)
      0.067
    """
    check_arrays("sd_log_jacobian_learn2reg", "fiu", displacement=displacement)
    if displacement.ndim < 3 or any(size < 5 for size in displacement.shape[1:-1]):
        raise ValueError(
            f"sd_log_jacobian_learn2reg: displacement has shape {displacement.shape}; "
            "this score needs at least 5 voxels along each axis"
        )
    determinant = jacobian_determinant(displacement)
    inner = determinant[(slice(None), *[slice(1, -1)] * (determinant.ndim - 1))]
    deviation = jnp.std(jnp.log(jnp.clip(inner + 3, 1e-9, 1e9)), axis=tuple(range(1, inner.ndim)))
    return where_finite(deviation, displacement)


@on_any_mesh
def displacement_scores(displacement: jax.Array, *, mask: jax.Array | None = None) -> dict[str, jax.Array]:
    """Computes the scores of a displacement.

    Args:
      displacement: `[B, *S, N]` in voxel units, 2-D or 3-D, at least 3 voxels along each axis.
      mask: `[B, *S]` bool, the voxels that count; all by default. Voxels at the image's border never count.

    Returns:
      `folding_percent`, `any_corner_folding_percent`, `ndv_percent` and `sd_log_jacobian` by name, `[B]` each.

    Raises:
      ValueError: the shape is not that of a 2-D or 3-D displacement, or the mask does not fit it.

    Examples:
      >>> scores = air_jax.metrics.displacement_scores(jnp.zeros((1, 8, 8, 2)))
      >>> {name: float(score[0]) for name, score in scores.items()}
      {'folding_percent': 0.0, 'any_corner_folding_percent': 0.0, 'ndv_percent': 0.0, 'sd_log_jacobian': 0.0}
    """
    return {
        "folding_percent": folding_percent(displacement, mask=mask),
        "any_corner_folding_percent": any_corner_folding_percent(displacement, mask=mask),
        "ndv_percent": ndv_percent(displacement, mask=mask),
        "sd_log_jacobian": sd_log_jacobian(displacement, mask=mask),
    }


def _percent(function: str, values: jax.Array, displacement: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Mean over interior voxels, or those of a mask, in percent, `[B, *S - 2]` to `[B]`."""
    axes = tuple(range(1, values.ndim))
    if mask is None:
        return 100 * jnp.mean(values, axis=axes)
    interior = _interior(function, displacement, mask)
    return 100 * jnp.sum(values * interior, axis=axes) / jnp.sum(interior, axis=axes)


def _interior(function: str, displacement: jax.Array, mask: jax.Array) -> jax.Array:
    """Checks a mask and cuts it to the interior voxels."""
    check_arrays(function, "b", mask=mask)
    if mask.shape != displacement.shape[:-1]:
        raise ValueError(
            f"{function}: displacement has shape {displacement.shape} and mask has shape {mask.shape}; "
            "they must be [B, *S, N] and [B, *S]"
        )
    return mask[(slice(None), *[slice(1, -1)] * (mask.ndim - 1))]
