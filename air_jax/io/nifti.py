"""NIfTI images, placed as ITK places them.

Where a header has both a qform and an sform, ITK's choice holds: the sform where there is no qform or where its code
says scanner, else the qform; where it has neither, the voxel sizes alone.
"""

from pathlib import Path

import numpy as np

from air_jax.errors import UserError
from air_jax.io.access import library, reading, writing
from air_jax.io.space import check_affine, is_sheared, spacing_of
from air_jax.io.volume import Volume, plain

_KIND = "a NIfTI image (.nii, .nii.gz)"
_SCANNER = 1
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_MILLIMETRES = {"unknown": 1.0, "mm": 1.0, "meter": 1e3, "micron": 1e-3}


def read_nifti(path: Path) -> Volume:
    """Reads a 2-D or 3-D image of one channel.

    Trailing axes of size 1 are dropped, so that one slice `(X, Y, 1)` is a 2-D image. Integers without scaling keep
    their type; all else becomes float32, and voxels that are not finite become 0.

    A slice that is tilted out of the x-y plane is placed by the right-angled axes closest to its projection; a sagittal
    or coronal one, which has no direction in that plane, by the identity and its voxel sizes.

    Returns:
      The array in the file's index order (i, j, k), and its affine.

    Raises:
      UserError: one line that names the file, for a file that cannot be read, has colours, vectors or a time axis, or
        an affine that ITK refuses.
    """
    image = open_nifti(path)
    shape = _without_trailing_ones(image.shape)
    if len(shape) not in (2, 3):
        raise UserError(f"{path}: has shape {image.shape}; give one 2-D or 3-D image, without time axis or vectors")
    if image.get_data_dtype().kind not in "iuf":
        raise UserError(f"{path}: has voxels of type {image.get_data_dtype()}; give an image of one channel")
    return Volume(read_voxels(path, image).reshape(shape), read_affine(path, image.header, len(shape)))


def write_nifti(path: Path, array: np.ndarray, affine: np.ndarray, suffix: str, intent: str = "none") -> None:
    """Writes an array in index order (i, j, k), the affine as both qform and sform (scanner), in mm.

    Args:
      array: `[*S]`, or `[X, Y, Z, 1, N]` for vectors. It is stored as `plain` gives it, integers of 64 bits as int32
        where they fit.
      affine: `[N+1, N+1]`, array indices to mm in LPS.
      suffix: `.nii` or `.nii.gz`.
      intent: the NIfTI intent, `none` or `vector`.

    Raises:
      UserError: the affine is sheared, the image too large for the format, or the file cannot be written.
    """
    check_affine(path, affine)
    nibabel = library("nibabel", path)
    stored = _stored(array)
    try:
        image = nibabel.Nifti1Image(stored, None, dtype=stored.dtype)
        matrix = np.eye(4)
        num_axes = len(affine) - 1
        matrix[:num_axes, :num_axes] = affine[:-1, :-1]
        matrix[:num_axes, 3] = affine[:-1, -1]
        image.set_qform(_RAS_TO_LPS @ matrix, _SCANNER)
        image.set_sform(_RAS_TO_LPS @ matrix, _SCANNER)
        image.header.set_xyzt_units("mm")
        image.header.set_intent(intent)
    except nibabel.spatialimages.HeaderDataError as error:
        raise UserError(f"{path}: NIfTI cannot hold an array of shape {array.shape} ({error})") from error
    with writing(path, suffix) as partial:
        image.to_filename(partial)


def open_nifti(path: Path):
    """The file as nibabel's lazy image; its header is read, its voxels are not."""
    nibabel = library("nibabel", path)
    with reading(path, _KIND):
        image = nibabel.load(path)
        if not isinstance(image, nibabel.Nifti1Image):
            raise UserError(f"{path}: is {type(image).__name__}; give {_KIND}")
    return image


def read_voxels(path: Path, image) -> np.ndarray:
    """All voxels, scaled where the header says so; see `plain`."""
    with reading(path, _KIND):
        return plain(np.asarray(image.dataobj))


def read_affine(path: Path, header, num_axes: int) -> np.ndarray:
    """The affine `[N+1, N+1]` from array indices to ITK's physical space."""
    with reading(path, _KIND):
        sform, sform_code = header.get_sform(coded=True)
        qform, _ = header.get_qform(coded=True)
        sizes = np.asarray(header["pixdim"][1:4], np.float64)
        unit = _MILLIMETRES[header.get_xyzt_units()[0]]
    if sform is not None and (qform is None or (sform_code == _SCANNER and not is_sheared(sform))):
        matrix = _RAS_TO_LPS @ sform
    elif qform is not None:
        matrix = _RAS_TO_LPS @ qform
    else:
        matrix = np.diag([*sizes, 1.0])
    affine = _in_plane(matrix) if num_axes == 2 else matrix
    check_affine(path, affine)
    # ITK takes the sizes of pixdim, NiBabel those of the sform.
    if not np.allclose(spacing_of(affine), sizes[:num_axes], rtol=1e-3):
        raise UserError(f"{path}: its sform and its pixdim give different voxel sizes; repair the header first")
    affine[:-1] *= unit
    return affine


def _in_plane(matrix: np.ndarray) -> np.ndarray:
    """The affine `[3, 3]` of one slice from that of the space around it."""
    spacing = spacing_of(matrix)[:2]
    plane = matrix[:2, :2]
    # The determinant over the area of a pixel is the cosine between the slice's normal and z.
    if abs(np.linalg.det(plane)) <= 0.1 * spacing.prod():
        direction = np.eye(2)
    else:
        left, _, right = np.linalg.svd(plane / np.linalg.norm(plane, axis=0))
        direction = left @ right
    affine = np.eye(3)
    affine[:2, :2] = direction * spacing
    affine[:2, 2] = matrix[:2, 3]
    return affine


def _without_trailing_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    while len(shape) > 2 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _stored(array: np.ndarray) -> np.ndarray:
    array = plain(array)
    if array.dtype.kind == "f" or array.dtype.itemsize < 8:
        return array
    limits = np.iinfo(np.int32)
    fits = array.size == 0 or (array.min() >= limits.min and array.max() <= limits.max)
    return array.astype(np.int32) if fits else array
