"""A folder of one's own image files, NIfTI or others that `air_jax.io` reads, brought onto one grid."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from air_jax.data.dataset import Images
from air_jax.data.source import Source
from air_jax.errors import UserError
from air_jax.io.image import SUFFIXES
from air_jax.io.space import reversed_affine
from air_jax.io.subject import Subject, read_subject
from air_jax.io.volume import Volume
from air_jax.transforms.intensity import normalize
from air_jax.transforms.spaces import sample_moving, voxel_matrix


def load(folder: str | Path, labels: str | Path | None, normalization: str, *, grid: str | None = None) -> Source:
    """Loads all images of a folder, by name.

    All are resampled onto the grid of one of them, through their headers' affines: linearly, 0 outside; segmentations
    with nearest neighbour. Intensities are normalised before, image by image.

    Args:
      folder: with the images; hidden files and other kinds of files are left out. `~` is the user's home.
      labels: folder with a segmentation for each image, in a file of the same name up to the ending. None: there are
        none.
      normalization: see `air_jax.transforms.intensity.normalize`.
      grid: name of the image whose grid all are on. Default: the first.

    Returns:
      Images `[n, *S, 1]` float32 in [0, 1], named by their files without the ending.

    Raises:
      UserError: a folder or a file in it will not do; one line that names it.
    """
    paths = _images_in(Path(folder).expanduser(), "dataset.name")
    segmentations = {} if labels is None else _images_in(Path(labels).expanduser(), "dataset.labels")
    if labels is not None and (missing := [name for name in paths if name not in segmentations]):
        raise UserError(f"dataset.labels={str(labels)!r}: has no segmentation for {paths[missing[0]]}")
    first = grid or next(iter(paths))
    if first not in paths:
        raise UserError(f"{folder}: has no image named {first!r}")
    frame = _read(paths[first], segmentations.get(first), normalization)
    images, labelled = [], []
    for name, path in paths.items():
        side = frame if name == first else _read(path, segmentations.get(name), normalization)
        if side.volume.num_axes != frame.volume.num_axes:
            raise UserError(f"{path}: has {side.volume.num_axes} axes, but {paths[first]} {frame.volume.num_axes}")
        if side.volume.shape != frame.volume.shape and _has_no_place(side.volume) and _has_no_place(frame.volume):
            raise UserError(
                f"{path}: has shape {side.volume.shape}, but {paths[first]} {frame.volume.shape}; "
                "without headers that place them, images must be of one size"
            )
        image = _on_grid(side.grey, side, frame, order=1)
        if image.min() == image.max():
            raise UserError(f"{path}: its header places it outside of {paths[first]}; mend the headers or align first")
        images.append(image)
        if labels is not None:
            labelled.append(_on_grid(side.segmentation, side, frame, order=0))
    stacked = np.stack(images)[..., None]
    return Source(Images(stacked, segmentations=np.stack(labelled) if labelled else None), np.array(list(paths)))


def _read(path: Path, segmentation: Path | None, normalization: str) -> Subject:
    """Reads an image in [0, 1] and its segmentation as int32."""
    subject = read_subject(path, segmentation=segmentation)
    try:
        grey = normalize(subject.grey, normalization)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error
    if grey.min() == grey.max():
        raise UserError(f"{path}: is constant in the window {normalization!r}; there is nothing to register")
    labels = subject.segmentation
    if labels is not None:
        if int(labels.max()) >= 2**31 or int(labels.min()) < -(2**31):
            raise UserError(f"{segmentation}: has label ids that do not fit int32; give the labels smaller ids")
        labels = labels.astype(np.int32)
    return replace(subject, grey=grey, segmentation=labels)


def _on_grid(array: np.ndarray, side: Subject, frame: Subject, order: int) -> np.ndarray:
    """An image or a segmentation of `side` on the grid of `frame`, of the same physical place."""
    matrix = voxel_matrix(frame.volume.affine, side.volume.affine)
    furthest = np.abs(matrix - np.eye(*matrix.shape)) @ np.append(frame.volume.shape, 1)
    if array.shape == frame.volume.shape and furthest.max() < 1e-2:  # voxels
        return array
    zero = np.zeros((*frame.volume.shape, len(matrix)), np.float32)
    sampled = np.asarray(sample_moving(array, zero, matrix, order=order))
    return np.clip(sampled, 0, 1) if order else sampled  # weights may sum to a little more than 1


def is_folder(name: str) -> bool:
    """Whether a data set's name is that of a folder of images.

    Raises:
      UserError: it can be nothing else, and there is no such folder.
    """
    folder = Path(name).expanduser()
    is_path = name.endswith(("/", "\\")) or name.startswith((".", "/", "~"))
    if is_path and not folder.is_dir() and folder.suffix.lower() != ".npz":
        raise UserError(f"dataset.name={name!r}: there is no such folder")
    return folder.is_dir() and any(_ending(path) for path in folder.iterdir())


def _has_no_place(volume: Volume) -> bool:
    """Whether a file says nothing of where its image lies: pictures, and arrays without spacing."""
    return np.array_equal(volume.affine, reversed_affine(np.ones(volume.num_axes)))


def _ending(path: Path) -> str | None:
    """How an image file's name ends; None for other files."""
    ending = next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), None)
    return None if path.name.startswith(".") or not path.is_file() else ending


def _images_in(folder: Path, key: str) -> dict[str, Path]:
    """The image files of a folder that the config's `key` names, by their names without the ending, sorted."""
    if not folder.is_dir():
        raise UserError(f"{key}={str(folder)!r}: is no folder; give one with images")
    paths = {}
    for path in sorted(folder.iterdir()):
        ending = _ending(path)
        if ending is None:
            continue
        name = path.name[: -len(ending)]
        if name in paths:
            raise UserError(f"{folder}: has both {paths[name].name} and {path.name}; leave one of them")
        paths[name] = path
    if not paths:
        raise UserError(f"{key}={str(folder)!r}: has no image ({', '.join(SUFFIXES)})")
    return paths
