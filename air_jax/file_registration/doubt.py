"""Reasons to doubt a registration of two files, from its own result."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from air_jax.file_registration.improvement import geometry_of
from air_jax.file_registration.inputs import Inputs
from air_jax.file_registration.scores import LITTLE_COVERAGE, Scores, overlap
from air_jax.losses import SIMILARITIES, make_objective
from air_jax.optimize import AFFINES, Geometry, objective_value, register_affine
from air_jax.registration.from_zero import AFFINE_SIMILARITY

LARGEST_SCALE = 3.0  # of the volume, or area, by an affine; its reciprocal is the smallest
MIRROR_MARGIN = 1.05  # a mirrored image fits better when its loss is lower by this factor; heads are nearly symmetric


def doubts(affine: str, angles: tuple[float, ...], inputs: Inputs, matrix: np.ndarray, after: Scores) -> dict[str, Any]:
    """Looks for signs that a registration is wrong, and prints them.

    Args:
      affine: "none" or the kind of affine that was registered.
      angles: rotations in radians that it started from.
      inputs: the files' content.
      matrix: `[N, N + 1]` from fixed to moving voxels, its result.
      after: scores after registration.

    Returns:
      `doubtful`, whether there are any, and `doubts`, one line each.
    """
    found = []
    if after["coverage"] is not None and after["coverage"] < LITTLE_COVERAGE:
        found.append(f"the moving image covers only {100 * after['coverage']:.0f} % of the fixed image")
    sizes = [np.prod(side.volume.spacing) for side in (inputs.moving, inputs.fixed)]
    scale = float(abs(np.linalg.det(matrix[:, :-1])) * sizes[0] / sizes[1])
    if affine in AFFINES and not 1 / LARGEST_SCALE <= scale <= LARGEST_SCALE:
        found.append(f"the affine changes the size {scale:.2g} times")
    guided = inputs.guides.landmarks is not None or inputs.guides.constraints.restrict is not None
    if affine in AFFINES and AFFINES[affine].rotation and inputs.fixed.volume.num_axes == 2 and not guided:
        found += _mirrored(affine, angles, inputs, matrix)
    for reason in found:
        print(f"doubtful: {reason}", flush=True)
    return {"doubtful": bool(found), "doubts": found}


def _mirrored(affine: str, angles: tuple[float, ...], inputs: Inputs, matrix: np.ndarray) -> list[str]:
    """Registers the mirrored moving picture, by the program that the affine has used."""
    rows = inputs.moving.volume.shape[0]
    image, weights = (
        jnp.roll(array[:, ::-1], rows - array.shape[1], axis=1)  # the padding stays at the end
        for array in (inputs.moving_image, inputs.moving_weights)
    )
    mirrored = register_affine(
        SIMILARITIES[AFFINE_SIMILARITY],
        inputs.fixed_image,
        image,
        kind=affine,
        geometry=geometry_of(inputs, inputs.voxel_to_voxel),
        angles=angles,
        weights=inputs.fixed_weights,
        moving_weights=weights,
    )
    losses = []
    for moving, moving_weights, each in (
        (inputs.moving_image, inputs.moving_weights, jnp.asarray(matrix, jnp.float32)[None]),
        (image, weights, mirrored),
    ):
        zero = jnp.zeros((*inputs.fixed_image.shape[:-1], 2))
        seen = overlap(inputs, zero[0], np.asarray(each[0]), moving_weights=moving_weights)
        objective = make_objective(AFFINE_SIMILARITY)
        pair = inputs.fixed_image, moving, zero
        losses.append(float(objective_value(objective, *pair, geometry=Geometry(each), weights=seen)[0]))
    if losses[1] < MIRROR_MARGIN * losses[0]:
        return ["the mirrored moving picture fits better; mirror it, or check the result"]
    return []
