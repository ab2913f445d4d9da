"""Landmarks in tables: text with a point a line, as spreadsheets, ImageJ, QuPath and 3D Slicer export them."""

import csv
import math
import re
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from air_jax.errors import UserError
from air_jax.io.access import reading

Unit = Literal["mm", "pixel"]

_KIND = "a text file of landmarks (.csv)"
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)
# "x", "x [mm]", "x_mm", and QuPath's "Centroid X px"; r, a, s and l, p, s are those of 3D Slicer's tables.
_COLUMN = re.compile(r"(?:centroid[ _])?([xyzraslp])(?:(?:[ _]*[\[(]|[ _])(\u03bcm|um|microns?|mm|px|pixels?)[\])]?)?")
_FRAMES = {"xyz": (1, 1, 1), "lps": (1, 1, 1), "ras": (-1, -1, 1)}


class _Columns(NamedTuple):
    """Where a table has the coordinates: indices of columns, factors to mm in LPS, and the unit, where known."""

    indices: list[int]
    factors: list[float]
    unit: Unit | None
    defined: int | None = None


def read_table(path: Path) -> tuple[np.ndarray, Unit | None]:
    """Reads points, one per line, with the numbers separated by comma, semicolon, tab or spaces.

    A file with a header must name the columns x, y and, in 3-D, z, in any order and case, alone or with a unit: `X`,
    `x [mm]`, `Centroid X px`. 3D Slicer's tables have r, a, s or l, p, s. Other columns are ignored.

    A file without a header has 2 or 3 numbers in each line: x, y[, z]. It may have 4, where the first ones count from 0
    or 1. Three numbers, the first of which count so, are refused, since they may be 2-D points with their index.

    Args:
      path: the file.

    Returns:
      `[K, N]` float64, x first, LPS; and the unit that the header names, None without one. Micrometres become mm.

    Raises:
      UserError: one line that names the file and the number of the wrong line.
    """
    with reading(path, _KIND):
        rows = _rows(read_text(path))
    if not rows:
        raise UserError(f"{path}: has no landmarks")
    line, first = rows[0]
    if all(map(_is_number, _without_empty_end(first))):
        rows = [(line, _without_empty_end(row)) for line, row in rows]
        width, columns = len(rows[0][1]), _columns_without_header(path, rows)
    else:
        rows = rows[1:]
        width, columns = len(first), _named_columns(path, line, first)
        if not rows:
            raise UserError(f"{path}: has a header but no landmarks")
    points = np.array([_point(path, line, row, width, columns) for line, row in rows])
    return points * columns.factors, columns.unit


def read_text(path: Path) -> str:
    """Returns a text in UTF-8, in UTF-16 with a byte order mark, or in the code page of Western Windows.

    Raises:
      UnicodeError: the file is no text.
    """
    content = path.read_bytes()
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252")


def parse_number(path: Path, line: int, cell: str) -> float:
    """Returns the number in a cell.

    Raises:
      UserError: it is not a finite decimal number. Python's `1_0` and `nan` are none.
    """
    cell = cell.strip()
    if not _is_number(cell):
        raise UserError(f"{path}, line {line}: {cell!r} is not a number")
    return float(cell)


def _rows(text: str) -> list[tuple[int, list[str]]]:
    """Returns the cells of each line that is not empty, and its number."""
    lines = text.splitlines()
    first = next((line for line in lines if line.strip()), "")
    delimiter = next((mark for mark in "\t;," if mark in first.strip(" ")), None)
    if delimiter is None:
        return [(i, line.split()) for i, line in enumerate(lines, 1) if line.strip()]
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    return [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]


def _columns_without_header(path: Path, rows: list[tuple[int, list[str]]]) -> _Columns:
    line, first = rows[0]
    width, counted = len(first), [row[0] for _, row in rows]
    is_counting = len(rows) > 1 and any(counted == [str(start + i) for i in range(len(rows))] for start in (0, 1))
    if width == 3 and is_counting:
        raise UserError(
            f"{path}, line {line}: the first numbers may be an index or x; give a header that names x, y and z"
        )
    if width not in (2, 3) and not (width == 4 and is_counting):
        raise UserError(f"{path}, line {line}: has {width} numbers; give 2 or 3, or a header that names x, y and z")
    indices = list(range(width))[-3:]
    return _Columns(indices, [1.0] * len(indices), None)


def _named_columns(path: Path, line: int, header: list[str]) -> _Columns:
    # casefold makes one letter of the two characters that look like a micro sign.
    names = [name.casefold() for name in header]
    matches = [(i, match) for i, name in enumerate(names) if (match := _COLUMN.fullmatch(name))]
    letters = [match[1] for _, match in matches]
    frame = next((frame for frame in _FRAMES if set(frame) <= set(letters)), "xy")
    found = [(i, match[2]) for axis in frame for i, match in matches if match[1] == axis]
    units = {unit for _, unit in found}
    if any(letters.count(axis) != 1 for axis in frame) or len(units) != 1:
        raise UserError(f"{path}, line {line}: the header must name x, y and, in 3-D, z once each, in one unit")
    unit, scale = _unit(units.pop())
    signs = _FRAMES.get(frame, (1, 1))
    defined = names.index("defined") if frame in ("ras", "lps") and "defined" in names else None
    return _Columns([i for i, _ in found], [sign * scale for sign in signs], unit, defined)


def _unit(name: str | None) -> tuple[Unit | None, float]:
    """Returns the unit of a column's name, and the factor to it."""
    if name is None:
        return None, 1.0
    if name.startswith("p"):
        return "pixel", 1.0
    return "mm", 1.0 if name == "mm" else 1e-3


def _point(path: Path, line: int, row: list[str], width: int, columns: _Columns) -> list[float]:
    if len(row) != width:
        raise UserError(f"{path}, line {line}: has {len(row)} columns, the first line has {width}")
    if columns.defined is not None and row[columns.defined].casefold() not in ("1", "true"):
        raise UserError(f"{path}, line {line}: its position is not defined; place or delete the point")
    return [parse_number(path, line, row[index]) for index in columns.indices]


def _without_empty_end(row: list[str]) -> list[str]:
    """Returns a row without the cells after its last delimiter, if they are empty."""
    return row[:-1] if len(row) > 1 and not row[-1] else row


def _is_number(cell: str) -> bool:
    return _NUMBER.fullmatch(cell) is not None and math.isfinite(float(cell))
