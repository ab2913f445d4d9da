"""Displacement field files (NIfTI), as ITK, SimpleITK and ANTs write them, and as NiftyReg and SPM do.

ITK's files store, for every voxel of the fixed image, the vector in mm (LPS, x first) to the corresponding point of the
moving image. It is this library's pull-back displacement in other units. Files of other programs have the same shape
and other content, which `intent_code`, `intent_name`, `intent_p1` and `descrip` of the header tell:

| program | header | content |
|---|---|---|
| ITK, ANTs | intent 1007, no name | displacement, LPS |
| any | intent 1006 | displacement, RAS, as in ITK since 5.3 |
| NiftyReg `-disp` | 1007, `NREG_TRANS`, p1 = 1 | displacement, RAS |
| NiftyReg `-def` | 1007, `NREG_TRANS`, p1 = 0 | position in the moving image, RAS |
| SPM `y_*`, `iy_*` | name `Mapping`, or description `Deformation...` | position in the moving image, RAS |

All other names and codes are refused.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np

from air_jax.checks import as_array, check_path
from air_jax.errors import UserError
from air_jax.io.access import naming
from air_jax.io.image import NIFTI, suffix_of
from air_jax.io.nifti import open_nifti, read_affine, read_nifti_affine, read_voxels, write_nifti
from air_jax.io.space import misalignment, to_physical
from air_jax.io.volume import check_finite

_RAS_VECTOR, _VECTOR = 1006, 1007
_FSL = (*range(2006, 2010), *range(2016, 2019))  # fields and coefficients of FNIRT and TOPUP
_NIFTYREG, _SPM = "NREG_TRANS", "Mapping"
_SPM_DESCRIPTIONS = ("Deformation", "Inverse Deformation")
_TOLERANCE = 1e-2  # between two affines, in voxels

_Content = Literal["displacement, LPS", "displacement, RAS", "position, RAS"]


def write_field(path: str | Path, displacement: np.ndarray, affine: np.ndarray) -> None:
    """Writes a displacement as a NIfTI file of ITK's kind: `(X, Y, Z, 1, 3)` or `(X, Y, 1, 1, 2)` float32, in mm.

    Args:
      path: the file; its name ends in .nii or .nii.gz.
      displacement: `[*S, N]`, in voxels of the grid that `affine` describes, array-index order.
      affine: `[N+1, N+1]`, array indices of the fixed image to mm in LPS.

    Raises:
      UserError: the displacement is not finite, the affine is sheared, or the file cannot be written.
      ValueError: displacement and affine do not fit each other.

    Examples:
      >>> import SimpleITK
      >>> displacement = np.zeros((4, 4, 4, 3), np.float32)
      >>> displacement[..., 0] = 1
      >>> air_jax.io.write_field("displacement.nii.gz", displacement, np.diag([2.0, 1.0, 1.0, 1.0]))
      >>> SimpleITK.ReadImage("displacement.nii.gz")[0, 0, 0]  # mm
      (2.0, 0.0, 0.0)
    """
    check_path(path=path)
    path = Path(path)
    suffix = _field_suffix(path)
    displacement = as_array("write_field", "displacement", displacement)
    affine = as_array("write_field", "affine", affine).astype(np.float64)
    num_axes = len(affine) - 1
    if displacement.ndim != num_axes + 1 or displacement.shape[-1] != num_axes:
        raise ValueError(
            f"write_field: displacement has shape {displacement.shape} and affine {affine.shape}; "
            "they must be [*S, N] and [N+1, N+1]"
        )
    _check_displacement(path, displacement)
    vectors = displacement.astype(np.float64) @ affine[:-1, :-1].T
    _check_displacement(path, vectors)
    spatial = (*displacement.shape[:-1], 1)[:3]
    write_nifti(path, vectors.reshape(*spatial, 1, num_axes), affine, suffix, intent="vector")


def read_field(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads a displacement field that `write_field`, ITK, SimpleITK, ANTs, NiftyReg or SPM wrote as NIfTI.

    See the module's docstring for the kinds of fields.

    Args:
      path: the file; its name ends in .nii or .nii.gz.

    Returns:
      The displacement `[*S, N]` float32, in voxels of its own grid, array-index order; and that grid's affine
      `[N+1, N+1]`.

    Raises:
      UserError: one line that names the file: it is not a displacement field of a known kind, it has values that are
        not finite, or it cannot be read.

    Examples:
      >>> displacement = np.zeros((4, 4, 4, 3), np.float32)
      >>> displacement[..., 0] = 1
      >>> air_jax.io.write_field("displacement.nii.gz", displacement, np.diag([2.0, 1.0, 1.0, 1.0]))
      >>> read, affine = air_jax.io.read_field("displacement.nii.gz")
      >>> read[0, 0, 0].tolist(), affine[0, 0].item()  # voxels; mm a voxel
      ([1.0, 0.0, 0.0], 2.0)
    """
    check_path(path=path)
    path = Path(path)
    _field_suffix(path)
    image = open_nifti(path)
    content = _content(path, image)
    num_axes = image.shape[-1]
    affine = read_affine(path, image.header, num_axes)
    voxels = read_voxels(path, image, lambda stored: np.array(stored, np.float64))
    _check_displacement(path, voxels)
    vectors = voxels.reshape(*image.shape[:num_axes], num_axes)
    if content != "displacement, LPS":
        vectors[..., :2] *= -1
        _check_one_affine(path, image, affine)
    grid = to_physical(np.moveaxis(np.indices(vectors.shape[:-1]), 0, -1), affine)
    if content == "position, RAS":
        vectors -= grid
    elif content == "displacement, LPS" and _is_near_positions(vectors, grid):
        raise UserError(
            f"{path}: contains positions in RAS, but its header (intent_code {_VECTOR}, no intent_name) is that of "
            f"ITK's displacements; set intent_name to {_SPM!r}, or convert the file"
        )
    displacement = vectors @ np.linalg.inv(affine[:-1, :-1]).T
    _check_displacement(path, displacement)
    return displacement.astype(np.float32), affine


