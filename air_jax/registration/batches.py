"""Images as users give them, and the batches that models take."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from air_jax.checks import as_array
from air_jax.transforms.intensity import normalize, normalize_traced, to_unit_range

Array = np.ndarray | jax.Array


def pair_batches(fixed: Array, moving: Array, image_shape: Sequence[int], window: str) -> tuple[jax.Array, jax.Array]:
    """Converts a pair or a batch of pairs to normalised batches.

    Args:
      fixed, moving: `[*S]`, `[B, *S]` or `[B, *S, C]`, the same shape, with finite values.
      image_shape: `(*S, C)` of a model; only the number of axes and C matter.
      window: key of `air_jax.transforms.intensity.WINDOWS`.

    Returns:
      Two batches `[B, *S, C]`, float32 in [0, 1].

    Raises:
      ValueError: shapes, dtypes or values that do not fit.
    """
    fixed, moving = _array("fixed", fixed), _array("moving", moving)
    if np.shape(fixed) != np.shape(moving):
        raise ValueError(
            f"fixed has shape {np.shape(fixed)} and moving {np.shape(moving)}; resample one onto the other first"
        )
    return to_batch(fixed, "fixed", image_shape, window), to_batch(moving, "moving", image_shape, window)


def to_batch(image: Array, name: str, image_shape: Sequence[int], window: str) -> jax.Array:
    """Converts one image or a batch of images to a normalised batch, each image by its own intensities.

    Inside `jit` and `vmap` the values are not known: they are not checked, and normalised in float32.

    Args:
      image: `[*S]`, `[B, *S]` or `[B, *S, C]` with finite values.
      name: of the image, for messages.
      image_shape: `(*S, C)` of a model; only the number of axes and C matter.
      window: key of `air_jax.transforms.intensity.WINDOWS`.

    Returns:
      `[B, *S, C]`, float32 in [0, 1].

    Raises:
      ValueError: a shape, dtype or values that do not fit.
    """
    image = _array(name, image)
    if jnp.issubdtype(image.dtype, jnp.complexfloating) or (
        not jnp.issubdtype(image.dtype, jnp.number) and image.dtype != bool
    ):
        raise ValueError(f"{name} has dtype {image.dtype}; give an array of real numbers")
    if any(size == 0 for size in image.shape):
        raise ValueError(f"{name} has shape {image.shape}; it has no voxels")
    traced = isinstance(image, Tracer)
    num_axes, channels = len(image_shape) - 1, image_shape[-1]
    has_channels = image.ndim == num_axes + 2 and image.shape[-1] == channels
    # [*S, 1] would pass for a batch of images one voxel wide.
    lacks_channels = channels == 1 and (image.ndim == num_axes or (image.ndim == num_axes + 1 and image.shape[-1] != 1))
    if not (has_channels or lacks_channels):
        axes = ", ".join("DHW"[-num_axes:])
        allowed = f"[B, {axes}, {channels}]" + (f", [B, {axes}] or [{axes}]" if channels == 1 else "")
        raise ValueError(f"{name} has shape {image.shape}; this model takes {allowed}")
    # jnp.min and jnp.max of a range check drop NaN on a CPU.
    if not traced and jnp.issubdtype(image.dtype, jnp.floating) and not bool(jnp.isfinite(image).all()):
        raise ValueError(f"{name} has values that are NaN or infinite; replace them first")
    if image.ndim == num_axes:
        image = image[None]
    image = image if has_channels else image[..., None]
    if window == "range":
        return _to_unit_range(jnp.asarray(image), name)
    try:
        if traced:
            return jax.vmap(partial(normalize_traced, window=window))(jnp.asarray(image))
        return jnp.asarray(np.stack([normalize(one, window) for one in np.asarray(image)]))
    except ValueError as error:
        raise ValueError(f"{name} {error}") from error


def _to_unit_range(image: jax.Array, name: str) -> jax.Array:
    """The window "range", computed on the device."""
    if jnp.issubdtype(image.dtype, jnp.integer) and image.dtype not in (jnp.uint8, jnp.uint16):
        raise ValueError(
            f"{name} has dtype {image.dtype}, whose range tells nothing; give uint8, uint16, or floats in [0, 1]"
        )
    image = to_unit_range(image)
    if isinstance(image, Tracer):
        return image
    low, high = float(image.min()), float(image.max())
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"{name} has values from {low:g} to {high:g}; scale floats to [0, 1], or give an integer image"
        )
    return image


def _array(name: str, image: Array) -> Array:
    return image if isinstance(image, jax.Array) else as_array("register", name, image)


def guess_num_axes(shape: Sequence[int]) -> int:
    """Returns the number of spatial axes of an image or batch of this shape, where it is certain.

    Raises:
      ValueError: it is not certain, as in `[B, H, W, C]` or `[B, D, H, W]`.
    """
    # The last axis of a volume is longer than the colours of a picture.
    certain = {2: 2, 3: 3, 5: 3}
    if len(shape) not in certain or (len(shape) == 3 and shape[-1] <= 4):
        raise ValueError(
            f"fixed has shape {tuple(shape)}; give num_axes=2 for [B, H, W] or [B, H, W, C], "
            "num_axes=3 for [D, H, W], [B, D, H, W] or [B, D, H, W, C]"
        )
    return certain[len(shape)]


def with_margin(image: jax.Array, image_shape: Sequence[int]) -> tuple[jax.Array, tuple[slice, ...]]:
    """Adds a margin of zeros, so that no axis is shorter than that of the training images.

    Args:
      image: `[B, *S, C]`.
      image_shape: `(*S, C)` of the training images.

    Returns:
      The larger image, and the slices that the image has in it.
    """
    sizes = image.shape[1:-1]
    margins = [max(whole - size, 0) for whole, size in zip(image_shape[:-1], sizes, strict=True)]
    larger = jnp.pad(image, [(0, 0), *((margin // 2, margin - margin // 2) for margin in margins), (0, 0)])
    inside = [slice(margin // 2, margin // 2 + size) for margin, size in zip(margins, sizes, strict=True)]
    return larger, (slice(None), *inside)
