"""Working grids: images padded at the ends of their axes, so that pairs of near sizes share compiled programs.

The padding has weight 0: no loss sees it. Indices and affines of voxels stay as they are.
"""

import dataclasses
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from air_jax.file_registration.inputs import Inputs

# Sizes up to a limit become multiples of a step. Compilation takes longer than the optimisation of small images, whose
# steps are therefore large compared with their sizes.
STEPS = ((32, 8), (256, 16))
LARGEST_STEP = 32
LARGEST_GROWTH = 1.5  # of the grids of a pair, if both images get the same one
_DIGITS = 4  # of relative voxel sizes


def bucket(shape: Sequence[int]) -> tuple[int, ...]:
    """Returns the grid of an image.

    Args:
      shape: sizes of the image.

    Returns:
      Multiples of 8 up to 32, of 16 up to 256, of 32 above.
    """
    steps = (next((step for limit, step in STEPS if size <= limit), LARGEST_STEP) for size in shape)
    return tuple(-(-size // step) * step for size, step in zip(shape, steps, strict=True))


def buckets(shape: Sequence[int], moving_shape: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns the grids of a pair, by its own sizes only: one for both images where they are about as large.

    Args:
      shape, moving_shape: sizes of the fixed and of the moving image.
    """
    own = bucket(shape), bucket(moving_shape)
    shared = tuple(map(max, *own))
    if 2 * math.prod(shared) <= LARGEST_GROWTH * sum(map(math.prod, own)):
        return shared, shared
    return own


def on_grids(inputs: Inputs) -> Inputs:
    """Pads the images of a pair to its grids, see `buckets`.

    Args:
      inputs: the pair, on the grids of its files, without regions or landmarks that guide it.

    Returns:
      The pair; the padding has weight 0 and the background's value.
    """
    shape, moving_shape = buckets(inputs.shape, inputs.moving_shape)
    background = inputs.normalized_background[None]
    return dataclasses.replace(
        inputs,
        fixed_image=_batch(inputs.fixed_image, shape),
        moving_image=_batch(inputs.moving_image - background, moving_shape) + background,
        fixed_weights=_batch(inputs.fixed_weights, shape),
        moving_weights=_batch(inputs.moving_weights, moving_shape),
    )


def pad(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Pads `[*S, ...]` at the ends of its first axes to `shape`, with zeros."""
    return np.pad(array, _widths(array.shape, shape))


def extend(displacement: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Pads `[*S, N]` at the ends of its first axes to `shape`; the values at the border continue."""
    return np.pad(displacement, _widths(displacement.shape, shape), mode="edge")


def cut(array: jax.Array | np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Removes the padding: `[*S, ...]` of an array on a larger grid."""
    return np.asarray(array)[tuple(slice(size) for size in shape)]


def relative_sizes(spacing: Sequence[float], moving_spacing: Sequence[float]) -> tuple[list[float], list[float]]:
    """Returns voxel sizes in units of the fixed image's smallest one. Programs depend on them, so they should be few.

    Args:
      spacing, moving_spacing: `[N]`, of the fixed and of the moving image, in one unit.

    Returns:
      `[N]` of each, rounded to 4 digits behind the point, and 1 for cubes of any size.
    """
    smallest = min(spacing)
    fixed, moving = (
        [max(round(size / smallest, _DIGITS), 10.0**-_DIGITS) for size in sizes] for sizes in (spacing, moving_spacing)
    )
    return fixed, moving


def _batch(array: jax.Array, shape: Sequence[int]) -> jax.Array:
    return jnp.asarray(pad(np.asarray(array)[0], shape)[None])


def _widths(sizes: Sequence[int], shape: Sequence[int]) -> list[tuple[int, int]]:
    widths = [(0, new - old) for old, new in zip(sizes, shape, strict=False)]
    return widths + [(0, 0)] * (len(sizes) - len(shape))
