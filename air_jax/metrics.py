"""Scores of a registration, one value a pair `[B]`. Plain `jax.numpy`, so they run inside a jitted evaluation step."""

import jax
import jax.numpy as jnp

from air_jax.losses import mse
from air_jax.transforms import corner_jacobian_determinant, jacobian_determinant


def mask_dice(fixed: jax.Array, warped: jax.Array, threshold: float = 0.5) -> jax.Array:
    """Dice overlap of the foregrounds (`> threshold`) of images `[B, *S, C]`; NaN for a pair without any foreground."""
    axes = tuple(range(1, fixed.ndim))
    a, b = fixed > threshold, warped > threshold
    return 2 * jnp.sum(a & b, axis=axes) / (jnp.sum(a, axis=axes) + jnp.sum(b, axis=axes))


def _percent(condition: jax.Array) -> jax.Array:
    return 100 * jnp.mean(condition, axis=tuple(range(1, condition.ndim)))


def folding_percent(displacement: jax.Array) -> jax.Array:
    """Share of interior voxels with a determinant <= 0 by central differences, in percent. `[B, *S, N]` to `[B]`."""
    return _percent(jacobian_determinant(displacement) <= 0)


def any_corner_folding_percent(displacement: jax.Array) -> jax.Array:
    """Share of interior voxels with a determinant <= 0 for any combination of one-sided differences, in percent.

    Never less than what really folds at a corner; central differences under-count. `[B, *S, N]` to `[B]`.
    """
    return _percent(corner_jacobian_determinant(displacement) <= 0)


def sd_log_jacobian(displacement: jax.Array) -> jax.Array:
    """Standard deviation over interior voxels of `log(clip(J, 1e-9))`, central differences. `[B, *S, N]` to `[B]`."""
    log_jacobian = jnp.log(jnp.maximum(jacobian_determinant(displacement), 1e-9))
    return jnp.std(log_jacobian, axis=tuple(range(1, log_jacobian.ndim)))


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


def displacement_scores(displacement: jax.Array) -> dict[str, jax.Array]:
    """Scores of a displacement `[B, *S, N]` alone, by name; each `[B]`."""
    return {
        "folding_percent": folding_percent(displacement),
        "any_corner_folding_percent": any_corner_folding_percent(displacement),
        "sd_log_jacobian": sd_log_jacobian(displacement),
    }
