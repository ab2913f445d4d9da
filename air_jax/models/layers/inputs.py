"""Checks and padding of the images that models read."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from air_jax.checks import check_arrays, check_flag


@jax.tree_util.register_static
class Sizes(tuple):
    """Sizes in the results of a model. Not data: they stay whole numbers under `jit`."""


def check_pair(name: str, fixed: jax.Array, moving: jax.Array, deterministic: bool) -> int:
    """Checks the arguments of a model, and returns the images' number of spatial axes, 2 or 3.

    Args:
      name: name of the model, for messages.
      fixed, moving: `[B, *S, C]`.
      deterministic: whether dropout is off.

    Raises:
      OptionError: `deterministic` is neither True nor False.
      ValueError: they are not of floats; the shapes differ, or are not those of 2-D or 3-D images with voxels.
    """
    check_flag("deterministic", deterministic)
    check_arrays(name, "f", fixed=fixed, moving=moving)
    if fixed.shape != moving.shape:
        raise ValueError(f"{name}: fixed has shape {fixed.shape} and moving {moving.shape}; they must be the same")
    num_axes = fixed.ndim - 2
    if num_axes not in (2, 3):
        raise ValueError(f"{name}: images have shape {fixed.shape}; they must be [B, H, W, C] or [B, D, H, W, C]")
    if not fixed.size:
        raise ValueError(f"{name}: images have shape {fixed.shape}; they have no voxels")
    return num_axes


def params_of(params: Any, name: str) -> Any:
    """Returns the parameters of a part of a model; raises `ValueError` where there are none."""
    if not isinstance(params, Mapping) or name not in params:
        raise ValueError(f"params is {type(params).__name__} without {name!r}; give the parameters of the model")
    return params[name]


def pad_to_multiple(image: jax.Array, multiple: Sequence[int]) -> jax.Array:
    """Pads `[B, *S, C]` at the end of each spatial axis to a multiple of `multiple`, by repeating the last voxel."""
    widths = [(0, -size % step) for size, step in zip(image.shape[1:-1], multiple, strict=True)]
    if all(after == 0 for _, after in widths):
        return image
    return jnp.pad(image, [(0, 0), *widths, (0, 0)], mode="edge")


def crop(field: jax.Array, shape: Sequence[int]) -> jax.Array:
    """Returns the first `shape` voxels of `[B, *S, F]` along each spatial axis, which undoes `pad_to_multiple`."""
    return field[(slice(None), *(slice(size) for size in shape))]
