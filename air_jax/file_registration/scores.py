"""Scores of two registered files, before and after registration, as `scores.json` holds them."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from air_jax import io, metrics
from air_jax.errors import UserError
from air_jax.file_registration.grids import cut, pad
from air_jax.file_registration.inputs import Inputs
from air_jax.losses import mse_loss, ncc_loss
from air_jax.transforms import transform_points
from air_jax.transforms.spaces import label_ranks, sample_moving, sample_segmentation

Scores = dict[str, Any]
LITTLE_COVERAGE = 0.25  # share of the fixed image; a lower one leads to a warning


def pair_scores(inputs: Inputs, displacement: jax.Array, inverse: jax.Array) -> Scores:
    """Computes all scores of `air_jax.metrics` that the given files allow.

    `mse` and `ncc` compare the whole fixed image, with the background outside of the moving image. `mse_overlap` and
    `ncc_overlap` compare what both images show. `coverage` is the share of the fixed image that the moving one shows.

    Args:
      inputs: the files' content.
      displacement: the whole displacement `[*S, N]` of the fixed grid, in its voxels.
      inverse: its inverse `[*V, N]`, of the moving grid, in its voxels.

    Returns:
      Numbers by name; lengths in mm, for pictures in pixels. None for scores without a finite value, such as the
      distance of a label that one segmentation lacks.
    """
    background = inputs.normalized_background
    warped = sample_moving(inputs.moving_image[0] - background, displacement, inputs.voxel_to_voxel) + background
    seen = overlap(inputs, displacement, inputs.voxel_to_voxel)
    shape = inputs.fixed.volume.shape
    inside = jnp.asarray(pad(np.ones(shape, np.float32), inputs.shape))[None]
    scores: Scores = _floats(_image_scores(inputs.fixed_image, warped[None], inside, seen))
    scores["coverage"] = coverage(inputs, displacement, inputs.voxel_to_voxel)
    if not scores["coverage"]:
        scores |= {"mse_overlap": np.nan, "ncc_overlap": np.nan}
    if inputs.fixed.segmentation is not None and inputs.moving.segmentation is not None:
        scores |= _label_scores(inputs, displacement)
    if inputs.fixed.landmarks is not None and inputs.moving.landmarks is not None:
        scores |= _landmark_scores(inputs, inputs.fixed.landmarks, inputs.moving.landmarks, displacement, inverse)
    interior = jnp.asarray(pad(np.ones([size - 1 for size in shape], bool), inputs.shape))[None]
    scores |= _floats(_displacement_scores(displacement[None], interior))
    return {name: value if np.isfinite(value) else None for name, value in scores.items()}


def overlap(
    inputs: Inputs, displacement: jax.Array, matrix: np.ndarray, *, moving_weights: jax.Array | None = None
) -> jax.Array:
    """Returns how much each voxel of the fixed grid counts in both images.

    Args:
      inputs: the files' content.
      displacement: `[*S, N]` of the fixed grid, in its voxels.
      matrix: `[N, N + 1]` from fixed to moving voxels, applied after it.
      moving_weights: `[1, *V]`. Default: those of the inputs.

    Returns:
      `[1, *S]` in [0, 1].
    """
    weights = inputs.moving_weights if moving_weights is None else moving_weights
    seen = sample_moving(weights[0, ..., None], displacement, matrix)[..., 0]
    return inputs.fixed_weights * seen[None]


def coverage(inputs: Inputs, displacement: jax.Array, matrix: np.ndarray) -> float:
    """Returns the share in [0, 1] of the fixed image that the moving image shows; arguments are those of `overlap`."""
    return float(jnp.sum(overlap(inputs, displacement, matrix)) / jnp.sum(inputs.fixed_weights))


def check_overlap(inputs: Inputs, matrix: np.ndarray) -> None:
    """Checks that the images show some place together; warns where it is little.

    Args:
      inputs: the files' content.
      matrix: `[N, N + 1]` from fixed to moving voxels.

    Raises:
      UserError: one line with the distance of the images' centres.
    """
    fixed, moving = inputs.fixed, inputs.moving
    share = coverage(inputs, jnp.zeros((*inputs.shape, fixed.volume.num_axes)), matrix)
    if share == 0:
        centres = [
            io.to_physical((np.array(side.volume.shape) - 1) / 2, side.volume.affine) for side in (fixed, moving)
        ]
        unit = inputs.unit
        raise UserError(
            f"{moving.path}: does not overlap {fixed.path}; their centres are "
            f"{np.linalg.norm(centres[0] - centres[1]):.0f} {unit} apart; try --affine=rigid, or correct a header"
        )
    if share < LITTLE_COVERAGE:
        print(f"warning: the moving image covers only {100 * share:.0f} % of the fixed image", flush=True)


def warped_values(inputs: Inputs, displacement: jax.Array) -> np.ndarray:
    """Warps the moving file's values, with the background outside of the moving image.

    Args:
      inputs: the files' content.
      displacement: the whole displacement `[*S, N]` of the fixed grid, in its voxels.

    Returns:
      float32 on the fixed file's grid, with its channels.
    """
    values = inputs.moving_values - inputs.background
    warped = sample_moving(pad(values, inputs.moving_shape), displacement, inputs.voxel_to_voxel)
    return cut(warped, inputs.fixed.volume.shape) + inputs.background


def warped_segmentation(inputs: Inputs, displacement: jax.Array) -> np.ndarray:
    """Warps the moving segmentation, see `warped_values`; returns its label ids on the fixed file's grid."""
    assert inputs.moving.segmentation is not None
    segmentation = pad(inputs.moving.segmentation, inputs.moving_shape)
    return cut(sample_segmentation(segmentation, displacement, inputs.voxel_to_voxel), inputs.fixed.volume.shape)


