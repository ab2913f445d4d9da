"""Pairs of images that installed packages ship, written as files: a try-out without a download.

The 2-D pair is a slice of a head (matplotlib's sample `s1045.ima.gz`), the 3-D pair a volume of a head (nibabel's test
file `example4d.nii.gz`). The moving image is the fixed one, artificially deformed. Second contrast, segmentation and
mask are computed: inverted intensities, classes of brightness, and the head with its surround.
"""

import errno
import gzip
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from air_jax import io
from air_jax.data.deformation import Deformation, draw_displacements
from air_jax.errors import UserError
from air_jax.io.series import read_series
from air_jax.transforms import warp

SIDE = 256  # pixels of matplotlib's slice
NUM_CLASSES = 3  # of the segmentation, and the background
DEFORMATIONS = {2: Deformation(amplitude=4.0, spacing=48), 3: Deformation(amplitude=1.5, spacing=20)}
SURROUND = 6  # voxels of the mask around the head


class SampleFiles(NamedTuple):
    """Files of a pair.

    Attributes:
      fixed, moving: images.
      fixed_mask: 1 where the fixed image counts.
      contrast: another image on the moving image's grid.
      labels: segmentation on the moving image's grid.
    """

    fixed: Path
    moving: Path
    fixed_mask: Path
    contrast: Path
    labels: Path


def write_sample_pair(folder: str | Path, *, num_axes: int = 2, seed: int = 0) -> SampleFiles:
    """Writes a pair of images, a mask, a second contrast and a segmentation into a folder.

    Args:
      folder: is made where there is none; files of the same names are replaced.
      num_axes: 2 for a PNG slice, 3 for NIfTI volumes.
      seed: of the deformation of the slice.

    Returns:
      The files.

    Raises:
      UserError: the package was installed without its sample files.
      ValueError: `num_axes` is neither 2 nor 3.
    """
    if num_axes not in (2, 3):
        raise ValueError(f"num_axes={num_axes}: must be 2 or 3")
    folder = Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        fixed, affine = _slice() if num_axes == 2 else _volume()
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: is not installed here; give files of your own") from error
    displacement = draw_displacements(jax.random.key(seed)[None], fixed.shape, DEFORMATIONS[num_axes])
    deformed = warp(jnp.asarray(fixed, jnp.float32)[None, ..., None], displacement)
    moving = np.rint(np.clip(np.asarray(deformed)[0, ..., 0], 0, 255)).astype(np.uint8)
    contrast = np.where(moving > _background(moving), 255 - moving, 0).astype(np.uint8)
    ending = ".png" if num_axes == 2 else ".nii.gz"
    files = SampleFiles(*(folder / f"{name}{ending}" for name in SampleFiles._fields))
    images = fixed, moving, _mask(fixed), contrast
    for path, image in zip(files, images, strict=False):
        io.write_image(path, image, affine)
    io.write_segmentation(files.labels, _classes(moving), affine)
    return files


def _slice() -> tuple[np.ndarray, np.ndarray]:
    import matplotlib

    content = gzip.decompress((Path(matplotlib.get_data_path()) / "sample_data" / "s1045.ima.gz").read_bytes())
    return _to_uint8(np.frombuffer(content, ">u2").reshape(SIDE, SIDE).astype(np.float32)), np.eye(3)


def _volume() -> tuple[np.ndarray, np.ndarray]:
    import nibabel

    path = Path(nibabel.__file__).parent / "tests" / "data" / "example4d.nii.gz"
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, "not found", str(path))
    series = read_series(path)
    return _to_uint8(np.asarray(series.array[0])), series.affine


def _to_uint8(image: np.ndarray) -> np.ndarray:
    low, high = image.min(), np.percentile(image, 99.8)
    return np.rint(255 * np.clip((image - low) / (high - low), 0, 1)).astype(np.uint8)


def _background(image: np.ndarray) -> float:
    """The brightness that separates the head from air."""
    return float(0.5 * image.mean())


def _mask(image: np.ndarray) -> np.ndarray:
    """1 in the head and its surround."""
    near = ndimage.binary_dilation(image > _background(image), iterations=SURROUND)
    return np.asarray(ndimage.binary_fill_holes(near), np.uint8)


def _classes(image: np.ndarray) -> np.ndarray:
    inside = image[image > _background(image)]
    limits = [_background(image), *np.quantile(inside, np.arange(1, NUM_CLASSES) / NUM_CLASSES)]
    return np.digitize(image, limits, right=True).astype(np.uint8)
