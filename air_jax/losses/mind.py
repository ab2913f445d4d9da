"""MIND-SSC: a similarity of images of different modalities, by the structure around each voxel."""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from air_jax.checks import check_integer
from air_jax.losses.windows import (
    SMALLEST_WEIGHT,
    at_least_float32,
    box_mean,
    seen,
    voxel_weights,
    weighted_mean,
)
from air_jax.runtime.any_mesh import on_any_mesh
from air_jax.transforms.shapes import check_images

# Bounds of the variance estimate, relative to its mean over the image.
_VARIANCE_RANGE = (0.001, 1000.0)
# Lower bound of the variance: avoids a division by 0 in flat images. Differences of 0.001 in [0, 1] are no structure.
_VARIANCE_FLOOR = 1e-6


@on_any_mesh
def mind_ssc_loss(
    fixed: jax.Array, warped: jax.Array, *, radius: int = 2, dilation: int = 2, weights: jax.Array | None = None
) -> jax.Array:
    """Mean squared difference of self-similarity contexts, MIND-SSC (Heinrich et al. 2013, "Towards Realtime
    Multimodal Fusion for Image-Guided Interventions Using Self-similarities").

    A voxel's descriptor compares patches around it with each other. The patches are centred on the voxel's neighbours
    along the axes. They are compared in pairs of neighbours at a right angle: 12 pairs in 3-D, 4 in 2-D. With
    neighbours at offsets `a` and `b`, the distance of a pair at voxel `p` is the mean of `(I(q + a) - I(q + b))^2` over
    the voxels `q` of the image within `radius` of `p` along each axis. Near the border the box of `q` is cut off, so
    patches are smaller there. Neighbours `q + a` beyond the border have the value of the nearest voxel of the image.

    With weights `w` the distance is the mean over `q` with weights `w(q + a) w(q + b)`. Let `s` be the mean of these
    weights over the box. The variance at `p` is the mean of its distances with weights `s`; a pair without weight does
    not count. The loss is the mean over voxels and pairs with weights `w(p) s`.

    Args:
      fixed: `[B, *S, C]` in [0, 1], 2-D or 3-D.
      warped: the same shape.
      radius: half the side of a patch, in voxels; 2 by default. The side is `2 * radius + 1`.
      dilation: distance of the neighbours from the voxel, in voxels; 2 by default.
      weights: `[B, *S]` in [0, 1], the share by which a voxel counts. Default: all count alike.

    Returns:
      `[B]` in [0, 1): the mean over voxels, pairs and channels. 0: same structure.

    Raises:
      ValueError: the shapes do not fit each other, or are not 2-D or 3-D.
      OptionError: `radius` is negative, or `dilation` is not positive.

    Examples:
      >>> fixed = jnp.zeros((1, 8, 8, 1)).at[:, 2:6, 2:6].set(1.0)
      >>> pairs = (fixed, 1 - fixed), (fixed, jnp.roll(fixed, 1, axis=1))
      >>> [round(abs(float(air_jax.losses.mind_ssc_loss(*pair)[0])), 3) for pair in pairs]
      [0.0, 0.032]
    """
    check_images("mind_ssc_loss", fixed, warped)
    if fixed.ndim < 4:
        raise ValueError(f"mind_ssc_loss: fixed has shape {fixed.shape}; it must be [B, *S, C], 2-D or 3-D")
    check_integer("radius", radius, 0)
    check_integer("dilation", dilation, 1)
    weights = voxel_weights("mind_ssc_loss", fixed, weights)
    both = None if weights is None else _Weights(weights, _pair_weights(weights, radius, dilation))
    difference = _descriptors(seen(fixed, weights), radius, dilation, both)
    difference -= _descriptors(seen(warped, weights), radius, dilation, both)
    # Without the barrier XLA fuses the descriptors into the sum, which takes a CPU several times as long.
    squares = lax.optimization_barrier(jnp.square(difference))
    counts = None if both is None else both.voxels[None] * both.pairs
    return weighted_mean(squares, counts, (0, *range(2, difference.ndim)))


class _Weights(NamedTuple):
    """Weights of voxels, `[B, *S, 1]`, and of pairs of neighbours, `[pairs, B, *S, 1]`."""

    voxels: jax.Array
    pairs: jax.Array


def _descriptors(image: jax.Array, radius: int, dilation: int, weights: _Weights | None = None) -> jax.Array:
    """`[pairs, B, *S, C]`: `exp(-distance / variance)`, 1 for each voxel's most similar pair."""
    image = at_least_float32(image)
    axes = tuple(range(1, image.ndim - 1))
    shifted = _shifts(image, dilation)
    if weights is None:
        patch_distances = [
            box_mean(jnp.square(shifted(a) - shifted(b)), 2 * radius + 1) for a, b in _neighbour_pairs(len(axes))
        ]
    else:
        weight = _shifts(weights.voxels, dilation)
        patch_distances = [
            box_mean(weight(a) * weight(b) * jnp.square(shifted(a) - shifted(b)), 2 * radius + 1)
            / jnp.maximum(each, SMALLEST_WEIGHT)
            for (a, b), each in zip(_neighbour_pairs(len(axes)), weights.pairs, strict=True)
        ]
    # The barrier keeps them in memory instead of computing them for each use: on a CPU that is a third faster.
    distances = lax.optimization_barrier(jnp.stack(patch_distances))
    if weights is None:
        distances -= jnp.min(distances, axis=0, keepdims=True)
        variance = jnp.mean(distances, axis=0)
        mean = jnp.mean(variance, axis=axes, keepdims=True)
    else:
        counts = weights.pairs > 0
        least = jnp.min(jnp.where(counts, distances, jnp.inf), axis=0, keepdims=True)
        distances = jnp.where(counts, distances - jnp.where(jnp.isfinite(least), least, 0), 0)
        variance = weighted_mean(distances, weights.pairs, (0,))
        mean = weighted_mean(variance, weights.voxels * jnp.mean(weights.pairs, axis=0), axes, keepdims=True)
    low, high = (factor * mean for factor in _VARIANCE_RANGE)
    variance = jnp.maximum(jnp.clip(variance, low, high), _VARIANCE_FLOOR)
    return jnp.exp(-distances / variance[None])


def _pair_weights(weights: jax.Array, radius: int, dilation: int) -> jax.Array:
    """`[pairs, B, *S, 1]`: the mean over each voxel's box of `w(q + a) w(q + b)`."""
    weight = _shifts(weights, dilation)
    return jnp.stack([box_mean(weight(a) * weight(b), 2 * radius + 1) for a, b in _neighbour_pairs(weights.ndim - 2)])


def _shifts(image: jax.Array, dilation: int) -> Callable[[np.ndarray], jax.Array]:
    """A function of a unit step `[N]` that returns the image shifted by `dilation` along it; edge values continue."""
    axes = range(1, image.ndim - 1)
    padded = jnp.pad(
        image, [(dilation, dilation) if axis in axes else (0, 0) for axis in range(image.ndim)], mode="edge"
    )

    def shifted(step):
        starts = dilation * (1 + step)
        index = (slice(start, start + size) for start, size in zip(starts, image.shape[1:-1], strict=True))
        return padded[(slice(None), *index)]

    return shifted


def _neighbour_pairs(num_axes: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs of unit steps `[N]` along different axes."""
    steps = [sign * unit for unit in np.eye(num_axes, dtype=int) for sign in (-1, 1)]
    return [(a, b) for a, b in itertools.combinations(steps, 2) if a @ b == 0]
