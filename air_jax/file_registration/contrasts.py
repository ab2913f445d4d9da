"""The channels that are compared: one contrast or several of each subject, grey or in colour."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from air_jax.errors import UserError
from air_jax.file_registration.field_of_view import background_of, outside_of
from air_jax.file_registration.guiding import CHANNELS, Guiding, contrast_weights
from air_jax.io.subject import LUMINANCE, Subject, read_subject
from air_jax.registration import Registration
from air_jax.transforms.intensity import normalize
from air_jax.transforms.spaces import sample_moving, voxel_matrix


class Contrast(NamedTuple):
    """One image of a subject, normalised.

    Attributes:
      image: `[*S, C]` float32 in [0, 1].
      background: `[C]`, the value outside of it, in [0, 1].
      weights: `[*S]` float32, how much each voxel counts.
    """

    image: np.ndarray
    background: np.ndarray
    weights: np.ndarray


def normalized(
    registration: Registration,
    subject: Subject,
    outside: np.ndarray,
    weights: np.ndarray,
    background: np.ndarray,
    colour: str | None,
) -> Contrast:
    """Normalises an image, each channel by the values of the voxels that count.

    Args:
      registration: whose normalisation is used.
      subject: the image.
      outside: `[*S]` booleans, what it does not show.
      weights: `[*S]`, how much each voxel counts.
      background: the value outside of it, one number or `[C]`.
      colour: "channels": each channel of the file by itself. Else one grey channel.

    Raises:
      UserError: one line that names the file: its values do not fit the normalisation, or are constant after it.
    """
    volume, counts = subject.volume, weights > 0
    if colour == CHANNELS and volume.array.ndim > volume.num_axes:
        channels = [np.ascontiguousarray(channel) for channel in np.moveaxis(volume.array, -1, 0)]
        backgrounds = list(np.broadcast_to(background, len(channels)))
    else:
        channels = [subject.grey]
        backgrounds = [np.mean(background @ LUMINANCE if background.shape == (3,) else background)]
    images, outsides = [], []
    for channel, value in zip(channels, backgrounds, strict=True):
        try:
            if counts.all():
                image = np.array(registration.normalize(channel))
            else:
                image = normalize(channel, registration.normalization, counts=counts)
        except ValueError as error:
            raise UserError(f"{subject.path}: {error}") from error
        # The map is monotonous: the background becomes what the nearest value became.
        seen = channel[~outside].astype(np.float32)
        outsides.append(float(image[~outside][np.argmin(np.abs(seen - value))]))
        images.append(image)
    if all(image[counts].min() == image[counts].max() for image in images):
        raise UserError(
            f"{subject.path}: is constant after the normalisation {registration.normalization!r}; "
            "there is nothing to register"
        )
    stacked = np.stack(images, axis=-1)
    stacked[outside] = outsides
    return Contrast(stacked, np.asarray(outsides, np.float32), weights)


def with_further(registration: Registration, subject: Subject, first: Contrast, files: tuple[Path, ...]) -> Contrast:
    """Adds further contrasts of a subject as channels, resampled linearly onto the grid of the first by their headers.

    Only voxels that all contrasts show count.

    Args:
      registration: whose normalisation is used, for each contrast by itself.
      subject: the subject with its first contrast.
      first: that contrast.
      files: those of the further contrasts.

    Raises:
      UserError: one line that names the file: it cannot be read, does not fit, or shows nothing of the first contrast.
    """
    images, backgrounds, weights, volume = [first.image], [first.background], first.weights, subject.volume
    for path in files:
        other = read_subject(path)
        if other.volume.num_axes != volume.num_axes:
            raise UserError(
                f"{path}: has {other.volume.num_axes} axes, and {subject.path} {volume.num_axes}; "
                "give contrasts of one subject"
            )
        outside = outside_of(path, other.volume, registration.normalization)
        counts = (~outside).astype(np.float32)
        each = normalized(registration, other, outside, counts, background_of(other.volume, None), None)
        matrix, still = voxel_matrix(volume.affine, other.volume.affine), np.zeros((*volume.shape, volume.num_axes))
        still = still.astype(np.float32)
        image = np.asarray(sample_moving(each.image - each.background, still, matrix)) + each.background
        weights = weights * np.asarray(sample_moving(each.weights, still, matrix))
        if not weights.any():
            raise UserError(f"{path}: shows nothing of what {subject.path} shows; give contrasts of one subject")
        images.append(np.clip(image, 0, 1))
        backgrounds.append(each.background)
    return Contrast(np.concatenate(images, axis=-1), np.concatenate(backgrounds), weights)


def channel_weights(guiding: Guiding, num_first: int) -> tuple[float, ...]:
    """Returns the weight of each channel: that of its contrast, shared by the colours of the first one.

    Args:
      guiding: checked options.
      num_first: channels of the first contrast.
    """
    first, *others = contrast_weights(guiding)
    return (*[first / num_first] * num_first, *others)


def check_channels(fixed: Subject, fixed_first: Contrast, moving: Subject, moving_first: Contrast) -> None:
    """Checks that both first contrasts have the same channels.

    Raises:
      UserError: one is in colour and the other is not.
    """
    counts = fixed_first.image.shape[-1], moving_first.image.shape[-1]
    if counts[0] != counts[1]:
        raise UserError(
            f"--colour={CHANNELS}: {fixed.path} has {counts[0]} channel(s) and {moving.path} {counts[1]}; "
            "leave --colour out to compare them in grey"
        )
