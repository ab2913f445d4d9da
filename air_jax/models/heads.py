"""Deformation features to a displacement field: the STN stage before its sampler (paper section 2.1, Fig. 2 step (b)).

The paper leaves open how one feature vector a patch becomes one displacement a voxel. Two readings:

- `dense`: each token predicts the displacement of every voxel of its own patch;
- `control_grid`: each token predicts one vector, a control point at the patch's centre, and the grid of control points
  is upsampled smoothly to the image, as in DLIR (de Vos et al. 2019) and, bicubically as here, in the authors' code.
"""

import math
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from air_jax.models.patches import unpatchify

Head = Callable[[jax.Array, Sequence[int]], jax.Array]


def _vectors(tokens: jax.Array, num_vectors: int, patch_size: Sequence[int]) -> jax.Array:
    """Linear layer from tokens `[..., F]` to vectors `[..., num_vectors, N]` in voxels.

    It starts at zero, so that training starts from the identity, and counts in half patches, so that a step of Adam
    moves a voxel by an amount that suits the distance between tokens.
    """
    # Float32 whatever the tokens' dtype: coordinates in bfloat16 would round pixel 257.5 to 258.
    linear = nn.Dense(
        num_vectors * len(patch_size), dtype=jnp.float32, kernel_init=nn.initializers.zeros_init(), name="head"
    )
    half_patches = linear(tokens).reshape(*tokens.shape[:-1], num_vectors, len(patch_size))
    unit = jnp.asarray(patch_size, jnp.float32) / 2
    return half_patches * unit.reshape((1,) * (half_patches.ndim - 1) + unit.shape)


def dense(tokens: jax.Array, patch_size: Sequence[int]) -> jax.Array:
    """Tokens `[B, *G, F]` to a displacement `[B, *(G * patch_size), N]`: a linear layer per patch."""
    vectors = _vectors(tokens, math.prod(patch_size), patch_size)
    return unpatchify(vectors.reshape(*tokens.shape[:-1], -1), patch_size)


def control_grid(tokens: jax.Array, patch_size: Sequence[int]) -> jax.Array:
    """Tokens `[B, *G, F]` to a displacement `[B, *(G * patch_size), N]`: one vector a token, upsampled bicubically.

    The vectors are in image voxels from the start, so upsampling does not scale them.
    """
    vectors = _vectors(tokens, 1, patch_size)[..., 0, :]
    shape = [g * p for g, p in zip(tokens.shape[1:-1], patch_size, strict=True)]
    return jax.image.resize(vectors, (tokens.shape[0], *shape, len(patch_size)), method="cubic")


HEADS: dict[str, Head] = {"dense": dense, "control_grid": control_grid}
