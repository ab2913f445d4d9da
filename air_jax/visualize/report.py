"""The figure of one registered pair: the images, how well they agree before and after, and the deformation."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from air_jax.transforms import corner_jacobian_determinant, jacobian_determinant
from air_jax.visualize import panels

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
NUM_LINES = 30
MAX_SCORES = 12
WIDTH = 19.5  # inches, of the whole figure
LINE_HEIGHT = 0.16  # inches, of a line of text
JACOBIAN_SCALES = (1.25, 1.5, 2, 4, 8)


class Plane(NamedTuple):
    """A plane through `point`, by the array axes that its picture has from top to bottom and from left to right."""

    vertical: int
    horizontal: int
    point: tuple[int, ...]
    origin: str  # "upper" where the vertical axis runs down the page, "lower" where it runs up

    @property
    def normals(self) -> list[int]:
        return [axis for axis in range(len(self.point)) if axis not in (self.vertical, self.horizontal)]

    def cut(self, array: np.ndarray) -> np.ndarray:
        """`[V, H, ...]` of `[*S, ...]`, ready to be drawn."""
        plane = array[self._at(self.point)]
        return plane.swapaxes(0, 1) if self.vertical > self.horizontal else plane

    def determinant(self, function: Callable[[jax.Array], jax.Array], displacement: np.ndarray) -> np.ndarray:
        """`[V - 2, H - 2]` of `function`, a Jacobian determinant, computed from the plane and its two neighbours."""
        slab = displacement[self._at([slice(index - 1, index + 2) for index in self.point])]
        return self._replace(point=(0,) * len(self.point)).cut(np.asarray(function(slab[None]))[0])

    def _at(self, indices: Sequence[int | slice]) -> tuple[int | slice, ...]:
        """The whole of the plane's own axes, and what `indices` says of the others."""
        return tuple(index if axis in self.normals else slice(None) for axis, index in enumerate(indices))


def report_figure(
    fixed: np.ndarray,
    moving: np.ndarray,
    warped: np.ndarray,
    displacement: np.ndarray,
    *,
    spacing: Sequence[float],
    title: str,
    is_picture: bool = False,
    scores: Mapping[str, Mapping[str, float]] | None = None,
) -> Figure:
    """Draws one registered pair: one row in 2-D, three planes through the middle of the fixed image's content in 3-D.

    Args:
      fixed, moving, warped: `[*S]` or `[*S, 3]` in [0, 1], 2-D or 3-D, in the fixed image's space; `moving` is not
        deformed yet.
      displacement: `[*S, N]` in voxels, at least 3 voxels along each axis.
      spacing: mm per voxel along each of the `N` axes; 1 for pictures.
      title: of the whole figure.
      is_picture: the first axis runs down the page, as rows do; otherwise the first of a plane's axes runs to the right
        and the other one up, which shows NIfTI volumes with the head up.
      scores: `{"before": {name: value}, "after": {name: value}}`, printed below the panels.
    """
    fixed, moving, warped, displacement = map(np.asarray, (fixed, moving, warped, displacement))
    spacing = np.asarray(spacing, dtype=float)
    shape = displacement.shape[:-1]
    planes = _planes(_middle(fixed, shape), is_picture)
    table = _table(scores) if scores else []

    extents = np.array(shape) * spacing
    across = max(extents[plane.horizontal] for plane in planes)
    # One scale for all planes, up to what would leave no room for thin or long ones.
    ratios = [np.clip(extents[plane.vertical] / across, 0.5, 1.6) for plane in planes]
    below = LINE_HEIGHT * max(0, len(table) - 2)  # two lines have room beside the colour bars
    height = WIDTH / len(COLUMNS) * sum(ratios) + 1.7 + below
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    figure.get_layout_engine().set(rect=(0, below / height, 1, 1 - below / height))
    figure.suptitle(title, fontsize=11)
    figure.text(0.015, 0.3 * LINE_HEIGHT / height, "\n".join(table), family="monospace", fontsize=8, va="bottom")

    grid = figure.add_gridspec(len(planes) + 1, len(COLUMNS), height_ratios=[*ratios, 0.06])
    axes = np.array(
        [[figure.add_subplot(grid[row, column]) for column in range(len(COLUMNS))] for row in range(len(planes))]
    )
    images = [[np.clip(plane.cut(image), 0, 1) for image in (fixed, moving, warped)] for plane in planes]
    _draw_images(axes, images, planes, spacing)
    _draw_differences(axes[:, 6:8], images, planes, bar=figure.add_subplot(grid[-1, 6:8]))
    for axis, plane, (_, before, _) in zip(axes[:, 8], planes, images, strict=True):
        panels.draw_plane(axis, 0.5 * before, plane.origin, cmap="gray", vmin=0, vmax=1)
        panels.draw_lines(axis, _grid_lines(plane, displacement, spacing))
    _draw_jacobians(axes[:, 9], planes, displacement, bar=figure.add_subplot(grid[-1, 9]))
    for row, plane in zip(axes, planes, strict=True):
        _frame(row, plane, shape, spacing)
    for axis, name in zip(axes[0], COLUMNS, strict=True):
        axis.set_title(name, fontsize=9)
    return figure


