"""Scores of two registered files, before and after registration, as `scores.json` holds them."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from air_jax import io, metrics
from air_jax.file_registration.inputs import Inputs
from air_jax.losses import ncc_loss
from air_jax.transforms import transform_points
from air_jax.transforms.spaces import label_ranks, sample_moving, sample_segmentation

Scores = dict[str, Any]


def pair_scores(inputs: Inputs, displacement: jax.Array, inverse: jax.Array) -> Scores:
    """Computes all scores of `air_jax.metrics` that the given files allow.

    Args:
      inputs: the files' content.
      displacement: the whole displacement `[*S, N]` of the fixed grid, in its voxels.
      inverse: its inverse `[*V, N]`, of the moving grid, in its voxels.

    Returns:
      Numbers by name; lengths in mm, for pictures in pixels. None for scores without a finite value, such as the
      distance of a label that one segmentation lacks.
    """
    warped = sample_moving(inputs.moving_image[0], displacement, inputs.voxel_to_voxel)
    scores: Scores = _floats(_image_scores(inputs.fixed_image, warped[None]))
    if inputs.fixed.segmentation is not None and inputs.moving.segmentation is not None:
        scores |= _label_scores(inputs, inputs.fixed.segmentation, inputs.moving.segmentation, displacement)
    if inputs.fixed.landmarks is not None and inputs.moving.landmarks is not None:
        scores |= _landmark_scores(inputs, inputs.fixed.landmarks, inputs.moving.landmarks, displacement, inverse)
    scores |= _floats(_displacement_scores(displacement[None]))
    return {name: value if np.isfinite(value) else None for name, value in scores.items()}


def compile_displacement_scores(shape: Sequence[int]) -> None:
    """Compiles the scores of a displacement into JAX's persistent cache; may run in another thread.

    Args:
      shape: `S`, sizes of the fixed grid.
    """
    _displacement_scores.lower(jax.ShapeDtypeStruct((1, *shape, len(shape)), jnp.float32)).compile()


def transform_landmarks(points: np.ndarray, volume: io.Volume, displacement: jax.Array) -> np.ndarray:
    """Carries physical points of one image to the other image.

    Args:
      points: `[K, N]`, physical coordinates, x first.
      volume: the image that they belong to.
      displacement: `[*S, N]` of its grid, in its voxels: the whole displacement for points of the fixed image, its
        inverse for points of the moving image.

    Returns:
      `[K, N]` float64, physical coordinates, x first.
    """
    voxels = jnp.asarray(io.to_voxels(points, volume.affine), jnp.float32)
    return io.to_physical(np.asarray(transform_points(displacement, voxels)), volume.affine)


@jax.jit
def _image_scores(fixed, warped):
    return {"mse": metrics.image_scores(fixed, warped)["mse"], "ncc": 1 - ncc_loss(fixed, warped)}


_displacement_scores = jax.jit(metrics.displacement_scores)


def _floats(scores: dict[str, jax.Array]) -> Scores:
    return {name: float(value[0]) for name, value in scores.items()}


def _label_scores(inputs: Inputs, fixed: np.ndarray, moving: np.ndarray, displacement: jax.Array) -> Scores:
    warped = sample_segmentation(moving, displacement, inputs.voxel_to_voxel)
    ids, (fixed_ranks, warped_ranks, _) = label_ranks(fixed, warped, moving)
    ranks = range(1, len(ids))
    if not ranks:
        return {}
    unit = "pixels" if inputs.are_pictures else "mm"
    dice = np.asarray(metrics.label_dice(fixed_ranks[None], warped_ranks[None], ranks))[0]
    spacing = inputs.fixed.volume.spacing.tolist()
    distance = np.asarray(metrics.label_hd95(fixed_ranks, warped_ranks, ranks, spacing))
    scores = {"dice": float(metrics.label_mean(dice)), f"hd95_{unit}": float(metrics.label_mean(distance))}
    scores |= {f"dice_{label}": float(value) for label, value in zip(ids[1:], dice, strict=True)}
    return scores | {f"hd95_{unit}_{label}": float(value) for label, value in zip(ids[1:], distance, strict=True)}


def _landmark_scores(
    inputs: Inputs, fixed: np.ndarray, moving: np.ndarray, displacement: jax.Array, inverse: jax.Array
) -> Scores:
    unit = "pixels" if inputs.are_pictures else "mm"
    to_moving = transform_landmarks(fixed, inputs.fixed.volume, displacement)
    to_fixed = transform_landmarks(moving, inputs.moving.volume, inverse)
    scores = {}
    for name, carried, target in (("", to_moving, moving), ("_inverse", to_fixed, fixed)):
        error = np.linalg.norm(carried - target, axis=1)
        scores |= {f"tre{name}_mean_{unit}": float(error.mean()), f"tre{name}_median_{unit}": float(np.median(error))}
    return scores
