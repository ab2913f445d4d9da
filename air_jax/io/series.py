"""Time series in files: NIfTI with a fourth axis, TIFF with a page a frame."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from air_jax.errors import UserError
from air_jax.io.access import library, naming, reading, writing
from air_jax.io.image import NIFTI, PICTURES
from air_jax.io.nifti import open_nifti, read_affine, read_voxels, write_nifti
from air_jax.io.space import check_place, reversed_affine
from air_jax.io.subject import MIN_VOXELS
from air_jax.io.tiff import tiff_pages
from air_jax.io.volume import check_finite, plain

TIFF = tuple(suffix for suffix in PICTURES if suffix.startswith(".tif"))
_SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}


@dataclass(frozen=True)
class Series:
    """Frames of one grid.

    Attributes:
      array: `[T, *S]`, one channel.
      affine: `[N+1, N+1]` float64, from array indices of a frame to mm in LPS; for pictures to pixels.
      seconds: time between two frames, None where the file does not say it.
    """

    array: np.ndarray
    affine: np.ndarray
    seconds: float | None = None

    @property
    def num_axes(self) -> int:
        """N, the number of spatial axes: 2 or 3."""
        return len(self.affine) - 1


def series_suffix(path: Path) -> str:
    """Returns the ending of a series' name, in lower case.

    Raises:
      UserError: such files hold no series.
    """
    for suffix in (*NIFTI, *TIFF):
        if path.name.lower().endswith(suffix):
            return suffix
    raise UserError(f"{path}: unknown kind of series; its name must end in one of {', '.join((*NIFTI, *TIFF))}")


def read_series(path: str | Path) -> Series:
    """Reads a time series: NIfTI with the axes x, y, z and time, where z may have size 1, or TIFF with several pages.

    Args:
      path: the file.

    Returns:
      Integers keep their type; other values become float32, with 0 where they are not finite.

    Raises:
      UserError: one line that names the file: it cannot be read, or has no time axis; frames are smaller than 3 voxels
        along an axis; or a frame has no finite value.
    """
    path = Path(path)
    if series_suffix(path) in TIFF:
        pages = tiff_pages(path)
        if pages.ndim != 3 or len(pages) < 2:
            raise UserError(f"{path}: has shape {pages.shape}; a series has several grey pages")
        with naming(path):
            frames = plain(pages)
        return _checked(path, Series(frames, reversed_affine(np.ones(2))), pages)
    image = open_nifti(path)
    shape = image.shape
    while len(shape) > 4 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 4 or shape[-1] < 2:
        raise UserError(f"{path}: has shape {image.shape}; a series has the axes x, y, z and time")
    num_axes = 2 if shape[2] == 1 else 3
    if image.get_data_dtype().kind not in "iuf":
        raise UserError(f"{path}: has voxels of type {image.get_data_dtype()}; give a series of real numbers")
    stored = np.moveaxis(read_voxels(path, image, np.asarray).reshape(shape), -1, 0)
    with naming(path):
        array = plain(stored)
    with reading(path, "a NIfTI series (.nii, .nii.gz)"):
        unit = _SECONDS.get(image.header.get_xyzt_units()[1])
    step = float(image.header["pixdim"][4])
    seconds = step * unit if unit and np.isfinite(step) and step > 0 else None
    affine = read_affine(path, image.header, num_axes)
    series = Series(np.ascontiguousarray(array[..., 0] if num_axes == 2 else array), affine, seconds)
    return _checked(path, series, stored)


def _checked(path: Path, series: Series, stored: np.ndarray) -> Series:
    """Returns the series, whose frames can be aligned. `stored`: its frames as they are in the file.

    Raises:
      UserError: frames are too small, one of them has no finite value, or voxel sizes and origin are not plausible.
    """
    check_place(path, series.affine)
    shape = series.array.shape[1:]
    if min(shape) < MIN_VOXELS:
        raise UserError(f"{path}: has frames of shape {shape}; give at least {MIN_VOXELS} voxels along each axis")
    if stored.dtype.kind == "f":
        lost = [index for index, frame in enumerate(stored) if not np.isfinite(frame).any()]
        if lost:
            raise UserError(f"{path}: frame {lost[0]} has no finite value ({len(lost)} such); leave such frames out")
    return series


def write_series(path: str | Path, series: Series) -> None:
    """Writes a time series in the format given by the name's ending. A failed write leaves no file.

    Args:
      path: the file; an existing one is replaced.
      series: pages of a TIFF keep their type; NIfTI keeps integers and stores floats as float32.

    Raises:
      UserError: one line that names the file: values are not finite, or it cannot be written.
    """
    path = Path(path)
    suffix = series_suffix(path)
    with naming(path):
        check_finite(series.array)
    if suffix in NIFTI:
        volumes = series.array if series.num_axes == 3 else series.array[..., None]
        write_nifti(path, np.moveaxis(volumes, 0, -1), series.affine, suffix, seconds=series.seconds or 0.0)
        return
    tifffile = library("tifffile", path)
    with writing(path, suffix) as partial:
        tifffile.imwrite(partial, series.array, photometric="minisblack", metadata=None)
