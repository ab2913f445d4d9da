"""Affines between array indices and ITK's physical space (mm, LPS, x first)."""

from pathlib import Path

import numpy as np

from air_jax.checks import as_array
from air_jax.errors import UserError

# Close to ITK's tolerance, and far above the rounding errors of float32 headers.
_SHEAR_TOLERANCE = 1e-4
SMALLEST_VOXEL, LARGEST_VOXEL = 1e-9, 1e9  # in mm: a picometre and a thousand kilometres


def to_physical(voxels: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Returns the physical coordinates of points given in voxels.

    Args:
      voxels: `[..., N]`, array-index order.
      affine: `[N+1, N+1]`, array indices to physical space.

    Returns:
      `[..., N]` float64, x first, in the affine's unit (mm).

    Raises:
      ValueError: the shapes do not fit each other.

    Examples:
      >>> affine = np.array([[0.5, 0.0, 10.0], [0.0, 3.0, 0.0], [0.0, 0.0, 1.0]])
      >>> air_jax.io.to_physical(np.array([[1.0, 2.0]]), affine).tolist()
      [[10.5, 6.0]]
    """
    voxels, affine = _checked_points("to_physical", "voxels", voxels, affine)
    return voxels @ affine[:-1, :-1].T + affine[:-1, -1]


def to_voxels(points: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Returns the voxel coordinates of physical points: the inverse of `to_physical`.

    Args:
      points: `[..., N]`, x first, in the affine's unit (mm).
      affine: `[N+1, N+1]`, array indices to physical space.

    Returns:
      `[..., N]` float64, array-index order.

    Raises:
      ValueError: the shapes do not fit each other.

    Examples:
      >>> affine = np.array([[0.5, 0.0, 10.0], [0.0, 3.0, 0.0], [0.0, 0.0, 1.0]])
      >>> air_jax.io.to_voxels(np.array([[10.5, 6.0]]), affine).tolist()
      [[1.0, 2.0]]
    """
    points, affine = _checked_points("to_voxels", "points", points, affine)
    offsets = points - affine[:-1, -1]
    return offsets @ np.linalg.inv(affine[:-1, :-1]).T


def _checked_points(function: str, name: str, points: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the points and the affine as float64, where they fit each other."""
    points = as_array(function, name, points, "fiu").astype(np.float64)
    affine = as_array(function, "affine", affine, "fiu").astype(np.float64)
    num_axes = len(affine) - 1
    if np.shape(affine) != (num_axes + 1, num_axes + 1) or np.shape(points)[-1:] != (num_axes,):
        raise ValueError(
            f"{function}: {name} has shape {np.shape(points)} and affine {np.shape(affine)}; they must be [..., N] and "
            "[N+1, N+1]"
        )
    return points, affine


def is_invertible(affine: np.ndarray) -> bool:
    """Returns whether an affine `[N+1, N+1]` is finite and has an inverse."""
    return bool(np.isfinite(affine).all()) and np.linalg.matrix_rank(affine[:-1, :-1]) == len(affine) - 1


def spacing_of(affine: np.ndarray) -> np.ndarray:
    """Returns the voxel size along each array axis, `[N]`, of an affine `[N+1, N+1]`, in its unit."""
    return np.linalg.norm(affine[:-1, :-1], axis=0)


def direction_of(affine: np.ndarray) -> np.ndarray:
    """Returns the unit vectors of the array axes, `[N, N]`, one column per axis, of an affine `[N+1, N+1]`."""
    return affine[:-1, :-1] / spacing_of(affine)


def reversed_affine(spacing: np.ndarray) -> np.ndarray:
    """Returns the affine `[N+1, N+1]` of an array whose last axis is x: `[row, column]` or `[z, y, x]`, origin 0.

    Args:
      spacing: `[N]`, voxel size, in the order of the array's axes.
    """
    affine = np.eye(len(spacing) + 1)
    affine[:-1, :-1] = np.diag(spacing)[::-1]
    return affine


def misalignment(affine: np.ndarray, other: np.ndarray, shape: tuple[int, ...]) -> float:
    """Returns how far two affines place the same grid apart: the largest distance at its corners.

    Args:
      affine: `[N+1, N+1]`, array indices to physical space. Its voxels are the unit of the result.
      other: `[N+1, N+1]`.
      shape: `S`, the grid.

    Returns:
      The largest difference along an axis, in voxels of `affine`.
    """
    corners = np.stack(np.meshgrid(*[(0, size - 1) for size in shape], indexing="ij"), axis=-1)
    return float(np.abs(to_voxels(to_physical(corners, other), affine) - corners).max())


def without_third_axis(matrix: np.ndarray) -> np.ndarray:
    """Returns the affine `[3, 3]` of a 2-D image whose header has the affine `[4, 4]`.

    An image that is tilted out of the x-y plane gets the right-angled axes closest to its projection; one without
    direction in that plane gets the identity and its voxel sizes.
    """
    spacing = spacing_of(matrix)[:2]
    plane = matrix[:2, :2]
    # The determinant divided by the area of a pixel is the cosine between the slice's normal and z.
    if abs(np.linalg.det(plane)) <= 0.1 * spacing.prod():
        direction = np.eye(2)
    else:
        left, _, right = np.linalg.svd(plane / np.linalg.norm(plane, axis=0))
        direction = left @ right
    affine = np.eye(3)
    affine[:2, :2] = direction * spacing
    affine[:2, 2] = matrix[:2, 3]
    return affine


def with_third_axis(affine: np.ndarray) -> np.ndarray:
    """Returns the affine `[4, 4]` of an image `[N+1, N+1]`; a 2-D image lies in the x-y plane, 1 mm thick."""
    matrix = np.eye(4)
    num_axes = len(affine) - 1
    matrix[:num_axes, :num_axes] = affine[:-1, :-1]
    matrix[:num_axes, 3] = affine[:-1, -1]
    return matrix


def is_picture_space(affine: np.ndarray) -> bool:
    """Returns whether the physical unit of an affine `[N+1, N+1]` is the pixel: x is the column, y the row.

    The voxels of a reduced picture are blocks of pixels; the first block begins at the first pixel.
    """
    if len(affine) != 3:
        return False
    blocks = reversed_affine(spacing_of(affine))
    blocks[:-1, -1] = (spacing_of(affine)[::-1] - 1) / 2
    return bool(spacing_of(affine).min() >= 1 and np.array_equal(affine, blocks))


def is_sheared(affine: np.ndarray) -> bool:
    """Returns whether the array axes of an affine `[N+1, N+1]` are not at right angles.

    Neither an ITK image nor a NIfTI qform can store such an affine.
    """
    # The header of a 2-D slice may have a third axis of length 0.
    with np.errstate(invalid="ignore"):
        direction = direction_of(affine)
    return bool(np.abs(direction.T @ direction - np.eye(len(direction))).max() > _SHEAR_TOLERANCE)


def check_affine(path: Path, affine: np.ndarray) -> None:
    """Checks that an ITK image can have this affine.

    Args:
      path: the file that has it, for the message.
      affine: `[N+1, N+1]`, array indices to physical space.

    Raises:
      UserError: the affine is singular, not finite, or sheared.
    """
    if not is_invertible(affine):
        raise UserError(f"{path}: its affine is not invertible; repair the header first")
    if is_sheared(affine):
        raise UserError(f"{path}: has a sheared affine, which ITK's images cannot have; resample it first")


def check_place(path: Path, affine: np.ndarray) -> None:
    """Checks that voxel sizes and origin are plausible.

    Args:
      path: the file that has them, for the message.
      affine: `[N+1, N+1]`, array indices to physical space.

    Raises:
      UserError: voxels are smaller than a picometre or larger than a thousand kilometres, or lie so far from the origin
        that float32, in which fields are written, cannot tell them apart.
    """
    spacing = spacing_of(affine)
    if not all(SMALLEST_VOXEL < size < LARGEST_VOXEL for size in spacing):
        sizes = ", ".join(f"{size:.3g}" for size in spacing)
        raise UserError(f"{path}: its header declares voxels of {sizes} mm; repair it first")
    origin = float(np.abs(affine[:-1, -1]).max())
    if origin * np.finfo(np.float32).eps > 0.1 * spacing.min():
        raise UserError(
            f"{path}: its header places it {origin:.3g} mm from the origin, where float32 cannot tell voxels of "
            f"{spacing.min():.3g} mm apart; repair it first"
        )
