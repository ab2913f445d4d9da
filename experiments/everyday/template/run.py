"""Templates of ten hippocampus crops and of ten brains at 2 mm: air_jax beside ANTs, in one run.

  python -m experiments.everyday.template.run --data=FOLDER --output_dir=OUT [--groups=hippocampus,brains]

FOLDER contains `hippocampus_msd/hippocampus_48x64x48.npz` and `brains_synthseg/brains20_2mm.npz`; the first ten images
of each are used. ANTs' `build_template` does not return transforms, so each image is then registered to its template
once more (SyN, defaults), and this time is counted apart. Both use one thread; seconds are those of the processor,
which other programs on the machine disturb less than the clock. Sharpness is that of the middle half along each axis,
without the images' borders.
"""

import argparse
import json
import os
import platform
import time
from pathlib import Path

os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")

import numpy as np

from air_jax import io
from air_jax.file_templates.options import Options
from air_jax.file_templates.rounds import sharpness
from air_jax.file_templates.run import build_template
from air_jax.file_templates.voting import pair_dice
from air_jax.io.space import reversed_affine
from air_jax.transforms.spaces import label_ranks

COUNT, ANTS_ITERATIONS = 10, {"hippocampus": 4, "brains": 2}
# File, and the affine to LPS: the crops' axes run right, front, up; the brains' up, back, left.
GROUPS = {
    "hippocampus": ("hippocampus_msd/hippocampus_48x64x48.npz", np.diag([-1.0, -1, 1, 1])),
    "brains": ("brains_synthseg/brains20_2mm.npz", reversed_affine(np.full(3, 2.0))),
}


def write_group(source: Path, affine: np.ndarray, folder: Path) -> None:
    """Writes the first images of a file and their segmentations as NIfTI."""
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    with np.load(source) as stack:
        for index in range(COUNT):
            io.write_image(folder / "images" / f"s{index}.nii.gz", stack["image"][index], affine)
            io.write_segmentation(folder / "labels" / f"s{index}.nii.gz", stack["label"][index], affine)


def sharpness_of(array: np.ndarray, spacing: np.ndarray) -> float:
    """Sharpness of the middle half along each axis."""
    return sharpness(array[tuple(slice(size // 4, size - size // 4) for size in array.shape)], spacing)


def with_air_jax(folder: Path) -> dict:
    """Builds the template by the command's defaults, from files to files."""
    start = time.process_time()
    scores = build_template(Options(folder / "images", folder / "air_jax", labels=folder / "labels"))
    seconds = time.process_time() - start
    volume = io.read_image(folder / "air_jax" / "template.nii.gz")
    dice = scores["dice_of_pairs"]
    return {
        "sharpness": sharpness_of(volume.array, volume.spacing),
        "dice_before": dice["before"],
        "dice": dice["after"],
        "mean_affine_error": scores["mean_affine_error"],
        "cpu_seconds": seconds,
    }


def with_ants(folder: Path) -> dict:
    """The same by ANTs, with `ANTS_ITERATIONS` of SyN with its defaults."""
    import ants

    paths = sorted((folder / "images").iterdir())
    images = [ants.image_read(str(path)) for path in paths]
    start = time.process_time()
    template = ants.build_template(image_list=images, iterations=ANTS_ITERATIONS[folder.name])
    built = time.process_time()
    labels = []
    for path, image in zip(paths, images, strict=True):
        maps = ants.registration(template, image, type_of_transform="SyN")["fwdtransforms"]
        own = ants.image_read(str(folder / "labels" / path.name))
        warped = ants.apply_transforms(template, own, maps, interpolator="nearestNeighbor")
        labels.append(warped.numpy().astype(np.int32))
    end = time.process_time()
    ids, ranks = label_ranks(*labels)
    ants.image_write(template, str(folder / "ants_template.nii.gz"))
    return {
        "sharpness": sharpness_of(template.numpy(), np.array(template.spacing)),
        "dice": pair_dice(np.stack(ranks), len(ids)),
        "cpu_seconds": built - start,
        "cpu_seconds_of_transforms": end - built,
        "iterations": ANTS_ITERATIONS[folder.name],
    }


def main() -> None:
    """Builds all templates and writes results.json after each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--groups", default=",".join(GROUPS))
    given = parser.parse_args()
    results: dict = {"machine": platform.machine(), "cores": len(os.sched_getaffinity(0)), "images": COUNT}
    for group in given.groups.split(","):
        source, affine = GROUPS[group]
        folder = given.output_dir / group
        write_group(given.data / source, affine, folder)
        results[group] = {}
        for name, build in (("air_jax", with_air_jax), ("ants", with_ants)):
            results[group][name] = build(folder)
            print(group, name, results[group][name], flush=True)
            (given.output_dir / "results.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
