"""Draws which way a displacement points, and which folds each measure sees.

  python -m experiments.everyday.fields --output_dir=experiments/everyday

The script leaves `fields_direction.png` and `fields_folding.png`, for docs/deformation.md, and prints the measures.
"""

import argparse
from pathlib import Path

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from air_jax import metrics, transforms, warp

SIZE, EVERY = 64, 8  # pixels of the pictures, pixels between arrows
MEASURES = {
    "central differences": metrics.folding_percent,
    "any corner": metrics.any_corner_folding_percent,
    "volume": metrics.ndv_percent,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, required=True)
    folder = parser.parse_args().output_dir
    draw_direction().savefig(folder / "fields_direction.png", dpi=80)
    draw_folding().savefig(folder / "fields_folding.png", dpi=80)


def draw_direction() -> plt.Figure:
    """Draws a letter, the moving image that is read at the arrows' ends, and the result."""
    moving = np.zeros((SIZE, SIZE), np.float32)
    for rows, columns in (
        (slice(16, 52), slice(30, 36)),
        (slice(16, 22), slice(30, 50)),
        (slice(31, 37), slice(30, 44)),
    ):
        moving[rows, columns] = 1  # an F
    grid = np.asarray(transforms.identity_grid((SIZE, SIZE)))
    displacement = np.stack([3 * np.sin(grid[..., 1] / 12), 10 + 2 * np.sin(grid[..., 0] / 10)], axis=-1)
    warped = np.asarray(warp(jnp.asarray(moving)[None, ..., None], jnp.asarray(displacement)[None]))[0, ..., 0]
    ends = grid + displacement
    figure, axes = plt.subplots(1, 3, figsize=(12, 4.4), layout="constrained")
    titles = ("fixed grid: p and u(p)", "moving: read at p + u(p)", "warped(p) = moving(p + u(p))")
    for axis, image, title in zip(axes, (np.zeros_like(moving), moving, warped), titles, strict=True):
        axis.imshow(image, cmap="gray_r", vmin=0, vmax=1.6)
        axis.set(
            title=title, xlabel="axis 1, column", ylabel="axis 0, row", xlim=(-0.5, SIZE - 0.5), ylim=(SIZE - 0.5, -0.5)
        )
    some = (slice(EVERY // 2, None, EVERY),) * 2
    start, move, end = (array[some].reshape(-1, 2).T for array in (grid, displacement, ends))
    options = dict(angles="xy", scale_units="xy", scale=1, color="tab:blue", width=0.006)
    axes[0].quiver(start[1], start[0], move[1], move[0], **options)
    axes[0].plot(start[1], start[0], "k.", markersize=4)
    axes[1].plot(end[1], end[0], ".", color="tab:blue", markersize=6)
    for lines in (ends[::EVERY], ends[:, ::EVERY].swapaxes(0, 1)):
        for line in lines:
            axes[1].plot(line[:, 1], line[:, 0], color="tab:blue", linewidth=0.6)
    axes[2].plot(start[1], start[0], "k.", markersize=4)
    return figure


def draw_folding() -> plt.Figure:
    """Draws three fields as grids, with the voxels that each measure counts."""
    rows, columns = np.mgrid[:11, :11].astype(np.float32)
    bump = np.exp(-((rows - 5) ** 2 + (columns - 5) ** 2) / 8)
    one = ((rows == 5) & (columns == 5)).astype(np.float32)
    fields = {"smooth": 0.9 * bump * (5 - columns) / 2, "one voxel": 1.5 * one, "steep": 4.0 * bump * (5 - columns) / 2}
    figure, axes = plt.subplots(1, 3, figsize=(12, 5.6), layout="constrained")
    for axis, (name, shift) in zip(axes, fields.items(), strict=True):
        displacement = jnp.stack([jnp.zeros_like(jnp.asarray(shift)), jnp.asarray(shift)], axis=-1)[None]
        scores = {measure: float(function(displacement)[0]) for measure, function in MEASURES.items()}
        print(name, scores)
        central, corner = (
            np.pad(np.asarray(function(displacement))[0] <= 0, 1)  # the determinants are those of interior voxels
            for function in (transforms.jacobian_determinant, transforms.corner_jacobian_determinant)
        )
        ends = columns + shift
        for index in range(11):
            axis.plot(ends[index], rows[index], color="0.5", linewidth=0.8)
            axis.plot(ends[:, index], rows[:, index], color="0.5", linewidth=0.8)
        for folded, colour, size in ((corner, "tab:orange", 9), (central, "tab:red", 4)):
            axis.plot(ends[folded], rows[folded], "o", color=colour, markersize=size)
        axis.set(aspect="equal", title="\n".join([name, *(f"{key}: {value:.1f} %" for key, value in scores.items())]))
        axis.invert_yaxis()
        axis.set_axis_off()
    return figure


if __name__ == "__main__":
    main()
