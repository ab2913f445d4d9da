"""Figures of a training run."""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from air_jax import metrics
from air_jax.checks import check_arrays, check_flag, check_shape, check_text, is_sequence, require
from air_jax.transforms import corner_jacobian_determinant, identity_grid, jacobian_determinant
from air_jax.visualize.panels import PLAIN_TEXT, draw_lines, printable

MAX_LINES = 40  # of a deformed grid along each axis; more would hide the image
# Label of the axis, and of the curve, of each entry of the log that is drawn.
CURVES = {
    "loss": ("training loss", None),
    "validation_dice": ("validation Dice", None),
    "validation_folding_percent": ("validation folding (%)", "central differences"),
    "validation_any_corner_folding_percent": ("validation folding (%)", "any corner"),
}
# No fold, fold by one-sided differences, fold by central differences.
FOLD_COLORS = ListedColormap([(0, 0, 0, 0), "#ffb000", "#d62728"])


def registration_figure(
    fixed: np.ndarray,
    moving: np.ndarray,
    warped: np.ndarray,
    displacement: np.ndarray,
    title: str,
    *,
    label_dice: np.ndarray | None = None,
) -> Figure:
    """Draws pairs as in the paper's Fig. 3, one row a pair, with the folds of each displacement.

    Args:
      fixed, moving, warped: 2-D images `[B, H, W, C]` in [0, 1], C of 1 or 3.
      displacement: `[B, H, W, 2]` in pixels.
      title: title of the figure, any text: names of data sets are drawn as they are.
      label_dice: `[B]`, mean Dice of each pair's labels. Default: the Dice of the masks above 0.5 is written.

    Returns:
      The figure.

    Raises:
      ValueError: `label_dice` has another number of pairs.

    Examples:
      >>> image = np.zeros((2, 8, 8, 1))
      >>> figure = air_jax.visualize.registration_figure(image, image, image, np.zeros((2, 8, 8, 2)), "two pairs")
      >>> len(figure.axes)
      12
    """
    columns = (
        "moving",
        "fixed",
        "warped",
        "difference\n(fixed - warped)",
        "deformed grid\n(where each pixel is read)",
        "folds",
    )
    check_arrays("registration_figure", "fiub", fixed=fixed, moving=moving, warped=warped, displacement=displacement)
    check_text(title=title)
    rows = len(fixed)
    if label_dice is not None:
        check_arrays("registration_figure", "f", label_dice=label_dice)
        if np.shape(label_dice) != (rows,):
            raise ValueError(f"registration_figure: label_dice has shape {np.shape(label_dice)}, must be {(rows,)}")
    figure = Figure(figsize=(1.7 * len(columns), 1.7 * rows + 1.1), layout="constrained")
    axes = figure.subplots(rows, len(columns), squeeze=False)
    folding = np.asarray(metrics.folding_percent(jnp.asarray(displacement)))
    dice = np.asarray(metrics.mask_dice(jnp.asarray(fixed), jnp.asarray(warped)) if label_dice is None else label_dice)
    of_what = "pixels above 0.5" if label_dice is None else "labels, mean"
    for row in range(rows):
        for axis, image in zip(axes[row], (moving, fixed, warped), strict=False):
            _show(axis, image[row])
        axes[row, 3].imshow((fixed - warped)[row].mean(axis=-1), cmap="RdBu_r", vmin=-1, vmax=1)
        _draw_grid(axes[row, 4], moving[row], displacement[row])
        _draw_folds(axes[row, 5], warped[row], displacement[row : row + 1])
        axes[row, 2].set_xlabel(f"Dice {dice[row]:.2f}", fontsize=8)
        axes[row, 5].set_xlabel(f"{folding[row]:.1f} % folded", fontsize=8)
        for axis in axes[row]:
            axis.set(xticks=[], yticks=[])
    for axis, name in zip(axes[0], columns, strict=True):
        axis.set_title(name, fontsize=9)
    legend = f"Dice: {of_what}; red: folds by central differences; orange: any corner of a voxel folds"
    figure.suptitle(f"{printable(title)}\n{legend}", fontsize=9, **PLAIN_TEXT)
    return figure


def _show(axis: Axes, image: np.ndarray) -> None:
    axis.imshow(image if image.shape[-1] == 3 else image[..., 0], cmap="gray", vmin=0, vmax=1)


