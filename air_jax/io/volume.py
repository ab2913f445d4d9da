"""An image with its position in physical space, and the array types that the library computes with."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from air_jax.checks import check_arrays, check_shape
from air_jax.errors import UserError
from air_jax.io.space import direction_of, misalignment, spacing_of

_GRID_TOLERANCE = 0.1  # between the places of an image and of what belongs to it, in voxels


@dataclass(frozen=True)
class Volume:
    """An image in ITK's physical space. The affine determines the number N of spatial axes.

    Attributes:
      array: `[*S]` or `[*S, C]`.
      affine: `[N+1, N+1]` float64, from homogeneous array indices (array-index order) to mm in LPS, x first. For
        pictures the physical unit is the pixel: x is the column, y the row.
      full_shape: `[H, W]` of the picture in the file, where this is a reduced one; its affine leads to the file's
        pixels. Default: it is the image of the file.

    Raises:
      ValueError: array and affine do not fit each other.

    Examples:
      >>> volume = air_jax.io.Volume(np.zeros((4, 5, 6)), np.diag([2.0, 1.0, 1.0, 1.0]))
      >>> volume.spacing.tolist(), volume.direction.tolist()
      ([2.0, 1.0, 1.0], [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    """

    array: np.ndarray
    affine: np.ndarray
    full_shape: tuple[int, ...] | None = None

    def __post_init__(self):
        check_arrays("Volume", "fiubc", array=self.array)
        check_arrays("Volume", "fiu", affine=self.affine)
        if self.full_shape is not None:
            check_shape("full_shape", self.full_shape)
        if self.affine.shape not in ((3, 3), (4, 4)) or self.array.ndim - self.num_axes not in (0, 1):
            raise ValueError(
                f"Volume: array of shape {self.array.shape} does not fit affine of shape {self.affine.shape}; "
                "they must be [*S] or [*S, C] and [N+1, N+1], with N = 2 or 3 axes S"
            )

    @property
    def num_axes(self) -> int:
        """N, the number of spatial axes: 2 or 3."""
        return len(self.affine) - 1

    @property
    def shape(self) -> tuple[int, ...]:
        """`S`, the sizes of the spatial axes."""
        return self.array.shape[: self.num_axes]

    @property
    def spacing(self) -> np.ndarray:
        """Voxel size along each array axis, `[N]` float64, mm."""
        return spacing_of(self.affine)

    @property
    def direction(self) -> np.ndarray:
        """Unit vectors of the array axes, `[N, N]` float64, one column per axis."""
        return direction_of(self.affine)


def check_same_grid(path: Path, found: Volume, volume: Volume, image: Path) -> None:
    """Checks that a file lies on the grid of an image, to a tenth of a voxel.

    Args:
      path: the file.
      found: its content, without channels.
      volume: the image.
      image: its file.

    Raises:
      UserError: one line: it has another shape, or lies elsewhere in space.
    """
    if found.array.shape != volume.shape:
        raise UserError(f"{path}: has shape {found.array.shape}, but {image} has {volume.shape}")
    distance = misalignment(volume.affine, found.affine, volume.shape)
    if distance > _GRID_TOLERANCE:
        raise UserError(
            f"{path}: lies elsewhere in space than {image}, by up to {distance:.3g} voxels; resample it onto the "
            "image's grid"
        )


def rounded_to(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Rounds values to the nearest integers that a dtype can hold.

    Args:
      values: any shape.
      dtype: an integer type.
    """
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values), limits.min, limits.max).astype(dtype)


def check_background(background: float, dtype: np.dtype, image: Path) -> None:
    """Checks that an integer type can hold the value outside of an image.

    Raises:
      UserError: one line that names the flag.
    """
    limits = np.iinfo(dtype)
    if not limits.min <= background <= limits.max:
        raise UserError(
            f"--background={background}: {image} has values from {limits.min} to {limits.max}; give one of them"
        )


def plain(array: np.ndarray) -> np.ndarray:
    """Converts an array to the types that the library computes with: contiguous, in the machine's byte order.

    Args:
      array: any shape; real numbers or booleans.

    Returns:
      Integers keep their type, booleans become uint8. All other types become float32, with 0 for values that are not
      finite: NaN often marks the background.

    Raises:
      ValueError: no value is finite.
    """
    if array.dtype == bool or np.issubdtype(array.dtype, np.integer):
        return _integers(array)
    with np.errstate(over="ignore"):
        floats = np.array(array, np.float32, order="C")
    _zero_where_not_finite(floats)
    return floats


def check_finite(array: np.ndarray) -> None:
    """Checks that `plain` keeps every value of an array that will be written.

    Args:
      array: any shape.

    Raises:
      ValueError: values are NaN, infinite, too large for float32, or no real numbers.
    """
    if array.dtype.kind not in "biuf":
        raise ValueError(f"cannot hold values of type {array.dtype}; give real numbers")
    if array.dtype.kind != "f":
        return
    with np.errstate(over="ignore"):
        bad = np.count_nonzero(~np.isfinite(np.asarray(array, np.float32)))
    if bad:
        raise ValueError(f"{bad} of {array.size} values are not finite (NaN, infinite, or too large for float32)")


def label_ids(array: np.ndarray) -> np.ndarray:
    """Converts a segmentation to integers without loss.

    Args:
      array: any shape; integers, booleans, or floats with whole values. Floats are rounded by at most 1e-3.

    Returns:
      Integers keep their type, booleans become uint8. Floats become int32, or int64 where an id does not fit int32.

    Raises:
      ValueError: a value is not finite, is not a whole number, or is so large that its type of floats does not hold
        every whole number: 2^24 of float32, 2^53 of float64.
    """
    if array.dtype == bool or np.issubdtype(array.dtype, np.integer):
        return _integers(array)
    floats = np.array(array, np.float64, order="C")
    if bad := np.count_nonzero(~np.isfinite(floats)):
        raise ValueError(
            f"{bad} of {floats.size} values are NaN or infinite; label ids must be integers, and 0 is the background"
        )
    rounded = np.rint(floats)
    if np.abs(floats - rounded).max(initial=0) > 1e-3:
        raise ValueError("has values that are not whole numbers; label ids must be integers")
    largest = np.abs(rounded).max(initial=0)
    bits = min(np.finfo(array.dtype).nmant + 1, 53)
    if largest >= 2.0**bits:
        raise ValueError(
            f"has the value {largest:.0f}, and {array.dtype} does not hold every whole number from 2^{bits} on; store "
            "label ids as integers"
        )
    return rounded.astype(np.int32 if largest <= np.iinfo(np.int32).max else np.int64)


def _zero_where_not_finite(floats: np.ndarray) -> None:
    finite = np.isfinite(floats)
    if floats.size and not finite.any():
        raise ValueError("has no finite value (all are NaN, infinite, or too large for float32)")
    floats[~finite] = 0


def _integers(array: np.ndarray) -> np.ndarray:
    dtype = np.dtype(np.uint8) if array.dtype == bool else array.dtype.newbyteorder("=")
    return np.array(array, dtype, order="C")