def _middle(fixed: np.ndarray, shape: Sequence[int]) -> tuple[int, ...]:
    """The centre of what is brighter than the mean, kept inside so that it has two neighbours along each axis."""
    brightness = fixed if fixed.ndim == len(shape) else fixed.mean(axis=-1)
    foreground = brightness > brightness.mean()
    if not foreground.any():
        foreground = ~foreground
    axes = range(len(shape))
    counts = [foreground.sum(axis=tuple(other for other in axes if other != axis)) for axis in axes]
    centers = [np.average(np.arange(size), weights=count) for size, count in zip(shape, counts, strict=True)]
    return tuple(int(np.clip(round(center), 1, size - 2)) for center, size in zip(centers, shape, strict=True))


def _planes(point: tuple[int, ...], is_picture: bool) -> list[Plane]:
    pairs = itertools.combinations(range(len(point)), 2)
    if is_picture:
        return [Plane(first, second, point, "upper") for first, second in pairs]
    return [Plane(second, first, point, "lower") for first, second in pairs]


def _table(scores: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The lines of the scores' table; a score that one side lacks leaves its place empty."""
    names = list(dict.fromkeys(name for side in ("before", "after") for name in scores.get(side, {})))
    rows = [("score", "before", "after")]
    for name in names[:MAX_SCORES]:
        values = (scores.get(side, {}).get(name) for side in ("before", "after"))
        rows.append((name, *("" if value is None else f"{value:.4g}" for value in values)))
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
    """Before and after on one scale, which a few voxels may exceed."""
    differences = [
        [panels.grey(fixed) - panels.grey(other) for other in (moving, warped)] for fixed, moving, warped in images
    ]
    limit = max(np.percentile(np.abs(difference), 99.5) for pair in differences for difference in pair)
    limit = max(limit, 0.05)  # images that agree shall look so
    for row, plane, pair in zip(axes, planes, differences, strict=True):
        for axis, difference in zip(row, pair, strict=True):
            drawn = panels.draw_plane(axis, difference, plane.origin, cmap="RdBu_r", vmin=-limit, vmax=limit)
    _draw_bar(bar, drawn)


def _draw_jacobians(axes: np.ndarray, planes: Sequence[Plane], displacement: np.ndarray, bar: Axes) -> None:
    determinants = [plane.determinant(jacobian_determinant, displacement) for plane in planes]
    folds = [plane.determinant(corner_jacobian_determinant, displacement) <= 0 for plane in planes]
    change = max(np.percentile(np.abs(np.log(np.maximum(values, 1e-3))), 99) for values in determinants)
    scale = next((scale for scale in JACOBIAN_SCALES if np.log(scale) >= change), JACOBIAN_SCALES[-1])
    for axis, plane, values, folded in zip(axes, planes, determinants, folds, strict=True):
        drawn = panels.draw_plane(
            axis,
            np.clip(values, 1 / scale, scale),
            plane.origin,
            start=1,
            cmap="PuOr_r",
            norm=LogNorm(1 / scale, scale),
        )
        _draw_folds(axis, folded)
        axis.set_xlabel(f"{folded.sum():,} of {folded.size:,} fold", fontsize=8)
    ticks = {1 / scale: f"{1 / scale:.2g}", 1: "1", scale: f"{scale:g}"}
    _draw_bar(bar, drawn).set_ticks(list(ticks), labels=list(ticks.values()))


def _draw_folds(axis: Axes, folded: np.ndarray) -> None:
    """Marks of one size, because single voxels of a large image would be too small to see."""
    small, steps = panels.shrink(folded, np.any)
    y, x = ((np.argwhere(small) + 0.5) * steps + 0.5).T  # the first of them is voxel 1
    axis.scatter(x, y, s=5, c="red", marker="s", linewidths=0)


def _draw_bar(axis: Axes, drawn: AxesImage) -> Colorbar:
    bar = axis.figure.colorbar(drawn, cax=axis, orientation="horizontal")
    axis.tick_params(labelsize=8)
    bar.minorticks_off()
    return bar


def _grid_lines(plane: Plane, displacement: np.ndarray, spacing: np.ndarray) -> list[np.ndarray]:
    """Lines `[K, 2]` of points (x, y): about `NUM_LINES` along the longer side, and as far apart along the other."""
    in_plane = [plane.horizontal, plane.vertical]
    field = plane.cut(displacement)[..., in_plane]
    height, width = field.shape[:2]
    positions = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1) + field
    sides = spacing[[plane.vertical, plane.horizontal]]
    steps = np.maximum(1, np.rint((sides * (height, width)).max() / NUM_LINES / sides)).astype(int)
    rows, columns = np.arange(0, height, steps[0]), np.arange(0, width, steps[1])
    return [*positions[rows], *positions[:, columns].swapaxes(0, 1)]


def _frame(row: np.ndarray, plane: Plane, shape: Sequence[int], spacing: np.ndarray) -> None:
    """The same limits and true proportions for the panels of a row, and the names of the axes that they show."""
    height, width = shape[plane.vertical], shape[plane.horizontal]
    bottom, top = (height - 0.5, -0.5) if plane.origin == "upper" else (-0.5, height - 0.5)
    aspect = spacing[plane.vertical] / spacing[plane.horizontal]
    for axis in row:
        axis.set(xticks=[], yticks=[], xlim=(-0.5, width - 0.5), ylim=(bottom, top), aspect=aspect)
    first, second = sorted((plane.vertical, plane.horizontal))
    where = "".join(f"\naxis {axis} = {plane.point[axis]}" for axis in plane.normals)
    arrow = f"← axis {plane.vertical}" if plane.origin == "upper" else f"axis {plane.vertical} →"
    row[0].set_ylabel(f"axis {first} x axis {second}{where}\n{arrow}", fontsize=8)
    row[0].set_xlabel(f"axis {plane.horizontal} →", fontsize=8)
