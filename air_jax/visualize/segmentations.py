"""Figures of a segmenter's run."""

import numpy as np
from matplotlib.figure import Figure

from air_jax.checks import check_arrays, check_text
from air_jax.visualize.panels import PLAIN_TEXT, printable

NUM_COLORS = 20  # of the colour map; more label ids repeat colours


def segmentation_figure(images: np.ndarray, known: np.ndarray, found: np.ndarray, title: str) -> Figure:
    """Draws images beside their known and found segmentations, one row an image.

    Args:
      images: 2-D images `[B, H, W, C]` in [0, 1], C of 1 or 3.
      known, found: segmentations `[B, H, W]` integers; 0 is the background.
      title: title of the figure, any text: names of data sets are drawn as they are.

    Returns:
      The figure.

    Examples:
      >>> image, known = np.zeros((2, 8, 8, 1)), np.zeros((2, 8, 8), int)
      >>> figure = air_jax.visualize.segmentation_figure(image, known, known, "two images")
      >>> len(figure.axes)
      8
    """
    check_arrays("segmentation_figure", "fiub", images=images)
    check_arrays("segmentation_figure", "iub", known=known, found=found)
    check_text(title=title)
    columns = ("image", "known segmentation", "found segmentation", "difference")
    figure = Figure(figsize=(1.9 * len(columns), 1.9 * len(images) + 0.6), layout="constrained")
    axes = figure.subplots(len(images), len(columns), squeeze=False)
    ids = np.unique([known, found])
    for row, (image, *segmentations) in enumerate(zip(images, known, found, strict=True)):
        shown = image if image.shape[-1] == 3 else image[..., 0]
        for axis in axes[row]:
            axis.imshow(shown, cmap="gray", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
        for axis, segmentation in zip(axes[row, 1:], segmentations, strict=False):
            ranks = np.searchsorted(ids, segmentation) % NUM_COLORS
            colored = np.ma.masked_array(ranks, segmentation == 0)
            axis.imshow(colored, cmap="tab20", vmin=0, vmax=NUM_COLORS - 1, alpha=0.6, interpolation="nearest")
        wrong = np.ma.masked_equal(segmentations[0] != segmentations[1], False)
        axes[row, 3].imshow(wrong, cmap="autumn", vmin=0, vmax=1, interpolation="nearest")
    for axis, name in zip(axes[0], columns, strict=True):
        axis.set_title(name, fontsize=9)
    figure.suptitle(printable(title), fontsize=9, **PLAIN_TEXT)
    return figure
