"""Scores of a registered pair of files, before and after, as they go into `scores.json`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from air_jax import io, metrics
from air_jax.io.space import reversed_affine
from air_jax.io.subject import Side
from air_jax.losses import ncc_loss
from air_jax.transforms import transform_points
from air_jax.transforms.spaces import sample_moving

Scores = dict[str, Any]


def pair_scores(
    fixed: Side, moving: Side, displacement: jax.Array, inverse: jax.Array, voxel_to_voxel: np.ndarray
) -> Scores:
    """Every score that the given files allow (`air_jax.metrics`; lengths in mm, for pictures in pixels).

    Args:
      fixed, moving: the files' content.
      displacement: the whole displacement `[*S, N]` of the fixed grid, in its voxels.
      inverse: its inverse `[*V, N]`, of the moving grid, in its voxels.
      voxel_to_voxel: `[N, N + 1]`, see `air_jax.transforms.spaces`.

    Returns:
      By name; None for what has no finite value, such as the distance of a label that one side lacks.
    """
    warped = sample_moving(moving.grey, displacement, voxel_to_voxel)
    scores: Scores = _floats(_image_scores(jnp.asarray(fixed.grey)[None, ..., None], warped[None, ..., None]))
    if fixed.labels is not None:
        scores |= _label_scores(fixed, moving, displacement, voxel_to_voxel)
    if fixed.landmarks is not None:
        scores |= _landmark_scores(fixed, moving, displacement, inverse)
    scores |= _floats(_displacement_scores(displacement[None]))
    return {name: value if np.isfinite(value) else None for name, value in scores.items()}


@jax.jit
def _image_scores(fixed, warped):
    return {"mse": metrics.image_scores(fixed, warped)["mse"], "ncc": 1 - ncc_loss(fixed, warped)}


_displacement_scores = jax.jit(metrics.displacement_scores)


def compile_displacement_scores(shape: tuple[int, ...]) -> None:
    """Compiles what scores a displacement of this grid, into JAX's persistent cache; for another thread."""
    _displacement_scores.lower(jax.ShapeDtypeStruct((1, *shape, len(shape)), jnp.float32)).compile()


def _floats(scores: dict[str, jax.Array]) -> Scores:
    return {name: float(value[0]) for name, value in scores.items()}


def carry(points: np.ndarray, volume: io.Volume, displacement: jax.Array) -> np.ndarray:
    """Where a displacement of the volume's grid leads physical points `[K, N]`: to the other image's points."""
    return io.to_physical(transform_points(displacement, io.to_voxels(points, volume.affine)), volume.affine)


def _label_scores(fixed: Side, moving: Side, displacement: jax.Array, voxel_to_voxel: np.ndarray) -> Scores:
    warped = np.asarray(sample_moving(moving.labels, displacement, voxel_to_voxel, order=0))
    labels = [int(label) for label in np.union1d(fixed.labels, moving.labels) if label != 0]
    if not labels:
        return {}
    unit = "pixels" if is_picture(fixed.volume) else "mm"
    dice = np.asarray(metrics.label_dice(fixed.labels[None], warped[None], labels))[0]
    distance = np.asarray(metrics.label_hd95(fixed.labels, warped, labels, fixed.volume.spacing))
    scores = {"dice": float(metrics.label_mean(dice)), f"hd95_{unit}": float(metrics.label_mean(distance))}
    scores |= {f"dice_{label}": float(value) for label, value in zip(labels, dice, strict=True)}
    return scores | {f"hd95_{unit}_{label}": float(value) for label, value in zip(labels, distance, strict=True)}


def _landmark_scores(fixed: Side, moving: Side, displacement: jax.Array, inverse: jax.Array) -> Scores:
    unit = "pixels" if is_picture(fixed.volume) else "mm"
    there = carry(fixed.landmarks, fixed.volume, displacement)
    here = carry(moving.landmarks, moving.volume, inverse)
    scores = {}
    for name, carried, target in (("", there, moving.landmarks), ("_inverse", here, fixed.landmarks)):
        error = np.linalg.norm(carried - target, axis=1)
        scores |= {f"tre{name}_mean_{unit}": float(error.mean()), f"tre{name}_median_{unit}": float(np.median(error))}
    return scores


def is_picture(volume: io.Volume) -> bool:
    """Whether an image has no place in space: rows and columns of pixels."""
    return volume.num_axes == 2 and np.array_equal(volume.affine, reversed_affine(np.ones(2)))
