"""Figures of a segmenter's run."""

import numpy as np
from matplotlib.figure import Figure

MAX_COLORED = 20  # colours of the map; label ids beyond them repeat colours


def segmentation_figure(images: np.ndarray, known: np.ndarray, found: np.ndarray, title: str) -> Figure:
    """Draws images beside their known and found segmentations, one row an image.

    Args:
      images: 2-D images `[B, H, W, C]` in [0, 1], C 1 or 3.
      known, found: segmentations `[B, H, W]`, integer; 0 is the background.
      title: title of the figure.

    Returns:
      The figure.
    """
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
            ranks = np.searchsorted(ids, segmentation) % MAX_COLORED
            colored = np.ma.masked_array(ranks, segmentation == 0)
            axis.imshow(colored, cmap="tab20", vmin=0, vmax=MAX_COLORED - 1, alpha=0.6, interpolation="nearest")
        wrong = np.ma.masked_equal(segmentations[0] != segmentations[1], False)
        axes[row, 3].imshow(wrong, cmap="autumn", vmin=0, vmax=1, interpolation="nearest")
    for axis, name in zip(axes[0], columns, strict=True):
        axis.set_title(name, fontsize=9)
    figure.suptitle(title, fontsize=9, parse_math=False)
    return figure
