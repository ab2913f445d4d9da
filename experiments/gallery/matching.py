"""Attention of a U-Net's features: `python -m experiments.gallery.matching --data=DIR --run=RUN --output=matching.png`.

DIR contains the hippocampi, RUN is a run of configs/hippocampus_matching_labels.py.
"""

import dataclasses

import numpy as np

import air_jax
from air_jax.transforms import warp
from air_jax.visualize import matching_figure
from experiments.gallery.arguments import paths

PAIR, POINT = (0, 1), (22, 34, 24)  # validation subjects; voxels of the fixed image


def main() -> None:
    data, run, output = paths(__doc__, "data", "run", "output")
    with np.load(data / "hippocampus_msd/hippocampus_48x64x48.npz") as arrays:
        validation = arrays["image"][np.flatnonzero(arrays["split"] != "train")]
    registration = air_jax.load(run)
    grids = len(registration.model.num_steps)
    # One step on each grid, so that the attention of a grid is that of its first step.
    model = registration.model.clone(num_steps=(1,) * grids)
    images = (registration.normalize(validation[index][None, ..., None] / np.float32(255)) for index in PAIR)
    fixed, moving = (np.asarray(image) for image in images)
    result = dataclasses.replace(registration, model=model).register(fixed, moving, normalized=True)
    before = [np.zeros_like(result.displacement), *result.out["displacements"][:-1]]
    read = [np.asarray(warp(moving, displacement, mode="nearest"))[0] for displacement in before]
    attention = [np.asarray(weights[0]) for weights in result.out["attention"]]
    stride = [2 ** (grids - 1 - grid) for grid in range(grids)]
    matching_figure(fixed[0], read, attention, POINT, stride=stride, patch_size=stride).savefig(output, dpi=100)


if __name__ == "__main__":
    main()
