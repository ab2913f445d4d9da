"""What an image file shows: voxels outside of its field of view, masks, and the value of its background."""

from pathlib import Path

import numpy as np

from air_jax import io
from air_jax.errors import UserError
from air_jax.io.image import read_converted
from air_jax.io.slides import reduced_mask
from air_jax.io.volume import check_same_grid

CT_PADDING = -2000  # Hounsfield units; scanners fill what they did not measure with this value or a lower one
AIR = -1024  # the lowest value that air has in a CT
# A box of other values in a constant surround is a cropped image that was padded, if it holds at least this share of
# the image, and at most this share of the box has the value of the surround. A head in black air fills its box less.
LEAST_BOX, MOST_BACKGROUND = 0.25, 0.05
WHITE = 0.75  # of the range of a picture's dtype; borders above it are white


def outside_of(path: Path, volume: io.Volume, window: str) -> np.ndarray:
    """Finds the voxels that an image file has but does not show: NaN and padding.

    Args:
      path: the file.
      volume: its content.
      window: the image's normalisation, a key of `air_jax.transforms.intensity.WINDOWS`.

    Returns:
      `[*S]` booleans. True: NaN or infinite in the file; at most -2000 in a CT; a constant lowest value at the border
      that is lower than air; or a constant lowest value around a box.
    """
    array = volume.array
    outside = _not_finite(path, volume) | _padding(array, volume.num_axes)
    if window == "ct":
        outside |= _over_channels(array <= CT_PADDING, volume.num_axes)
    return outside


def read_mask(path: Path, volume: io.Volume, image: Path) -> np.ndarray:
    """Reads a mask: how much each voxel of an image counts.

    Args:
      path: file of the mask.
      volume: the image.
      image: its file, for messages.

    Returns:
      `[*S]` float32 in [0, 1]. Booleans and integers are 1 where they are above 0; floats stay as they are, and are 0
      where they are not finite.

    Raises:
      UserError: one line: the mask cannot be read, lies on another grid, is empty, or has values outside of [0, 1].
    """
    mask = reduced_mask(path, volume)
    check_same_grid(path, mask, volume, image)
    weights = (mask.array if mask.array.dtype.kind == "f" else mask.array > 0).astype(np.float32)
    if weights.min() < 0 or weights.max() > 1:
        raise UserError(f"{path}: has values from {weights.min():g} to {weights.max():g}; a mask has values in [0, 1]")
    if not weights.any():
        raise UserError(f"{path}: is empty; a mask is above 0 where the image counts")
    return weights


def background_of(volume: io.Volume, option: float | None) -> np.ndarray:
    """Returns the value outside of an image: that of air, of black, or of a picture's white border.

    Args:
      volume: the image.
      option: the value that the user gives, or None.

    Returns:
      float32, one number, or `[C]` of the channels. Without an option: the lowest value, padding left out, of images
      with negative values; the median of the border of pictures (unsigned integers) whose border is white; else 0.
    """
    array = volume.array
    channels = array.shape[volume.num_axes :]
    if option is not None:
        return np.full(channels, option, np.float32)
    if array.min() < 0:
        seen = array[~_padding(array, volume.num_axes)]
        return np.asarray(seen.min(axis=0) if channels else seen.min(), np.float32)
    if array.dtype.kind == "u":
        border = _median_of_border(array, volume.num_axes)
        if border.min() >= WHITE * np.iinfo(array.dtype).max:
            return np.asarray(border, np.float32)
    return np.zeros(channels, np.float32)


def _not_finite(path: Path, volume: io.Volume) -> np.ndarray:
    """`[*S]`: not a finite number in the file, for which `air_jax.io` reads 0."""
    # Blocks of a reduced picture have the mean of their pixels, in which such a value counted as 0.
    if volume.array.dtype.kind != "f" or volume.array.all() or volume.full_shape is not None:
        return np.zeros(volume.shape, bool)
    outside = read_converted(path, lambda array: ~np.isfinite(array)).array
    return _over_channels(outside, volume.num_axes)


def _padding(array: np.ndarray, num_axes: int) -> np.ndarray:
    """`[*S]`: a constant surround that was never measured."""
    low = array.min()
    is_low = _over_channels(array == low, num_axes)
    if not is_low.any() or is_low.all():
        return np.zeros_like(is_low)
    corners = is_low[np.ix_(*([0, size - 1] for size in is_low.shape))]
    if low < AIR and corners.any():
        return is_low
    box = tuple(slice(index.min(), index.max() + 1) for index in np.nonzero(~is_low))
    inside = is_low[box]
    if inside.size == is_low.size or inside.size < LEAST_BOX * is_low.size or inside.mean() > MOST_BACKGROUND:
        return np.zeros_like(is_low)
    if np.ptp(array[box]) == 0:
        return np.zeros_like(is_low)  # a filled rectangle is an object
    outside = np.ones_like(is_low)
    outside[box] = False
    return outside


def _over_channels(values: np.ndarray, num_axes: int) -> np.ndarray:
    return np.asarray(values.all(axis=-1)) if values.ndim > num_axes else values


def _median_of_border(array: np.ndarray, num_axes: int) -> np.ndarray:
    inner = np.zeros(array.shape[:num_axes], bool)
    inner[(slice(1, -1),) * num_axes] = True
    return np.median(array[~inner], axis=0)
