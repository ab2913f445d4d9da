"""Reasons to doubt a registration of two files, from its own result."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy.linalg import polar

from air_jax.file_registration.affine_parts import physical_affine
from air_jax.file_registration.improvement import geometry_of
from air_jax.file_registration.inputs import Inputs
from air_jax.file_registration.pair import Pair
from air_jax.file_registration.scores import LITTLE_COVERAGE, Scores, overlap
from air_jax.losses import SIMILARITIES, make_objective
from air_jax.optimize import AFFINES, Geometry, objective_value, register_affine
from air_jax.registration.from_zero import AFFINE_SIMILARITY

LARGEST_TURN = 60.0  # degrees of a volume; its header says where it lies
LARGEST_SCALE = 3.0  # of the volume, or area, by an affine; its reciprocal is the smallest
MIRROR_MARGIN = 1.05  # a mirrored image fits better when its loss is lower by this factor; heads are nearly symmetric


def doubts(pair: Pair, matrix: np.ndarray, after: Scores) -> dict[str, Any]:
    """Looks for signs that a registration is wrong, and prints them.

    Args:
      pair: the pair of files.
      matrix: `[N, N + 1]` from fixed to moving voxels, its result.
      after: scores after registration.

    Returns:
      `doubtful`, whether there are any, and `doubts`, one line each.
    """
    inputs, guides = pair.inputs, pair.inputs.guides
    found = []
    if after["coverage"] is not None and after["coverage"] < LITTLE_COVERAGE:
        found.append(f"the moving image covers only {100 * after['coverage']:.0f} % of the fixed image")
    sizes = [np.prod(side.volume.spacing) for side in (inputs.moving, inputs.fixed)]
    scale = float(abs(np.linalg.det(matrix[:, :-1])) * sizes[0] / sizes[1])
    if pair.affine in AFFINES and not 1 / LARGEST_SCALE <= scale <= LARGEST_SCALE:
        found.append(f"the affine changes the size {scale:.2g} times")
    if pair.affine in AFFINES and AFFINES[pair.affine].rotation:
        is_picture = inputs.fixed.volume.num_axes == 2
        angle = 0.0 if is_picture else turn(inputs, pair.start.matrix, matrix)
        if angle > LARGEST_TURN:
            start = "its header" if pair.options.initial is None else "--initial"
            found.append(f"the moving volume is turned by {angle:.0f} degrees against {start}; check the letters")
        if (is_picture or angle > LARGEST_TURN) and guides.landmarks is None and guides.constraints.restrict is None:
            found += _mirrored(pair, matrix)
    for reason in found:
        print(f"doubtful: {reason}", flush=True)
    return {"doubtful": bool(found), "doubts": found}


def turn(inputs: Inputs, start: np.ndarray, matrix: np.ndarray) -> float:
    """Returns the angle in degrees, 0 to 180, by which a map turns more than the start did.

    Args:
      inputs: the files' content.
      start, matrix: `[N, N + 1]` from fixed to moving voxels.
    """
    before, after = (physical_affine(inputs, each)[:, :-1] for each in (start, matrix))
    rotation = polar(np.linalg.solve(before, after))[0]
    # The sine is exact where the cosine is near 1.
    sine = np.linalg.norm(rotation - rotation.T) / np.sqrt(8)
    cosine = (np.trace(rotation) - len(rotation) + 2) / 2
    return float(np.rad2deg(np.arctan2(sine, cosine)))


def _mirrored(pair: Pair, matrix: np.ndarray) -> list[str]:
    """Registers the mirrored moving image from the same start as the affine."""
    inputs = pair.inputs
    rows = inputs.moving.volume.shape[0]
    image, weights = (
        jnp.roll(array[:, ::-1], rows - array.shape[1], axis=1)  # the padding stays at the end
        for array in (inputs.moving_image, inputs.moving_weights)
    )
    mirrored = register_affine(
        SIMILARITIES[AFFINE_SIMILARITY],
        inputs.fixed_image,
        image,
        kind=pair.affine,
        geometry=geometry_of(inputs, pair.start.matrix),
        turned=pair.options.initial is None,
        weights=inputs.fixed_weights,
        moving_weights=weights,
    )
    losses = []
    for moving, moving_weights, each in (
        (inputs.moving_image, inputs.moving_weights, jnp.asarray(matrix, jnp.float32)[None]),
        (image, weights, mirrored),
    ):
        zero = jnp.zeros((*inputs.fixed_image.shape[:-1], inputs.fixed.volume.num_axes))
        seen = overlap(inputs, zero[0], np.asarray(each[0]), moving_weights=moving_weights)
        objective = make_objective(AFFINE_SIMILARITY)
        images = inputs.fixed_image, moving, zero
        losses.append(float(objective_value(objective, *images, geometry=Geometry(each), weights=seen)[0]))
    if losses[1] < MIRROR_MARGIN * losses[0]:
        kind = "picture" if inputs.fixed.volume.num_axes == 2 else "volume"
        return [f"the mirrored moving {kind} fits better; mirror it, or check the result"]
    return []
