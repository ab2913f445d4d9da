"""Landmark files: points in ITK's physical space (mm, LPS), for pictures in pixels (column, row)."""

from pathlib import Path

import numpy as np

from air_jax.checks import as_array, check_instance, check_path
from air_jax.errors import UserError
from air_jax.io.access import writing
from air_jax.io.landmark_tables import Unit, read_table
from air_jax.io.slicer_landmarks import read_fcsv, read_markups, write_fcsv, write_markups
from air_jax.io.space import to_voxels
from air_jax.io.volume import Volume

_AXES = ("x", "y", "z")
_FCSV, _MARKUPS = ".fcsv", ".json"
_EDGE = 0.5 + 1e-6  # of the field of view, in voxels from the first or last centre; the rest is for rounding


def read_landmarks(path: str | Path) -> np.ndarray:
    """Reads points from a table, or from a file of 3D Slicer.

    The name's ending determines the format: `.fcsv`, `.mrk.json` (or another `.json`), and a table for all others. See
    `air_jax.io.landmark_tables.read_table` for tables.

    Args:
      path: the file.

    Returns:
      `[K, N]` float64, physical coordinates, x first.

    Raises:
      UserError: one line that names the file and, in tables, the number of the wrong line.

    Examples:
      >>> air_jax.io.write_landmarks("points.csv", np.array([[1.0, 2.0, 3.0]]))
      >>> air_jax.io.read_landmarks("points.csv").tolist()
      [[1.0, 2.0, 3.0]]
    """
    check_path(path=path)
    return read_points(Path(path))[0]


def read_points(path: Path) -> tuple[np.ndarray, Unit | None]:
    """Reads points as `read_landmarks` does, and the unit that the file names, None without one."""
    suffix = path.suffix.lower()
    if suffix == _FCSV:
        return read_fcsv(path), "mm"
    return (read_markups(path), "mm") if suffix == _MARKUPS else read_table(path)


def write_landmarks(path: str | Path, points: np.ndarray) -> None:
    """Writes points in the format of the name's ending. `read_landmarks` returns exactly the same numbers.

    The formats are `.fcsv` and `.mrk.json` (3-D only), and for all other endings a table with the header `x,y` or
    `x,y,z`.

    Args:
      path: the file; an existing one is replaced.
      points: `[K, 2]` or `[K, 3]`, physical coordinates, x first.

    Raises:
      UserError: points are not finite, the format cannot hold them, or the file cannot be written.
      ValueError: the points have another shape.

    Examples:
      >>> air_jax.io.write_landmarks("points.csv", np.array([[1.5, 2.0]]))
      >>> print(open("points.csv").read().strip())
      x,y
      1.5,2.0
    """
    check_path(path=path)
    path = Path(path)
    points = as_array("write_landmarks", "points", points).astype(np.float64)
    if points.ndim != 2 or points.shape[1] not in (2, 3):
        raise ValueError(f"write_landmarks: points have shape {points.shape}; they must be [K, 2] or [K, 3]")
    if not np.isfinite(points).all():
        raise UserError(f"{path}: {(~np.isfinite(points)).sum()} of {points.size} coordinates are not finite")
    suffix = path.suffix.lower()
    write = {_FCSV: write_fcsv, _MARKUPS: write_markups}.get(suffix, _write_table)
    if write is not _write_table and points.shape[1] != 3:
        raise UserError(f"{path}: files of 3D Slicer hold 3-D points; write 2-D points as .csv")
    with writing(path, suffix) as partial:
        write(partial, points)


def count_outside(points: np.ndarray, volume: Volume) -> int:
    """Counts the points that lie outside of an image's field of view, which ends at the edges of its outer voxels.

    Args:
      points: `[K, N]`, physical coordinates, x first.
      volume: the image.

    Returns:
      A number from 0 to K.

    Raises:
      OptionError: the volume is none.
      ValueError: the points do not fit it.

    Examples:
      >>> volume = air_jax.io.Volume(np.zeros((8, 8)), np.diag([0.5, 0.5, 1.0]))
      >>> air_jax.io.count_outside(np.array([[1.0, 1.0], [6.0, 1.0]]), volume)
      1
    """
    check_instance("volume", volume, Volume, "a Volume")
    voxels = to_voxels(points, volume.affine)
    is_inside = (voxels >= -_EDGE) & (voxels <= np.array(volume.shape) - 1 + _EDGE)
    return int((~is_inside.all(axis=-1)).sum())


def _write_table(path: Path, points: np.ndarray) -> None:
    lines = [",".join(_AXES[: points.shape[1]]), *(",".join(map(repr, point)) for point in points.tolist())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
