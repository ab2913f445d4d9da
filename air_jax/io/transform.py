"""Transforms in files: ITK's affine, composite and field files, displacement fields, and folders of `register`.

A transform leads from points of the fixed image to points of the moving image, in physical space, as ITK's do. It is a
list of parts; the first part is applied first.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from air_jax.errors import UserError
from air_jax.io.access import library, reading, writing
from air_jax.io.field import read_field
from air_jax.io.itk import check_field_file
from air_jax.io.space import check_affine, is_sheared
from air_jax.io.volume import Volume

FIELD, INVERSE_FIELD = "displacement.nii.gz", "inverse_displacement.nii.gz"  # in a folder of `register`
_ITK = (".mat", ".tfm", ".txt", ".h5", ".hdf5", ".hdf", ".xfm")
_IMAGES = (".nrrd", ".nhdr", ".mha", ".mhd")
_KIND = "a transform (ITK's .mat, .tfm, .txt or .h5; a displacement field .nii.gz, .nrrd or .mha; a folder of register)"


@dataclass(frozen=True)
class AffineMap:
    """An affine map of physical points: `x -> matrix[:, :N] x + matrix[:, N]`.

    Attributes:
      matrix: `[N, N+1]` float64, in mm, LPS, x first.
    """

    matrix: np.ndarray

    @property
    def num_axes(self) -> int:
        """N, 2 or 3."""
        return len(self.matrix)


@dataclass(frozen=True)
class FieldMap:
    """A displacement field of physical points.

    Attributes:
      displacement: `[*S, N]` float32, in voxels of its own grid, array-index order.
      affine: `[N+1, N+1]` float64, array indices of the grid to physical space.
      extend: what happens more than half a voxel outside the grid. False: the point stays, as in ITK. True: the
        displacement of the nearest voxel.
    """

    displacement: np.ndarray
    affine: np.ndarray
    extend: bool = False

    @property
    def num_axes(self) -> int:
        """N, 2 or 3."""
        return self.displacement.shape[-1]


Part = AffineMap | FieldMap


def read_transform(path: str | Path, *, grid: Volume | None = None, inverse: bool = False) -> tuple[list[Part], bool]:
    """Reads a transform.

    Args:
      path: a file of ITK's transforms, a displacement field, or a folder that `register` wrote.
      grid: the image on whose voxels ITK's other transforms, such as B-splines, are evaluated. None: they are refused.
      inverse: whether the inverse is wanted.

    Returns:
      The parts, and whether they are the inverse already, as a folder of `register` has it.

    Raises:
      UserError: one line that names the file: it cannot be read, or is not a transform.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: not found; give {_KIND}")
    if path.is_dir():
        own = path / (INVERSE_FIELD if inverse else FIELD)
        if not own.exists():
            raise UserError(f"{path}: has no {own.name}; give a folder that `register` wrote, or a file")
        return [FieldMap(*read_field(own))], inverse
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        return [FieldMap(*read_field(path))], False
    if name.endswith(_IMAGES):
        return [_read_itk_field(path)], False
    if not name.endswith(_ITK):
        raise UserError(f"{path}: unknown kind of transform; give {_KIND}")
    if name.endswith(".mat") and _is_matrix_text(path):
        raise UserError(
            f"{path}: is a matrix of FSL, which depends on both images' grids; "
            "convert it for ITK first (c3d_affine_tool -ref FIXED -src MOVING FILE -fsl2ras -oitk OUT)"
        )
    itk = library("SimpleITK", path)
    with reading(path, _KIND), _keeping_warnings(itk) as warnings:
        transform = itk.ReadTransform(str(path))
    if any("more than one transform" in warning for warning in warnings):
        raise UserError(f"{path}: has several transforms; save each in a file of its own, or all as one composite")
    return _parts(itk, path, transform, grid), False


def write_affine(path: str | Path, matrix: np.ndarray) -> None:
    """Writes an affine map as ITK's `AffineTransform`, which ANTs, 3D Slicer and SimpleITK read.

    Args:
      path: the file; its name ends in `.mat`, `.tfm`, `.txt` or `.h5`. An existing one is replaced.
      matrix: `[N, N+1]`, physical points of the fixed image to those of the moving image, in mm, LPS, x first.

    Raises:
      UserError: one line that names the file.
      ValueError: the matrix is not finite or has another shape.
    """
    path, matrix = Path(path), np.asarray(matrix, np.float64)
    if matrix.shape not in ((2, 3), (3, 4)) or not np.isfinite(matrix).all():
        raise ValueError(f"write_affine: matrix has shape {matrix.shape}; it must be [N, N+1] and finite")
    if path.suffix.lower() not in _ITK:
        raise UserError(f"{path}: unknown kind of transform; its name must end in one of {', '.join(_ITK)}")
    itk = library("SimpleITK", path)
    transform = itk.AffineTransform(len(matrix))
    transform.SetMatrix(matrix[:, :-1].ravel().tolist())
    transform.SetTranslation(matrix[:, -1].tolist())
    with writing(path, path.suffix.lower()) as partial:
        itk.WriteTransform(transform, str(partial))