def _draw_grid(axis: Axes, image: np.ndarray, displacement: np.ndarray) -> None:
    """Draws the lines of the identity grid after `p -> p + u(p)`, over the moving image."""
    height, width, _ = displacement.shape
    coordinates = np.asarray(identity_grid((height, width))) + displacement
    _show(axis, 0.5 * image)
    lines = coordinates[..., ::-1]  # (row, column) to (x, y)
    step = -(-max(height, width) // MAX_LINES)
    draw_lines(axis, [*lines[::step], *lines.swapaxes(0, 1)[::step]])
    axis.set(xlim=(-2, width + 1), ylim=(height + 1, -2))


def _draw_folds(axis: Axes, image: np.ndarray, displacement: np.ndarray) -> None:
    field = jnp.asarray(displacement)
    central = np.asarray(jacobian_determinant(field))[0] <= 0
    corner = np.asarray(corner_jacobian_determinant(field))[0] <= 0
    _show(axis, image)
    axis.imshow(np.pad(np.where(central, 2, np.where(corner, 1, 0)), 1), cmap=FOLD_COLORS, vmin=0, vmax=2, alpha=0.8)


def curves_figure(lines: Sequence[dict[str, float]]) -> Figure:
    """Draws the training loss and the validation scores against the step.

    Args:
      lines: lines of a run's `metrics.jsonl`; each has a `step`. A quantity that no line has, such as the folding of a
        segmenter, is left out.

    Returns:
      The figure, with one panel for each quantity.

    Examples:
      >>> figure = air_jax.visualize.curves_figure([{"step": 0, "loss": 0.4}, {"step": 100, "loss": 0.1}])
      >>> figure.axes[0].lines[0].get_ydata().tolist()
      [0.4, 0.1]
    """
    what = "a sequence of lines, each with its step"
    known = is_sequence(lines) and all(isinstance(line, Mapping) and "step" in line for line in lines)
    require(known, "lines", lines, f"must be {what}")
    points = {key: [(line["step"], line[key]) for line in lines if key in line] for key in CURVES}
    labels = list(dict.fromkeys(ylabel for key, (ylabel, _) in CURVES.items() if points[key]))
    figure = Figure(figsize=(3.7 * max(len(labels), 1), 3.2), layout="constrained")
    panels = dict(zip(labels, figure.subplots(1, max(len(labels), 1), squeeze=False)[0], strict=False))
    for key, (ylabel, label) in CURVES.items():
        if not points[key]:
            continue
        panels[ylabel].plot(*zip(*points[key], strict=True), label=label, marker="." if len(points[key]) < 40 else None)
        panels[ylabel].set(xlabel="step", ylabel=ylabel)
        if label:
            panels[ylabel].legend(fontsize=8, frameon=False)
    for axis in panels.values():
        axis.grid(alpha=0.3)
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def attention_figure(
    fixed: np.ndarray,
    moving: np.ndarray,
    weights: np.ndarray,
    *,
    token_grid: Sequence[int],
    patch_size: Sequence[int],
    from_fixed: bool = False,
) -> Figure:
    """Draws the attention of the brightest patch of one image to the patches of the other, by head.

    Args:
      fixed, moving: one pair `[H, W, C]` in [0, 1], C of 1 or 3; the moving image as the model read it.
      weights: attention weights `[heads, T, T]` of the pair; the first T counts patches of the image that attends.
      token_grid: number of patches along each axis, including those completed by padding.
      patch_size: pixels of a patch along each axis.
      from_fixed: True if the fixed image attends to the moving one. Default: the moving image attends.

    Returns:
      The figure.

    Examples:
      >>> image, weights = np.zeros((8, 8, 1)), np.full((2, 4, 4), 0.25)
      >>> figure = air_jax.visualize.attention_figure(image, image, weights, token_grid=(2, 2), patch_size=(4, 4))
      >>> [axis.get_title() for axis in figure.axes]
      ["moving image's patch", 'head 0: max 0.25', 'head 1: max 0.25']
    """
    check_arrays("attention_figure", "fiub", fixed=fixed, moving=moving, weights=weights)
    check_shape("token_grid", token_grid, 2)
    check_shape("patch_size", patch_size, 2)
    check_flag("from_fixed", from_fixed)
    names = ("fixed", "moving") if from_fixed else ("moving", "fixed")
    attending, seen = (fixed, moving) if from_fixed else (moving, fixed)
    (rows, columns), (height, width) = np.asarray(token_grid), np.asarray(patch_size)
    padded = np.zeros((rows * height, columns * width))
    padded[: attending.shape[0], : attending.shape[1]] = attending.mean(axis=-1)
    brightness = padded.reshape(rows, height, columns, width).mean(axis=(1, 3))
    query = int(brightness.argmax())
    corner = (query % columns * width - 0.5, query // columns * height - 0.5)
    figure = Figure(figsize=(1.9 * (len(weights) + 1), 2.6), layout="constrained")
    axes = figure.subplots(1, len(weights) + 1)
    _show(axes[0], attending)
    axes[0].add_patch(Rectangle(corner, width, height, fill=False, color="#ffb000", lw=2))
    axes[0].set_title(f"{names[0]} image's patch", fontsize=9)
    extent = (-0.5, columns * width - 0.5, rows * height - 0.5, -0.5)
    for head, axis in enumerate(axes[1:]):
        _show(axis, seen)
        axis.imshow(weights[head, query].reshape(rows, columns), cmap="magma", vmin=0, alpha=0.6, extent=extent)
        axis.set_title(f"head {head}: max {weights[head, query].max():.2f}", fontsize=9)
    for axis in axes:
        axis.set(xticks=[], yticks=[])
    figure.suptitle(f"attention of the last block, over the {names[1]} image", fontsize=9)
    return figure
