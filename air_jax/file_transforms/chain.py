"""Chains of transforms: evaluation at physical points, and inversion."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from air_jax.file_transforms.sampling import sample_points
from air_jax.io.space import to_physical, to_voxels
from air_jax.io.transform import AffineMap, FieldMap, Part
from air_jax.transforms import inverse
from air_jax.transforms.spaces import homogeneous

_SMALLEST_DETERMINANT = 0.01  # of an affine; points in one slice, or a map that collapses, have none
_FITTED_POINTS = 100_000  # of a grid; an affine needs no more
_POLISHING_STEPS = 20  # of an inverted point; each reduces what is left at least by half in fields that do not fold


def apply_chain(parts: Sequence[Part], points: np.ndarray) -> np.ndarray:
    """Moves points by each part in turn.

    Args:
      parts: the transform, first part first.
      points: `[K, N]`, physical coordinates, x first.

    Returns:
      `[K, N]` float64.
    """
    points = np.asarray(points, np.float64)
    for part in parts:
        points = _apply_affine(part.matrix, points) if isinstance(part, AffineMap) else _displaced(part, points)
    return points


def invert_chain(parts: Sequence[Part]) -> list[Part]:
    """Inverts a transform.

    A field is split into its affine part, by least squares, and the deformation that is left, which is inverted voxel
    by voxel, see `air_jax.transforms.inverse`. Outside its grid the inverse continues the border's displacement.

    Args:
      parts: the transform, first part first.

    Returns:
      The parts of the inverse.
    """
    return [part for original in reversed(parts) for part in _inverted(original)]


def apply_inverse(parts: Sequence[Part], inverse_parts: Sequence[Part], points: np.ndarray) -> np.ndarray:
    """Moves points by the inverse of a transform, more exactly than by the inverse's parts alone.

    Args:
      parts: the transform.
      inverse_parts: its inverse, see `invert_chain`.
      points: `[K, N]`, physical coordinates, x first.

    Returns:
      `[K, N]` float64: the points that the transform moves onto `points`. A point that has none, because it lies
      outside all fields or beside a fold, is moved by `inverse_parts`.
    """
    start = apply_chain(inverse_parts, points)
    best, best_error = start, np.linalg.norm(apply_chain(parts, start) - points, axis=1)
    current = best
    for _ in range(_POLISHING_STEPS):
        # A fixed point is a point that the transform moves onto `points`.
        current = current + start - apply_chain(inverse_parts, apply_chain(parts, current))
        error = np.linalg.norm(apply_chain(parts, current) - points, axis=1)
        better = error < best_error
        best, best_error = np.where(better[:, None], current, best), np.where(better, error, best_error)
    return best


def affine_and_deformation(points: np.ndarray, moved: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Splits a map of points into a deformation and an affine that follows it.

    Args:
      points: `[K, N]`, those of a grid.
      moved: `[K, N]`, where the map leads.

    Returns:
      The affine `[N, N+1]` that is closest to the map by least squares. And the displacements `u` `[K, N]` that are
      left: `affine(points + u) = moved`.
    """
    if len(points) > _FITTED_POINTS:
        # At random: points at equal distances in a list of a grid's points can all lie in one plane.
        chosen = np.random.default_rng(0).integers(len(points), size=_FITTED_POINTS)
        some, there = points[chosen], moved[chosen]
    else:
        some, there = points, moved
    matrix = np.linalg.lstsq(np.concatenate([some, np.ones((len(some), 1))], axis=1), there, rcond=None)[0].T
    if abs(np.linalg.det(matrix[:, :-1])) < _SMALLEST_DETERMINANT:
        matrix = np.eye(*matrix.shape)
    return matrix, _apply_affine(_inverse_matrix(matrix), moved) - points


def _apply_affine(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:, :-1].T + matrix[:, -1]


def _displaced(field: FieldMap, points: np.ndarray) -> np.ndarray:
    voxels = to_voxels(points, field.affine)
    moved = voxels + sample_points(field.displacement, voxels, order=1, outside=None if field.extend else 0.0)
    return to_physical(moved, field.affine)


def _inverted(part: Part) -> list[Part]:
    if isinstance(part, AffineMap):
        return [AffineMap(_inverse_matrix(part.matrix))]
    shape = part.displacement.shape[:-1]
    voxels = np.moveaxis(np.indices(shape), 0, -1).reshape(-1, part.num_axes).astype(np.float64)
    matrix, left = affine_and_deformation(voxels, voxels + part.displacement.reshape(voxels.shape))
    inverted = inverse(jnp.asarray(left, jnp.float32).reshape(1, *shape, -1))[0][0]
    physical = part.affine @ homogeneous(_inverse_matrix(matrix)) @ np.linalg.inv(part.affine)
    return [AffineMap(physical[:-1]), FieldMap(np.asarray(inverted), part.affine, extend=True)]


def _inverse_matrix(matrix: np.ndarray) -> np.ndarray:
    linear = np.linalg.inv(matrix[:, :-1])
    return np.concatenate([linear, -linear @ matrix[:, -1:]], axis=1)
