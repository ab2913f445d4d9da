"""Intensities before a model sees them."""

import jax
import jax.numpy as jnp


def to_unit_range(images: jax.Array) -> jax.Array:
    """Images of any shape to float32 in [0, 1]: unsigned integers by their dtype's range, floats as they are."""
    if jnp.issubdtype(images.dtype, jnp.integer):
        return images.astype(jnp.float32) / jnp.iinfo(images.dtype).max
    return images.astype(jnp.float32)
