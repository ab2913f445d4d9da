"""Similarities: losses that compare `fixed` with `warped`. Lower is better; one value for each pair."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from air_jax.losses.correlation import lncc_loss, ncc_loss, squared_lncc_loss
from air_jax.losses.information import mi_loss
from air_jax.losses.mind import mind_ssc_loss
from air_jax.transforms.shapes import check_images

Similarity = Callable[[jax.Array, jax.Array], jax.Array]


def mse_loss(fixed: jax.Array, warped: jax.Array) -> jax.Array:
    """Mean squared difference of two images (paper section 2.1, Fig. 2 steps (c)-(d)).

    Args:
      fixed: `[B, *S, C]` in [0, 1].
      warped: the same shape.

    Returns:
      `[B]`: the mean over voxels and channels, 0 for equal images.

    Raises:
      ValueError: the shapes differ.
    """
    check_images("mse_loss", fixed, warped)
    return jnp.mean(jnp.square(warped - fixed), axis=tuple(range(1, fixed.ndim)))


SIMILARITIES: dict[str, Similarity] = {
    "mse": mse_loss,
    "ncc": ncc_loss,
    "lncc": lncc_loss,
    "squared_lncc": squared_lncc_loss,
    "mi": mi_loss,
    "mind_ssc": mind_ssc_loss,
}
