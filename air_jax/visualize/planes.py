"""Planes through a volume, and the way they are drawn."""

import itertools
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

_SIZE_STEP = 32  # sizes of planes whose determinants are computed are multiples of it


class Plane(NamedTuple):
    """A plane of the image, and the way it is drawn.

    Attributes:
      vertical: array axis that runs along the height of the page.
      horizontal: array axis that runs from left to right.
      point: indices of a voxel in the plane.
      origin: "upper" where the vertical axis runs down the page, "lower" where it runs up.
      name: name of an anatomical plane. Default: none.
      letters: what lies at its left, right, upper and lower side, such as "RLAP". Default: not known.
    """

    vertical: int
    horizontal: int
    point: tuple[int, ...]
    origin: Literal["upper", "lower"]
    name: str = ""
    letters: str = ""

    @property
    def normals(self) -> list[int]:
        """Array axes that are not in the plane."""
        return [axis for axis in range(len(self.point)) if axis not in (self.vertical, self.horizontal)]

    def cut(self, array: np.ndarray) -> np.ndarray:
        """Cuts the plane out of an array `[*S, ...]`; returns `[V, H, ...]`."""
        plane = array[self._at(self.point)]
        return plane.swapaxes(0, 1) if self.vertical > self.horizontal else plane

    def determinant(self, function: Callable[[jax.Array], jax.Array], displacement: np.ndarray) -> np.ndarray:
        """Computes a Jacobian determinant `[V - 2, H - 2]` from the plane and its two neighbours."""
        slab = displacement[self._at([slice(index - 1, index + 2) for index in self.point])]
        sizes = slab.shape[:-1]
        # Few sizes, because each new one is compiled.
        widths = [(0, 0 if axis in self.normals else -size % _SIZE_STEP) for axis, size in enumerate(sizes)]
        padded = np.pad(slab, [*widths, (0, 0)], mode="edge")
        values = np.asarray(function(jnp.asarray(padded[None])))[0][tuple(slice(size - 2) for size in sizes)]
        # The determinant has one voxel along the other axes.
        return self._replace(point=(0,) * len(self.point)).cut(values)

    def _at(self, indices: Sequence[int | slice]) -> tuple[int | slice, ...]:
        """Returns an index: all of the plane's own axes, `indices` along the others."""
        return tuple(index if axis in self.normals else slice(None) for axis, index in enumerate(indices))


def middle(fixed: np.ndarray, shape: Sequence[int]) -> tuple[int, ...]:
    """Returns the centre of the voxels brighter than the mean, moved inside so that it has neighbours on each axis.

    Args:
      fixed: `[*S]` or `[*S, C]`.
      shape: `S`.
    """
    brightness = fixed if fixed.ndim == len(shape) else fixed.mean(axis=-1)
    foreground = brightness > brightness.mean()
    if not foreground.any():
        foreground = ~foreground
    axes = range(len(shape))
    counts = [foreground.sum(axis=tuple(other for other in axes if other != axis)) for axis in axes]
    centres = [np.average(np.arange(size), weights=count) for size, count in zip(shape, counts, strict=True)]
    return tuple(int(np.clip(np.rint(centre), 1, size - 2)) for centre, size in zip(centres, shape, strict=True))


def planes_through(point: tuple[int, ...], *, is_picture: bool = False) -> list[Plane]:
    """Returns the planes through a voxel: one in 2-D, three in 3-D.

    Args:
      point: indices of the voxel.
      is_picture: whether the first axis runs down the page, as rows do. Default: no, the first axis of a plane runs to
        the right and the other one up.
    """
    pairs = itertools.combinations(range(len(point)), 2)
    if is_picture:
        return [Plane(first, second, point, "upper") for first, second in pairs]
    return [Plane(second, first, point, "lower") for first, second in pairs]


def anatomical_planes(point: tuple[int, ...]) -> list[Plane]:
    """Returns the three planes through a voxel as radiologists look at them, of a volume turned by `BodyAxes`.

    The patient's right lies on the left of the page, the front and the head lie on top.

    Args:
      point: indices of the voxel along x (to the patient's left), y (to the back), z (to the head).
    """
    return [
        Plane(1, 0, point, "upper", "axial", "RLAP"),
        Plane(2, 0, point, "lower", "coronal", "RLSI"),
        Plane(2, 1, point, "lower", "sagittal", "APSI"),
    ]
