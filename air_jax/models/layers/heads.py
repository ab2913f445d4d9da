"""Deformation features to a displacement field: the STN stage before its sampler (paper section 2.1, Fig. 2 step (b)).

The paper leaves open how one feature vector a patch becomes one displacement a voxel. Two readings:

- `dense`: each token predicts the displacement of every voxel of its own patch;
- `control_grid`: each token predicts one vector, a control point at the patch's centre, and the grid of control points
  is upsampled smoothly to the image, as in DLIR (de Vos et al. 2019) and, bicubically as here, in the authors' code.

And one beyond the paper: `bspline`, control points that a cubic B-spline smooths.
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
    """The linear layer of the paper; it starts at zero, so that training starts from the identity."""
    # Float32 whatever the tokens' dtype: coordinates in bfloat16 would round pixel 257.5 to 258.
    return nn.Dense(features, dtype=jnp.float32, kernel_init=nn.initializers.zeros_init(), name="head")(tokens)


def dense(tokens: jax.Array, patch_size: Sequence[int]) -> jax.Array:
    """Tokens `[B, *G, F]` to a displacement `[B, *(G * patch_size), N]` in voxels: a linear layer per patch."""
    return unpatchify(_linear(tokens, math.prod(patch_size) * len(patch_size)), patch_size)


def control_grid(tokens: jax.Array, patch_size: Sequence[int]) -> jax.Array:
    """Tokens `[B, *G, F]` to a displacement `[B, *(G * patch_size), N]`: one vector a token, upsampled bicubically.

    The vectors are in image voxels from the start, so upsampling does not scale them.
    """
    num_axes = len(patch_size)
    vectors = _linear(tokens, num_axes)
    shape = [g * p for g, p in zip(tokens.shape[1:-1], patch_size, strict=True)]
    return jax.image.resize(vectors, (tokens.shape[0], *shape, num_axes), method="cubic")


def bspline_grid(tokens: jax.Array, patch_size: Sequence[int]) -> jax.Array:
    """Tokens `[B, *G, F]` to a displacement `[B, *(G * patch_size), N]`: one control point of a cubic B-spline each."""
    shape = [g * p for g, p in zip(tokens.shape[1:-1], patch_size, strict=True)]
    return bspline(_linear(tokens, len(patch_size)), patch_size, shape)


HEADS: dict[str, Head] = {"dense": dense, "control_grid": control_grid, "bspline": bspline_grid}
