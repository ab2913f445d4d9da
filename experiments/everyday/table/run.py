"""Everyday tasks with air_jax, ANTsPy and elastix or SimpleITK, on the same files: one row a task.

  python -m experiments.everyday.table.run --data=FOLDER --output_dir=OUT [--rows=affine,lesion --tools=ants,elastix]

`FOLDER` contains the data sets that `inputs.py` names. The script needs `antspyx` and `itk-elastix`. Every run is a
process of its own: seconds, seconds of all its threads on the processor, largest memory. Every tool has its defaults.
The first run of air_jax in a row has an empty cache of compiled programs; later ones are `again_...`. Fields of all
tools are scored by the same code. Seed 0. Rows and tools that are left out keep their results.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import SimpleITK
from scipy import ndimage

from air_jax import io
from experiments.everyday.table import inputs

Result = dict[str, float | str | list[str]]
TOOLS = ("air_jax", "ants", "elastix")


def measured(command: list[str], work: Path, cache: Path | None = None) -> Result:
    """Runs a command; returns its seconds, processor seconds and largest memory."""
    environment = dict(os.environ) | ({"JAX_COMPILATION_CACHE_DIR": str(cache)} if cache else {})
    start = time.perf_counter()
    with (work / "log.txt").open("a") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: status {process.returncode}; {work / 'log.txt'} says why")
    seconds = {"seconds": time.perf_counter() - start, "cpu_seconds": usage.ru_utime + usage.ru_stime}
    return {name: round(value, 2) for name, value in seconds.items()} | {"memory_mb": round(usage.ru_maxrss / 1000)}


def air_jax(command: str, work: Path, *flags: str) -> Result:
    """Runs a command of air_jax, the first time in a row twice: with an empty cache, and with that which it left."""
    cache, words = work / "cache", [sys.executable, "-m", f"air_jax.{command}", *flags]
    result = {} if cache.exists() else measured(words, work, cache)
    again = measured(words, work, cache)
    return result | {f"again_{name}": value for name, value in again.items() if "seconds" in name or not result}


def tool(work: Path, *jobs: dict) -> Result:
    """Runs jobs of `tools.py` in one process."""
    path = work / "jobs.json"
    path.write_text(json.dumps(jobs))
    return measured([sys.executable, "-m", "experiments.everyday.table.tools", str(path)], work)


def registered(work: Path, name: str, job: dict, score: Callable[[Path], Result], flags: tuple = ()) -> dict:
    """Registers with each tool; returns measurements and scores by tool."""
    results = {}
    for each in TOOLS:
        out = work / f"{name}_{each}"
        if each == "air_jax":
            words = [f"--{side}={path}" for side in ("fixed", "moving") for path in job[side]]
            results[each] = air_jax("register", work, *words, *flags, f"--output_dir={out}")
        else:
            results[each] = tool(work, {**job, "task": "register", "tool": each, "out": str(out)})
        results[each] |= score(out / "displacement.nii.gz")
        print(name, each, results[each], flush=True)
    return results


# ---- Scores ----------------------------------------------------------------------------------------------------------


def dice(field: Path, fixed: Path, moving: Path) -> Result:
    """Mean Dice over the labels of the fixed segmentation, warped by SimpleITK."""
    transform = SimpleITK.DisplacementFieldTransform(SimpleITK.ReadImage(str(field), SimpleITK.sitkVectorFloat64))
    target, source = (SimpleITK.ReadImage(str(path)) for path in (fixed, moving))
    warped = SimpleITK.Resample(source, target, transform, SimpleITK.sitkNearestNeighbor)
    arrays = [SimpleITK.GetArrayFromImage(image) for image in (target, warped)]
    scores = []
    for label in np.unique(arrays[0])[1:]:
        one, other = (array == label for array in arrays)
        scores.append(2 * (one & other).sum() / (one.sum() + other.sum()))
    return {"dice": round(float(np.mean(scores)), 4)}


def distances(field: Path, truth: Path, spacing: float) -> Result:
    """Mean distance from the true displacement in mm, over each region of the file."""
    found, _ = io.read_field(field)
    with np.load(truth) as known:
        error = spacing * np.linalg.norm(found - known["field"], axis=-1)
        regions = {name: known[name] for name in known.files if name != "field"}
    return {f"error_{name}_mm": round(float(error[region].mean()), 3) for name, region in regions.items()}


def target_errors(field: Path, fixed: Path, moving: Path) -> Result:
    """Median distance of landmarks of a grid with voxels of 1, in pixels."""
    found, affine = io.read_field(field)
    points, target = io.read_landmarks(fixed), io.read_landmarks(moving)
    voxels = io.to_voxels(points, affine)
    moved = voxels + np.stack(
        [ndimage.map_coordinates(found[..., axis], voxels.T, order=1, mode="nearest") for axis in (0, 1)], axis=-1
    )
    away = np.linalg.norm(io.to_physical(moved, affine) - target, axis=1)
    return {"median_pixels": round(float(np.median(away)), 2), "mean_pixels": round(float(away.mean()), 2)}


# ---- Rows ------------------------------------------------------------------------------------------------------------


def apply(data: Path, work: Path) -> dict:
    inputs.brains(data, work)
    inputs.transforms(work)
    files = {"image": "brain1.nii.gz", "labels": "labels1.nii.gz", "reference": "brain0.nii.gz"}
    files = {name: str(work / path) for name, path in files.items()}
    maps = {"affine": str(work / "applied.mat"), "field": str(work / "applied.nii.gz")}
    results: dict = {}
    for each in ("simpleitk", "ants"):
        results[each] = tool(work, {**files, **maps, "task": "apply", "tool": each, "out": f"{work}/apply_{each}"})
    out = work / "apply_air_jax"
    out.mkdir(exist_ok=True)
    for name, how in (("image", "linear"), ("labels", "nearest")):
        words = [f"--transform={maps['affine']}", f"--transform={maps['field']}", f"--input={files[name]}"]
        words += [f"--reference={files['reference']}", f"--interpolation={how}", f"--output={out / name}.nii.gz"]
        one = measured([sys.executable, "-m", "air_jax.apply", *words], work)
        known = results.setdefault("air_jax", dict.fromkeys(one, 0))  # a command for each interpolation: a sum
        results["air_jax"] = {
            key: max(known[key], value) if key == "memory_mb" else round(known[key] + value, 2)
            for key, value in one.items()
        }
    own = {name: io.read_image(work / "apply_simpleitk" / f"{name}.nii.gz").array for name in ("image", "labels")}
    for each in ("air_jax", "ants"):
        others = {name: io.read_image(work / f"apply_{each}" / f"{name}.nii.gz").array for name in own}
        difference = np.abs(others["image"].astype(float) - own["image"]) / float(own["image"].max())
        results[each] |= {
            "largest_difference_from_simpleitk": float(difference.max()),
            "voxels_above_1e-4": int((difference > 1e-4).sum()),
            "other_labels": int((others["labels"] != own["labels"]).sum()),
        }
    return results


def affine(data: Path, work: Path) -> dict:
    inputs.turned(data, work)
    job = {"fixed": [f"{work}/straight.nii.gz"], "moving": [f"{work}/turned.nii.gz"], "kind": "affine"}
    return registered(
        work, "affine", job, lambda field: distances(field, work / "turned.npz", 4.0), ("--stop_after=affine",)
    )


def lesion(data: Path, work: Path) -> dict:
    inputs.lesion(data, work)
    files = {"fixed": [f"{work}/lesioned.nii.gz"], "moving": [f"{work}/deformed.nii.gz"], "kind": "deformable"}
    mask = f"{work}/healthy.nii.gz"

    def score(field: Path) -> Result:
        return distances(field, work / "truth.npz", 2.0)

    return {
        "without mask": registered(work, "lesion", files, score),
        "with mask": registered(work, "lesion_masked", {**files, "mask": mask}, score, (f"--fixed_mask={mask}",)),
    }


def landmarks(data: Path, work: Path) -> dict:
    inputs.stains(data, work)
    files = {"fixed": [f"{work}/stain_fixed.nii.gz"], "moving": [f"{work}/stain_moving.nii.gz"], "kind": "deformable"}
    points = {"points": [f"{work}/guide_fixed.pts", f"{work}/guide_moving.pts"], "weight": 0.01}
    guides = f"--guide_landmarks={work}/guide_moving.csv", f"--fixed_guide_landmarks={work}/guide_fixed.csv"

    def score(field: Path) -> Result:
        guided = target_errors(field, work / "guide_fixed.csv", work / "guide_moving.csv")
        others = target_errors(field, work / "score_fixed.csv", work / "score_moving.csv")
        return others | {f"guides_{name}": value for name, value in guided.items()}

    return {
        "images": registered(work, "stains", {**files, "grid": 32}, score),
        "images and landmarks": registered(work, "guided", {**files, **points, "grid": 32}, score, guides),
    }


def contrasts(data: Path, work: Path) -> dict:
    inputs.contrasts(data, work)
    results = {}
    for name, kinds in (("one contrast", ("t1",)), ("two contrasts", ("t1", "t2"))):
        job: dict = {side: [f"{work}/{side}_{kind}.nii.gz" for kind in kinds] for side in ("fixed", "moving")}
        job |= {"kind": "deformation"}
        results[name] = registered(
            work, name.replace(" ", "_"), job, lambda field: distances(field, work / "contrasts.npz", 2.0),
            ("--affine=none",),
        )  # fmt: skip
    return results


def batch(data: Path, work: Path) -> dict:
    inputs.crops(data, work)
    results, count = {}, inputs.NUM_PAIRS
    out = {each: work / f"batch_{each}" for each in TOOLS}
    words = f"--pairs={work}/pairs.csv", f"--output_dir={out['air_jax']}"
    results["air_jax"] = measured([sys.executable, "-m", "air_jax.batch", *words], work, work / "cache")
    for each in ("ants", "elastix"):
        jobs = [
            {
                "task": "register",
                "tool": each,
                "fixed": [f"{work}/crop{2 * pair}.nii.gz"],
                "moving": [f"{work}/crop{2 * pair + 1}.nii.gz"],
                "kind": "deformable",
                "out": str(out[each] / f"pair{pair}"),
            }
            for pair in range(count)
        ]
        results[each] = tool(work, *jobs)
    for each in TOOLS:
        found = [
            dice(
                out[each] / f"pair{pair}" / "displacement.nii.gz",
                work / f"crop{2 * pair}_labels.nii.gz",
                work / f"crop{2 * pair + 1}_labels.nii.gz",
            )["dice"]
            for pair in range(count)
        ]
        results[each] |= {"dice": round(float(np.mean(found)), 4), "lowest_dice": min(found), "pairs": count}
        results[each]["cpu_seconds_a_pair"] = round(results[each]["cpu_seconds"] / count, 2)
    return results


def slides(data: Path, work: Path) -> dict:
    inputs.slides(data, work)
    files = {side: f"{work}/slide_{side}.tif" for side in ("fixed", "moving")}
    results = {}
    for each in TOOLS:
        out = work / f"slides_{each}"
        if each == "air_jax":
            words = [f"--{side}={path}" for side, path in files.items()]
            results[each] = air_jax("register", work, *words, f"--max_size={inputs.REDUCED}", f"--output_dir={out}")
        else:
            job = {side: [path] for side, path in files.items()}
            job |= {"task": "slide", "tool": each, "size": inputs.REDUCED, "kind": "deformable", "grid": 128}
            results[each] = tool(work, {**job, "out": str(out)})
        field = out / "displacement.nii.gz"
        results[each] |= target_errors(field, work / "slide_fixed.csv", work / "slide_moving.csv")
    return results


def formats(data: Path, work: Path) -> dict:
    inputs.formats(work)
    results = {}
    job = json.loads((work / "formats.json").read_text()) | {"task": "read", "values": str(work / "values.npy")}
    for each in ("air_jax", "ants", "simpleitk"):
        out = work / f"formats_{each}"
        results[each] = tool(work, {**job, "tool": each, "out": str(out)})
        results[each] |= {"right": json.loads((out / "right.json").read_text())}
    return results


def merged(old: dict, new: dict) -> dict:
    """The old results, with what is new in their place."""
    both = {key: merged(old[key], new[key]) for key in old.keys() & new.keys() if isinstance(new[key], dict)}
    return old | new | both


ROWS = dict(apply=apply, affine=affine, lesion=lesion, landmarks=landmarks, contrasts=contrasts)
ROWS |= dict(batch=batch, slides=slides, formats=formats)


def main() -> None:
    """Measures the rows and writes results.json after each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--tools", default="")
    given = parser.parse_args()
    path = given.output_dir / "results.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    global TOOLS
    TOOLS = tuple(given.tools.split(",")) if given.tools else TOOLS
    packages = ("jax", "antspyx", "itk-elastix", "simpleitk")
    results["machine"] = f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores"
    results["versions"] = {name: version(name) for name in packages}
    for name in given.rows.split(","):
        work = given.output_dir / name
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        found = ROWS[name](given.data, work)
        results[name] = merged(results.get(name, {}), found) | {"load": round(os.getloadavg()[0], 1)}
        print(name, json.dumps(results[name], indent=2), flush=True)
        path.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
