"""Normalisation of intensities to [0, 1]."""

import jax
import jax.numpy as jnp
import numpy as np

from air_jax.checks import check_choice

# Limits in percent of an image's values. A few voxels of metal, vessels or noise must not darken all others.
PERCENTILES = (0.5, 99.5)
# Upper limit in percent of the values above 0. The share of black background differs between scans.
FOREGROUND_PERCENTILE = 98
# Limits in Hounsfield units: the window of radiology for soft tissue, level 40 and width 400.
CT_WINDOW = (-160.0, 240.0)


def to_unit_range(images: jax.Array) -> jax.Array:
    """Converts images to float32 in [0, 1].

    Args:
      images: any shape. Unsigned integers are divided by the largest value of their dtype. Floats stay as they are and
        must be in [0, 1].

    Returns:
      float32 of the same shape.
    """
    if jnp.issubdtype(images.dtype, jnp.integer):
        return images.astype(jnp.float32) / jnp.iinfo(images.dtype).max
    return images.astype(jnp.float32)


def normalize(image: np.ndarray, window: str, *, counts: np.ndarray | None = None) -> np.ndarray:
    """Normalises one image to [0, 1]: linearly between the two limits of a window, clipped outside of them.

    The limits are computed from this image, one pair for all of its channels. Values that are not finite count as 0, as
    in the images that `air_jax.io` reads.

    Args:
      image: `[*S]` or `[*S, C]`, real numbers or booleans.
      window: a key of `WINDOWS`. "range": the range of the dtype for unsigned integers; booleans and floats in [0, 1]
        stay as they are, as in `to_unit_range`. "percentile": from the 0.5th to the 99.5th percentile of all values,
        background included; from the smallest to the largest value where the two are equal, as in sparse masks.
        "foreground": from 0 to the 98th percentile of the values above 0, for scans with black background; an image
        without such values becomes 0. "ct": from -160 to 240 Hounsfield units, soft tissue.
      counts: `[*S]` booleans, the voxels that determine the limits, at least one. Default: all.

    Returns:
      float32 of the image's shape. An image that is constant under "percentile" becomes 0.

    Raises:
      OptionError: an unknown window.
      ValueError: the image does not fit the window; the message is one line.
    """
    check_choice("window", window, WINDOWS)
    image = np.asarray(image)
    if image.dtype.kind not in "biuf" or not image.size:
        raise ValueError(f"has dtype {image.dtype} and shape {image.shape}; give real numbers, at least one")
    # float64 distinguishes large integers, and holds the difference of any two float32.
    values = np.array(image, np.float64)
    values[~np.isfinite(values)] = 0
    low, high = WINDOWS[window](values if counts is None else values[counts], image.dtype)
    if low == high:
        return np.zeros(image.shape, np.float32)
    return np.clip((values - low) / (high - low), 0, 1).astype(np.float32)


def normalize_traced(image: jax.Array, window: str) -> jax.Array:
    """`normalize` inside `jit` and `vmap`: in float32, and without checks of values.

    Args:
      image: `[*S]` or `[*S, C]`, real numbers or booleans.
      window: as of `normalize`.

    Returns:
      float32 of the image's shape.

    Raises:
      ValueError: the dtype does not fit the window.
    """
    if window == "range":
        return to_unit_range(image)
    values = jnp.where(jnp.isfinite(image), image, 0).astype(jnp.float32)
    if window == "percentile":
        low, high = jnp.percentile(values, jnp.asarray(PERCENTILES))
        equal = low >= high
        low, high = jnp.where(equal, values.min(), low), jnp.where(equal, values.max(), high)
    elif window == "foreground":
        low, high = 0, jnp.nan_to_num(jnp.nanpercentile(jnp.where(values > 0, values, jnp.nan), FOREGROUND_PERCENTILE))
    else:
        low, high = _ct_limits(np.zeros(0), np.dtype(image.dtype))
    scaled = jnp.clip((values - low) / jnp.where(low == high, 1, high - low), 0, 1)
    return jnp.where(low == high, 0, scaled)


def _range_limits(values: np.ndarray, dtype: np.dtype) -> tuple[float, float]:
    if dtype.kind == "u":
        return 0, np.iinfo(dtype).max
    if dtype.kind == "i":
        raise ValueError(f'has dtype {dtype}, whose range tells nothing; use "percentile", or give unsigned integers')
    low, high = np.float32(values.min()), np.float32(values.max())
    if low < 0 or high > 1:
        raise ValueError(
            f'has values from {low:g} to {high:g}, which "range" does not scale; use "percentile", or scale to [0, 1]'
        )
    return 0, 1


def _percentile_limits(values: np.ndarray, dtype: np.dtype) -> tuple[float, float]:
    del dtype
    low, high = np.percentile(values, PERCENTILES)
    return (low, high) if low < high else (values.min(), values.max())


def _foreground_limits(values: np.ndarray, dtype: np.dtype) -> tuple[float, float]:
    del dtype
    foreground = values[values > 0]
    return 0, float(np.percentile(foreground, FOREGROUND_PERCENTILE)) if foreground.size else 0


def _ct_limits(values: np.ndarray, dtype: np.dtype) -> tuple[float, float]:
    del values
    if dtype.kind in "bu":
        raise ValueError(
            f"has dtype {dtype}, which cannot hold Hounsfield units: air is -1000; "
            'rescale as the scanner\'s header says, or use "percentile"'
        )
    return CT_WINDOW


# Each function takes an image's values as finite float64 and their original dtype. It returns the values that become 0
# and 1.
WINDOWS = {"range": _range_limits, "percentile": _percentile_limits, "foreground": _foreground_limits, "ct": _ct_limits}
