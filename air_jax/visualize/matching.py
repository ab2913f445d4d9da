"""Figure of matching attention: which patches of the moving image a point of the fixed image matches."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from air_jax.checks import check_arrays, check_entries, check_shape, is_number, is_sequence, require

POINT, OWN, BEST = "#ffb000", "#4fc3f7", "#7cfc00"


def matching_figure(
    fixed: np.ndarray,
    read: Sequence[np.ndarray],
    attention: Sequence[np.ndarray],
    point: Sequence[float],
    *,
    stride: Sequence[int],
    patch_size: Sequence[int],
) -> Figure:
    """Draws, for each level of `MatchingAiR`, the patch around a point and the moving patches that it matches.

    The upper row shows the fixed image with the patch. The lower row shows the moving image as the level read it,
    warped by the steps before, under the attention of the patch, averaged over the heads. Attention to offsets that
    lead out of the image is drawn at the border.

    Args:
      fixed: `[H, W, C]` in [0, 1], C of 1 or 3.
      read: for each level the warped moving image `[H', W', C]` on the level's grid, `out["read"]` of one pair.
      attention: for each level weights `[*G, heads, K]`, `out["attention"]` of one pair.
      point: (row, column) in pixels of the fixed image.
      stride: voxels between patches for each level, as in the model.
      patch_size: patch size in voxels for each level, as in the model.

    Returns:
      The figure, with one column for each level.

    Raises:
      ValueError: the point lies outside of the image.

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
    check_entries("point", point, 2, is_number, "numbers, row and column")
    check_shape("stride", stride, len(read))
    check_shape("patch_size", patch_size, len(read))
    size = np.array(fixed.shape[:2])
    if not np.all((np.asarray(point) >= 0) & (np.asarray(point) <= size - 1)):
        raise ValueError(f"point {tuple(point)} lies outside of the image of {size[0]} x {size[1]} pixels")
    figure = Figure(figsize=(2.9 * len(read), 6.0), layout="constrained")
    axes = figure.subplots(2, len(read), squeeze=False)
    for upper, lower, image, weights, step, patch in zip(*axes, read, attention, stride, patch_size, strict=True):
        voxel = size / image.shape[:2]  # in pixels
        token = ((np.asarray(point) + 0.5) / voxel).astype(int) // step
        seen = _on_grid(weights, token)
        best = np.unravel_index(seen.argmax(), seen.shape)
        _show(upper, fixed, size)
        _box(upper, token, step, patch, voxel, POINT)
        upper.plot(point[1], point[0], "+", color=POINT, markersize=9)
        upper.set_title(f"fixed: patch of {patch * voxel[0]:.3g} pixels", fontsize=9)
        _show(lower, image, size)
        bottom, right = np.multiply(seen.shape, step) * voxel - 0.5
        opacity = 0.8 * seen / seen.max()  # the moving image stays visible where the patch does not look
        lower.imshow(seen, cmap="autumn", vmin=0, alpha=opacity, extent=(-0.5, right, bottom, -0.5))
        _box(lower, token, step, step, voxel, OWN)
        _box(lower, np.array(best), step, step, voxel, BEST)
        lower.set_title(f"moving: attention, largest {seen.max():.2f}", fontsize=9)
        for axis in (upper, lower):
            axis.set(xticks=[], yticks=[], xlim=(-0.5, size[1] - 0.5), ylim=(size[0] - 0.5, -0.5))
    figure.suptitle(
        "coarse to fine; orange: the point and its patch; blue: the same place; green: the largest attention",
        fontsize=9,
    )
    return figure


def _on_grid(weights: np.ndarray, token: np.ndarray) -> np.ndarray:
    """Attention `[*G]` of one fixed token, averaged over the heads."""
    grid, window = weights.shape[:2], np.asarray(weights[tuple(token)]).mean(axis=0)
    radius = round(len(window) ** 0.5) // 2
    offsets = np.indices((2 * radius + 1,) * 2).reshape(2, -1).T - radius
    seen = np.zeros(grid)
    np.add.at(seen, tuple(np.clip(token + offsets, 0, np.array(grid) - 1).T), window)
    return seen


def _show(axis: Axes, image: np.ndarray, size: np.ndarray) -> None:
    shown = image if image.shape[-1] == 3 else image[..., 0]
    axis.imshow(shown, cmap="gray", vmin=0, vmax=1, extent=(-0.5, size[1] - 0.5, size[0] - 0.5, -0.5))


def _box(axis: Axes, token: np.ndarray, step: int, side: int, voxel: np.ndarray, color: str) -> None:
    """A square of `side` voxels around the cell of a token."""
    top, left = (token * step - (side - step) / 2) * voxel - 0.5
    height, width = side * voxel
    axis.add_patch(Rectangle((left, top), width, height, fill=False, color=color, lw=1.8))
