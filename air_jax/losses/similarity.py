"""Similarities: how far `warped` is from `fixed`. Lower is better; one value a pair."""

import jax
import jax.numpy as jnp


def mse(fixed: jax.Array, warped: jax.Array) -> jax.Array:
    """Mean squared difference of two images `[B, *S, C]`, `[B]` (paper section 2.1, Fig. 2 steps (c)-(d))."""
    return jnp.mean(jnp.square(warped - fixed), axis=tuple(range(1, fixed.ndim)))


SIMILARITIES = {"mse": mse}
