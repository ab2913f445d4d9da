"""Edges as a channel of their own."""

import jax
import jax.numpy as jnp

from air_jax.transforms.smoothing import smooth

SIGMA = 0.7  # voxels
# Slopes are smaller than intensities; this brings both to about the same contrast.
WEIGHT = 2.0


def with_edges(image: jax.Array) -> jax.Array:
    """Adds to each channel the size of its gradient, slightly smoothed: `[B, *S, C]` to `[B, *S, 2 C]`.

    Registering both together counts where intensities change as much as what they are; warped as it is, the second
    channel tells where the moving image's edges go.
    """
    gradient = jnp.stack(jnp.gradient(smooth(image, SIGMA), axis=tuple(range(1, image.ndim - 1))))
    # The small number keeps the square root differentiable where the image is flat.
    return jnp.concatenate([image, WEIGHT * jnp.sqrt(jnp.sum(jnp.square(gradient), axis=0) + 1e-6)], axis=-1)
