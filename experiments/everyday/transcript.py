"""A first session: a brain with a lesion to MNI152, its labels and a second contrast, ten subjects, a template.

  python -m experiments.everyday.transcript --data=FOLDER --output_dir=OUT

`FOLDER` contains `brains_synthseg/brains20_2mm.npz`; the package `nilearn` ships MNI152 with maps of its tissues. OUT
takes `transcript.json` (commands, seconds, scores) and `transcript.png`. The commands run as a user types them, the
first one with an empty cache. The lesion and the second contrast are painted. Everything has voxels of 4 mm, so that
the session takes minutes. Seed 0.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt
import nibabel
import numpy as np
import SimpleITK
from nilearn import datasets
from nilearn.image import resample_to_img
from scipy import ndimage

from air_jax import io
from air_jax.io.space import reversed_affine

SUBJECTS, SPACING, LESION_RADIUS = 10, 4.0, 4  # the subject with the lesion is the next one; mm; voxels
WHITE_MATTER = (2, 41)
COMMANDS = {
    "register": "register --fixed=mni152.nii.gz --moving=t1.nii.gz --moving_mask=healthy.nii.gz --output_dir=to_mni",
    "labels": "apply --transform=to_mni --input=labels.nii.gz --interpolation=label --output=labels_in_mni.nii.gz",
    "second contrast": "apply --transform=to_mni --input=t2.nii.gz --output=t2_in_mni.nii.gz",
    "ten subjects": "batch --images=subjects --reference=mni152.nii.gz --fast --output_dir=batch",
    "template": "template --images=subjects --labels=segmentations --affine_rounds=1 --rounds=1 --refine_steps=40 "
    "--output_dir=template",
}


def prepare(data: Path, folder: Path) -> None:
    """Writes the files of the session."""
    rng, affine = np.random.default_rng(0), reversed_affine(np.full(3, SPACING))
    with np.load(data / "brains_synthseg" / "brains20_2mm.npz") as stack:
        factors = (1, *3 * (2.0 / SPACING,))
        images = ndimage.zoom(
            stack["image"][: SUBJECTS + 1].astype(np.float32), factors, order=1, grid_mode=True, mode="nearest"
        )
        labels = ndimage.zoom(stack["label"][: SUBJECTS + 1], factors, order=0, grid_mode=True, mode="nearest")
    for name in ("subjects", "segmentations"):
        (folder / name).mkdir(parents=True)
    for index in range(SUBJECTS):
        io.write_image(folder / "subjects" / f"s{index}.nii.gz", images[index], affine)
        io.write_segmentation(folder / "segmentations" / f"s{index}.nii.gz", labels[index], affine)
    image, segmentation = images[-1], labels[-1]
    centre = np.round(ndimage.center_of_mass(segmentation == WHITE_MATTER[1]))
    away = np.linalg.norm(np.moveaxis(np.indices(image.shape), 0, -1) - centre, axis=-1)
    lesion = (away <= LESION_RADIUS) & (segmentation > 0)
    grey = ndimage.gaussian_filter(np.append(0, rng.uniform(60, 220, segmentation.max()))[segmentation], 0.7)
    io.write_image(folder / "t1.nii.gz", np.where(lesion, 250, image).astype(np.float32), affine)
    io.write_image(folder / "t2.nii.gz", np.where(lesion, 250, grey).astype(np.float32), affine)
    io.write_segmentation(folder / "labels.nii.gz", segmentation, affine)
    io.write_segmentation(folder / "healthy.nii.gz", (~lesion).astype(np.uint8), affine)
    io.write_segmentation(folder / "lesion.nii.gz", lesion.astype(np.uint8), affine)
    nibabel.save(datasets.load_mni152_template(resolution=round(SPACING)), folder / "mni152.nii.gz")
    white = datasets.load_mni152_wm_template(resolution=round(SPACING))
    nibabel.save(resample_to_img(white, str(folder / "mni152.nii.gz")), folder / "mni152_wm.nii.gz")


def run(command: str, folder: Path) -> dict:
    """Runs a command as a user does; returns it with its seconds and processor seconds."""
    words = command.split()
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(folder / "cache")}
    start = time.perf_counter()
    with (folder / "log.txt").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", f"air_jax.{words[0]}", *words[1:]],
            cwd=folder, env=environment, stdout=log, stderr=log,
        )  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"air-jax {command}: status {process.returncode}; {folder / 'log.txt'} says why")
    used = usage.ru_utime + usage.ru_stime
    return {
        "command": f"air-jax {command}",
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(used, 1),
        "memory_mb": round(usage.ru_maxrss / 1000),
    }


def moved(folder: Path, labels: Path, transform: Path) -> np.ndarray:
    """A segmentation on the grid of MNI152, `[x, y, z]`, by SimpleITK."""
    field = SimpleITK.ReadImage(str(transform / "displacement.nii.gz"), SimpleITK.sitkVectorFloat64)
    image, target = (SimpleITK.ReadImage(str(path)) for path in (labels, folder / "mni152.nii.gz"))
    map_to_moving = SimpleITK.DisplacementFieldTransform(field)
    warped = SimpleITK.Resample(image, target, map_to_moving, SimpleITK.sitkNearestNeighbor)
    return SimpleITK.GetArrayFromImage(warped).T


def white_dice(folder: Path, labels: Path, transform: Path | None) -> float:
    """Dice of white matter with that of MNI152; without a transform the middles of both grids meet."""
    white = io.read_image(folder / "mni152_wm.nii.gz").array > 0.5
    if transform is not None:
        own = moved(folder, labels, transform)
    else:
        own = io.read_segmentation(labels).array.transpose(2, 1, 0)[::-1, ::-1]  # left, back, up to right, front, up
        offset = [(new - old) // 2 for new, old in zip(white.shape, own.shape, strict=True)]
        own = np.pad(own, [(o, n - s - o) for o, n, s in zip(offset, white.shape, own.shape, strict=True)])
    mine = np.isin(own, WHITE_MATTER)
    return round(float(2 * (mine & white).sum() / (mine.sum() + white.sum())), 4)


def draw(folder: Path, path: Path) -> None:
    """Draws the middle planes: the subject with its lesion, and the group."""
    mni = io.read_image(folder / "mni152.nii.gz")
    plane = mni.array.shape[2] // 2

    def cut(volume: np.ndarray) -> np.ndarray:
        return volume[:, :, plane].T[::-1]

    subject = io.read_image(folder / "t1.nii.gz").array  # axes up, back, left
    healthy = io.read_segmentation(folder / "healthy.nii.gz").array
    own_plane = round(ndimage.center_of_mass(healthy == 0)[0])
    warped = io.read_image(folder / "to_mni" / "warped.nii.gz").array
    lesion = moved(folder, folder / "lesion.nii.gz", folder / "to_mni") > 0
    plane = round(ndimage.center_of_mass(lesion)[2])
    labels = io.read_segmentation(folder / "labels_in_mni.nii.gz").array
    mean = np.mean(
        [io.read_image(folder / "batch" / f"s{index}" / "warped.nii.gz").array for index in range(SUBJECTS)], axis=0
    )
    template = io.read_image(folder / "template" / "template.nii.gz").array
    before = np.mean(
        [io.read_image(folder / "subjects" / f"s{index}.nii.gz").array for index in range(SUBJECTS)], axis=0
    )
    figure, axes = plt.subplots(2, 4, figsize=(12, 7), layout="constrained")
    grey = {"cmap": "gray"}
    panels = [
        ("the subject, lesion painted", subject[own_plane][:, ::-1], grey),
        ("MNI152", cut(mni.array), grey),
        ("the subject in MNI152", cut(warped), grey),
        ("second contrast, moved along", cut(io.read_image(folder / "t2_in_mni.nii.gz").array), grey),
        ("labels, moved along", cut(np.where(labels, (labels * 7) % 19 + 1, 0)), {"cmap": "nipy_spectral"}),
        ("mean of ten subjects, as they were", before[own_plane][:, ::-1], grey),
        ("mean of ten subjects in MNI152", cut(mean), grey),
        ("template of the ten subjects", template[own_plane][:, ::-1], grey),
    ]
    for axis, (title, picture, style) in zip(axes.flat, panels, strict=True):
        axis.imshow(picture, interpolation="nearest", **style)
        axis.set_title(title, fontsize=11)
        axis.axis("off")
    for axis in axes.flat[1:5]:
        axis.contour(cut(lesion), levels=[0.5], colors="red", linewidths=0.8)
    figure.savefig(path, dpi=90)


def main() -> None:
    """Runs the session, and writes its times, scores and pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output_dir", type=Path, required=True)
    given = parser.parse_args()
    folder = given.output_dir.absolute() / "session"
    shutil.rmtree(folder, ignore_errors=True)
    prepare(given.data, folder)
    results: dict = {"machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores", "steps": {}}
    for name, command in COMMANDS.items():
        results["steps"][name] = run(command, folder)
        print(name, results["steps"][name], flush=True)
        (given.output_dir / "transcript.json").write_text(json.dumps(results, indent=2) + "\n")
    labels = folder / "labels.nii.gz"
    dice = {"t1": (white_dice(folder, labels, None), white_dice(folder, labels, folder / "to_mni"))}
    for index in range(SUBJECTS):
        own = folder / "segmentations" / f"s{index}.nii.gz"
        dice[f"s{index}"] = white_dice(folder, own, None), white_dice(folder, own, folder / "batch" / f"s{index}")
    results["white_matter_dice_before_and_after"] = dice
    scores = json.loads((folder / "template" / "scores.json").read_text())
    results["dice_of_pairs_through_the_template"] = scores["dice_of_pairs"]
    (given.output_dir / "transcript.json").write_text(json.dumps(results, indent=2) + "\n")
    draw(folder, given.output_dir / "transcript.png")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
