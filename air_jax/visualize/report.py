"""The figure of one registered pair: its images, their agreement before and after, and the deformation."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from air_jax.checks import as_array
from air_jax.transforms import corner_jacobian_determinant, jacobian_determinant
from air_jax.transforms.shapes import check_displacement
from air_jax.visualize import panels
from air_jax.visualize.anatomy import BodyAxes, body_axes
from air_jax.visualize.planes import Plane, anatomical_planes, middle, planes_through

COLUMNS = (
    "fixed",
    "moving",
    "warped",
    "before: fixed (magenta)\nand moving (green)",
    "after: fixed (magenta)\nand warped (green)",
    "squares of fixed\nand warped",
    "difference before\n(fixed - moving)",
    "difference after\n(fixed - warped)",
    "deformed grid\n(where moving is read)",
    "volume change (Jacobian)\nred: any corner folds",
)
NUM_LINES = 30  # of the deformed grid, along the longer side
MAX_SCORES = 12  # in the table below the panels
WIDTH = 19.5  # of the figure, in inches
LINE_HEIGHT = 0.16  # of a line of text, in inches
# Upper ends of the colour scale of Jacobian determinants; the lower end is the reciprocal.
JACOBIAN_SCALES = (1.25, 1.5, 2, 4, 8)


def report_figure(
    fixed: np.ndarray,
    moving: np.ndarray,
    warped: np.ndarray,
    displacement: np.ndarray,
    *,
    spacing: Sequence[float],
    title: str,
    is_picture: bool = False,
    affine: np.ndarray | None = None,
    scores: Mapping[str, Mapping[str, float]] | None = None,
) -> Figure:
    """Draws one registered pair: one row in 2-D, three planes through the middle of the fixed image's content in 3-D.

    With `affine` the planes are axial, coronal and sagittal as radiologists look at them: the patient's right on the
    left of the page, front and head on top, with letters at the sides. An oblique volume keeps its own planes.

    Args:
      fixed, moving, warped: `[*S]` or `[*S, 3]` in [0, 1], 2-D or 3-D, on the fixed image's grid; `moving` without the
        displacement.
      displacement: `[*S, N]` in voxels, at least 3 voxels along each axis.
      spacing: mm per voxel along each of the `N` axes; 1 for pictures.
      title: title of the figure, any text: file names are drawn as they are.
      is_picture: whether the first axis runs down the page, as rows do. Default: no, the first axis of a plane runs to
        the right and the other one up.
      affine: `[4, 4]`, array indices of a volume to mm in LPS. Default: the directions of the body are not known.
      scores: `{"before": {name: value}, "after": {name: value}}`, printed below the panels. Default: none.

    Returns:
      The figure.

    Examples:
      >>> image = np.zeros((8, 8))
      >>> figure = air_jax.visualize.report_figure(
      ...     image, image, image, np.zeros((8, 8, 2)), spacing=(1, 1), title="a pair"
      ... )
      >>> [axis.get_title() for axis in figure.axes[:3]]
      ['fixed', 'moving', 'warped']
    """
    given = dict(fixed=fixed, moving=moving, warped=warped, displacement=displacement)
    fixed, moving, warped, displacement = (as_array("report_figure", *each) for each in given.items())
    images, scores = dict(fixed=fixed, moving=moving, warped=warped), {} if scores is None else scores
    panels.check_report("report_figure", images, spacing, title, is_picture, affine, scores)
    check_displacement("report_figure", displacement[None])
    sides, body = np.asarray(spacing, dtype=float), None
    if affine is not None:
        body = body_axes(affine)
        fixed, moving, warped = map(body.turn, (fixed, moving, warped))
        displacement, sides = body.turn_displacement(displacement), sides[list(body.order)]
    shape = displacement.shape[:-1]
    point = middle(fixed, shape)
    planes = anatomical_planes(point) if body else planes_through(point, is_picture=is_picture)
    table = _table(scores) if scores else []

    extents = np.array(shape) * sides
    across = max(extents[plane.horizontal] for plane in planes)
    # All planes have one scale, except very thin or long ones.
    ratios = [np.clip(extents[plane.vertical] / across, 0.5, 1.6) for plane in planes]
    below = LINE_HEIGHT * max(0, len(table) - 2)  # two lines fit beside the colour bars
    height = WIDTH / len(COLUMNS) * sum(ratios) + 1.7 + below
    layout = ConstrainedLayoutEngine(rect=(0, below / height, 1, 1 - below / height))
    figure = Figure(figsize=(WIDTH, height), layout=layout)
    figure.suptitle(panels.printable(title), fontsize=11, **panels.PLAIN_TEXT)
    text = panels.printable("\n".join(table))
    style = {"family": "monospace", "fontsize": 8, "va": "bottom"}
    figure.text(0.015, 0.3 * LINE_HEIGHT / height, text, **style, **panels.PLAIN_TEXT)

    grid = figure.add_gridspec(len(planes) + 1, len(COLUMNS), height_ratios=[*ratios, 0.06])
    axes = np.array(
        [[figure.add_subplot(grid[row, column]) for column in range(len(COLUMNS))] for row in range(len(planes))]
    )
    images = [[np.clip(plane.cut(image), 0, 1) for image in (fixed, moving, warped)] for plane in planes]
    _draw_images(axes, images, planes, sides)
    _draw_differences(axes[:, 6:8], images, planes, bar=figure.add_subplot(grid[-1, 6:8]))
    for axis, plane, (_, before, _) in zip(axes[:, 8], planes, images, strict=True):
        panels.draw_plane(axis, 0.5 * before, plane.origin, cmap="gray", vmin=0, vmax=1)
        panels.draw_lines(axis, _grid_lines(plane, displacement, sides))
    _draw_jacobians(axes[:, 9], planes, displacement, bar=figure.add_subplot(grid[-1, 9]))
    for row, plane in zip(axes, planes, strict=True):
        _frame(row, plane, shape, sides, body)
        for axis in row[:6]:
            _write_letters(axis, plane)
    for axis, name in zip(axes[0], COLUMNS, strict=True):
        axis.set_title(name, fontsize=9)
    return figure


def _table(scores: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Returns the lines of the table of scores; a score that one side lacks is empty."""
    names = list(dict.fromkeys(name for side in ("before", "after") for name in scores.get(side, {})))
    rows = [("score", "before", "after")]
    for name in names[:MAX_SCORES]:
        before, after = (scores.get(side, {}).get(name) for side in ("before", "after"))
        rows.append((name, "" if before is None else f"{before:.4g}", "" if after is None else f"{after:.4g}"))
    width = max(len(row[0]) for row in rows)
    lines = [f"{name:<{width}}  {before:>10}  {after:>10}" for name, before, after in rows]
    return lines + ["..."] * (len(names) > MAX_SCORES)


