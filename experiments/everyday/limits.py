"""Measures which turns and partial views the affine of `air_jax.register` bears in 3-D.

  python -m experiments.everyday.limits --data=FOLDER --output=experiments/everyday/limits.json

`FOLDER` contains `brains_synthseg/brains20_2mm.npz`. The pair is brains 0 and 1. The moving header is turned about
the superior axis or at random, or the moving image keeps a share of its slices from the top or from the bottom. The
error is the mean distance in mm, over the fixed brain that the moving image shows, from the affine of the untouched
pair.
"""

import argparse
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
from air_jax.io.transform import read_transform
from air_jax.runtime import startup

ANGLES = 15, 30, 45, 60, 75, 90, 135, 180  # degrees, about the superior axis
RANDOM_TURNS = 20  # uniformly distributed, seed 0
SHARES = 0.5, 0.25  # of the slices
GRID = np.array([[0, 0, 2.0, -79], [0, 2.0, 0, -95], [2.0, 0, 0, -79], [0, 0, 0, 1]])  # 80 x 96 x 80, centred


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    startup.use_compilation_cache()
    with np.load(given.data / "brains_synthseg/brains20_2mm.npz") as arrays:
        images = arrays["image"][:2]
    known = _register(*images, GRID, GRID)[0]
    rows = [*_turned(*images, known), *_cut(*images, known)]
    setting = {"jax": jax.__version__, "machine": platform.machine(), "unit": "mm"}
    given.output.write_text(json.dumps({"setting": setting, "rows": rows}, indent=1) + "\n")


def _turned(fixed: np.ndarray, moving: np.ndarray, known: np.ndarray) -> Iterator[dict]:
    """Turns the moving header about the image's centre. `known` is the affine of the untouched pair."""
    brain = np.argwhere(fixed > 0) @ GRID[:3, :3].T + GRID[:3, 3]
    turns = [("turned", Rotation.from_rotvec([0, 0, angle], degrees=True)) for angle in ANGLES]
    turns += [("turned at random", each) for each in Rotation.random(RANDOM_TURNS, rng=np.random.default_rng(0))]
    for case, rotation in turns:
        turn = np.eye(4)
        turn[:3, :3] = rotation.as_matrix()
        result = _register(fixed, moving, GRID, turn @ GRID)
        angle = round(float(np.rad2deg(rotation.magnitude())))
        yield _row({"case": case, "value": angle}, brain, turn @ known, *result)


def _cut(fixed: np.ndarray, moving: np.ndarray, known: np.ndarray) -> Iterator[dict]:
    """Keeps a share of the moving slices."""
    brain = np.argwhere(fixed > 0) @ GRID[:3, :3].T + GRID[:3, 3]
    for share in SHARES:
        kept = round(share * len(moving))
        for name, start in (("top", len(moving) - kept), ("bottom", 0)):
            grid = GRID.copy()
            grid[:3, 3] += GRID[:3, 0] * start
            slices = _apply(np.linalg.inv(grid) @ known, brain)[:, 0]
            seen = brain[(slices >= 0) & (slices <= kept - 1)]
            result = _register(fixed, moving[start : start + kept], GRID, grid)
            yield _row({"case": f"{name} only", "value": share}, seen, known, *result)


def _register(fixed, moving, fixed_grid, moving_grid) -> tuple[np.ndarray, dict]:
    """Returns the affine `[4, 4]` from fixed to moving points, and the scores."""
    with TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{name}.nii.gz" for name in ("fixed", "moving")]
        for path, image, grid in zip(paths, (fixed, moving), (fixed_grid, moving_grid), strict=True):
            io.write_image(path, image, grid)
        scores = register_files(Options(*paths, Path(folder) / "out", stop_after="affine"))
        (part,), _ = read_transform(Path(folder) / "out" / "affine.mat")
        return np.vstack([part.matrix, [0, 0, 0, 1]]), scores


def _apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def _row(case: dict, points: np.ndarray, known: np.ndarray, found: np.ndarray, scores: dict) -> dict:
    error = float(np.linalg.norm(_apply(known, points) - _apply(found, points), axis=-1).mean())
    row = case | {"error": round(error, 2), "coverage": scores["after"]["coverage"], "doubts": scores["doubts"]}
    print(row, flush=True)
    return row


if __name__ == "__main__":
    main()
