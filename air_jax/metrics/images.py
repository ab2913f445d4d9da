"""Scores that compare two images, or a displacement with the true one. Plain `jax.numpy`."""

import jax
import jax.numpy as jnp

from air_jax.losses import mse


def mask_dice(fixed: jax.Array, warped: jax.Array, threshold: float = 0.5) -> jax.Array:
    """Dice overlap of the foregrounds (`> threshold`) of images `[B, *S, C]`; NaN for a pair without any foreground."""
    axes = tuple(range(1, fixed.ndim))
    a, b = fixed > threshold, warped > threshold
    return 2 * jnp.sum(a & b, axis=axes) / (jnp.sum(a, axis=axes) + jnp.sum(b, axis=axes))


def endpoint_errors(
    displacement: jax.Array, truth: jax.Array, fixed: jax.Array, threshold: float = 0.5
) -> dict[str, jax.Array]:
    """Mean length of `displacement - truth`, `[B, *S, N]`, in voxels, by name; each `[B]`.

    `endpoint_error` is over all voxels; `foreground_endpoint_error` over those where `fixed` `[B, *S, C]` is `>
    threshold` in any channel, as nothing in an image tells where its flat background went. NaN without foreground.
    """
    length = jnp.linalg.norm(displacement - truth, axis=-1)
    foreground = jnp.any(fixed > threshold, axis=-1)
    axes = tuple(range(1, length.ndim))
    return {
        "endpoint_error": jnp.mean(length, axis=axes),
        "foreground_endpoint_error": jnp.sum(length * foreground, axis=axes) / jnp.sum(foreground, axis=axes),
    }


def image_scores(fixed: jax.Array, warped: jax.Array) -> dict[str, jax.Array]:
    """Scores that compare two images `[B, *S, C]`, by name; each `[B]`."""
    return {"mse": mse(fixed, warped), "dice": mask_dice(fixed, warped)}
