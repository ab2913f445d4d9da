"""FreeSurfer's images, MGH and MGZ, placed in space by their header's affine (RAS, here turned to LPS)."""

import gzip
import math
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

from air_jax.errors import UserError
from air_jax.io.access import library, reading, writing
from air_jax.io.compressed import check_deflated
from air_jax.io.memory import DEFLATE, check_declared
from air_jax.io.space import check_affine, with_third_axis, without_third_axis
from air_jax.io.volume import Volume, plain

_KIND = "a FreeSurfer image (.mgz, .mgh)"
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
# The format has no others; each type of integer is stored in the smallest that holds it.
_STORED = {"u1": "u1", "i1": "i2", "i2": "i2", "u2": "i4", "i4": "i4", "u4": "i4", "i8": "i4", "u8": "i4", "f4": "f4"}
_BYTES = {0: 1, 1: 4, 3: 4, 4: 2, 10: 2}  # of a voxel, by the header's type


def read_mgh(path: Path, convert: Callable[[np.ndarray], np.ndarray] = plain) -> Volume:
    """Reads a 3-D image of one frame; a single slice is a 2-D image.

    Args:
      path: the file.
      convert: applied to the voxels.

    Returns:
      The array in the file's index order (i, j, k), and its affine.

    Raises:
      UserError: one line that names the file: it cannot be read, or has several frames.
    """
    nibabel = library("nibabel", path)
    with reading(path, _KIND):
        size, is_compressed = path.stat().st_size, path.suffix.lower() == ".mgz"
        declared = _declared(path, is_compressed)
        check_declared(path, declared, held=size * DEFLATE if is_compressed else size)
        if is_compressed:
            check_deflated(path, declared)
        image = nibabel.load(path)
        if not isinstance(image, nibabel.MGHImage):
            raise UserError(f"{path}: is {type(image).__name__}; give {_KIND}")
        if max(image.shape[3:], default=1) > 1:
            raise UserError(f"{path}: has {image.shape[3]} frames; give an image of one frame")
        array, affine = np.asarray(image.dataobj).reshape(image.shape[:3]), _RAS_TO_LPS @ image.affine
        if array.shape[2] == 1:
            array, affine = array[..., 0], without_third_axis(affine)
        check_affine(path, affine)
        return Volume(convert(array), affine)


def write_mgh(path: Path, array: np.ndarray, affine: np.ndarray, suffix: str) -> None:
    """Writes an image of one channel. A 2-D image becomes one slice.

    Args:
      path: the file; an existing one is replaced.
      array: `[*S]` in index order (i, j, k). Floats are stored as float32, integers as uint8, int16 or int32.
      affine: `[N+1, N+1]`, array indices to mm in LPS.
      suffix: `.mgz` or `.mgh`.

    Raises:
      UserError: the affine is sheared, integers do not fit int32, or the file cannot be written.
    """
    check_affine(path, affine)
    nibabel = library("nibabel", path)
    values = plain(array)
    dtype = np.dtype(_STORED[values.dtype.str[1:]])
    stored = values.astype(dtype)
    if not np.array_equal(stored, values):
        raise UserError(f"{path}: MGH holds integers of at most 31 bits; write .nii.gz or .nrrd")
    stored = stored.reshape(*stored.shape, 1) if stored.ndim == 2 else stored
    image = nibabel.MGHImage(stored, _RAS_TO_LPS @ with_third_axis(affine))
    with writing(path, suffix) as partial:
        image.to_filename(partial)


def _declared(path: Path, is_compressed: bool) -> int:
    """Returns the bytes of the voxels that a header declares. NiBabel reads beyond them when it opens a file."""
    with (gzip.open if is_compressed else open)(path, "rb") as file:
        _, *shape, kind = struct.unpack(">6i", file.read(24))
    return math.prod(shape) * _BYTES.get(kind, 1)
