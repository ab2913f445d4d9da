"""Heads: from deformation features to a displacement, before the sampler (paper section 2.1, Fig. 2 step (b)).

The paper does not say how one feature vector per patch becomes one displacement per voxel. Two heads follow it:

- `dense`: each token predicts the displacement of every voxel of its patch;
- `control_grid`: each token predicts one control vector at the centre of its patch, and the grid of control vectors is
  upsampled to the image: smoothly as in DLIR (de Vos et al. 2019), bicubically as in the authors' code.

A third one is not in the paper: `bspline`, the control vectors of a cubic B-spline.
"""

import math
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from air_jax.models.layers.patches import unpatchify
from air_jax.transforms import bspline

Head = Callable[[jax.Array, Sequence[int]], jax.Array]


def _linear(tokens: jax.Array, features: int) -> jax.Array:
    """Applies the paper's linear layer. It starts at zero, so that training starts from the identity."""
    # Float32 whatever the tokens' dtype: coordinates in bfloat16 would round pixel 257.5 to 258.
    return nn.Dense(features, dtype=jnp.float32, kernel_init=nn.initializers.zeros_init(), name="head")(tokens)


def dense(tokens: jax.Array, patch_size: Sequence[int]) -> jax.Array:
    """Predicts the displacement of each patch from its token.

    Args:
      tokens: `[B, *G, F]`.
      patch_size: patch size in voxels along each spatial axis.

    Returns:
      The displacement `[B, *(G * patch_size), N]` in voxels.
    """
    return unpatchify(_linear(tokens, math.prod(patch_size) * len(patch_size)), patch_size)


def control_grid(tokens: jax.Array, patch_size: Sequence[int]) -> jax.Array:
    """Predicts one control vector for each token and upsamples their grid bicubically.

    Args:
      tokens: `[B, *G, F]`.
      patch_size: patch size in voxels along each spatial axis.

    Returns:
      The displacement `[B, *(G * patch_size), N]` in voxels. Vectors are in voxels, so upsampling does not scale them.
    """
    num_axes = len(patch_size)
    vectors = _linear(tokens, num_axes)
    shape = [g * p for g, p in zip(tokens.shape[1:-1], patch_size, strict=True)]
    return jax.image.resize(vectors, (tokens.shape[0], *shape, num_axes), method="cubic")


def bspline_grid(tokens: jax.Array, patch_size: Sequence[int]) -> jax.Array:
    """Predicts one control vector of a cubic B-spline for each token.

    Args:
      tokens: `[B, *G, F]`.
      patch_size: patch size in voxels along each spatial axis.

    Returns:
      The displacement `[B, *(G * patch_size), N]` in voxels.
    """
    shape = [g * p for g, p in zip(tokens.shape[1:-1], patch_size, strict=True)]
    return bspline(_linear(tokens, len(patch_size)), patch_size, shape)


HEADS: dict[str, Head] = {"dense": dense, "control_grid": control_grid, "bspline": bspline_grid}
