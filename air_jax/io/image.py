"""Reading and writing images by the ending of their names."""

from pathlib import Path

import numpy as np

from air_jax.errors import UserError
from air_jax.io.arrays import read_array, write_array
from air_jax.io.nifti import read_nifti, write_nifti
from air_jax.io.picture import read_picture, write_picture
from air_jax.io.volume import Volume

NIFTI = (".nii", ".nii.gz")
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
ARRAYS = (".npy", ".npz")
SUFFIXES = (*NIFTI, *PICTURES, *ARRAYS)


def read_image(path: str | Path) -> Volume:
    """Reads an image or a segmentation in NIfTI, PNG, JPEG, TIFF or NumPy format, told by its name's ending.

    Integers keep their type; all else becomes float32, with 0 where not finite. See `nifti`, `picture` and `arrays` for
    what each format means.

    Raises:
      UserError: one line that names the file and says what to do.
    """
    path = Path(path)
    suffix = suffix_of(path)
    if suffix in NIFTI:
        return read_nifti(path)
    return read_picture(path) if suffix in PICTURES else read_array(path)


def write_image(path: str | Path, array: np.ndarray, affine: np.ndarray) -> None:
    """Writes an image or a segmentation, in the format that its name's ending tells. No half-written file is left.

    Args:
      array: `[*S]`; pictures also take `[H, W, 1]` and `[H, W, 3]`, and `.npz` takes `[*S, C]`.
      affine: `[N+1, N+1]`, array indices to physical space, as `read_image` gives it. Pictures and `.npy` do not
        keep it.

    Raises:
      UserError: one line that names the file and says what to do.
      ValueError: array and affine do not fit each other.
    """
    path = Path(path)
    suffix = suffix_of(path)
    volume = Volume(np.asarray(array), np.asarray(affine, np.float64))
    if suffix in PICTURES:
        write_picture(path, volume.array, suffix)
    elif suffix in ARRAYS:
        write_array(path, volume.array, volume.affine, suffix)
    elif volume.array.shape != volume.shape:
        raise UserError(f"{path}: NIfTI images have one channel here, not {volume.array.shape[-1]}; write .npz")
    else:
        write_nifti(path, volume.array, volume.affine, suffix)


def suffix_of(path: Path) -> str:
    """The known ending of a file's name, in lower case.

    Raises:
      UserError: the ending is unknown.
    """
    name = path.name.lower()
    for suffix in SUFFIXES:
        if name.endswith(suffix):
            return suffix
    raise UserError(f"{path}: unknown kind of image; its name must end in one of {', '.join(SUFFIXES)}")
