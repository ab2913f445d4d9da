"""Displacement field files, as ITK, SimpleITK and ANTs read and write them.

These files store, for every voxel of the fixed image, the vector in mm (LPS, x first) to the corresponding point of the
moving image. It is this library's pull-back displacement in other units.
"""

from pathlib import Path

import numpy as np

from air_jax.errors import UserError
from air_jax.io.image import NIFTI, suffix_of
from air_jax.io.nifti import open_nifti, read_affine, read_voxels, write_nifti

_VECTOR = 1007


def write_field(path: str | Path, displacement: np.ndarray, affine: np.ndarray) -> None:
    """Writes a displacement as a NIfTI file of ITK's kind: `(X, Y, Z, 1, 3)` or `(X, Y, 1, 1, 2)` float32, in mm.

    Args:
      path: the file; its name ends in .nii or .nii.gz.
      displacement: `[*S, N]`, in voxels of the grid that `affine` describes, array-index order.
      affine: `[N+1, N+1]`, array indices of the fixed image to mm in LPS.

    Raises:
      UserError: the affine is sheared, or the file cannot be written.
      ValueError: displacement and affine do not fit each other.
    """
    path = Path(path)
    suffix = _field_suffix(path)
    displacement, affine = np.asarray(displacement), np.asarray(affine, np.float64)
    num_axes = len(affine) - 1
    if displacement.ndim != num_axes + 1 or displacement.shape[-1] != num_axes:
        raise ValueError(
            f"write_field: displacement has shape {displacement.shape} and affine {affine.shape}; "
            "they must be [*S, N] and [N+1, N+1]"
        )
    vectors = displacement.astype(np.float64) @ affine[:-1, :-1].T
    spatial = (*displacement.shape[:-1], 1)[:3]
    write_nifti(path, vectors.reshape(*spatial, 1, num_axes), affine, suffix, intent="vector")


def read_field(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads a displacement field that `write_field`, ITK, SimpleITK or ANTs wrote as NIfTI.

    Args:
      path: the file; its name ends in .nii or .nii.gz.

    Returns:
      The displacement `[*S, N]` float32, in voxels of its own grid, array-index order; and that grid's affine
      `[N+1, N+1]`. Components that are not finite are 0.

    Raises:
      UserError: one line that names the file: it is not a displacement field, or cannot be read.
    """
    path = Path(path)
    _field_suffix(path)
    image = open_nifti(path)
    num_axes = image.shape[-1]
    is_field = (
        image.header["intent_code"] == _VECTOR
        and image.get_data_dtype().kind == "f"
        and len(image.shape) == 5
        and image.shape[3] == 1
        and (num_axes == 3 or (num_axes == 2 and image.shape[2] == 1))
    )
    if not is_field:
        raise UserError(f"{path}: is not a displacement field, which has shape (X, Y, Z, 1, 3) or (X, Y, 1, 1, 2)")
    affine = read_affine(path, image.header, num_axes)
    vectors = read_voxels(path, image).reshape(*image.shape[:num_axes], num_axes)
    return (vectors @ np.linalg.inv(affine[:-1, :-1]).T).astype(np.float32), affine


def _field_suffix(path: Path) -> str:
    suffix = suffix_of(path)
    if suffix not in NIFTI:
        raise UserError(f"{path}: a displacement field is a NIfTI file; its name must end in .nii or .nii.gz")
    return suffix
