"""What guides a registration, read from files: regions, axes and landmarks, on the grids of the images."""

import dataclasses
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment

from air_jax import io
from air_jax.errors import UserError
from air_jax.file_registration.field_of_view import read_mask
from air_jax.file_registration.guiding import Guiding, restricted
from air_jax.io.landmarks import count_outside
from air_jax.io.space import direction_of
from air_jax.io.subject import Subject, read_points_of
from air_jax.io.volume import Volume, check_same_grid
from air_jax.optimize import Constraints, Guidance

# Landmarks set by hand are off by some voxels; in experiments/everyday/guiding.json a larger weight fits their errors.
DEFAULT_WEIGHT = 0.1
MOST_BODIES = 32  # each one is an image of its own


class Guides(NamedTuple):
    """What guides a registration.

    Attributes:
      constraints: axes and regions.
      landmarks: `[K, N]` each, in voxels of the fixed and of the moving image, or None.
      guidance: the same landmarks with their weight, or None: they do not guide.
    """

    constraints: Constraints = Constraints()
    landmarks: tuple[np.ndarray, np.ndarray] | None = None
    guidance: Guidance | None = None

    @property
    def are_local(self) -> bool:
        """Whether there are regions, or landmarks that guide the deformation."""
        return self.constraints.has_regions() or self.guidance is not None

    @property
    def kind(self) -> Hashable:
        """What the guides of one batch have in common: free axes, bodies, points, weight and tolerance."""
        rigid, volume, points = self.constraints.rigid_regions, self.constraints.keep_volume, self.guidance
        bodies = None if rigid is None else rigid.shape
        pull = None if points is None else (points.fixed.shape, points.weight, points.tolerance)
        return self.constraints.restrict, bodies, volume is None, pull


def stack_guides(guides: Sequence[Guides]) -> tuple[Constraints, Guidance | None]:
    """Returns the constraints and the landmarks of a batch.

    Args:
      guides: of each pair, of one `kind`.
    """
    first = guides[0]

    def stacked(arrays: Sequence[jax.Array | np.ndarray | None]) -> jax.Array | None:
        given = [array for array in arrays if array is not None]
        return jnp.concatenate(given) if given else None

    constraints = Constraints(
        first.constraints.restrict,
        stacked([each.constraints.rigid_regions for each in guides]),
        stacked([each.constraints.keep_volume for each in guides]),
    )
    if first.guidance is None:
        return constraints, None
    points = [each.guidance for each in guides if each.guidance is not None]
    fixed, moving = (jnp.concatenate([getattr(each, side) for each in points]) for side in ("fixed", "moving"))
    return constraints, dataclasses.replace(first.guidance, fixed=fixed, moving=moving)


def read_guides(guiding: Guiding, fixed: Subject, moving: Subject) -> Guides:
    """Reads regions and landmarks.

    Args:
      guiding: checked options.
      fixed, moving: both subjects.

    Raises:
      UserError: one line that names the file or the flag: it cannot be read, or does not fit the image.
    """
    restrict = rigid = volume = None
    if guiding.restrict is not None:
        restrict = _by_array_axis(restricted(guiding.restrict), fixed.volume, guiding.restrict)
    if guiding.rigid_region is not None:
        rigid = _read_bodies(guiding.rigid_region, fixed.volume, fixed.path)[None]
    if guiding.keep_volume is not None:
        volume = read_mask(guiding.keep_volume, fixed.volume, fixed.path)[None]
        if not volume[(0, *(slice(1, -1),) * fixed.volume.num_axes)].any():
            raise UserError(f"{guiding.keep_volume}: has only voxels at the border of {fixed.path}")
    regions = [None if region is None else jnp.asarray(region) for region in (rigid, volume)]
    constraints = Constraints(restrict, regions[0], regions[1])
    if guiding.guide_landmarks is None or guiding.fixed_guide_landmarks is None:
        return Guides(constraints)
    points = []
    for path, subject in ((guiding.fixed_guide_landmarks, fixed), (guiding.guide_landmarks, moving)):
        physical = read_points_of(path, subject.volume, subject.path)
        if outside := count_outside(physical, subject.volume):
            print(f"{path}: {outside} of {len(physical)} landmarks lie outside of {subject.path}", flush=True)
        points.append(io.to_voxels(physical, subject.volume.affine))
    if len(points[0]) != len(points[1]):
        raise UserError(
            f"{guiding.fixed_guide_landmarks} has {len(points[0])} points and {guiding.guide_landmarks} "
            f"{len(points[1])}; give the same points in both images"
        )
    if guiding.guide_weight == 0:
        return Guides(constraints, (points[0], points[1]))
    weight = DEFAULT_WEIGHT if guiding.guide_weight is None else guiding.guide_weight
    arrays = [jnp.asarray(each[None], jnp.float32) for each in points]
    guidance = Guidance(arrays[0], arrays[1], weight=weight, tolerance=guiding.guide_tolerance or 0.0)
    return Guides(constraints, (points[0], points[1]), guidance)


def _by_array_axis(flags: tuple[float, ...], volume: Volume, text: str) -> tuple[float, ...]:
    """The flags of x, y[, z] as those of the array axes: each array axis is the physical axis closest to it."""
    if len(flags) != volume.num_axes:
        raise UserError(f"--restrict={text}: has {len(flags)} numbers, the images have {volume.num_axes} axes")
    _, physical = linear_sum_assignment(-np.abs(direction_of(volume.affine)).T)
    return tuple(flags[axis] for axis in physical)


def _read_bodies(path: Path, volume: Volume, image: Path) -> np.ndarray:
    """`[*S, K]` float32: one channel for each label above 0."""
    labels = io.read_segmentation(path)
    check_same_grid(path, labels, volume, image)
    if labels.array.min() < 0:
        raise UserError(f"{path}: has negative labels; bodies have labels above 0")
    ids = [label for label in np.unique(labels.array).tolist() if label]
    if not ids:
        raise UserError(f"{path}: is empty; bodies have labels above 0")
    if len(ids) > MOST_BODIES:
        raise UserError(f"{path}: has {len(ids)} labels, each of them a body; give at most {MOST_BODIES}")
    return np.stack([labels.array == label for label in ids], axis=-1).astype(np.float32)
