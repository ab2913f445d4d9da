"""Steps of the registration of two files that its guides determine, and what became of the guides."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from air_jax.errors import UserError
from air_jax.file_registration.inputs import Inputs
from air_jax.file_registration.options import NO_AFFINE, Options
from air_jax.file_registration.start import Start
from air_jax.io.space import to_physical
from air_jax.losses import SIMILARITIES, ChannelMean, Similarity
from air_jax.optimize import Geometry, fit_landmarks, satisfy
from air_jax.registration import Registration
from air_jax.registration.from_zero import AFFINE_SIMILARITY
from air_jax.transforms import jacobian_determinant, transform_points
from air_jax.transforms.spaces import homogeneous, sample_moving


def check_affine(options: Options, affine: str) -> None:
    """Checks that there is an affine to fit, where the options fit one to landmarks.

    Raises:
      UserError: one line that names the flags.
    """
    if options.guiding.affine_from is not None and affine == NO_AFFINE:
        raise UserError(f"--affine_from={options.guiding.affine_from}: no affine is registered; give --affine also")


def affine_similarity(inputs: Inputs) -> Similarity:
    """Returns the similarity of the affine, over all channels by their weights."""
    return _over_channels(AFFINE_SIMILARITY, inputs)


def with_channels(registration: Registration, inputs: Inputs) -> Registration:
    """Returns the registration whose objective compares each channel by itself."""
    objective = registration.objective
    if len(inputs.channel_weights) == 1:
        return registration
    similarity = _over_channels(objective.similarity, inputs)
    return dataclasses.replace(registration, objective=dataclasses.replace(objective, similarity=similarity))


def align_by_landmarks(inputs: Inputs, start: Start, affine: str) -> np.ndarray:
    """Fits the affine to the landmarks, after that of the start.

    Args:
      inputs: the files' content, with landmarks.
      start: where the registration starts.
      affine: the free parameters, a key of `air_jax.optimize.AFFINES`.

    Returns:
      `[N, N + 1]` float64, from fixed to moving voxels.

    Raises:
      UserError: one line: the landmarks do not determine the affine.
    """
    assert inputs.guides.landmarks is not None
    fixed, moving = inputs.guides.landmarks
    spacing, matrix = inputs.fixed.volume.spacing, homogeneous(start.matrix)
    # In lengths along the array axes of the fixed image, where the headers are a rigid motion.
    back = np.linalg.inv(matrix)[:-1]
    there = (moving @ back[:, :-1].T + back[:, -1]) * spacing
    try:
        fitted = fit_landmarks(fixed * spacing, there, kind=affine, restrict=inputs.guides.constraints.restrict)
    except ValueError as error:
        raise UserError(f"--affine_from=landmarks: {error}") from error
    lengths = np.diag([*spacing, 1.0])
    return (matrix @ np.linalg.solve(lengths, homogeneous(fitted) @ lengths))[:-1]


def hold_affine(inputs: Inputs, start: Start, matrix: np.ndarray) -> np.ndarray:
    """Removes rounding errors from an affine `[N, N + 1]` along the axes without movement."""
    restrict = inputs.guides.constraints.restrict
    if restrict is None:
        return matrix
    added = np.linalg.solve(homogeneous(start.matrix), homogeneous(matrix))
    held = np.append(np.array(restrict) == 0, False)
    added[held] = np.eye(len(added))[held]
    return (homogeneous(start.matrix) @ added)[:-1]


def constrained(inputs: Inputs, displacement: jax.Array, geometry: Geometry, *, predicted: bool) -> jax.Array:
    """Makes the displacement that the deformation starts from meet the constraints.

    Args:
      inputs: the files' content.
      displacement: `[1, *S, N]` in voxels of the fixed grid.
      geometry: affine that follows it, and voxel sizes.
      predicted: whether a model predicted it: then it does not move along axes that are not free.

    Returns:
      `[1, *S, N]`.
    """
    constraints = inputs.guides.constraints
    if predicted and constraints.restrict is not None:
        displacement = displacement * jnp.asarray(constraints.restrict).reshape((1,) * (displacement.ndim - 1) + (-1,))
    return satisfy(constraints, displacement, geometry=geometry) if constraints.has_regions() else displacement


def guides_report(inputs: Inputs, whole: jax.Array) -> dict[str, Any]:
    """Measures what became of the guides. Lengths are in mm, for pictures in pixels.

    Args:
      inputs: the files' content.
      whole: the whole displacement `[*S, N]` of the fixed grid, in its voxels.

    Returns:
      Those that apply: `rigid_region_error`, for each body the largest distance from its rigid motion;
      `keep_volume_error`, the largest difference of a Jacobian determinant from 1; `restrict_error`, the largest
      movement along an axis without movement; `guide_distance_mean` and `_max`, before and after.
    """
    report, constraints, volume = {}, inputs.guides.constraints, inputs.fixed.volume
    field = np.asarray(whole, np.float64)
    if constraints.rigid_regions is not None:
        errors = []
        for body in np.moveaxis(np.asarray(constraints.rigid_regions)[0], -1, 0):
            voxels = np.argwhere(body > 0).astype(np.float64)
            here, there = (to_physical(each, volume.affine) for each in (voxels, voxels + field[body > 0]))
            errors.append(_distance_from_rigid(here, there))
        report["rigid_region_error"] = errors
    if constraints.keep_volume is not None:
        inner = np.asarray(constraints.keep_volume)[0][(slice(1, -1),) * volume.num_axes] > 0
        determinants = np.asarray(jacobian_determinant(whole[None])[0])
        report["keep_volume_error"] = float(np.abs(determinants[inner] - 1).max())
    if constraints.restrict is not None:
        held = np.array(constraints.restrict) == 0
        report["restrict_error"] = float(np.abs(field * volume.spacing)[..., held].max(initial=0))
    if inputs.guides.landmarks is not None:
        fixed, moving = inputs.guides.landmarks
        target = to_physical(moving, inputs.moving.volume.affine)
        moved = np.asarray(transform_points(whole, jnp.asarray(fixed, jnp.float32)))
        distances = [np.linalg.norm(to_physical(each, volume.affine) - target, axis=1) for each in (fixed, moved)]
        report["guide_distance_mean"] = [float(each.mean()) for each in distances]
        report["guide_distance_max"] = [float(each.max()) for each in distances]
    return report


def described_guides(report: dict[str, Any], unit: str) -> list[str]:
    """Returns `guides_report` as lines for the terminal. `unit`: of lengths."""
    lines = []
    if "rigid_region_error" in report:
        lines.append(f"rigid regions: rigid to {max(report['rigid_region_error']):.2g} {unit}")
    if "keep_volume_error" in report:
        error = report["keep_volume_error"]
        missed = "; the 0.01 that is promised is not reached" if error > 0.01 else ""
        lines.append(f"kept volume: Jacobian determinants of 1 to {error:.2g}{missed}")
    if "restrict_error" in report:
        lines.append(f"restricted axes: largest movement {report['restrict_error']:.2g} {unit}")
    if "guide_distance_mean" in report:
        before, after = report["guide_distance_mean"]
        lines.append(f"guide landmarks: mean distance {before:.3g} {unit} before, {after:.3g} {unit} after")
    return lines


def aligned(inputs: Inputs, matrix: np.ndarray) -> jax.Array:
    """Returns the moving image `[1, *S, C]` in [0, 1] after an affine `[N, N + 1]`, with its background outside."""
    zero = jnp.zeros((*inputs.shape, len(inputs.shape)))
    background = inputs.normalized_background
    # Interpolation weights may sum to a little more than 1.
    return jnp.clip(sample_moving(inputs.moving_image[0] - background, zero, matrix) + background, 0, 1)[None]


def _distance_from_rigid(here: np.ndarray, there: np.ndarray) -> float:
    """Largest distance of points `[K, N]` from the rigid motion closest to them."""
    here, there = here - here.mean(axis=0), there - there.mean(axis=0)
    left, _, right = np.linalg.svd(there.T @ here)
    signs = np.ones(len(left))
    signs[-1] = np.sign(np.linalg.det(left) * np.linalg.det(right))
    return float(np.linalg.norm(there - here @ (left @ np.diag(signs) @ right).T, axis=1).max())


def _over_channels(similarity: str | Similarity, inputs: Inputs) -> Similarity:
    if len(inputs.channel_weights) == 1:
        return SIMILARITIES[similarity] if isinstance(similarity, str) else similarity
    return ChannelMean(similarity, inputs.channel_weights)
