"""Similarities: how far `warped` is from `fixed`. Lower is better; one value a pair."""

import jax
import jax.numpy as jnp

from air_jax.losses.correlation import lncc, ncc, squared_lncc
from air_jax.losses.information import mi
from air_jax.losses.mind import mind_ssc


def mse(fixed: jax.Array, warped: jax.Array) -> jax.Array:
    """Mean squared difference of two images `[B, *S, C]`, `[B]` (paper section 2.1, Fig. 2 steps (c)-(d))."""
    return jnp.mean(jnp.square(warped - fixed), axis=tuple(range(1, fixed.ndim)))


SIMILARITIES = {
    "mse": mse,
    "ncc": ncc,
    "lncc": lncc,
    "squared_lncc": squared_lncc,
    "mi": mi,
    "mind_ssc": mind_ssc,
}
