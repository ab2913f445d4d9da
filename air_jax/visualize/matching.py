"""Figure of matching attention: which patches of the moving image a point of the fixed image matches."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from air_jax.checks import check_arrays, check_entries, check_integer, check_shape, is_number, is_sequence, require

POINT, OWN, BEST = "#ffb000", "#4fc3f7", "#7cfc00"


def matching_figure(
    fixed: np.ndarray,
    read: Sequence[np.ndarray],
    attention: Sequence[np.ndarray],
    point: Sequence[float],
    *,
    stride: Sequence[int],
    patch_size: Sequence[int],
    axis: int = 0,
) -> Figure:
    """Draws, level by level, the patch around a point of the fixed image and the moving patches that it matches.

    The upper row shows the fixed image with the patch. The lower row shows the moving image as the level read it,
    warped by the steps before, under the attention of the patch, averaged over the heads. Attention to offsets that
    lead out of the image is drawn at the border. Of a volume, the slices through the point are drawn, and the attention
    is summed over the tokens along the axis that is cut.

    Args:
      fixed: `[*S, C]` in [0, 1], 2-D or 3-D, C of 1 or 3.
      read: for each level the warped moving image `[*S', C]` on the level's grid: `out["read"]` of one pair. For
        `MatchingUNet`, the moving image warped by the displacement of the grid before.
      attention: for each level weights `[*G, heads, K]`, `out["attention"]` of one pair.
      point: (row, column) or (depth, row, column) in voxels of the fixed image.
      stride: voxels between patches for each level, as in the model. For `MatchingUNet`, voxels between tokens.
      patch_size: patch size in voxels for each level, as in the model. For `MatchingUNet`, as `stride`.
      axis: the axis that is cut, of a volume.

    Returns:
      The figure, with one column for each level.

    Raises:
      ValueError: the point lies outside of the image, or the arrays are not of 2-D or 3-D images.
      OptionError: an option has a value that it cannot take.

    Examples:
      >>> image, attention = np.zeros((8, 8, 1)), np.full((4, 4, 2, 9), 1 / 9)
      >>> figure = air_jax.visualize.matching_figure(
      ...     image, [image], [attention], (3, 3), stride=(2,), patch_size=(4,)
      ... )
      >>> len(figure.axes)
      2
    """
    check_arrays("matching_figure", "fiub", fixed=fixed)
    for name, arrays in (("read", read), ("attention", attention)):
        require(is_sequence(arrays) and len(arrays) > 0, name, arrays, "must be arrays, one a level")
        check_arrays("matching_figure", "fiub", **{f"{name}[{level}]": array for level, array in enumerate(arrays)})
    num_axes = fixed.ndim - 1
    if num_axes not in (2, 3) or any(image.ndim != num_axes + 1 for image in read):
        shapes = ", ".join(str(np.shape(image)) for image in (fixed, *read))
        raise ValueError(f"fixed and read have shapes {shapes}; images are [*S, C], 2-D or 3-D")
    check_entries("point", point, num_axes, is_number, "numbers, one for each axis of the image")
    check_shape("stride", stride, len(read))
    check_shape("patch_size", patch_size, len(read))
    check_integer("axis", axis, 0, num_axes - 1)
    size, place = np.array(fixed.shape[:-1]), np.asarray(point)
    if not np.all((place >= 0) & (place <= size - 1)):
        extent = " x ".join(map(str, size))
        raise ValueError(f"point {tuple(point)} lies outside of the image of {extent} voxels")
    shown = [other for other in range(num_axes) if num_axes == 2 or other != axis]
    size, place = size[shown], place[shown]
    figure = Figure(figsize=(2.9 * len(read), 6.0), layout="constrained")
    axes = figure.subplots(2, len(read), squeeze=False)
    for upper, lower, image, weights, step, patch in zip(*axes, read, attention, stride, patch_size, strict=True):
        voxel = np.array(fixed.shape[:-1]) / image.shape[:-1]  # in voxels of the fixed image
        inside = ((np.asarray(point) + 0.5) / voxel).astype(int)  # the point's voxel on the level's grid
        seen = _on_grid(weights, inside // step, shown)
        token, voxel = (inside // step)[shown], voxel[shown]
        best = np.unravel_index(seen.argmax(), seen.shape)
        _show(upper, _slice(fixed, np.round(point).astype(int), shown), size)
        _box(upper, token, step, patch, voxel, POINT)
        upper.plot(place[1], place[0], "+", color=POINT, markersize=9)
        upper.set_title(f"fixed: patch of {patch * voxel[0]:.3g} voxels", fontsize=9)
        _show(lower, _slice(image, inside, shown), size)
        bottom, right = np.multiply(seen.shape, step) * voxel - 0.5
        opacity = 0.8 * seen / seen.max()  # the moving image stays visible where the patch does not look
        lower.imshow(seen, cmap="autumn", vmin=0, alpha=opacity, extent=(-0.5, right, bottom, -0.5))
        _box(lower, token, step, step, voxel, OWN)
        _box(lower, np.array(best), step, step, voxel, BEST)
        lower.set_title(f"moving: attention, largest {seen.max():.2f}", fontsize=9)
        for panel in (upper, lower):
            panel.set(xticks=[], yticks=[], xlim=(-0.5, size[1] - 0.5), ylim=(size[0] - 0.5, -0.5))
    figure.suptitle(
        "coarse to fine; orange: the point and its patch; blue: the same place; green: the largest attention",
        fontsize=9,
    )
    return figure


def _on_grid(weights: np.ndarray, token: np.ndarray, shown: list[int]) -> np.ndarray:
    """Attention of one fixed token on the grid of the `shown` axes: a mean over the heads, summed over other axes."""
    grid, window = weights.shape[:-2], np.asarray(weights[tuple(token)]).mean(axis=0)
    side = round(len(window) ** (1 / len(grid)))
    offsets = np.indices((side,) * len(grid)).reshape(len(grid), -1).T - side // 2
    tokens = np.clip(token + offsets, 0, np.array(grid) - 1)[:, shown]
    seen = np.zeros(np.array(grid)[shown])
    np.add.at(seen, tuple(tokens.T), window)
    return seen


def _slice(image: np.ndarray, voxel: np.ndarray, shown: list[int]) -> np.ndarray:
    """The slice `[H, W, C]` of the `shown` axes through a voxel."""
    return image[tuple(slice(None) if axis in shown else index for axis, index in enumerate(voxel))]


def _show(panel: Axes, image: np.ndarray, size: np.ndarray) -> None:
    shown = image if image.shape[-1] == 3 else image[..., 0]
    panel.imshow(shown, cmap="gray", vmin=0, vmax=1, extent=(-0.5, size[1] - 0.5, size[0] - 0.5, -0.5))


def _box(panel: Axes, token: np.ndarray, step: int, side: int, voxel: np.ndarray, color: str) -> None:
    """A square of `side` voxels around the cell of a token."""
    top, left = (token * step - (side - step) / 2) * voxel - 0.5
    height, width = side * voxel
    panel.add_patch(Rectangle((left, top), width, height, fill=False, color=color, lw=1.8))
