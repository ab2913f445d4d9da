"""A subject: an image with its segmentation and its landmarks, read from files and checked."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from air_jax.checks import check_instance, check_integer, check_path
from air_jax.errors import UserError
from air_jax.io.image import read_image
from air_jax.io.landmarks import count_outside, read_points
from air_jax.io.slides import read_reduced, reduced_segmentation
from air_jax.io.space import is_picture_space, to_physical
from air_jax.io.volume import Volume, check_same_grid

LUMINANCE = (0.299, 0.587, 0.114)  # weights of red, green and blue (ITU-R BT.601)
MIN_VOXELS = 3  # along each axis; central differences need them


@dataclass(frozen=True)
class Subject:
    """An image and the data that belong to it.

    Attributes:
      path: the image's file, for messages.
      volume: the image as stored.
      grey: `[*S]`, the image as one channel, not normalised. Grey images keep their type. Colours become float32
        luminance; other channels become their float32 mean.
      segmentation: `[*S]` integers in the type of their file, or None.
      landmarks: `[K, N]` float64 physical points (mm, LPS; for pictures column and row), or None.

    Examples:
      >>> from pathlib import Path
      >>> air_jax.io.write_image("image.nii.gz", np.arange(120.0).reshape(4, 5, 6), np.eye(4))
      >>> subject = air_jax.io.read_subject(Path("image.nii.gz"))
      >>> subject.grey.shape, subject.segmentation
      ((4, 5, 6), None)
    """

    path: Path
    volume: Volume
    grey: np.ndarray
    segmentation: np.ndarray | None = None
    landmarks: np.ndarray | None = None


def read_subject(
    image: Path, *, segmentation: Path | None = None, landmarks: Path | None = None, max_size: int | None = None
) -> Subject:
    """Reads an image and, where given, its segmentation and its landmarks.

    Args:
      image: file of the image, see `air_jax.io.read_image`.
      segmentation: file of its segmentation on the same grid, see `air_jax.io.read_segmentation`.
      landmarks: file of its landmarks, see `air_jax.io.read_landmarks`.
      max_size: largest number of pixels along a side of a picture; a larger one is reduced, see
        `air_jax.io.slides.read_reduced`. Default: every image is read as it is.

    Returns:
      The subject, its image not normalised.

    Raises:
      UserError: one line that names the file: it cannot be read; the image is constant or smaller than 3 voxels along
        an axis; the segmentation or the landmarks do not fit the image; or all landmarks lie outside of it.

    Examples:
      >>> from pathlib import Path
      >>> air_jax.io.write_image("image.nii.gz", np.arange(120.0).reshape(4, 5, 6), np.eye(4))
      >>> air_jax.io.write_landmarks("points.csv", np.array([[1.0, 2.0, 3.0]]))
      >>> subject = air_jax.io.read_subject(Path("image.nii.gz"), landmarks=Path("points.csv"))
      >>> subject.landmarks.tolist()
      [[1.0, 2.0, 3.0]]
    """
    check_path(image=image)
    image = Path(image)
    if segmentation is not None:
        check_path(segmentation=segmentation)
        segmentation = Path(segmentation)
    if landmarks is not None:
        check_path(landmarks=landmarks)
        landmarks = Path(landmarks)
    if max_size is not None:
        check_integer("max_size", max_size, 1)
    volume = read_image(image) if max_size is None else read_reduced(image, max_size)
    if min(volume.shape) < MIN_VOXELS:
        raise UserError(f"{image}: has shape {volume.shape}; give at least {MIN_VOXELS} voxels along each axis")
    grey = _grey(volume)
    if grey.min() == grey.max():
        raise UserError(f"{image}: is constant; there is nothing to register")
    points = None if landmarks is None else read_points_of(landmarks, volume, image)
    labels = None if segmentation is None else _read_segmentation(segmentation, volume, image)
    return Subject(image, volume, grey, labels, points)


def check_pair(fixed: Subject, moving: Subject) -> None:
    """Checks that two subjects can be registered and scored.

    Args:
      fixed, moving: the two subjects.

    Raises:
      UserError: one line: the images differ in their number of axes, the landmarks in their number; or the fixed
        subject has a segmentation or landmarks that the moving one lacks.

    Examples:
      >>> from pathlib import Path
      >>> air_jax.io.write_image("volume.nii.gz", np.arange(120.0).reshape(4, 5, 6), np.eye(4))
      >>> air_jax.io.write_image("picture.png", np.eye(4, dtype=np.uint8), np.eye(3))
      >>> volume, picture = (air_jax.io.read_subject(Path(name)) for name in ("volume.nii.gz", "picture.png"))
      >>> try:
      ...     air_jax.io.check_pair(volume, picture)
      ... except air_jax.UserError as error:
      ...     print(error)
      volume.nii.gz has 3 axes and picture.png 2; give two images of the same number of axes
    """
    check_instance("fixed", fixed, Subject, "a Subject")
    check_instance("moving", moving, Subject, "a Subject")
    if fixed.volume.num_axes != moving.volume.num_axes:
        raise UserError(
            f"{fixed.path} has {fixed.volume.num_axes} axes and {moving.path} {moving.volume.num_axes}; "
            "give two images of the same number of axes"
        )
    if fixed.segmentation is not None and moving.segmentation is None:
        raise UserError(
            f"{fixed.path} has a segmentation and {moving.path} has none; give both, or only that of the moving image"
        )
    if fixed.landmarks is not None:
        num_moving = 0 if moving.landmarks is None else len(moving.landmarks)
        if len(fixed.landmarks) != num_moving:
            raise UserError(
                f"{fixed.path} has {len(fixed.landmarks)} landmarks and {moving.path} {num_moving}; "
                "give the same points for both"
            )


def _grey(volume: Volume) -> np.ndarray:
    if volume.array.ndim == volume.num_axes:
        return volume.array
    if volume.array.shape[-1] == 3:
        return volume.array.astype(np.float32) @ np.asarray(LUMINANCE, np.float32)
    return volume.array.astype(np.float32).mean(axis=-1)


def read_points_of(path: Path, volume: Volume, image: Path) -> np.ndarray:
    """Reads the landmarks of an image and checks that they fit it.

    Args:
      path: file of the landmarks.
      volume: the image.
      image: its file, for messages.

    Returns:
      `[K, N]` float64 physical points.

    Raises:
      UserError: one line that names the file: its points have another number of axes or another unit, or all lie
        outside of the image.
    """
    points, unit = read_points(path)
    if points.shape[1] != volume.num_axes:
        raise UserError(f"{path}: has points of {points.shape[1]} numbers; {image} has {volume.num_axes} axes")
    expected = "pixel" if is_picture_space(volume.affine) else "mm"
    frame = f"in {expected}{'s: column, row' if expected == 'pixel' else ', LPS, x first'}"
    if unit not in (None, expected):
        raise UserError(f"{path}: has points in {unit}; for {image} they must be {frame}")
    if count_outside(points, volume) == len(points):
        raise UserError(
            f"{path}: all {len(points)} points lie outside of {image}; they must be {frame}{_hint(points, volume)}"
        )
    return points


def _hint(points: np.ndarray, volume: Volume) -> str:
    """Returns what the points may be, where another frame places all of them inside of the image."""
    frames = {"voxels": to_physical(points, volume.affine)}
    if volume.num_axes == 3:
        frames = {"RAS": points * [-1, -1, 1]} | frames
    likely = [name for name, moved in frames.items() if not count_outside(moved, volume)]
    return f" (taken as {' or '.join(likely)}, they lie inside)" if likely else ""


def _read_segmentation(path: Path, volume: Volume, image: Path) -> np.ndarray:
    segmentation = reduced_segmentation(path, volume)
    check_same_grid(path, segmentation, volume, image)
    return segmentation.array
