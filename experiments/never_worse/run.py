"""Measures whether registration of files makes a pair worse: before, after the affine, after the deformation.

  python -m experiments.never_worse.run --data=FOLDER --output_dir=experiments/never_worse

`FOLDER` holds `hippocampus_msd/nifti` (five untouched crops), `brains_synthseg/brains20_2mm.npz` and
`histology_landmarks/`. Every pair is registered by `air_jax.register` with its defaults, once with `--refine_steps=0`
for the affine only. Each set is one entry of `<output_dir>/results.json`; `--sets` and `--pairs` run a part.
"""

import argparse
import itertools
import json
import platform
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import jax
import numpy as np
from scipy.spatial.transform import Rotation

from air_jax import io
from air_jax.file_registration.options import Options
from air_jax.file_registration.run import register_files
from air_jax.runtime import startup
from experiments.register_real.run import histology_pairs

BRAIN_PAIRS = 20
LARGEST_SHIFT, LARGEST_TURN = 15.0, 20.0  # mm and degrees, of the brains' headers

Pair = tuple[str, dict[str, Path]]


def crops(data: Path, folder: Path) -> Iterator[Pair]:
    """All ordered pairs of the five crops, with the headers of their files."""
    del folder
    files = data / "hippocampus_msd/nifti"
    numbers = sorted(path.name.split("_")[1] for path in files.glob("*_image.nii.gz"))
    for fixed, moving in itertools.permutations(numbers, 2):
        yield (
            f"{fixed} - {moving}",
            {
                "fixed": files / f"hippocampus_{fixed}_image.nii.gz",
                "moving": files / f"hippocampus_{moving}_image.nii.gz",
                "fixed_labels": files / f"hippocampus_{fixed}_label.nii.gz",
                "labels": files / f"hippocampus_{moving}_label.nii.gz",
            },
        )


def brains(data: Path, folder: Path) -> Iterator[Pair]:
    """Random ordered pairs of the 20 brains at 2 mm (seed 0); the moving header is shifted and turned."""
    rng = np.random.default_rng(0)
    with np.load(data / "brains_synthseg/brains20_2mm.npz") as arrays:
        images, labels = arrays["image"], arrays["label"]
    every = list(itertools.permutations(range(len(images)), 2))
    for index in rng.choice(len(every), BRAIN_PAIRS, replace=False):
        fixed, moving = every[index]
        grid = centred(images.shape[1:])
        sides = {"fixed": (fixed, grid), "moving": (moving, moved(rng) @ grid)}
        paths = {}
        for side, (number, affine) in sides.items():
            for key, arrays in (("", images), ("_labels", labels)):
                path = folder / f"{side}{key}.nii.gz"
                io.write_image(path, arrays[number], affine)
                paths["labels" if side + key == "moving_labels" else side + key] = path
        yield f"{fixed} - {moving}", paths


def centred(shape: tuple[int, ...]) -> np.ndarray:
    """The affine of voxels of 2 mm whose grid is centred at 0."""
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = 1.0 - np.array(shape)
    return affine


def moved(rng: np.random.Generator) -> np.ndarray:
    """A random shift and turn about 0, in mm."""
    axis, direction = rng.normal(size=(2, 3))
    result = np.eye(4)
    turn = np.deg2rad(rng.uniform(0, LARGEST_TURN)) * axis / np.linalg.norm(axis)
    result[:3, :3] = Rotation.from_rotvec(turn).as_matrix()
    result[:3, 3] = rng.uniform(0, LARGEST_SHIFT) * direction / np.linalg.norm(direction)
    return result


def histology(data: Path, folder: Path) -> Iterator[Pair]:
    """The 12 pairs of stained sections, with their landmarks."""
    for fixed, moving in histology_pairs(data / "histology_landmarks"):
        points = [io.read_landmarks(path.with_suffix(".csv")) for path in (fixed, moving)]
        count = min(map(len, points))  # one section has two points more at the end
        paths = [folder / "fixed.csv", folder / "moving.csv"]
        for path, each in zip(paths, points, strict=True):
            io.write_landmarks(path, each[:count])
        yield (
            f"{fixed.stem} - {moving.stem}",
            {"fixed": fixed, "moving": moving, "fixed_landmarks": paths[0], "landmarks": paths[1]},
        )


# For each set its score, and whether a higher one is better.
SETS = {
    "crops": (crops, "dice", True),
    "brains": (brains, "dice", True),
    "histology": (histology, "tre_median_pixels", False),
}


def measure(name: str, data: Path, num_pairs: int | None) -> Iterator[dict]:
    """Registers the pairs of a set; after each pair, the scores of all pairs so far."""
    make_pairs, key, higher_is_better = SETS[name]
    rows = {}
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for title, files in itertools.islice(make_pairs(data, folder), num_pairs):
            affine = register_files(Options(**files, output_dir=folder / "affine", refine_steps=0))
            whole = register_files(Options(**files, output_dir=folder / "whole"))
            stages = {"before": affine["before"], "affine": affine["after"], "all": whole["after"]}
            rows[title] = {stage: scores[key] for stage, scores in stages.items()}
            rows[title]["coverage"] = whole["after"]["coverage"]
            print(title, rows[title], flush=True)
            yield summary(rows, key, 1 if higher_is_better else -1)


def summary(rows: dict[str, dict[str, float]], key: str, sign: int) -> dict:
    """Means over pairs, the largest loss of a pair, and the number of pairs that lose."""
    changes = {stage: [sign * (row[stage] - row["before"]) for row in rows.values()] for stage in ("affine", "all")}
    return {
        "score": key,
        "num_pairs": len(rows),
        "mean": {stage: float(np.mean([row[stage] for row in rows.values()])) for stage in ("before", "affine", "all")},
        "worst_change": {stage: float(min(values)) for stage, values in changes.items()},
        "worse": {stage: int(np.sum(np.array(values) < 0)) for stage, values in changes.items()},
        "pairs": rows,
        "machine": f"{platform.machine()}, {jax.devices()[0].device_kind}, jax {jax.__version__}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--pairs", type=int, help="number of pairs of each set. Default: all")
    arguments = parser.parse_args()
    startup.use_compilation_cache()
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    path = arguments.output_dir / "results.json"
    for name in arguments.sets:
        for result in measure(name, arguments.data, arguments.pairs):
            results = json.loads(path.read_text()) if path.exists() else {}
            path.write_text(json.dumps(results | {name: result}, indent=2) + "\n")


if __name__ == "__main__":
    main()
