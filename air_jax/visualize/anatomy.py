"""Volumes as radiologists look at them: axes by the directions of the body, the patient's right on the left."""

from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment


class BodyAxes(NamedTuple):
    """The array axes that run along the body's directions.

    Attributes:
      order: array axis nearest to x (to the patient's left), y (to the back), z (to the head).
      flipped: whether that axis runs the other way.
      tilt: largest angle between an array axis and its direction, in degrees.
    """

    order: tuple[int, ...]
    flipped: tuple[bool, ...]
    tilt: float

    def turn(self, array: np.ndarray) -> np.ndarray:
        """Returns the array `[*S, ...]` with its axes in the order x, y, z, each along the body's direction."""
        turned = np.moveaxis(array, self.order, range(len(self.order)))
        return np.flip(turned, tuple(axis for axis, flip in enumerate(self.flipped) if flip))

    def turn_displacement(self, displacement: np.ndarray) -> np.ndarray:
        """Returns the displacement `[*S, N]` in voxels on the turned grid: its components turn with the axes."""
        signs = np.where(self.flipped, -1, 1).astype(displacement.dtype)
        return self.turn(displacement)[..., list(self.order)] * signs

    def index(self, turned: int, axis: int, size: int) -> tuple[int, int]:
        """Returns the array axis of a turned axis, and the array index of its index `turned` among `size`."""
        return self.order[axis], size - 1 - turned if self.flipped[axis] else turned


def body_axes(affine: np.ndarray) -> BodyAxes:
    """Assigns the array axes of a volume to the directions of the body.

    Args:
      affine: `[N+1, N+1]`, array indices to mm in LPS, without shears.

    Returns:
      The assignment whose cosines have the largest sum; an oblique volume keeps its own planes, the nearest ones.
    """
    directions = affine[:-1, :-1] / np.linalg.norm(affine[:-1, :-1], axis=0)  # [x y z, array axis]
    _, order = linear_sum_assignment(-np.abs(directions))
    cosines = directions[np.arange(len(order)), order]
    tilt = float(np.degrees(np.arccos(np.clip(np.abs(cosines).min(), 0, 1))))
    return BodyAxes(tuple(int(axis) for axis in order), tuple(bool(cosine < 0) for cosine in cosines), tilt)
