"""Attention as matching: `python -m experiments.gallery.attention --run=runs/matching --output=attention.png`.

docs/gallery.md has the command of the run.
"""

import numpy as np
from matplotlib.figure import Figure

import air_jax
from air_jax.data import load_dataset
from air_jax.models.layers.matching import attention_matrix
from experiments.gallery.arguments import paths

DIGIT, POINTS = 3, ((8, 17), (14, 14), (20, 17))  # pixels (row, column) of the fixed image


def main() -> None:
    run, output = paths(__doc__, "run", "output")
    test = load_dataset("mnist", train_fraction=0.8, num_validation=2_000).test
    fixed, moving = test.images[np.flatnonzero(test.classes == DIGIT)[:2], ..., 0] / np.float32(255)
    registration = air_jax.load(run)
    window = np.asarray(registration.register(fixed, moving).out["attention"][0][0])  # of the first level
    grid, side = window.shape[:2], fixed.shape[0] / window.shape[0]
    weights = attention_matrix(window, registration.model.radius[0]).mean(axis=0)  # [T, T], over the heads
    axes = (figure := Figure(figsize=(10, 2.9), layout="constrained")).subplots(1, 1 + len(POINTS))
    axes[0].imshow(fixed, cmap="gray")
    axes[0].set(xticks=[], yticks=[], title="fixed")
    for number, (axis, (row, column)) in enumerate(zip(axes[1:], POINTS, strict=True), start=1):
        axes[0].text(column, row, str(number), color="#ffb000", ha="center", va="center", weight="bold")
        axis.imshow(moving, cmap="gray")
        axis.set(xticks=[], yticks=[], title=f"where {number} looks in moving")
        seen = weights[int(row // side) * grid[1] + int(column // side)].reshape(grid)
        axis.imshow(seen, cmap="inferno", alpha=0.6, extent=(-0.5, 27.5, 27.5, -0.5))
        axis.plot(column, row, "o", color="#4fc3f7", markersize=4)  # the patch's own place
    figure.savefig(output, dpi=100)


if __name__ == "__main__":
    main()
