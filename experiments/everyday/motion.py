"""Known motion put into a real volume and found again: air_jax beside ANTs' motion correction, in one run.

  python -m experiments.everyday.motion --data=FOLDER --output_dir=OUT

FOLDER contains `brains_synthseg/brains2_1mm.npz`; OUT takes the series, both results and `motion.json`. A brain at 1 mm
is averaged over voxels of 3 mm, moved by a slow walk with jumps (at most some mm and degrees), and sampled on 64 x 64 x
36 voxels by cubic splines. Brightness drifts by 2 %, noise has 1 % of the range. The error of a frame is that of its
map, at the centre in mm and as an angle.
"""

import argparse
import json
import platform
import time
from pathlib import Path

import numpy as np
import scipy.ndimage
from scipy.spatial.transform import Rotation

from air_jax.file_series.options import Options
from air_jax.file_series.run import correct_motion
from air_jax.io.series import Series, write_series

SHAPE, VOXEL = (64, 64, 36), 3.0
NUM_FRAMES, ANTS_FRAMES = 200, 20


def motions(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Returns angles in degrees and shifts in mm `[T, 3]`: a slow walk with five jumps; the first frame is at rest."""
    walks = []
    for step, jump in ((0.03, 1.5), (0.05, 2.0)):
        steps = rng.normal(0, step, (NUM_FRAMES, 3))
        steps[rng.choice(np.arange(10, NUM_FRAMES), 5, replace=False)] += rng.uniform(-jump, jump, (5, 3))
        steps[0] = 0
        walks.append(np.cumsum(steps, axis=0))
    return walks[0], walks[1]


def series(volume: np.ndarray, angles: np.ndarray, shifts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the frames `[T, *SHAPE]`: frame t shows at `R x + s` what the first shows at x (mm about the centre)."""
    averaged = scipy.ndimage.spline_filter(scipy.ndimage.uniform_filter(volume.astype(np.float64), int(VOXEL)))
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1) - (np.array(SHAPE) - 1) / 2
    centre, frames = (np.array(volume.shape) - 1) / 2, []
    for angle, shift in zip(angles, shifts, strict=True):
        turn = Rotation.from_euler("xyz", angle, degrees=True).as_matrix()
        points = (VOXEL * grid - shift) @ turn  # the inverse of x -> R x + s
        frame = scipy.ndimage.map_coordinates(averaged, np.moveaxis(points + centre, -1, 0), order=3, prefilter=False)
        frames.append(frame)
    frames = np.stack(frames)
    drift = 1 + 0.02 * np.sin(np.arange(NUM_FRAMES) / 30)
    return (frames * drift[:, None, None, None] + rng.normal(0, 0.01 * frames.max(), frames.shape)).astype(np.float32)


def errors(maps: np.ndarray, angles: np.ndarray, shifts: np.ndarray) -> dict[str, float]:
    """Returns errors of maps `[T, 3, 4]` of mm about the centre; all relative to the first frame's."""
    lengths, turns = [], []
    first = np.linalg.inv(np.vstack([maps[0], [0, 0, 0, 1]]))
    for found, angle, shift in zip(maps, angles, shifts, strict=True):
        relative = found @ first
        true = Rotation.from_euler("xyz", angle, degrees=True).as_matrix()
        lengths.append(np.linalg.norm(relative[:, 3] - shift))
        turns.append(np.degrees(Rotation.from_matrix(relative[:, :3] @ true.T).magnitude()))
    return {
        "mean_mm": float(np.mean(lengths)),
        "largest_mm": float(np.max(lengths)),
        "mean_degrees": float(np.mean(turns)),
        "largest_degrees": float(np.max(turns)),
    }


def with_air_jax(folder: Path) -> tuple[np.ndarray, float]:
    """Returns the maps about the centre, and the seconds of the whole command: files in, files out."""
    start = time.perf_counter()
    correct_motion(Options(folder / "bold.nii.gz", folder / "air_jax"))
    seconds = time.perf_counter() - start
    rows = (folder / "air_jax" / "motion.tsv").read_text().splitlines()[1:]
    values = np.array([row.split("\t")[:6] for row in rows], float)
    turns = Rotation.from_euler("xyz", values[:, 3:], degrees=True).as_matrix()
    return np.concatenate([turns, values[:, :3, None]], axis=2), seconds


def with_ants(folder: Path) -> tuple[np.ndarray, float]:
    """The same by `ants.motion_correction` with its defaults, of the first frames."""
    import ants

    image = ants.image_read(str(folder / "bold.nii.gz"))
    part = ants.from_numpy(
        image.numpy()[..., :ANTS_FRAMES], origin=image.origin, spacing=image.spacing, direction=image.direction
    )
    start = time.perf_counter()
    result = ants.motion_correction(part)
    seconds = time.perf_counter() - start
    centre = (np.array(SHAPE) - 1) / 2 * VOXEL
    maps = []
    for names in result["motion_parameters"]:
        transform = ants.read_transform(next(name for name in names if name.endswith(".mat")))
        points = np.concatenate([centre[None], centre + 10 * np.eye(3)])
        moved = np.array([transform.apply_to_point(point.tolist()) for point in points])
        maps.append(np.concatenate([(moved[1:] - moved[0]).T / 10, (moved[0] - centre)[:, None]], axis=1))
    return np.stack(maps), seconds


def main() -> None:
    """Makes the series, corrects it by both and writes motion.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output_dir", type=Path, required=True)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    with np.load(given.data / "brains_synthseg" / "brains2_1mm.npz") as stack:
        volume = stack["image"][0]
    angles, shifts = motions(rng)
    given.output_dir.mkdir(parents=True, exist_ok=True)
    frames = series(volume, angles, shifts, rng)
    # Our space is LPS with voxels along its axes, so that angles and shifts are those of the maps.
    write_series(given.output_dir / "bold.nii.gz", Series(frames, np.diag([VOXEL, VOXEL, VOXEL, 1.0]), 2.0))
    results = {"machine": platform.processor() or platform.machine(), "largest_shift_mm": float(np.abs(shifts).max())}
    results["largest_angle_degrees"] = float(np.abs(angles).max())
    for name, correct, count in (("air_jax", with_air_jax, NUM_FRAMES), ("ants", with_ants, ANTS_FRAMES)):
        maps, seconds = correct(given.output_dir)
        results[name] = errors(maps, angles[:count], shifts[:count]) | {"frames": count, "seconds": seconds}
        results[name]["seconds_per_frame"] = seconds / count
        print(name, results[name], flush=True)
    (given.output_dir / "motion.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
