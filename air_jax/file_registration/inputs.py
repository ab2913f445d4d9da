"""The inputs of the registration of two files: both subjects, their normalised images, and their relative position."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from air_jax.errors import UserError
from air_jax.file_registration.field_of_view import background_of, outside_of, read_mask
from air_jax.file_registration.options import Options
from air_jax.io.landmarks import count_outside
from air_jax.io.space import reversed_affine
from air_jax.io.subject import LUMINANCE, Subject, check_pair, read_subject
from air_jax.registration import Registration
from air_jax.transforms.intensity import normalize
from air_jax.transforms.spaces import voxel_matrix


@dataclass(frozen=True)
class Inputs:
    """Two subjects, prepared for registration.

    Attributes:
      fixed, moving: the content of the files.
      fixed_image: `[1, *S, 1]` float32 in [0, 1], the normalised fixed image.
      moving_image: `[1, *V, 1]` float32 in [0, 1], the normalised moving image on its own grid.
      voxel_to_voxel: `[N, N + 1]` float64, from fixed voxels to the moving voxels at the same physical place.
      fixed_weights: `[1, *S]` float32 in [0, 1], how much each voxel of the fixed image counts: its mask, and 0 for
        voxels that it does not show.
      moving_weights: `[1, *V]`, the same of the moving image.
      moving_values: `[*V]` or `[*V, C]` float32, the moving file's values, with the background where it shows nothing.
      background: the value outside of the moving image, one number or `[C]`, in the file's values.
      normalized_background: the same in `moving_image`.
    """

    fixed: Subject
    moving: Subject
    fixed_image: jax.Array
    moving_image: jax.Array
    voxel_to_voxel: np.ndarray
    fixed_weights: jax.Array
    moving_weights: jax.Array
    moving_values: np.ndarray
    background: np.ndarray
    normalized_background: float

    @property
    def are_pictures(self) -> bool:
        """Whether the fixed image has no physical space but rows and columns of pixels; lengths are then in pixels."""
        volume = self.fixed.volume
        return volume.num_axes == 2 and np.array_equal(volume.affine, reversed_affine(np.ones(2)))


def read_subjects(options: Options) -> tuple[Subject, Subject]:
    """Reads the fixed and the moving subject.

    Raises:
      UserError: a file cannot be read, or the files do not fit each other.
    """
    fixed = read_subject(options.fixed, segmentation=options.fixed_labels, landmarks=options.fixed_landmarks)
    moving = read_subject(options.moving, segmentation=options.labels, landmarks=options.landmarks)
    check_pair(fixed, moving)
    for subject, path in ((fixed, options.fixed_landmarks), (moving, options.landmarks)):
        if subject.landmarks is not None and (outside := count_outside(subject.landmarks, subject.volume)):
            print(f"{path}: {outside} of {len(subject.landmarks)} landmarks lie outside of {subject.path}", flush=True)
    return fixed, moving


def prepare(registration: Registration, fixed: Subject, moving: Subject, options: Options) -> Inputs:
    """Normalises both images as the registration does, by the values of the voxels that count.

    Args:
      registration: whose normalisation is used.
      fixed, moving: the content of the files.
      options: masks and background.

    Raises:
      UserError: one line that names the file: its values do not fit the normalisation, or are constant after it; or a
        mask does not fit its image.
    """
    window = registration.normalization
    fixed_side = _view(fixed, options.fixed_mask, None, window)
    moving_side = _view(moving, options.moving_mask, options.background, window)
    fixed_image, _ = _normalized(registration, fixed, fixed_side)
    moving_image, normalized_background = _normalized(registration, moving, moving_side)
    values = moving.volume.array.astype(np.float32)
    values[moving_side.outside] = moving_side.background
    return Inputs(
        fixed,
        moving,
        fixed_image,
        moving_image,
        voxel_matrix(fixed.volume.affine, moving.volume.affine),
        jnp.asarray(fixed_side.weights)[None],
        jnp.asarray(moving_side.weights)[None],
        values,
        moving_side.background,
        normalized_background,
    )


class _View(NamedTuple):
    """What an image shows: `[*S]` booleans, `[*S]` weights, and the value outside."""

    outside: np.ndarray
    weights: np.ndarray
    background: np.ndarray


def _view(subject: Subject, mask: Path | None, background: float | None, window: str) -> _View:
    outside = outside_of(subject.path, subject.volume, window)
    weights = (~outside).astype(np.float32)
    if mask is not None:
        weights *= read_mask(mask, subject.volume, subject.path)
    if not weights.any():
        raise UserError(f"{subject.path}: shows nothing that counts; its mask and its values leave no voxel")
    return _View(outside, weights, background_of(subject.volume, background))


def _normalized(registration: Registration, subject: Subject, view: _View) -> tuple[jax.Array, float]:
    """Returns the image `[1, *S, 1]` and its background, in [0, 1]."""
    counts = view.weights > 0
    try:
        if counts.all():
            image = np.array(registration.normalize(subject.grey))
        else:
            image = normalize(subject.grey, registration.normalization, counts=counts)
    except ValueError as error:
        raise UserError(f"{subject.path}: {error}") from error
    if image[counts].min() == image[counts].max():
        raise UserError(
            f"{subject.path}: is constant after the normalisation {registration.normalization!r}; "
            "there is nothing to register"
        )
    # The map is monotonous: the background becomes what the nearest value became.
    grey = subject.grey[~view.outside].astype(np.float32)
    background = np.mean(view.background @ LUMINANCE if view.background.shape == (3,) else view.background)
    normalized_background = float(image[~view.outside][np.argmin(np.abs(grey - background))])
    image[view.outside] = normalized_background
    return jnp.asarray(image)[None, ..., None], normalized_background