def table(before: Scores, after: Scores) -> str:
    """Returns a short table of the scores that say most: similarity, Dice, target registration error, folding.

    Args:
      before, after: scores of `pair_scores`.
    """
    names = ("ncc_overlap", "ncc", "dice", "tre_mean_mm", "tre_mean_pixels", "coverage", "folding_percent")
    rows = [f"{'':18}{'before':>9}{'after':>9}"]
    for name in names:
        if name in after:
            cells = ["none" if scores[name] is None else f"{scores[name]:.4g}" for scores in (before, after)]
            rows.append(f"{name:18}{cells[0]:>9}{cells[1]:>9}")
    return "\n".join(rows)


def compile_displacement_scores(shape: Sequence[int]) -> None:
    """Compiles the scores of a displacement into JAX's persistent cache; may run in another thread.

    Args:
      shape: `S`, sizes of the fixed grid.
    """
    displacement = jax.ShapeDtypeStruct((1, *shape, len(shape)), jnp.float32)
    _displacement_scores.lower(displacement, jax.ShapeDtypeStruct((1, *shape), bool)).compile()


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
    displacement = jnp.asarray(cut(displacement, volume.shape))
    voxels = jnp.asarray(io.to_voxels(points, volume.affine), jnp.float32)
    return io.to_physical(np.asarray(transform_points(displacement, voxels)), volume.affine)


@jax.jit
def _image_scores(fixed, warped, inside, weights):
    return {
        "mse": mse_loss(fixed, warped, weights=inside),
        "ncc": 1 - ncc_loss(fixed, warped, weights=inside),
        "mse_overlap": mse_loss(fixed, warped, weights=weights),
        "ncc_overlap": 1 - ncc_loss(fixed, warped, weights=weights),
    }


@jax.jit
def _displacement_scores(displacement, interior):
    return metrics.displacement_scores(displacement, mask=interior)


def _floats(scores: dict[str, jax.Array]) -> Scores:
    return {name: float(value[0]) for name, value in scores.items()}


def _label_scores(inputs: Inputs, displacement: jax.Array) -> Scores:
    fixed, moving = inputs.fixed.segmentation, inputs.moving.segmentation
    assert fixed is not None
    assert moving is not None
    ids, (fixed_ranks, warped_ranks, _) = label_ranks(fixed, warped_segmentation(inputs, displacement), moving)
    ranks = range(1, len(ids))
    if not ranks:
        return {}
    unit = inputs.unit
    padded = [pad(each, inputs.shape)[None] for each in (fixed_ranks, warped_ranks)]
    dice = np.asarray(metrics.label_dice(padded[0], padded[1], ranks))[0]
    spacing = inputs.fixed.volume.spacing.tolist()
    distance = np.asarray(metrics.label_hd95(fixed_ranks, warped_ranks, ranks, spacing))
    scores = {"dice": float(metrics.label_mean(dice)), f"hd95_{unit}": float(metrics.label_mean(distance))}
    scores |= {f"dice_{label}": float(value) for label, value in zip(ids[1:], dice, strict=True)}
    return scores | {f"hd95_{unit}_{label}": float(value) for label, value in zip(ids[1:], distance, strict=True)}


def _landmark_scores(
    inputs: Inputs, fixed: np.ndarray, moving: np.ndarray, displacement: jax.Array, inverse: jax.Array
) -> Scores:
    unit = inputs.unit
    to_moving = transform_landmarks(fixed, inputs.fixed.volume, displacement)
    to_fixed = transform_landmarks(moving, inputs.moving.volume, inverse)
    scores = {}
    for name, carried, target in (("", to_moving, moving), ("_inverse", to_fixed, fixed)):
        error = np.linalg.norm(carried - target, axis=1)
        scores |= {f"tre{name}_mean_{unit}": float(error.mean()), f"tre{name}_median_{unit}": float(np.median(error))}
    return scores
