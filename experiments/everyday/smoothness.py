"""Draws five values of `--smoothness` on one pair, and measures them on ten.

  python -m experiments.everyday.smoothness --data=FOLDER --output_dir=experiments/everyday

`FOLDER` contains `brains_synthseg/brains20_2mm.npz`. The pairs are axial slices of brains 0 and 1, 2 and 3, to 18 and
19, registered in 2-D by `air_jax.optimize.refine` with local correlation and 180 steps. The script leaves
`smoothness.png` and `smoothness.json`: means over the ten pairs. The figure shows the first pair.
"""

import argparse
import json
from pathlib import Path

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from air_jax import metrics, warp
from air_jax.losses import make_objective
from air_jax.optimize import DenseField, refine
from air_jax.runtime import startup

VALUES = (0.25, 0.5, 1.0, 2.0, 4.0)
SLICE, NUM_STEPS, EVERY = 40, 180, 4  # plane, steps, pixels between the lines of the drawn grid


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output_dir", type=Path, required=True)
    arguments = parser.parse_args()
    startup.use_compilation_cache()
    with np.load(arguments.data / "brains_synthseg/brains20_2mm.npz") as arrays:
        images = arrays["image"][:, SLICE, ..., None].astype(np.float32) / 255
        labels = arrays["label"][:, SLICE].astype(np.int32)
    fixed, moving = jnp.asarray(images[::2]), jnp.asarray(images[1::2])
    ids = [label for label in np.unique(labels).tolist() if label]
    rows, warped, fields = {}, [moving[0]], [np.zeros((*moving.shape[1:3], 2))]
    rows["before"] = _scores(fixed, labels, ids, jnp.zeros((*moving.shape[:3], 2)), moving)
    for value in VALUES:
        solution = refine(
            make_objective("lncc"), fixed, moving, num_steps=NUM_STEPS, field=DenseField().scaled(value), tolerance=1e-4
        )
        rows[str(value)] = _scores(fixed, labels, ids, solution.displacement, moving)
        warped.append(warp(moving, solution.displacement)[0])
        fields.append(np.asarray(solution.displacement[0]))
        print(value, rows[str(value)], flush=True)
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    (arguments.output_dir / "smoothness.json").write_text(json.dumps(rows, indent=2) + "\n")
    _draw(np.asarray(fixed[0]), warped, fields, rows, arguments.output_dir / "smoothness.png")


def _scores(fixed, labels, ids, displacement, moving) -> dict[str, float]:
    """Means over the pairs."""
    moved = warp(labels[1::2], displacement, order=0)
    dice = np.asarray(metrics.label_mean(metrics.label_dice(labels[::2], moved, ids)))
    scores = metrics.displacement_scores(displacement)
    ncc = [np.corrcoef(np.ravel(a), np.ravel(b))[0, 1] for a, b in zip(fixed, warp(moving, displacement), strict=True)]
    return {
        "dice": round(float(dice.mean()), 4),
        "ncc": round(float(np.mean(ncc)), 4),
        "folding_percent": round(float(np.mean(scores["folding_percent"])), 4),
        "sd_log_jacobian": round(float(np.mean(scores["sd_log_jacobian"])), 4),
    }


def _draw(fixed, warped, fields, rows, path: Path) -> None:
    names = ["moving image", *(f"smoothness {value:g}" for value in VALUES)]
    figure, axes = plt.subplots(2, 1 + len(names), figsize=(14, 5.4), layout="constrained")
    axes[0, 0].imshow(fixed[..., 0], cmap="gray", vmin=0, vmax=1)
    axes[0, 0].set_title("fixed image", fontsize=10)
    axes[1, 0].axis("off")
    for column, (name, image, field, row) in enumerate(zip(names, warped, fields, rows.values(), strict=True), start=1):
        axes[0, column].imshow(np.asarray(image)[..., 0], cmap="gray", vmin=0, vmax=1)
        axes[0, column].set_title(name, fontsize=10)
        points = np.stack(np.indices(field.shape[:2]), axis=-1) + field
        for line in (*points[::EVERY], *points.transpose(1, 0, 2)[::EVERY]):
            axes[1, column].plot(line[:, 1], line[:, 0], color="black", linewidth=0.5)
        axes[1, column].set(aspect="equal", xlim=(-1, field.shape[1]), ylim=(field.shape[0], -1))
        axes[1, column].set_xlabel(
            f"Dice {row['dice']:.3f}\nfolds {row['folding_percent']:.2f} %\nSD log J {row['sd_log_jacobian']:.2f}",
            fontsize=9,
        )
    for axis in axes.ravel():
        axis.set(xticks=[], yticks=[])
    figure.savefig(path, dpi=100)
    Image.open(path).convert("RGB").quantize(64).save(path, optimize=True)


if __name__ == "__main__":
    main()