def _draw_images(axes: np.ndarray, images: Sequence, planes: Sequence[Plane], spacing: np.ndarray) -> None:
    for row, plane, (fixed, moving, warped) in zip(axes, planes, images, strict=True):
        squares = panels.checkerboard(fixed, warped, spacing[[plane.vertical, plane.horizontal]])
        overlays = panels.fusion(fixed, moving), panels.fusion(fixed, warped)
        for axis, image in zip(row[:6], (fixed, moving, warped, *overlays, squares), strict=True):
            panels.draw_plane(axis, image, plane.origin, cmap="gray", vmin=0, vmax=1)


def _draw_differences(axes: np.ndarray, images: Sequence, planes: Sequence[Plane], bar: Axes) -> None:
    """Draws the differences before and after on one scale, which a few voxels exceed."""
    differences = [
        [panels.grey(fixed) - panels.grey(other) for other in (moving, warped)] for fixed, moving, warped in images
    ]
    limits = [np.percentile(np.abs(difference), 99.5) for pair in differences for difference in pair]
    limit = float(max(*limits, 0.05))  # small differences must look small
    colours: dict[str, Any] = {"cmap": "RdBu_r", "norm": Normalize(-limit, limit)}
    for row, plane, pair in zip(axes, planes, differences, strict=True):
        for axis, difference in zip(row, pair, strict=True):
            panels.draw_plane(axis, difference, plane.origin, **colours)
    _draw_bar(bar, ScalarMappable(**colours))


