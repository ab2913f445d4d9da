"""Landmark files: text files of points in ITK's physical space (mm, LPS), for pictures in pixels (column, row)."""

import csv
from pathlib import Path

import numpy as np

from air_jax.errors import UserError
from air_jax.io.access import reading, writing

_AXES = ("x", "y", "z")
_KIND = "a text file of landmarks (.csv)"


def read_landmarks(path: str | Path) -> np.ndarray:
    """Reads points, one per line, with the numbers separated by comma, semicolon or tab.

    A file with a header must name the columns x, y and, in 3-D, z, in any order and case; other columns are ignored. A
    file without a header has 2 or 3 numbers in each line: x, y[, z].

    Args:
      path: the file.

    Returns:
      `[K, N]` float64, physical coordinates, x first.

    Raises:
      UserError: one line that names the file and the number of the wrong line.
    """
    path = Path(path)
    with reading(path, _KIND):
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        delimiter = next((mark for mark in "\t;" if mark in lines[0]), ",")
        reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
    if not rows:
        raise UserError(f"{path}: has no landmarks")
    line, first = rows[0]
    if all(map(_is_number, first)):
        width, columns = len(first), range(len(first))
        if width not in (2, 3):
            raise UserError(f"{path}, line {line}: has {width} numbers; give 2 or 3, or a header that names x, y and z")
    else:
        rows = rows[1:]
        width, columns = len(first), _columns(path, line, first)
        if not rows:
            raise UserError(f"{path}: has a header but no landmarks")
    return np.array([_point(path, line, row, width, columns) for line, row in rows])


def write_landmarks(path: str | Path, points: np.ndarray) -> None:
    """Writes points with the header `x,y` or `x,y,z`. `read_landmarks` returns exactly the same numbers.

    Args:
      path: the file; an existing one is replaced.
      points: `[K, 2]` or `[K, 3]`, physical coordinates, x first.

    Raises:
      UserError: the file cannot be written.
      ValueError: the points have another shape.
    """
    path = Path(path)
    points = np.asarray(points, np.float64)
    if points.ndim != 2 or points.shape[1] not in (2, 3):
        raise ValueError(f"write_landmarks: points have shape {points.shape}; they must be [K, 2] or [K, 3]")
    lines = [",".join(_AXES[: points.shape[1]]), *(",".join(map(repr, point)) for point in points.tolist())]
    with writing(path, ".csv") as partial:
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _columns(path: Path, line: int, header: list[str]) -> list[int]:
    names = [cell.lower() for cell in header]
    if any(names.count(axis) > 1 for axis in _AXES) or not {"x", "y"} <= set(names):
        raise UserError(f"{path}, line {line}: the header must name x, y and, in 3-D, z once each")
    return [names.index(axis) for axis in _AXES if axis in names]


def _point(path: Path, line: int, row: list[str], width: int, columns) -> list[float]:
    if len(row) != width:
        raise UserError(f"{path}, line {line}: has {len(row)} columns, the first line has {width}")
    for column in columns:
        if not _is_number(row[column]):
            raise UserError(f"{path}, line {line}: {row[column]!r} is not a number")
    return [float(row[column]) for column in columns]


def _is_number(cell: str) -> bool:
    try:
        return bool(np.isfinite(float(cell)))
    except ValueError:
        return False
