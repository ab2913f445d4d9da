"""The images of a group: read, normalised, and padded to one shape so that one program serves all."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from air_jax.errors import UserError
from air_jax.file_registration.contrasts import normalized
from air_jax.file_registration.field_of_view import background_of, outside_of
from air_jax.file_templates.options import HEADERS, Options
from air_jax.io.image import is_image_file, read_image, suffix_of
from air_jax.io.space import is_picture_space, misalignment, reversed_affine, to_physical
from air_jax.io.subject import Subject, read_subject
from air_jax.registration import without_model
from air_jax.transforms.spaces import homogeneous

_SAME_GRID = 1e-3  # voxels


class Grid(NamedTuple):
    """The template's grid: its shape `S`, and its affine `[N+1, N+1]` from array indices to physical space."""

    shape: tuple[int, ...]
    affine: np.ndarray


@dataclass(frozen=True)
class Group:
    """The images of a group and the grid of their template.

    Attributes:
      names: of the subjects, their files' names without the ending.
      subjects: the content of the files.
      images: `[n, *V, 1]` float32 in [0, 1], normalised, padded to one shape V at the end of each axis.
      weights: `[n, *V]` float32, 1 where an image shows something, 0 in its padding.
      background: the value outside of the images, in [0, 1].
      grid: of the template.
      starts: `[n, N, N+1]`, points of the template to those of each subject, before any registration.
      place: `[N]`, the subjects' mean place is `x + place` for the template's point `x`; 0 without a reference.
    """

    names: tuple[str, ...]
    subjects: tuple[Subject, ...]
    images: np.ndarray
    weights: np.ndarray
    background: float
    grid: Grid
    starts: np.ndarray
    place: np.ndarray

    @property
    def num_axes(self) -> int:
        return len(self.grid.shape)

    @property
    def are_pictures(self) -> bool:
        """Whether lengths are in pixels."""
        return is_picture_space(self.grid.affine)

    @property
    def voxel_size(self) -> list[float]:
        """The mean voxel size of the images. It only determines how far coarse levels average."""
        return np.mean([subject.volume.spacing for subject in self.subjects], axis=0).tolist()

    def voxel_matrices(self, affines: np.ndarray) -> np.ndarray:
        """Converts maps `[n, N, N+1]` of physical points to maps from voxels of the grid to those of the subjects."""
        found = zip(self.subjects, homogeneous(affines), strict=True)
        return np.stack([np.linalg.solve(each.volume.affine, map_ @ self.grid.affine)[:-1] for each, map_ in found])

    def physical_maps(self, matrices: np.ndarray) -> np.ndarray:
        """Returns the inverse of `voxel_matrices`: maps `[n, N, N+1]` float64 of physical points."""
        back, found = np.linalg.inv(self.grid.affine), zip(self.subjects, homogeneous(matrices), strict=True)
        return np.stack([(each.volume.affine @ map_ @ back)[:-1] for each, map_ in found])