def _draw_jacobians(axes: np.ndarray, planes: Sequence[Plane], displacement: np.ndarray, bar: Axes) -> None:
    determinants = [plane.determinant(jacobian_determinant, displacement) for plane in planes]
    folds = [plane.determinant(corner_jacobian_determinant, displacement) <= 0 for plane in planes]
    change = max(np.percentile(np.abs(np.log(np.maximum(values, 1e-3))), 99) for values in determinants)
    scale = next((scale for scale in JACOBIAN_SCALES if np.log(scale) >= change), JACOBIAN_SCALES[-1])
    colours: dict[str, Any] = {"cmap": "PuOr_r", "norm": LogNorm(1 / scale, scale)}
    for axis, plane, values, folded in zip(axes, planes, determinants, folds, strict=True):
        panels.draw_plane(axis, np.clip(values, 1 / scale, scale), plane.origin, start=1, **colours)
        _draw_folds(axis, folded)
        axis.set_xlabel(f"{folded.sum():,} of {folded.size:,} fold", fontsize=8)
    ticks = {1 / scale: f"{1 / scale:.2g}", 1: "1", scale: f"{scale:g}"}
    _draw_bar(bar, ScalarMappable(**colours)).set_ticks(list(ticks), labels=list(ticks.values()))


def _draw_folds(axis: Axes, folded: np.ndarray) -> None:
    """Marks folded voxels; marks have one size, because a voxel of a large image would not be seen."""
    small, steps = panels.shrink(folded, np.any)
    y, x = ((np.argwhere(small) + 0.5) * steps + 0.5).T  # determinants begin at voxel 1
    axis.scatter(x, y, s=5, c="red", marker="s", linewidths=0)


def _draw_bar(axis: Axes, colours: ScalarMappable) -> Colorbar:
    bar = axis.figure.colorbar(colours, cax=axis, orientation="horizontal")
    axis.tick_params(labelsize=8)
    bar.minorticks_off()
    return bar


def _grid_lines(plane: Plane, displacement: np.ndarray, spacing: np.ndarray) -> list[np.ndarray]:
    """Returns lines `[K, 2]` of points (x, y), at equal distances in mm: about `NUM_LINES` along the longer side."""
    in_plane = [plane.horizontal, plane.vertical]
    field = plane.cut(displacement)[..., in_plane]
    height, width = field.shape[:2]
    positions = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1) + field
    sides = spacing[[plane.vertical, plane.horizontal]]
    steps = np.maximum(1, np.rint((sides * (height, width)).max() / NUM_LINES / sides)).astype(int)
    rows, columns = np.arange(0, height, steps[0]), np.arange(0, width, steps[1])
    return [*positions[rows], *positions[:, columns].swapaxes(0, 1)]


def _frame(row: np.ndarray, plane: Plane, shape: Sequence[int], spacing: np.ndarray, body: BodyAxes | None) -> None:
    """Sets the same limits and true proportions for the panels of a row, and names their plane."""
    height, width = shape[plane.vertical], shape[plane.horizontal]
    bottom, top = (height - 0.5, -0.5) if plane.origin == "upper" else (-0.5, height - 0.5)
    aspect = spacing[plane.vertical] / spacing[plane.horizontal]
    for axis in row:
        axis.set(xticks=[], yticks=[], xlim=(-0.5, width - 0.5), ylim=(bottom, top), aspect=aspect)
    if body:
        (normal,) = plane.normals
        array_axis, index = body.index(plane.point[normal], normal, shape[normal])
        oblique = f"\noblique by {body.tilt:.0f}°" if body.tilt >= 1 else ""
        row[0].set_ylabel(f"{plane.name}\naxis {array_axis} = {index}{oblique}", fontsize=8)
        return
    first, second = sorted((plane.vertical, plane.horizontal))
    where = "".join(f"\naxis {axis} = {plane.point[axis]}" for axis in plane.normals)
    arrow = f"← axis {plane.vertical}" if plane.origin == "upper" else f"axis {plane.vertical} →"
    row[0].set_ylabel(f"axis {first} x axis {second}{where}\n{arrow}", fontsize=8)
    row[0].set_xlabel(f"axis {plane.horizontal} →", fontsize=8)


def _write_letters(axis: Axes, plane: Plane) -> None:
    """Writes what lies at each side of an anatomical plane."""
    style: dict[str, Any] = {"color": "#ffd54f", "fontsize": 7, "transform": axis.transAxes}
    places = ((0.03, 0.5, "left", "center"), (0.97, 0.5, "right", "center"))
    places += ((0.5, 0.98, "center", "top"), (0.5, 0.02, "center", "bottom"))
    for letter, (x, y, across, along) in zip(plane.letters, places, strict=False):
        axis.text(x, y, letter, ha=across, va=along, **style)
