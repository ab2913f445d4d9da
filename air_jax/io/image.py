"""Reads and writes images and segmentations in the format given by the name's ending."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from air_jax.checks import as_array, check_path
from air_jax.errors import UserError
from air_jax.io.access import naming
from air_jax.io.arrays import read_array, write_array
from air_jax.io.itk import read_dicom, read_itk, write_itk
from air_jax.io.mgh import read_mgh, write_mgh
from air_jax.io.nifti import read_nifti, write_nifti
from air_jax.io.picture import read_picture, write_picture
from air_jax.io.space import check_place, is_invertible
from air_jax.io.volume import Volume, check_finite, label_ids, plain

NIFTI = (".nii", ".nii.gz")
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
ARRAYS = (".npy", ".npz")
MGH = (".mgz", ".mgh")
ITK = (".nrrd", ".mha")
HEADERS = (".nhdr", ".mhd")  # whose voxels are in another file; only read
WRITTEN = (*NIFTI, *MGH, *ITK, *PICTURES, *ARRAYS)
SUFFIXES = (*WRITTEN, *HEADERS)
FOLDER = ""  # a DICOM series


def read_image(path: str | Path) -> Volume:
    """Reads an image in NIfTI, NRRD, MetaImage, MGH, PNG, JPEG, TIFF or NumPy format, or a DICOM series.

    See `air_jax.io.nifti`, `itk`, `mgh`, `picture` and `arrays` for the conventions of each format.

    Args:
      path: the file; its ending determines the format. Or a folder with one DICOM series.

    Returns:
      The array and its affine. Integers keep their type; all other types become float32, with 0 for values that are
      not finite. An image without any finite value is refused.

    Raises:
      UserError: one line that names the file and says what to do.

    Examples:
      >>> air_jax.io.write_image("image.nii.gz", np.ones((4, 5, 6), np.float32), np.diag([2.0, 1.0, 1.0, 1.0]))
      >>> volume = air_jax.io.read_image("image.nii.gz")
      >>> volume.array.shape, volume.spacing.tolist()
      ((4, 5, 6), [2.0, 1.0, 1.0])
    """
    check_path(path=path)
    return _read(Path(path), plain)


def read_segmentation(path: str | Path) -> Volume:
    """Reads a segmentation in any format of `read_image`; label ids are exact, whatever type stores them.

    Args:
      path: the file; its ending determines the format.

    Returns:
      Integers `[*S]` and their affine. Integers keep their type, booleans become uint8. Floats with whole values become
      int32, or int64 where an id does not fit int32.

    Raises:
      UserError: one line that names the file: it cannot be read, has values that are NaN, infinite, not whole numbers
        or too large for its type of floats to hold exactly, or several channels.

    Examples:
      >>> labels = np.zeros((4, 5, 6), np.int16)
      >>> labels[1:3, 1:3, 1:3] = 17
      >>> air_jax.io.write_segmentation("labels.nii.gz", labels, np.eye(4))
      >>> np.unique(air_jax.io.read_segmentation("labels.nii.gz").array).tolist()
      [0, 17]
    """
    check_path(path=path)
    volume = _read(Path(path), label_ids)
    if volume.array.shape != volume.shape:
        raise UserError(f"{path}: has {volume.array.shape[-1]} channels; a segmentation has one")
    return volume


def write_image(path: str | Path, array: np.ndarray, affine: np.ndarray) -> None:
    """Writes an image in the format given by the name's ending. A failed write leaves no file.

    Args:
      path: the file; an existing one is replaced.
      array: `[*S]`. Pictures also take `[H, W, 1]` and `[H, W, 3]`; `.npz` also takes `[*S, C]`. NIfTI stores integers
        of 64 bits as int32 where they fit, MGH all integers as uint8, int16 or int32.
      affine: `[N+1, N+1]`, array indices to physical space, as `read_image` returns it. Pictures and `.npy` do not
        store it.

    Raises:
      UserError: one line that names the file and says what to do. Values that are not finite are refused.
      TypeError: the array or the affine is none.
      ValueError: array and affine do not fit each other, or are not of real numbers.

    Examples:
      >>> air_jax.io.write_image("picture.png", np.eye(4, dtype=np.uint8), np.eye(3))
      >>> air_jax.io.read_image("picture.png").array.tolist()
      [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    """
    check_path(path=path)
    path, array = Path(path), as_array("write_image", "array", array)
    affine = as_array("write_image", "affine", affine)
    # NumPy's default integer has 64 bits, which few readers of NIfTI take.
    if suffix_of(path) in NIFTI and array.dtype.kind in "iu" and array.dtype.itemsize == 8 and _fits_int32(array):
        array = array.astype(np.int32)
    _write(path, array, affine)


def write_segmentation(path: str | Path, array: np.ndarray, affine: np.ndarray) -> None:
    """Writes a segmentation in the format given by the name's ending; the file has the array's integer type.

    MGH lacks some of the types; their ids are stored exactly in int16 or int32.

    Args:
      path: the file; an existing one is replaced.
      array: `[*S]` integers.
      affine: `[N+1, N+1]`, array indices to physical space.

    Raises:
      UserError: one line that names the file and says what to do.
      ValueError: array and affine do not fit each other, or the array does not have integers.

    Examples:
      >>> labels = np.full((4, 5, 6), 300, np.uint16)
      >>> air_jax.io.write_segmentation("labels.nii.gz", labels, np.eye(4))
      >>> read = air_jax.io.read_segmentation("labels.nii.gz").array
      >>> read.max().item(), read.dtype.name
      (300, 'uint16')
    """
    check_path(path=path)
    array = as_array("write_segmentation", "array", array)
    affine = as_array("write_segmentation", "affine", affine)
    if not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"write_segmentation: array has dtype {array.dtype}; label ids must be integers")
    _write(Path(path), array, affine)


def is_image_file(path: Path) -> bool:
    """Returns whether a path in a folder is an image's file, by its ending; hidden files are none."""
    return not path.name.startswith(".") and path.is_file() and path.name.lower().endswith(SUFFIXES)


def is_picture_dtype(path: Path, dtype: np.dtype) -> bool:
    """Returns whether a file is a picture of 8 or 16 bits, which can hold no other values."""
    return suffix_of(path) in PICTURES and dtype in (np.uint8, np.uint16)


def suffix_of(path: Path) -> str:
    """Returns the ending of a file's name, in lower case: one of `SUFFIXES`, or `FOLDER` for a folder without one.

    Raises:
      UserError: the ending is unknown.
    """
    name = path.name.lower()
    for suffix in SUFFIXES:
        if name.endswith(suffix):
            return suffix
    if path.is_dir():
        return FOLDER
    raise UserError(f"{path}: unknown kind of image; its name must end in one of {', '.join(SUFFIXES)}")


def _read(path: Path, convert_values: Callable[[np.ndarray], np.ndarray]) -> Volume:
    def convert(array: np.ndarray) -> np.ndarray:
        with naming(path):
            return convert_values(array)

    volume = read_converted(path, convert)
    if not volume.array.size:
        raise UserError(f"{path}: has shape {volume.array.shape}; it has no voxels")
    check_place(path, volume.affine)
    return volume


def read_converted(path: Path, convert: Callable[[np.ndarray], np.ndarray]) -> Volume:
    """Reads an image as `read_image` does, with values as a function of those in the file.

    Args:
      path: the file; its ending determines the format. Or a folder with one DICOM series.
      convert: applied to the array as the file has it.

    Raises:
      UserError: one line that names the file.
    """
    suffix = suffix_of(path)
    if suffix == FOLDER:
        return read_dicom(path, convert)
    if suffix in (*ITK, *HEADERS):
        return read_itk(path, suffix, convert)
    formats = {NIFTI: read_nifti, MGH: read_mgh, PICTURES: read_picture, ARRAYS: read_array}
    return next(read for suffixes, read in formats.items() if suffix in suffixes)(path, convert)


def _write(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    suffix = suffix_of(path)
    if suffix not in WRITTEN:
        raise UserError(f"{path}: such files are only read; the name must end in one of {', '.join(WRITTEN)}")
    # Pillow and SimpleITK take arrays of the machine's byte order only.
    volume = Volume(array.astype(array.dtype.newbyteorder("="), copy=False), np.asarray(affine, np.float64))
    if not is_invertible(volume.affine):
        raise UserError(f"{path}: the affine to be written is not finite, or has no inverse")
    with naming(path):
        check_finite(array)
    has_channels = volume.array.shape != volume.shape
    if has_channels and suffix in (*NIFTI, *ITK, *MGH):
        raise UserError(f"{path}: {suffix} images have one channel here, not {volume.array.shape[-1]}; write .npz")
    if suffix in PICTURES:
        write_picture(path, volume.array, suffix)
        return
    formats = {NIFTI: write_nifti, MGH: write_mgh, ITK: write_itk, ARRAYS: write_array}
    write = next(write for suffixes, write in formats.items() if suffix in suffixes)
    write(path, volume.array, volume.affine, suffix)


def _fits_int32(array: np.ndarray) -> bool:
    limits = np.iinfo(np.int32)
    return array.size == 0 or bool(array.min() >= limits.min and array.max() <= limits.max)