@contextmanager
def _keeping_warnings(itk: Any) -> Iterator[list[str]]:
    """Yields a list to which ITK's warnings go, instead of standard error."""
    warnings: list[str] = []
    methods: dict[str, Any] = {"DisplayWarningText": lambda _, text: warnings.append(text)}
    for name in ("DisplayText", "DisplayErrorText", "DisplayGenericOutputText", "DisplayDebugText"):
        methods[name] = lambda _, text: None
    logger = type("Logger", (itk.LoggerBase,), methods)()
    before = logger.SetAsGlobalITKLogger()
    try:
        yield warnings
    finally:
        before.SetAsGlobalITKLogger()


def _parts(itk: Any, path: Path, transform: Any, grid: Volume | None) -> list[Part]:
    """The parts of a transform of ITK, in the order in which they are applied."""
    kind = transform.GetTransformEnum()
    if kind == itk.sitkComposite:
        composite = itk.CompositeTransform(transform)
        numbers = reversed(range(composite.GetNumberOfTransforms()))  # ITK applies the last one first
        return [part for number in numbers for part in _parts(itk, path, composite.GetNthTransform(number), grid)]
    if transform.IsLinear():
        return [AffineMap(_matrix(transform))]
    if kind == itk.sitkDisplacementField:
        return [_field_map(itk, path, itk.DisplacementFieldTransform(transform).GetDisplacementField())]
    name = transform.GetName()
    if grid is None or grid.num_axes != transform.GetDimension():
        raise UserError(f"{path}: {name} is evaluated on an image's voxels; give --reference, with as many axes")
    if is_sheared(grid.affine):
        raise UserError(f"{path}: {name} cannot be evaluated on a sheared grid; give another --reference")
    field = itk.TransformToDisplacementField(
        transform,
        itk.sitkVectorFloat64,
        grid.shape,
        grid.affine[:-1, -1].tolist(),
        grid.spacing.tolist(),
        grid.direction.ravel().tolist(),
    )
    return [_field_map(itk, path, field)]


def _matrix(transform: Any) -> np.ndarray:
    num_axes = transform.GetDimension()
    offset = np.array(transform.TransformPoint([0.0] * num_axes))
    columns = [np.array(transform.TransformPoint(unit)) - offset for unit in np.eye(num_axes).tolist()]
    return np.stack([*columns, offset], axis=1)


def _read_itk_field(path: Path) -> FieldMap:
    itk = library("SimpleITK", path)
    with reading(path, _KIND):
        check_field_file(path)
        image = itk.ReadImage(str(path))
    if image.GetNumberOfComponentsPerPixel() != image.GetDimension():
        raise UserError(f"{path}: is not a displacement field, which has one component for each axis")
    return _field_map(itk, path, image)


def _field_map(itk: Any, path: Path, image: Any) -> FieldMap:
    """A vector image of ITK, in physical units."""
    num_axes = image.GetDimension()
    affine = np.eye(num_axes + 1)
    affine[:-1, :-1] = np.reshape(image.GetDirection(), (num_axes, num_axes)) * np.array(image.GetSpacing())
    affine[:-1, -1] = image.GetOrigin()
    check_affine(path, affine)
    vectors = np.moveaxis(itk.GetArrayFromImage(image), -1, 0).T  # [*S, N]: x first
    if not np.isfinite(vectors).all():
        raise UserError(f"{path}: has displacements that are not finite; repair it first")
    return FieldMap((vectors @ np.linalg.inv(affine[:-1, :-1]).T).astype(np.float32), affine)


def _is_matrix_text(path: Path) -> bool:
    """Whether a file is four lines of four numbers, as FSL writes a matrix."""
    try:
        with path.open("rb") as file:
            rows = [line.split() for line in file.read(4096).decode("ascii").strip().splitlines()]
        return [len([float(number) for number in row]) for row in rows] == [4, 4, 4, 4]
    except (OSError, ValueError):
        return False
