"""The page of one registered pair: slices that a reader moves through, blends and compares, in one HTML file."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from PIL import Image

from air_jax.checks import as_array, check_instance, is_sequence, require
from air_jax.visualize import html
from air_jax.visualize.anatomy import BodyAxes, body_axes
from air_jax.visualize.panels import check_report, printable
from air_jax.visualize.planes import Plane, anatomical_planes, middle, planes_through

MAX_SLICES = 24  # of each plane
MAX_SIDE = 256  # pixels along the longer side of a slice
MAX_PICTURE_SIDE = 1024  # the same of a picture, which is one slice
VOLUME_SCALE = 2.0  # factor of a volume at the ends of the colour scale


def report_page(
    fixed: np.ndarray,
    moving: np.ndarray,
    warped: np.ndarray,
    jacobian: np.ndarray,
    *,
    spacing: Sequence[float],
    title: str,
    is_picture: bool = False,
    affine: np.ndarray | None = None,
    scores: Mapping[str, Mapping[str, float | None]],
    facts: Mapping[str, Mapping[str, str]],
    warnings: Sequence[str] = (),
) -> str:
    """Makes a page that needs no other file and no network.

    Args:
      fixed, moving, warped: `[*S]` or `[*S, 3]` in [0, 1], 2-D or 3-D, on the fixed image's grid; `moving` without the
        displacement.
      jacobian: `[*S]`, the determinant of the map's Jacobian.
      spacing: mm per voxel along each axis; 1 for pictures.
      title: title of the page, any text.
      is_picture: whether the first axis runs down the page, as rows do.
      affine: `[4, 4]`, array indices of a volume to mm in LPS; the planes are then those of `report_figure`. Default:
        the directions of the body are not known.
      scores: `{"before": {name: value}, "after": {name: value}}`.
      facts: tables of names and texts, by their titles.
      warnings: lines above the images.

    Returns:
      The HTML text. Texts that come from users are data in it, never markup.

    Examples:
      >>> image, ones = np.zeros((8, 8)), np.ones((8, 8))
      >>> scores = {"before": {"mse": 0.2}, "after": {"mse": 0.1}}
      >>> page = air_jax.visualize.report_page(
      ...     image, image, image, ones, spacing=(1, 1), title="a pair", scores=scores, facts={}, warnings=[]
      ... )
      >>> page[:15], "a pair" in page
      ('<!doctype html>', True)
    """
    given = dict(fixed=fixed, moving=moving, warped=warped, jacobian=jacobian)
    fixed, moving, warped, jacobian = (as_array("report_page", *each) for each in given.items())
    images = dict(fixed=fixed, moving=moving, warped=warped, jacobian=jacobian)
    check_report("report_page", images, spacing, title, is_picture, affine, scores)
    check_instance("facts", facts, Mapping, "a mapping of titles to tables")
    lines = is_sequence(warnings) and all(isinstance(line, str) for line in warnings)
    require(lines, "warnings", warnings, "must be a sequence of texts")
    arrays = {"fixed": fixed, "before": moving, "after": warped, "volume": _volume_colours(jacobian)}
    sides, body = np.asarray(spacing, float), None
    if affine is not None:
        body = body_axes(affine)
        arrays, sides = {name: body.turn(array) for name, array in arrays.items()}, sides[list(body.order)]
    shape = arrays["fixed"].shape[: len(sides)]
    point = middle(arrays["fixed"], shape)
    planes = anatomical_planes(point) if body else planes_through(point, is_picture=is_picture)
    content = {
        "title": printable(title),
        "warnings": [printable(warning) for warning in warnings],
        "volume_scale": f"{VOLUME_SCALE:g}",
        "planes": [_plane(plane, arrays, shape, sides, body) for plane in planes],
        "tables": [*_score_tables(scores), *(html.fact_table(name, rows) for name, rows in facts.items() if rows)],
    }
    return html.page("pair.html", content)


def _volume_colours(jacobian: np.ndarray) -> np.ndarray:
    """Returns colours `[*S, 3]` in [0, 1] of the change of volume; red where the map folds."""
    change = np.log(np.maximum(jacobian, 1e-3)) / np.log(VOLUME_SCALE)
    colours = matplotlib.colormaps["PuOr_r"](np.clip(0.5 + 0.5 * change, 0, 1))[..., :3]
    colours[jacobian <= 0] = 1, 0, 0
    return colours


def _plane(
    plane: Plane, arrays: Mapping[str, np.ndarray], shape: Sequence[int], sides: np.ndarray, body: BodyAxes | None
) -> dict[str, Any]:
    """Returns what the page needs to draw one plane: its slices as tiles of one picture for each array."""
    positions, start = [0], 0
    if plane.normals:
        (normal,) = plane.normals
        count = min(shape[normal], MAX_SLICES)
        positions = np.unique(np.rint(np.linspace(0, shape[normal] - 1, count)).astype(int)).tolist()
        start = int(np.argmin(np.abs(np.array(positions) - plane.point[normal])))
    extent = np.array([shape[plane.vertical], shape[plane.horizontal]]) * sides[[plane.vertical, plane.horizontal]]
    longest = MAX_SIDE if plane.normals else min(MAX_PICTURE_SIDE, max(shape))
    height, width = (max(1, int(round(side))) for side in extent * longest / extent.max())
    columns = int(np.ceil(np.sqrt(len(positions))))
    images = {name: _tiles(plane, array, positions, columns, (width, height)) for name, array in arrays.items()}
    return {
        "name": plane.name or (f"axis {plane.horizontal}, axis {plane.vertical}" if plane.normals else ""),
        "letters": plane.letters,
        "labels": [_label(plane, position, shape, body) for position in positions],
        "start": start,
        "width": width,
        "height": height,
        "columns": columns,
        "images": images,
    }


def _tiles(plane: Plane, array: np.ndarray, positions: Sequence[int], columns: int, size: tuple[int, int]) -> str:
    """Returns the slices of an array beside and below one another, as a data address."""
    width, height = size
    is_grey = array.ndim == len(plane.point)
    rows = -(-len(positions) // columns)
    sheet = Image.new("L" if is_grey else "RGB", (columns * width, rows * height))
    for index, position in enumerate(positions):
        cut = plane._replace(point=(position,) * len(plane.point)).cut(array)
        if plane.origin == "lower":
            cut = cut[::-1]
        tile = Image.fromarray(np.rint(255 * np.clip(cut, 0, 1)).astype(np.uint8)).resize(size, Image.Resampling.BOX)
        sheet.paste(tile, (index % columns * width, index // columns * height))
    return html.data_address(sheet, "JPEG", quality=85)


def _label(plane: Plane, position: int, shape: Sequence[int], body: BodyAxes | None) -> str:
    if not plane.normals:
        return ""
    (normal,) = plane.normals
    axis, index = body.index(position, normal, shape[normal]) if body else (normal, position)
    return f"axis {axis} = {index}"


def _score_tables(scores: Mapping[str, Mapping[str, float | None]]) -> list[dict[str, Any]]:
    """Returns the scores of the pair, and those of each label, whose names end in its id."""
    names = dict.fromkeys(name for side in ("before", "after") for name in scores.get(side, {}))
    rows = [[name, *(html.number(scores.get(side, {}).get(name)) for side in ("before", "after"))] for name in names]
    of_labels = [bool(re.search(r"_-?\d+$", name)) for name in names]
    tables = []
    for title, chosen in (("Scores", False), ("Scores of each label", True)):
        kept = [row for row, of_label in zip(rows, of_labels, strict=True) if of_label == chosen]
        if kept:
            tables.append({"name": title, "columns": ["", "before", "after"], "rows": kept, "folded": chosen})
    return tables