def _content(path: Path, image: Any) -> _Content:
    """Returns what the vectors of an open file are.

    Raises:
      UserError: the file is not a displacement field, or one of an unknown kind.
    """
    header, shape = image.header, image.shape
    code, name = int(header["intent_code"]), _text(header, "intent_name")
    if code in _FSL:
        raise UserError(
            f"{path}: is a warp of FSL (intent_code {code}), whose vectors depend on FSL's coordinates of both images; "
            "convert it first, with wb_command -convert-warpfield -from-fnirt ... -to-itk"
        )
    has_shape = len(shape) == 5 and shape[3] == 1 and (shape[4] == 3 or (shape[4] == 2 and shape[2] == 1))
    is_spm = name == _SPM or (not name and _text(header, "descrip").startswith(_SPM_DESCRIPTIONS))
    if not has_shape or image.get_data_dtype().kind != "f" or not (code in (_RAS_VECTOR, _VECTOR) or is_spm):
        raise UserError(
            f"{path}: is not a displacement field, which has shape (X, Y, Z, 1, 3) or (X, Y, 1, 1, 2), floats, and "
            f"intent_code {_VECTOR}; it has {shape}, {image.get_data_dtype()} and intent_code {code}"
        )
    if is_spm:
        return "position, RAS"
    if code == _RAS_VECTOR and not name:
        return "displacement, RAS"
    if name == _NIFTYREG and header["intent_p1"] in (0, 1):
        return "displacement, RAS" if header["intent_p1"] else "position, RAS"
    if name == _NIFTYREG:
        raise UserError(
            f"{path}: is a velocity field or a spline grid of NiftyReg (intent_name {name}, intent_p1 "
            f"{header['intent_p1']:g}); convert it first, with reg_transform -def or -disp"
        )
    if name:
        raise UserError(
            f"{path}: is a field of unknown content (intent_code {code}, intent_name {name!r}); "
            "give one of ITK, ANTs, NiftyReg or SPM"
        )
    return "displacement, LPS"


def _check_one_affine(path: Path, image: Any, affine: np.ndarray) -> None:
    """Checks that ITK and the program that wrote the file place its grid alike."""
    theirs = read_nifti_affine(path, image.header, len(affine) - 1)
    if misalignment(affine, theirs, image.shape[: len(affine) - 1]) > _TOLERANCE:
        raise UserError(f"{path}: its qform, sform and unit (mm) do not agree; repair the header first")


def _is_near_positions(vectors: np.ndarray, grid: np.ndarray) -> bool:
    """Returns whether 3-D vectors, taken as LPS, have the numbers of positions in RAS and so cannot be displacements.

    They would shrink x and y to a small part and double z.
    """
    positions = grid * [-1, -1, 1] if grid.shape[-1] == 3 else np.zeros_like(grid)
    axes = tuple(range(grid.ndim - 1))
    return bool(((vectors - positions).std(axis=axes) < 0.5 * positions.std(axis=axes)).all())


def _check_displacement(path: Path, displacement: np.ndarray) -> None:
    with naming(path):
        check_finite(displacement)


def _text(header: Any, key: str) -> str:
    return bytes(header[key].item()).split(b"\0")[0].decode("latin-1").strip()


def _field_suffix(path: Path) -> str:
    suffix = suffix_of(path)
    if suffix not in NIFTI:
        raise UserError(f"{path}: a displacement field is a NIfTI file; its name must end in .nii or .nii.gz")
    return suffix
