"""Registers real pairs by instance optimisation from zero and scores them by labels and landmarks.

  python -m experiments.register_real.run --data=FOLDER --output_dir=experiments/register_real

`FOLDER` holds `acdc_ed_es/acdc_2d_mid_128.npz` (ACDC mid slices, end-diastole and end-systole), `hippocampus_msd/
hippocampus_48x64x48.npz` (Medical Segmentation Decathlon, task 4) and `histology_landmarks/` (Borovec's landmarks).
Labels are warped with nearest neighbour. The similarity and its window were chosen on the first pairs of those that are
scored: these are not blind tests. Each set is one entry of `<output_dir>/results.json`; `--sets` runs a part.
"""

import argparse
import itertools
import json
import platform
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from air_jax import io, metrics
from air_jax.data.pairs import random_pairs
from air_jax.io.subject import LUMINANCE
from air_jax.losses import Objective, lncc_loss, make_objective, mi_loss, mse_loss
from air_jax.optimize import DenseField, Geometry, refine, register_affine
from air_jax.transforms import warp, with_edges
from air_jax.transforms.intensity import normalize
from air_jax.transforms.spaces import whole_displacement

LONGEST_SIDE = 512  # pixels, of the histology sections


def lncc_and_mse(fixed: jax.Array, warped: jax.Array) -> jax.Array:
    return lncc_loss(fixed, warped, window=7) + 20 * mse_loss(fixed, warped)


CARDIAC = make_objective(lncc_and_mse)
HIPPOCAMPUS = make_objective(partial(lncc_loss, window=5))
HIPPOCAMPUS_OPTIONS = {"update_sigma": 2.0, "edges": True}
HISTOLOGY = make_objective(partial(lncc_loss, window=25))


def cardiac(data: Path) -> dict:
    """The 20 validation patients: end-systole (moving) to end-diastole (fixed)."""
    with np.load(data / "acdc_ed_es/acdc_2d_mid_128.npz") as arrays:
        chosen = arrays["split"] == "validation"
        image, label = arrays["image"][chosen] / np.float32(255), arrays["label"][chosen]
    return labelled(CARDIAC, {}, image[:, 0], image[:, 1], label[:, 0], label[:, 1], num_steps=180, at_once=20)


def hippocampus(data: Path) -> dict:
    """100 random pairs (seed 0) of the 30 validation crops."""
    with np.load(data / "hippocampus_msd/hippocampus_48x64x48.npz") as arrays:
        chosen = arrays["split"] == "validation"
        image, label = arrays["image"][chosen], arrays["label"][chosen]
    image = np.stack([normalize(one, "foreground") for one in image])
    fixed, moving = np.asarray(random_pairs(0, len(image), 100)).T
    sides = image[fixed], image[moving], label[fixed], label[moving]
    return labelled(HIPPOCAMPUS, HIPPOCAMPUS_OPTIONS, *sides, num_steps=180, at_once=10)


def from_zero(objective: Objective, options: dict, num_steps: int, fixed: jax.Array, moving: jax.Array) -> jax.Array:
    """Registers pairs `[B, *S, C]`; `options` are those of `DenseField`, and "edges"."""
    options = dict(options)
    if options.pop("edges", False):
        fixed, moving = with_edges(fixed), with_edges(moving)
    return refine(objective, fixed, moving, num_steps=num_steps, field=DenseField(**options)).displacement


def labelled(objective, options, fixed, moving, fixed_labels, moving_labels, *, num_steps: int, at_once: int) -> dict:
    """Scores before and after, means over pairs; `[n, *S]` each."""
    labels = [int(label) for label in np.unique(fixed_labels) if label]
    zero = jnp.zeros((at_once, *fixed.shape[1:], fixed.ndim - 1))
    seconds, scores = [], {"before": [], "after": []}
    for start in range(0, len(fixed), at_once):
        pairs = slice(start, start + at_once)
        images = [jnp.asarray(array[pairs])[..., None] for array in (fixed, moving)]
        begin = time.perf_counter()
        displacement = jax.block_until_ready(from_zero(objective, options, num_steps, *images))
        seconds.append(time.perf_counter() - begin)
        for when, field in (("before", zero), ("after", displacement)):
            warped = warp(jnp.asarray(moving_labels[pairs], jnp.int32), field, order=0)
            dice = metrics.label_dice(jnp.asarray(fixed_labels[pairs], jnp.int32), warped, labels)
            scores[when].append({"dice": metrics.label_mean(dice)} | metrics.displacement_scores(field))
    if len(seconds) == 1:  # compiled: once more for the time
        begin = time.perf_counter()
        jax.block_until_ready(from_zero(objective, options, num_steps, *images))
        seconds.append(time.perf_counter() - begin)
    result = {
        when: {
            name: float(np.mean(np.concatenate([np.asarray(batch[name]) for batch in batches]))) for name in batches[0]
        }
        for when, batches in scores.items()
    }
    result["dice_of_pairs"] = np.concatenate([np.asarray(batch["dice"]) for batch in scores["after"]]).round(4).tolist()
    return result | {
        "num_pairs": len(fixed),
        "seconds_per_pair": float(np.median(seconds[1:])) / at_once,
        "compilation_seconds": seconds[0] - float(np.median(seconds[1:])),
    }


