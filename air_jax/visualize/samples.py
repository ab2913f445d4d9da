"""A sheet of training pairs, with their segmentations."""

import numpy as np
from matplotlib.figure import Figure

from air_jax.checks import check_arrays, check_text
from air_jax.visualize.panels import PLAIN_TEXT, printable
from air_jax.visualize.segmentations import NUM_COLORS

SIDE = 1.3  # of a panel, in inches


def samples_figure(
    fixed: np.ndarray,
    moving: np.ndarray,
    fixed_segmentation: np.ndarray | None,
    moving_segmentation: np.ndarray | None,
    title: str,
) -> Figure:
    """Draws pairs, one column a pair: images, and below each its segmentation where there are any.

    Args:
      fixed, moving: `[B, *S, C]` in [0, 1], 2-D or 3-D, C of 1 or 3. Of volumes, the middle of the first axis is drawn.
      fixed_segmentation, moving_segmentation: `[B, *S]` integers, or None.
      title: title of the figure, any text.

    Returns:
      The figure.

    Examples:
      >>> image = np.zeros((3, 8, 8, 1))
      >>> figure = air_jax.visualize.samples_figure(image, image, None, None, "three pairs")
      >>> len(figure.axes)
      6
    """
    given = dict(fixed_segmentation=fixed_segmentation, moving_segmentation=moving_segmentation)
    check_arrays("samples_figure", "fiub", fixed=fixed, moving=moving)
    check_arrays("samples_figure", "iub", **{name: array for name, array in given.items() if array is not None})
    check_text(title=title)
    rows = (("fixed", fixed), ("labels", fixed_segmentation), ("moving", moving), ("labels", moving_segmentation))
    shown = [(name, _plane(np.asarray(array), fixed.ndim - 2)) for name, array in rows if array is not None]
    ids = np.unique([array for name, array in shown if name == "labels"] or [0])
    figure = Figure(figsize=(SIDE * len(fixed) + 0.3, SIDE * len(shown) + 0.4), layout="constrained")
    axes = figure.subplots(len(shown), len(fixed), squeeze=False)
    for row, (name, arrays) in zip(axes, shown, strict=True):
        row[0].set_ylabel(name, fontsize=8)
        for axis, array in zip(row, arrays, strict=True):
            axis.set(xticks=[], yticks=[])
            if name == "labels":
                ranks = np.searchsorted(ids, array) % NUM_COLORS
                axis.imshow(ranks, cmap="tab20", vmin=0, vmax=NUM_COLORS - 1, interpolation="nearest")
            else:
                axis.imshow(array if array.shape[-1] == 3 else array[..., 0], cmap="gray", vmin=0, vmax=1)
    figure.suptitle(printable(title), fontsize=9, **PLAIN_TEXT)
    return figure


def _plane(array: np.ndarray, num_axes: int) -> np.ndarray:
    return array if num_axes == 2 else array[:, array.shape[1] // 2]
