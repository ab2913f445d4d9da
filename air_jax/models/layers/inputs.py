"""What every model asks of its two images."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def check_pair(name: str, fixed: jax.Array, moving: jax.Array) -> int:
    """Returns the number of spatial axes of `fixed` and `moving`, `[B, *S, C]`.

    Raises:
      ValueError: their shapes differ, or are not those of 2-D or 3-D images; `name` is the model's, for the message.
    """
    if fixed.shape != moving.shape:
        raise ValueError(f"{name}: fixed has shape {fixed.shape} and moving {moving.shape}; they must be the same")
    num_axes = fixed.ndim - 2
    if num_axes not in (2, 3):
        raise ValueError(f"{name}: images have shape {fixed.shape}; they must be [B, H, W, C] or [B, D, H, W, C]")
    return num_axes


def pad_to_multiple(image: jax.Array, multiple: Sequence[int]) -> jax.Array:
    """Repeats the last voxels of `[B, *S, C]` along each axis until its size is a multiple of `multiple`."""
    widths = [(0, -size % step) for size, step in zip(image.shape[1:-1], multiple, strict=True)]
    return jnp.pad(image, [(0, 0), *widths, (0, 0)], mode="edge")


def crop(field: jax.Array, shape: Sequence[int]) -> jax.Array:
    """The first `shape` voxels of `[B, *S, F]` along each spatial axis: takes `pad_to_multiple` back."""
    return field[(slice(None), *(slice(size) for size in shape))]