def histology(data: Path) -> dict:
    """All 12 pairs, at most 512 pixels a side: an affine map by mutual information, then local correlation."""
    folder = data / "histology_landmarks"
    rows = {}
    for fixed_path, moving_path in histology_pairs(folder):
        (fixed, fixed_points), (moving, moving_points) = section(fixed_path), section(moving_path)
        begin = time.perf_counter()
        errors = landmark_errors(fixed, moving, fixed_points, moving_points)
        seconds = time.perf_counter() - begin
        diagonal = np.hypot(*fixed.shape)
        medians = {when: 100 * float(np.median(error)) / diagonal for when, error in errors.items()}
        rows[f"{fixed_path.stem} - {moving_path.stem}"] = medians | {"seconds": seconds}
        print(fixed_path.stem, moving_path.stem, medians, flush=True)
    stages = ("before", "affine", "after")
    return {
        "median_tre_percent_of_diagonal": {
            stage: {"median": float(np.median(values)), "mean": float(np.mean(values)), "max": float(np.max(values))}
            for stage in stages
            if (values := [row[stage] for row in rows.values()])
        },
        "pairs": rows,
    }


def histology_pairs(folder: Path) -> list[tuple[Path, Path]]:
    pairs = [sorted((folder / name).glob("*.jpg")) for name in ("lesion_izd2_041", "rat_kidney")]
    return [*map(tuple, pairs), *itertools.combinations(sorted((folder / "lung_lesion_3").glob("*.jpg")), 2)]


def section(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A section in grey `[H, W]`, at most `LONGEST_SIDE` pixels a side, and its landmarks in (row, column)."""
    picture = Image.open(path).convert("RGB")
    factor = LONGEST_SIDE / max(picture.size)
    small = picture.resize([round(side * factor) for side in picture.size], Image.Resampling.LANCZOS)
    scale = np.divide(small.size, picture.size)
    points = (io.read_landmarks(path.with_suffix(".csv")) + 0.5) * scale - 0.5
    return normalize(np.asarray(small, np.float32) @ np.asarray(LUMINANCE, np.float32), "percentile"), points[:, ::-1]


def landmark_errors(fixed, moving, fixed_points, moving_points) -> dict[str, np.ndarray]:
    images = [jnp.asarray(image)[None, ..., None] for image in (fixed, moving)]
    zero, header = jnp.zeros((1, *fixed.shape, 2)), np.eye(2, 3)
    matrix = register_affine(mi_loss, *images, turned=True)
    displacement = refine(HISTOLOGY, *images, num_steps=300, geometry=Geometry(matrix)).displacement
    matrix = np.asarray(matrix[0], np.float64)
    fields = {
        "before": zero[0],
        "affine": whole_displacement(zero[0], matrix, header),
        "after": whole_displacement(displacement[0], matrix, header),
    }
    count = min(len(fixed_points), len(moving_points))  # one section has two points more at the end
    return {
        when: np.asarray(metrics.tre(field, fixed_points[:count], moving_points[:count], (1, 1)))
        for when, field in fields.items()
    }


SETS = {"cardiac": cardiac, "hippocampus": hippocampus, "histology": histology}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    arguments = parser.parse_args()
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    path = arguments.output_dir / "results.json"
    for name in arguments.sets:
        result = SETS[name](arguments.data)
        result["machine"] = (
            f"{platform.machine()}, {jax.local_device_count()} x {jax.devices()[0].device_kind}, jax {jax.__version__}"
        )
        results = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(results | {name: result}, indent=2) + "\n")
        print(
            name,
            json.dumps(
                {key: value for key, value in result.items() if key not in ("pairs", "dice_of_pairs")}, indent=2
            ),
        )


if __name__ == "__main__":
    main()
