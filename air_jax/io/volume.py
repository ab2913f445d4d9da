"""An image and where it lies."""

from dataclasses import dataclass

import numpy as np

from air_jax.io.space import direction_of, spacing_of


@dataclass(frozen=True)
class Volume:
    """An image in ITK's physical space. The number of axes N is told by the affine.

    Attributes:
      array: `[*S]` or `[*S, C]`.
      affine: `[N+1, N+1]` float64, maps homogeneous array indices (array-index order) to mm in LPS, x first. For
        pictures, to pixels, x = column and y = row.

    Raises:
      ValueError: the shapes do not fit each other.
    """

    array: np.ndarray
    affine: np.ndarray

    def __post_init__(self):
        if self.affine.shape not in ((3, 3), (4, 4)) or self.array.ndim - self.num_axes not in (0, 1):
            raise ValueError(
                f"Volume: array of shape {self.array.shape} does not fit affine of shape {self.affine.shape}; "
                "they must be [*S] or [*S, C] and [N+1, N+1], with N = 2 or 3 axes S"
            )

    @property
    def num_axes(self) -> int:
        return len(self.affine) - 1

    @property
    def shape(self) -> tuple[int, ...]:
        """`S`, the sizes of the spatial axes."""
        return self.array.shape[: self.num_axes]

    @property
    def spacing(self) -> np.ndarray:
        """Size of a voxel along every array axis `[N]`, mm."""
        return spacing_of(self.affine)

    @property
    def direction(self) -> np.ndarray:
        """Unit vectors of the array axes `[N, N]`, one a column."""
        return direction_of(self.affine)


def plain(array: np.ndarray) -> np.ndarray:
    """The array as the library computes with it: contiguous, in the machine's byte order.

    Integers keep their type, so that labels stay exact; booleans become uint8. All else becomes float32, and voxels
    that are not finite become 0: NaN is a common mark of the background.
    """
    if array.dtype == bool:
        return np.array(array, np.uint8, order="C")
    if np.issubdtype(array.dtype, np.integer):
        return np.array(array, array.dtype.newbyteorder("="), order="C")
    with np.errstate(over="ignore"):
        floats = np.array(array, np.float32, order="C")
    floats[~np.isfinite(floats)] = 0
    return floats
