"""A folder of image files, NIfTI or others that `air_jax.io` reads, resampled onto one grid."""

from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from air_jax.data.dataset import Images
from air_jax.data.source import Source
from air_jax.errors import UserError
from air_jax.io.image import SUFFIXES, is_image_file, suffix_of
from air_jax.io.space import reversed_affine
from air_jax.io.subject import Subject, read_subject
from air_jax.io.volume import Volume
from air_jax.transforms.intensity import normalize
from air_jax.transforms.spaces import sample_moving, voxel_matrix

# Images whose voxels lie this close to those of the grid, in voxels, are not resampled.
_TOLERANCE = 1e-2


def load(
    folder: str | Path,
    *,
    segmentations: str | Path | None = None,
    normalization: str = "range",
    grid: str | None = None,
) -> Source:
    """Loads all images of a folder, sorted by name, onto the grid of one of them.

    Each image is normalised, then resampled linearly through the affines of the two files; outside of the image it is
    0. Segmentations are resampled with nearest neighbour.

    Args:
      folder: folder of the images. Hidden files and files of other kinds are ignored. `~` is the home folder.
      segmentations: folder with a segmentation of each image, in a file of the same name up to the ending. Default:
        none.
      normalization: a key of `air_jax.transforms.intensity.WINDOWS`.
      grid: name of the image whose grid all images get. Default: the first image.

    Returns:
      Images `[n, *S, 1]` float32 in [0, 1], and the names of their files without the ending.

    Raises:
      UserError: a folder or a file in it cannot be used; one line that names it.
    """
    paths = _images_in(Path(folder).expanduser(), "dataset.name")
    segmentation_paths = {} if segmentations is None else _images_in(Path(segmentations).expanduser(), "dataset.labels")
    if segmentations is not None and (missing := [name for name in paths if name not in segmentation_paths]):
        raise UserError(f"dataset.labels={str(segmentations)!r}: has no segmentation for {paths[missing[0]]}")
    first = grid or next(iter(paths))
    if first not in paths:
        raise UserError(f"{folder}: has no image named {first!r}")
    target = _read(paths[first], segmentation_paths.get(first), normalization)
    images, labelled = [], []
    for name, path in paths.items():
        subject = target if name == first else _read(path, segmentation_paths.get(name), normalization)
        _check_same_space(path, subject.volume, paths[first], target.volume)
        image = np.clip(_on_grid(subject.grey, subject, target, order=1), 0, 1)  # weights may sum to more than 1
        if image.min() == image.max():
            raise UserError(
                f"{path}: its affine places it outside of {paths[first]}; correct the files, or align first"
            )
        images.append(image)
        if subject.segmentation is not None:
            labelled.append(_on_grid(subject.segmentation, subject, target, order=0))
    stacked = Images(np.stack(images)[..., None], segmentations=np.stack(labelled) if labelled else None)
    return Source(stacked, names=np.array(list(paths)))


def _read(path: Path, segmentation: Path | None, normalization: str) -> Subject:
    """Reads an image in [0, 1] and its segmentation as int32."""
    subject = read_subject(path, segmentation=segmentation)
    try:
        grey = normalize(subject.grey, normalization)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error
    if grey.min() == grey.max():
        raise UserError(f"{path}: is constant in the window {normalization!r}; there is nothing to register")
    label_ids = subject.segmentation
    if label_ids is not None:
        if int(label_ids.max()) >= 2**31 or int(label_ids.min()) < -(2**31):
            raise UserError(f"{segmentation}: has label ids that do not fit int32; give the labels smaller ids")
        label_ids = label_ids.astype(np.int32)
    return replace(subject, grey=grey, segmentation=label_ids)


def is_folder(name: str) -> bool:
    """Returns whether a data set's name is the path of a folder of images.

    Args:
      name: name of a data set, or a path.

    Raises:
      UserError: the name can only be a path, and there is no such folder.
    """
    folder = Path(name).expanduser()
    is_path = name.endswith(("/", "\\")) or name.startswith((".", "/", "~"))
    if is_path and not folder.is_dir() and folder.suffix.lower() != ".npz":
        raise UserError(f"dataset.name={name!r}: there is no such folder")
    return folder.is_dir() and any(map(is_image_file, folder.iterdir()))


def _check_same_space(path: Path, volume: Volume, target_path: Path, target: Volume) -> None:
    """Raises `UserError` where an image cannot be resampled onto the target's grid."""
    if volume.num_axes != target.num_axes:
        raise UserError(f"{path}: has {volume.num_axes} axes, but {target_path} {target.num_axes}")
    if volume.shape != target.shape and _has_no_place(volume) and _has_no_place(target):
        raise UserError(
            f"{path}: has shape {volume.shape}, but {target_path} {target.shape}; "
            "images without an affine in the file must be of one size"
        )


def _has_no_place(volume: Volume) -> bool:
    """Returns whether the file has no affine, as pictures and arrays without spacing."""
    return np.array_equal(volume.affine, reversed_affine(np.ones(volume.num_axes)))


def _on_grid(array: np.ndarray, subject: Subject, target: Subject, *, order: int) -> np.ndarray:
    """Resamples an image or a segmentation `[*V]` of `subject` onto the grid `[*S]` of `target`."""
    matrix = voxel_matrix(target.volume.affine, subject.volume.affine)
    largest_shift = np.max(np.abs(matrix - np.eye(*matrix.shape)) @ np.append(target.volume.shape, 1))
    if array.shape == target.volume.shape and largest_shift < _TOLERANCE:
        return array
    zero = jnp.zeros((*target.volume.shape, len(matrix)))
    return np.asarray(sample_moving(array, zero, matrix, order=order))


def _images_in(folder: Path, key: str) -> dict[str, Path]:
    """Lists the image files of the folder in the config's `key`, by their names without the ending, sorted."""
    if not folder.is_dir():
        raise UserError(f"{key}={str(folder)!r}: is no folder; give a folder of images")
    paths = {}
    for path in sorted(folder.iterdir()):
        if not is_image_file(path):
            continue
        name = path.name[: -len(suffix_of(path))]
        if name in paths:
            raise UserError(f"{folder}: has both {paths[name].name} and {path.name}; keep one of them")
        paths[name] = path
    if not paths:
        raise UserError(f"{key}={str(folder)!r}: has no image ({', '.join(SUFFIXES)})")
    return paths
