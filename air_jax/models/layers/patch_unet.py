"""U-Net on patches of one image: the backbone of the segmenter and of matching."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from air_jax.models.layers.patches import patchify

PATCH_SIZE = 2  # voxels along each axis; convolutions of patches are fewer and wider than those of voxels


def patch_unet(image: jax.Array, features: Sequence[int], dtype: Any) -> list[jax.Array]:
    """Applies a U-Net (Ronneberger et al. 2015) on patches of `PATCH_SIZE` voxels, within the module that calls it.

    A patch's voxels are its first channels. Convolutions run along one axis after the other, each as a matrix product
    with three neighbours. In 3-D this needs a third of the arithmetic of full convolutions.

    Args:
      image: `[B, *S, C]`, with sizes that are multiples of `smallest_multiple(features)`.
      features: features of each level, fine to coarse. The resolution halves from level to level.
      dtype: dtype of the features.

    Returns:
      For each level, coarse to fine, features `[B, *G, F]`: one vector for every `2 ** len(features)`, ..., 4, 2 voxels
      along each axis.
    """
    num_axes = image.ndim - 2
    two = (2,) * num_axes

    def convolve(x, width):
        for axis in range(1, num_axes + 1):
            x = nn.Dense(width, use_bias=False, dtype=dtype)(_neighbours(x, axis))
        # Statistics of each image and feature: batches of volumes are too small for batch normalisation.
        return nn.leaky_relu(nn.GroupNorm(num_groups=None, group_size=1, dtype=dtype)(x), 0.1)

    x = patchify(image, (PATCH_SIZE,) * num_axes)
    skipped = []
    for width in features[:-1]:
        x = convolve(x, width)
        skipped.append(x)
        x = nn.max_pool(x, two, two)
    levels = [convolve(x, features[-1])]
    for width in reversed(features[:-1]):
        x = levels[-1]
        for axis in range(1, num_axes + 1):
            x = jnp.repeat(x, 2, axis=axis)
        levels.append(convolve(jnp.concatenate([x, skipped.pop()], axis=-1), width))
    return levels


def smallest_multiple(features: Sequence[int]) -> int:
    """Returns the number of voxels of which each axis must be a multiple."""
    return PATCH_SIZE * 2 ** (len(features) - 1)


def _neighbours(x: jax.Array, axis: int) -> jax.Array:
    """Concatenates each place's features with those of its two neighbours along an axis; 0 beyond the border."""
    size = x.shape[axis]
    padded = jnp.pad(x, [(int(other == axis),) * 2 for other in range(x.ndim)])
    return jnp.concatenate([jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i in range(3)], axis=-1)
