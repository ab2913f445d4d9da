"""A page of many registered pairs: fixed, moving and warped image of each."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from air_jax.visualize import panels

COLUMNS = 3  # pairs beside each other
NAMES = ("fixed", "moving", "warped")
SIDE = 1.5  # of a panel, in inches


def pairs_figure(pictures: Sequence[tuple[str, Sequence[np.ndarray]]]) -> Figure:
    """Draws the images of pairs.

    Args:
      pictures: for each pair its name, and its fixed, moving and warped image, `[H, W]` each in [0, 1]. At least one.

    Returns:
      The figure.
    """
    columns = min(COLUMNS, len(pictures))
    rows = math.ceil(len(pictures) / columns)
    figure = Figure(figsize=(SIDE * len(NAMES) * columns + 0.3, (SIDE + 0.3) * rows + 0.3), layout="constrained")
    axes = figure.subplots(rows, columns * len(NAMES), squeeze=False)
    for axis in axes.ravel():
        axis.set_axis_off()
    for index, (name, images) in enumerate(pictures):
        row, column = divmod(index, columns)
        own = axes[row, len(NAMES) * column : len(NAMES) * (column + 1)]
        for axis, image, title in zip(own, images, NAMES, strict=True):
            panels.draw_plane(axis, image, "upper", cmap="gray", vmin=0, vmax=1)
            if row == 0:
                axis.set_title(title, fontsize=8)
        text = panels.printable(name)
        own[1].text(
            0.5, -0.03, text, fontsize=7, ha="center", va="top", transform=own[1].transAxes, **panels.PLAIN_TEXT
        )
    return figure
