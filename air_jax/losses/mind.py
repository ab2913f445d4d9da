"""MIND-SSC: images of different modalities compared by what each voxel's surroundings look like within one image."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from air_jax.losses.windows import at_least_float32, box_mean

# Of the variance estimate, relative to its mean over the image.
_VARIANCE_RANGE = (0.001, 1000.0)
# Distances of flat images must not be divided by 0, and differences of a thousandth of [0, 1] are no structure.
_VARIANCE_FLOOR = 1e-6


def mind_ssc(fixed: jax.Array, warped: jax.Array, *, radius: int = 2, dilation: int = 2) -> jax.Array:
    """Mean squared difference of self-similarity contexts, MIND-SSC (Heinrich et al. 2013, "Towards Realtime
    Multimodal Fusion for Image-Guided Interventions Using Self-similarities").

    A voxel's descriptor compares patches around it with each other: those centred on its neighbours along the axes, in
    pairs that stand at a right angle to each other (12 pairs in 3-D, 4 in 2-D).

    Args:
      fixed, warped: `[B, *S, C]` in [0, 1], 2-D or 3-D. Beyond the border the values of the border go on.
      radius: of the patches, in voxels; they are boxes of `2 * radius + 1`.
      dilation: distance of the neighbours, in voxels.

    Returns:
      `[B]`: the mean over voxels, pairs and channels, from 0 (same structure) to below 1.
    """
    difference = _descriptors(fixed, radius, dilation) - _descriptors(warped, radius, dilation)
    # Fused into the sum, what computes the descriptors takes XLA on a CPU several times as long.
    squares = lax.optimization_barrier(jnp.square(difference))
    return jnp.mean(squares, axis=(0, *range(2, difference.ndim)))


def _descriptors(image: jax.Array, radius: int, dilation: int) -> jax.Array:
    """`[pairs, B, *S, C]`: `exp(-distance / variance)`, 1 for each voxel's most similar pair."""
    image = at_least_float32(image)
    axes = tuple(range(1, image.ndim - 1))
    padded = jnp.pad(
        image, [(dilation, dilation) if axis in axes else (0, 0) for axis in range(image.ndim)], mode="edge"
    )

    def shifted(step):
        starts = dilation * (1 + step)
        index = (slice(start, start + size) for start, size in zip(starts, image.shape[1:-1], strict=True))
        return padded[(slice(None), *index)]

    patch_distances = [
        box_mean(jnp.square(shifted(a) - shifted(b)), 2 * radius + 1) for a, b in _neighbour_pairs(len(axes))
    ]
    # Held in memory once, not computed again for each of its uses: on a CPU that is a third faster.
    distances = lax.optimization_barrier(jnp.stack(patch_distances))
    distances -= jnp.min(distances, axis=0, keepdims=True)
    variance = jnp.mean(distances, axis=0)
    mean = jnp.mean(variance, axis=axes, keepdims=True)
    low, high = (factor * mean for factor in _VARIANCE_RANGE)
    variance = jnp.maximum(jnp.clip(variance, low, high), _VARIANCE_FLOOR)
    return jnp.exp(-distances / variance[None])


def _neighbour_pairs(num_axes: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The pairs of unit steps along different axes, `[N]` each."""
    steps = [sign * unit for unit in np.eye(num_axes, dtype=int) for sign in (-1, 1)]
    return [(a, b) for a, b in itertools.combinations(steps, 2) if a @ b == 0]
