"""What a user gives to have two files registered: read, checked and normalised, or refused in one line."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from air_jax import io
from air_jax.errors import UserError
from air_jax.transforms.intensity import normalize

LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601)
FEWEST_VOXELS = 3  # along an axis, for derivatives


class Side(NamedTuple):
    """One image and what goes with it.

    Attributes:
      volume: as the file has it.
      grey: `[*S]` float32 in [0, 1], what is registered.
      labels: `[*S]` integers, None where not given.
      landmarks: `[K, N]` physical points, None where not given.
    """

    volume: io.Volume
    grey: np.ndarray
    labels: np.ndarray | None
    landmarks: np.ndarray | None


def read_side(image: Path, labels: Path | None, landmarks: Path | None, window: str) -> Side:
    """Reads an image and, where given, its segmentation and landmarks.

    Args:
      image, labels, landmarks: files.
      window: how intensities are brought to [0, 1], see `air_jax.transforms.intensity.normalize`.
        Colours become grey first.

    Raises:
      UserError: a file cannot be read, or does not fit the image.
    """
    volume = io.read_image(image)
    if min(volume.shape) < FEWEST_VOXELS:
        raise UserError(f"{image}: has shape {volume.shape}; give at least {FEWEST_VOXELS} voxels along each axis")
    try:
        grey = normalize(_grey(volume), window)
    except ValueError as error:
        raise UserError(f"{image}: {error}") from error
    if grey.min() == grey.max():
        raise UserError(f"{image}: is constant; there is nothing to register")
    points = None if landmarks is None else io.read_landmarks(landmarks)
    if points is not None and points.shape[1] != volume.num_axes:
        raise UserError(f"{landmarks}: has points of {points.shape[1]} numbers; {image} has {volume.num_axes} axes")
    return Side(volume, grey, None if labels is None else _read_labels(labels, volume, image), points)


def check_pair(fixed: Side, moving: Side, fixed_image: Path, moving_image: Path) -> None:
    """Raises `UserError` when the two do not make a pair."""
    if fixed.volume.num_axes != moving.volume.num_axes:
        raise UserError(
            f"{fixed_image} has {fixed.volume.num_axes} axes and {moving_image} {moving.volume.num_axes}; "
            "give two images of the same number of axes"
        )
    if fixed.landmarks is not None and len(fixed.landmarks) != len(moving.landmarks):
        raise UserError(
            f"--fixed_landmarks has {len(fixed.landmarks)} points and --landmarks {len(moving.landmarks)}; "
            "give the same ones in both"
        )


def _grey(volume: io.Volume) -> np.ndarray:
    if volume.array.ndim == volume.num_axes:
        return volume.array
    if volume.array.shape[-1] == 3:
        return volume.array.astype(np.float32) @ np.asarray(LUMINANCE, np.float32)
    return volume.array.astype(np.float32).mean(axis=-1)


def _read_labels(path: Path, volume: io.Volume, image: Path) -> np.ndarray:
    labels = io.read_image(path)
    if labels.array.shape != volume.shape:
        raise UserError(f"{path}: has shape {labels.array.shape}, but {image} has {volume.shape}")
    if not np.allclose(labels.affine, volume.affine, atol=1e-2):
        raise UserError(f"{path}: lies elsewhere in space than {image}; resample it onto the image's grid")
    rounded = np.round(labels.array).astype(np.int32)
    if np.abs(labels.array - rounded).max() > 1e-3:
        raise UserError(f"{path}: has values that are no integers; labels must be")
    return rounded
