"""The inputs of the registration of two files: both subjects, their normalised images, and their relative position."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from air_jax.errors import UserError
from air_jax.file_registration.options import Options
from air_jax.io.space import reversed_affine
from air_jax.io.subject import Subject, check_pair, read_subject
from air_jax.registration import Registration
from air_jax.transforms.spaces import voxel_matrix


@dataclass(frozen=True)
class Inputs:
    """Two subjects, prepared for registration.

    Attributes:
      fixed, moving: the content of the files.
      fixed_image: `[1, *S, 1]` float32 in [0, 1], the normalised fixed image.
      moving_image: `[1, *V, 1]` float32 in [0, 1], the normalised moving image on its own grid.
      voxel_to_voxel: `[N, N + 1]` float64, from fixed voxels to the moving voxels at the same physical place.
    """

    fixed: Subject
    moving: Subject
    fixed_image: jax.Array
    moving_image: jax.Array
    voxel_to_voxel: np.ndarray

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
    return fixed, moving


def prepare(registration: Registration, fixed: Subject, moving: Subject) -> Inputs:
    """Normalises both images as the registration does.

    Raises:
      UserError: one line that names the file: its values do not fit the normalisation, or are constant after it.
    """
    return Inputs(
        fixed,
        moving,
        _normalized(registration, fixed),
        _normalized(registration, moving),
        voxel_matrix(fixed.volume.affine, moving.volume.affine),
    )


def _normalized(registration: Registration, subject: Subject) -> jax.Array:
    try:
        image = registration.normalize(subject.grey)
    except ValueError as error:
        raise UserError(f"{subject.path}: {error}") from error
    if image.min() == image.max():
        raise UserError(
            f"{subject.path}: is constant after the normalisation {registration.normalization!r}; "
            "there is nothing to register"
        )
    return jnp.asarray(image)[None, ..., None]
