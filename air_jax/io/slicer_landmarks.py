"""Landmark files of 3D Slicer: `.fcsv` and `.mrk.json`, which say themselves whether they are in LPS or RAS (mm)."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from air_jax.errors import UserError
from air_jax.io.access import reading
from air_jax.io.landmark_tables import parse_number, read_text

_TO_LPS = {"LPS": (1, 1, 1), "1": (1, 1, 1), "RAS": (-1, -1, 1), "0": (-1, -1, 1)}
_COLUMNS = "id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID"
_SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    "markups-schema-v1.0.3.json#"
)
_DEFINED = 2  # position status, in the column after `associatedNodeID`


def read_fcsv(path: Path) -> np.ndarray:
    """Reads a fiducial list, whose comment lines name its coordinate system and columns.

    Args:
      path: the file.

    Returns:
      `[K, 3]` float64, mm, LPS.

    Raises:
      UserError: one line that names the file and the wrong line, or the coordinate system.
    """
    with reading(path, "a fiducial list of 3D Slicer (.fcsv)"):
        lines = read_text(path).splitlines()
        comments = [line.lstrip("# ").partition("=") for line in lines if line.startswith("#")]
        header = {key.strip().casefold(): value.strip() for key, _, value in comments}
        names = [name.strip() for name in header.get("columns", _COLUMNS).split(",")]
        rows = [(i + 1, next(csv.reader([line]))) for i, line in enumerate(lines) if line.strip() and line[0] != "#"]
    if "coordinatesystem" not in header:
        raise UserError(f"{path}: has no line `# CoordinateSystem = LPS`; add one, or RAS")
    signs = _signs(path, header["coordinatesystem"])
    if not {"x", "y", "z"} <= set(names):
        raise UserError(f"{path}: its columns are {', '.join(names)}; they must include x, y and z")
    columns = [names.index(axis) for axis in "xyz"]
    points = []
    for line, row in rows:
        if len(row) <= max(columns):
            raise UserError(f"{path}, line {line}: has {len(row)} columns; it must include x, y and z")
        if len(row) > len(names) and row[len(names)].strip() not in ("", str(_DEFINED)):
            raise UserError(f"{path}, line {line}: its position is not defined; place or delete the point")
        points.append([parse_number(path, line, row[column]) for column in columns])
    return _points(path, points) * signs


def read_markups(path: Path) -> np.ndarray:
    """Reads a markups file with one list of points.

    Args:
      path: the file.

    Returns:
      `[K, 3]` float64, mm, LPS.

    Raises:
      UserError: one line that names the file: it has several lists, another unit or coordinate system, or a point
        without position.
    """
    with reading(path, "a markups file of 3D Slicer (.mrk.json)"):
        content = json.loads(read_text(path))
    markups = content.get("markups") if isinstance(content, dict) else None
    if not isinstance(markups, list) or not all(isinstance(markup, dict) for markup in markups):
        raise UserError(f"{path}: has no list `markups`; give a markups file of 3D Slicer")
    if len(markups) != 1:
        raise UserError(f"{path}: has {len(markups)} markups; give a file with one list of points")
    (markup,) = markups
    # Both keys have defaults in Slicer's schema.
    signs = _signs(path, markup.get("coordinateSystem", "LPS"))
    units = markup.get("coordinateUnits", "mm")
    if set(units if isinstance(units, list) else [units]) != {"mm"}:
        raise UserError(f"{path}: its coordinateUnits are {units}; they must be mm")
    points = markup.get("controlPoints")
    return _points(path, [_position(path, point) for point in points or []]) * signs


def write_fcsv(path: Path, points: np.ndarray) -> None:
    """Writes points `[K, 3]` (mm, LPS) as a fiducial list."""
    rows = [f"{i},{x!r},{y!r},{z!r},0,0,0,1,1,1,0,F-{i},," for i, (x, y, z) in enumerate(points.tolist(), 1)]
    header = ["# Markups fiducial file version = 4.11", "# CoordinateSystem = LPS", f"# columns = {_COLUMNS}"]
    path.write_text("\n".join([*header, *rows]) + "\n", encoding="utf-8")


def write_markups(path: Path, points: np.ndarray) -> None:
    """Writes points `[K, 3]` (mm, LPS) as a markups file with one point list."""
    controls = [
        {"id": str(i), "label": f"F-{i}", "position": point, "positionStatus": "defined"}
        for i, point in enumerate(points.tolist(), 1)
    ]
    markup = {"type": "Fiducial", "coordinateSystem": "LPS", "coordinateUnits": "mm", "controlPoints": controls}
    content = {"@schema": _SCHEMA, "markups": [markup]}
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _signs(path: Path, system: Any) -> np.ndarray:
    if str(system).upper() not in _TO_LPS:
        raise UserError(f"{path}: its coordinate system is {system}; it must be LPS or RAS")
    return np.array(_TO_LPS[str(system).upper()])


def _position(path: Path, point: Any) -> list[float]:
    label = point.get("label") if isinstance(point, dict) else None
    position = point.get("position") if isinstance(point, dict) else None
    status = point.get("positionStatus", "defined") if isinstance(point, dict) else None
    if status != "defined" or not isinstance(position, list) or len(position) != 3:
        raise UserError(f"{path}: point {label!r} has no defined position [x, y, z]; place or delete it")
    for number in position:
        if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
            raise UserError(f"{path}: point {label!r} has {number!r}, which is not a number")
    return position


def _points(path: Path, points: list[list[float]]) -> np.ndarray:
    if not points:
        raise UserError(f"{path}: has no landmarks")
    return np.array(points, np.float64)