def files_in(folder: Path, flag: str) -> dict[str, Path]:
    """Returns the image files of a folder by their names without the ending, sorted; hidden ones are left out.

    Raises:
      UserError: one line: the folder has two files of one name.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if not is_image_file(path):
            continue
        name = path.name[: -len(suffix_of(path))]
        if name in found:
            raise UserError(f"--{flag}={folder}: has {found[name].name} and {path.name}; give one file a subject")
        found[name] = path
    return found


def read_group(options: Options) -> Group:
    """Reads and normalises all images of a group.

    Raises:
      UserError: one line that names the folder or the file: fewer than two images; a file cannot be read, is constant
        or has other axes; or images and segmentations do not fit each other.
    """
    paths = files_in(options.images, "images")
    if len(paths) < 2:
        raise UserError(f"--images={options.images}: has {len(paths)} image(s); a template needs at least 2")
    labels = None if options.labels is None else _labels_of(options, paths)
    subjects = []
    for name, path in paths.items():
        subject = read_subject(path, segmentation=None if labels is None else labels[name])
        first = subjects[0] if subjects else subject
        if subject.volume.num_axes != first.volume.num_axes:
            raise UserError(
                f"{path}: has {subject.volume.num_axes} axes, but {first.path} {first.volume.num_axes}; "
                "give images of one kind"
            )
        if is_picture_space(subject.volume.affine) != is_picture_space(first.volume.affine):
            raise UserError(f"{path}: is placed in another unit than {first.path}; give images of one kind")
        subjects.append(subject)
    images, weights, backgrounds = _padded(subjects, options.normalization)
    centres = np.stack([_centre(*each) for each in zip(subjects, images, weights, strict=True)])
    grid, place = _grid(subjects), np.zeros(subjects[0].volume.num_axes)
    if options.reference is not None:
        grid, centre = _reference(options.reference, subjects[0])
        place = place if options.start == HEADERS else centres.mean(axis=0) - centre
    moved = np.zeros_like(centres) if options.start == HEADERS else centres - centres.mean(axis=0) + place
    starts = np.concatenate([np.broadcast_to(np.eye(len(place)), (len(moved), *[len(place)] * 2)), moved[..., None]], 2)
    return Group(tuple(paths), tuple(subjects), images, weights, float(np.mean(backgrounds)), grid, starts, place)


def _labels_of(options: Options, paths: dict[str, Path]) -> dict[str, Path]:
    assert options.labels is not None
    labels = files_in(options.labels, "labels")
    if missing := [path for name, path in paths.items() if name not in labels]:
        raise UserError(f"--labels={options.labels}: has no segmentation of {missing[0]}")
    if missing := [path for name, path in labels.items() if name not in paths]:
        raise UserError(f"{missing[0]}: belongs to no image; --images={options.images} has no file of this name")
    return labels


def _padded(subjects: list[Subject], normalization: str) -> tuple[np.ndarray, np.ndarray, list[float]]:
    num_axes = subjects[0].volume.num_axes
    shape = np.max([subject.volume.shape for subject in subjects], axis=0)
    registration = without_model(num_axes, normalization=normalization)
    images = np.zeros((len(subjects), *shape, 1), np.float32)
    weights, backgrounds = np.zeros(images.shape[:-1], np.float32), []
    for index, subject in enumerate(subjects):
        outside = outside_of(subject.path, subject.volume, normalization)
        if outside.all():
            raise UserError(f"{subject.path}: shows nothing; all of its values are padding")
        counts, background = (~outside).astype(np.float32), background_of(subject.volume, None)
        each = normalized(registration, subject, outside, counts, background, None)
        own = (index, *map(slice, subject.volume.shape))
        images[own], weights[own] = each.image, counts
        backgrounds.append(float(each.background[0]))
    return images, weights, backgrounds


def _grid(subjects: list[Subject]) -> Grid:
    """The first image's directions and voxels, the largest extent along each axis, centred among all images."""
    first = subjects[0].volume
    shape = np.array(first.shape)
    extents, middles = [], []
    for each in (subject.volume for subject in subjects):
        axes = np.abs(np.linalg.solve(first.affine[:-1, :-1], each.affine[:-1, :-1]))
        extents.append(axes @ np.array(each.shape))
        middles.append(to_physical((np.array(each.shape) - 1) / 2, each.affine))
    shape = tuple(np.ceil(np.max(extents, axis=0) - _SAME_GRID).astype(int).tolist())
    if is_picture_space(first.affine):
        return Grid(shape, reversed_affine(np.ones(2)))
    affine = first.affine.copy()
    affine[:-1, -1] = np.mean(middles, axis=0) - affine[:-1, :-1] @ ((np.array(shape) - 1) / 2)
    same = shape == first.shape and misalignment(first.affine, affine, shape) < _SAME_GRID
    return Grid(shape, first.affine if same else affine)


def _reference(path: Path, first: Subject) -> tuple[Grid, np.ndarray]:
    """The grid of a file, and the centre of mass of its image."""
    volume = read_image(path)
    if volume.num_axes != first.volume.num_axes:
        raise UserError(f"--reference={path}: has {volume.num_axes} axes, the images have {first.volume.num_axes}")
    if is_picture_space(volume.affine) != is_picture_space(first.volume.affine):
        raise UserError(f"--reference={path}: is placed in another unit than {first.path}; give an image of one kind")
    grey = volume.array if volume.array.ndim == volume.num_axes else volume.array.mean(axis=-1)
    centre = _centre_of_mass(grey.astype(np.float64), np.ones(volume.shape))
    return Grid(volume.shape, volume.affine), to_physical(centre, volume.affine)


def _centre(subject: Subject, image: np.ndarray, weights: np.ndarray) -> np.ndarray:
    own = tuple(map(slice, subject.volume.shape))
    return to_physical(_centre_of_mass(image[own][..., 0], weights[own]), subject.volume.affine)


def _centre_of_mass(image: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """`[N]` in voxels. The mass is the distance from the border's median: backgrounds may be black or white."""
    inner = np.zeros(image.shape, bool)
    inner[(slice(1, -1),) * image.ndim] = True
    mass = np.abs(image - np.median(image[~inner])) * weights
    if not mass.any():
        return (np.array(image.shape) - 1) / 2
    axes = range(image.ndim)
    sums = [mass.sum(axis=tuple(other for other in axes if other != axis), dtype=np.float64) for axis in axes]
    return np.array([each @ np.arange(len(each)) / each.sum() for each in sums])
