"""The inputs of the registration of two files: both subjects, their normalised images, and their relative position."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from air_jax.errors import UserError
from air_jax.file_registration.contrasts import channel_weights, check_channels, normalized, with_further
from air_jax.file_registration.field_of_view import background_of, outside_of, read_mask
from air_jax.file_registration.guides import Guides, read_guides
from air_jax.file_registration.options import MAX_SIZE, Options
from air_jax.io.image import is_picture_dtype
from air_jax.io.landmarks import count_outside
from air_jax.io.space import is_picture_space
from air_jax.io.subject import Subject, check_pair, read_subject
from air_jax.io.volume import check_background
from air_jax.registration import Registration
from air_jax.transforms.spaces import voxel_matrix


@dataclass(frozen=True)
class Inputs:
    """Two subjects, prepared for registration.

    `S` and `V` are the grids of the files, or larger ones, see `air_jax.file_registration.grids`.

    Attributes:
      fixed, moving: the content of the files.
      fixed_image: `[1, *S, C]` float32 in [0, 1], the normalised fixed image; C is 1 but for several contrasts or
        colours.
      moving_image: `[1, *V, C]` float32 in [0, 1], the normalised moving image on its own grid.
      voxel_to_voxel: `[N, N + 1]` float64, from fixed voxels to the moving voxels at the same physical place.
      fixed_weights: `[1, *S]` float32 in [0, 1], how much each voxel of the fixed image counts: its mask, and 0 for
        voxels that it does not show.
      moving_weights: `[1, *V]`, the same of the moving image.
      moving_values: `[*V]` or `[*V, C]` float32, the moving file's values, with the background where it shows nothing.
      background: the value outside of the moving image, one number or `[C]`, in the file's values.
      normalized_background: the same in `moving_image`, `[1, ..., C]`, one axis for each of `[*V, C]`.
      channel_weights: C numbers, how much each channel counts.
      guides: regions, axes and landmarks that guide the registration.
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
    normalized_background: np.ndarray
    channel_weights: tuple[float, ...] = (1.0,)
    guides: Guides = Guides()

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the fixed image's grid, `S`."""
        return self.fixed_image.shape[1:-1]

    @property
    def moving_shape(self) -> tuple[int, ...]:
        """Sizes of the moving image's grid, `V`."""
        return self.moving_image.shape[1:-1]

    @property
    def are_pictures(self) -> bool:
        """Whether the fixed image has no physical space but rows and columns of pixels; lengths are then in pixels."""
        volume = self.fixed.volume
        return is_picture_space(volume.affine)

    @property
    def unit(self) -> str:
        """Unit of lengths."""
        return "pixels" if self.are_pictures else "mm"


def read_subjects(options: Options) -> tuple[Subject, Subject]:
    """Reads the fixed and the moving subject.

    Raises:
      UserError: a file cannot be read, or the files do not fit each other.
    """
    size = options.max_size
    if size is None and options.workdir is None:
        size = MAX_SIZE
    fixed = read_subject(
        options.fixed, segmentation=options.fixed_labels, landmarks=options.fixed_landmarks, max_size=size
    )
    moving = read_subject(options.moving, segmentation=options.labels, landmarks=options.landmarks, max_size=size)
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
    colour = options.guiding.colour
    first = [
        normalized(registration, each, *view, colour) for each, view in ((fixed, fixed_side), (moving, moving_side))
    ]
    check_channels(fixed, first[0], moving, first[1])
    num_first = first[0].image.shape[-1]
    fixed_contrast = with_further(registration, fixed, first[0], options.guiding.fixed_contrasts)
    moving_contrast = with_further(registration, moving, first[1], options.guiding.moving_contrasts)
    values = moving.volume.array.astype(np.float32)
    values[moving_side.outside] = moving_side.background
    return Inputs(
        fixed,
        moving,
        jnp.asarray(fixed_contrast.image)[None],
        jnp.asarray(moving_contrast.image)[None],
        voxel_matrix(fixed.volume.affine, moving.volume.affine),
        jnp.asarray(fixed_contrast.weights)[None],
        jnp.asarray(moving_contrast.weights)[None],
        values,
        moving_side.background,
        moving_contrast.background.reshape(*(1,) * moving.volume.num_axes, -1),
        channel_weights(options.guiding, num_first),
        read_guides(options.guiding, fixed, moving),
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
    dtype = subject.volume.array.dtype
    if background is not None and is_picture_dtype(subject.path, dtype):
        check_background(background, dtype, subject.path)
    return _View(outside, weights, background_of(subject.volume, background))
