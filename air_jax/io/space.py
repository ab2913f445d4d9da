"""Affines between array indices and ITK's physical space (mm, LPS, x first)."""

from pathlib import Path

import numpy as np

from air_jax.errors import UserError

# About what ITK tolerates; the rounding of float32 headers stays far below it.
_SHEAR_TOLERANCE = 1e-4


def to_physical(voxels: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Physical coordinates of points given in voxels.

    Args:
      voxels: `[..., N]`, array-index order.
      affine: `[N+1, N+1]`, array indices to physical space.

    Returns:
      `[..., N]` float64, x first, in the affine's unit (mm).
    """
    return np.asarray(voxels, np.float64) @ affine[:-1, :-1].T + affine[:-1, -1]


def to_voxels(points: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Voxel coordinates, in array-index order, of physical points `[..., N]`: the inverse of `to_physical`."""
    offsets = np.asarray(points, np.float64) - affine[:-1, -1]
    return offsets @ np.linalg.inv(affine[:-1, :-1]).T


def spacing_of(affine: np.ndarray) -> np.ndarray:
    """Size of a voxel along every array axis `[N]`."""
    return np.linalg.norm(affine[:-1, :-1], axis=0)


def direction_of(affine: np.ndarray) -> np.ndarray:
    """Unit vectors of the array axes `[N, N]`, one a column."""
    return affine[:-1, :-1] / spacing_of(affine)


def reversed_affine(spacing: np.ndarray) -> np.ndarray:
    """The affine `[N+1, N+1]` of an array whose last axis is x: `[row, column]` or `[z, y, x]`, origin 0.

    Args:
      spacing: `[N]`, in the order of the array's axes.
    """
    affine = np.eye(len(spacing) + 1)
    affine[:-1, :-1] = np.diag(spacing)[::-1]
    return affine


def is_sheared(affine: np.ndarray) -> bool:
    """Whether the array axes are not at right angles; neither an ITK image nor a qform can say so."""
    # A slice's header may leave the third axis without a length.
    with np.errstate(invalid="ignore"):
        direction = direction_of(affine)
    return bool(np.abs(direction.T @ direction - np.eye(len(direction))).max() > _SHEAR_TOLERANCE)


def check_affine(path: Path, affine: np.ndarray) -> None:
    """Raises `UserError` when no ITK image could have this affine `[N+1, N+1]`."""
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:-1, :-1]) < len(affine) - 1:
        raise UserError(f"{path}: its affine is not invertible; repair the header first")
    if is_sheared(affine):
        raise UserError(f"{path}: has a sheared affine, which ITK's images cannot have; resample it first")
