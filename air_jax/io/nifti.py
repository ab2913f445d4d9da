"""NIfTI images, placed in space as ITK places them.

A header may have a qform and an sform. As in ITK, the sform is used where there is no qform or where the sform's code
is "scanner"; otherwise the qform is used. Where there is neither, only the voxel sizes are used.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from air_jax.errors import UserError
from air_jax.io.access import library, reading, writing
from air_jax.io.compressed import check_deflated, is_gzip
from air_jax.io.memory import DEFLATE, check_declared
from air_jax.io.space import check_affine, is_sheared, spacing_of, with_third_axis, without_third_axis
from air_jax.io.volume import Volume, plain

_KIND = "a NIfTI image (.nii, .nii.gz)"
_SCANNER = 1
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_MILLIMETRES = {"unknown": 1.0, "mm": 1.0, "meter": 1e3, "micron": 1e-3}


def read_nifti(path: Path, convert: Callable[[np.ndarray], np.ndarray] = plain) -> Volume:
    """Reads a 2-D or 3-D image of one channel, or of the colours RGB24 or RGBA32, whose transparency is dropped.

    Trailing axes of size 1 are dropped, so a slice `(X, Y, 1)` is a 2-D image. A 2-D image that is tilted out of the
    x-y plane gets the right-angled axes closest to its projection. A sagittal or coronal one, which has no direction in
    that plane, gets the identity and its voxel sizes.

    Args:
      path: the file.
      convert: applied to the voxels, after scaling where the header asks for it.

    Returns:
      The array `[*S]` or `[*S, 3]` in the file's index order (i, j, k), and its affine.

    Raises:
      UserError: one line that names the file: it cannot be read; it has vectors or a time axis; or ITK refuses its
        affine.
    """
    image = open_nifti(path)
    shape = _without_trailing_ones(image.shape)
    if len(shape) not in (2, 3):
        raise UserError(f"{path}: has shape {image.shape}; give one 2-D or 3-D image, without time axis or vectors")
    dtype = image.get_data_dtype()
    if dtype.kind not in "iuf" and dtype.names not in (("R", "G", "B"), ("R", "G", "B", "A")):
        raise UserError(f"{path}: has voxels of type {dtype}; give an image of one channel, or of the colours RGB24")
    affine = read_affine(path, image.header, len(shape))
    if dtype.names is None:
        return Volume(read_voxels(path, image, convert).reshape(shape), affine)
    colours = read_voxels(path, image, lambda voxels: convert(np.stack([voxels[name] for name in "RGB"], axis=-1)))
    return Volume(colours.reshape(*shape, 3), affine)


def write_nifti(
    path: Path, array: np.ndarray, affine: np.ndarray, suffix: str, *, intent: str = "none", seconds: float = 0.0
) -> None:
    """Writes an array in index order (i, j, k). The affine is stored as qform and sform (scanner), in mm.

    Args:
      path: the file; an existing one is replaced.
      array: `[*S]`, `[X, Y, Z, T]` for a series, or `[X, Y, Z, 1, N]` for vectors. Integers keep their type, floats
        are stored as float32.
      affine: `[N+1, N+1]`, array indices to mm in LPS.
      suffix: `.nii` or `.nii.gz`.
      intent: the NIfTI intent, `none` or `vector`.
      seconds: time between two frames of a series, 0 where it is not known.

    Raises:
      UserError: the affine is sheared, the image is too large for the format, or the file cannot be written.
    """
    check_affine(path, affine)
    nibabel = library("nibabel", path)
    stored = plain(array)
    try:
        image = nibabel.Nifti1Image(stored, None, dtype=stored.dtype)
        matrix = with_third_axis(affine)
        image.set_qform(_RAS_TO_LPS @ matrix, _SCANNER)
        image.set_sform(_RAS_TO_LPS @ matrix, _SCANNER)
        image.header.set_xyzt_units("mm", "sec" if seconds else None)
        image.header.set_intent(intent)
        if seconds:
            image.header["pixdim"][4] = seconds
    except nibabel.spatialimages.HeaderDataError as error:
        raise UserError(f"{path}: NIfTI cannot hold an array of shape {array.shape} ({error})") from error
    with writing(path, suffix) as partial:
        image.to_filename(partial)


def open_nifti(path: Path) -> Any:
    """Returns the file as nibabel's `Nifti1Image`, whose header is read and whose voxels are not.

    Raises:
      UserError: the file cannot be read, or is not NIfTI.
    """
    nibabel = library("nibabel", path)
    with reading(path, _KIND):
        image = nibabel.load(path)
        if not isinstance(image, nibabel.Nifti1Image):
            raise UserError(f"{path}: is {type(image).__name__}; give {_KIND}")
    return image


def read_voxels(path: Path, image: Any, convert: Callable[[np.ndarray], np.ndarray] = plain) -> np.ndarray:
    """Reads all voxels of an open file, in the file's shape.

    Args:
      path: the file, for the message.
      image: see `open_nifti`.
      convert: applied to the voxels, after scaling where the header asks for it.

    Raises:
      UserError: the voxels cannot be read, or are more than the file or the memory can hold.
    """
    with reading(path, _KIND):
        if min(image.shape, default=0) < 1:
            raise UserError(f"{path}: has shape {image.shape}; it has no voxels")
        declared, is_compressed = math.prod(image.shape) * image.get_data_dtype().itemsize, is_gzip(path)
        held = path.stat().st_size * (DEFLATE if is_compressed else 1) - image.dataobj.offset
        check_declared(path, declared, held=max(held, 0))
        if is_compressed:
            check_deflated(path, image.dataobj.offset + declared)
        return convert(np.asarray(image.dataobj))


def read_affine(path: Path, header: Any, num_axes: int) -> np.ndarray:
    """Reads the affine `[N+1, N+1]` from array indices to ITK's physical space (mm, LPS).

    Args:
      path: the file, for the message.
      header: nibabel's header.
      num_axes: N, 2 or 3.

    Raises:
      UserError: ITK refuses the affine, or its sform and pixdim have different voxel sizes.
    """
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
    affine = without_third_axis(matrix) if num_axes == 2 else matrix
    check_affine(path, affine)
    # ITK uses the voxel sizes of pixdim, NiBabel those of the sform.
    if not np.allclose(spacing_of(affine), sizes[:num_axes], rtol=1e-3):
        raise UserError(f"{path}: its sform and its pixdim give different voxel sizes; repair the header first")
    affine[:-1] *= unit
    return affine


def read_nifti_affine(path: Path, header: Any, num_axes: int) -> np.ndarray:
    """Reads the affine that NiftyReg and SPM use: the sform where it has a code, otherwise the qform.

    Args:
      path: the file, for the message.
      header: nibabel's header.
      num_axes: N, 2 or 3.

    Returns:
      `[N+1, N+1]`, array indices to LPS, in the header's unit.
    """
    with reading(path, _KIND):
        matrix = _RAS_TO_LPS @ header.get_best_affine()
    return without_third_axis(matrix) if num_axes == 2 else matrix


def _without_trailing_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    while len(shape) > 2 and shape[-1] == 1:
        shape = shape[:-1]
    return shape
