"""Artificial deformations: random smooth diffeomorphisms, so that the true displacement of a pair is known.

An image warped by such a displacement is the fixed image of a pair; the image itself is the moving one.
"""

import dataclasses
from collections.abc import Sequence

import jax

from air_jax.checks import is_number
from air_jax.errors import OptionError
from air_jax.transforms import bspline, exponential

INTEGRATION_STEPS = 6


@dataclasses.dataclass(frozen=True)
class Deformation:
    """Strength and smoothness of artificial deformations.

    Attributes:
      amplitude: root mean square of each velocity component, over the image and over draws, in voxels. At least 0.
      spacing: distance between the control points of the velocity's cubic B-spline, in voxels. At least 1; larger
        values are smoother.

    Raises:
      OptionError: a value is out of its range.
    """

    amplitude: float
    spacing: int

    def __post_init__(self):
        if not is_number(self.amplitude) or self.amplitude < 0:
            raise OptionError("amplitude", self.amplitude, "must be finite and not negative")
        if self.spacing < 1:
            raise OptionError("spacing", self.spacing, "must be positive")


def draw_displacements(keys: jax.Array, shape: Sequence[int], deformation: Deformation) -> jax.Array:
    """Draws displacements: exponentials of velocities that are cubic B-splines with independent normal coefficients.

    Args:
      keys: random keys `[B]`, one for each displacement.
      shape: spatial shape `S` of the images.
      deformation: strength and smoothness. No displacement folds where the amplitude is well below the spacing.

    Returns:
      Displacements `[B, *S, N]` float32 in voxels. Each is a function of its key only.
    """
    spacing = (deformation.spacing,) * len(shape)
    # Two cells more than the image needs on each side: no voxel of the image sees a repeated control point.
    cells = [-(-size // deformation.spacing) + 4 for size in shape]
    control = jax.vmap(lambda key: jax.random.normal(key, (*cells, len(shape))))(keys)
    velocity = bspline(control, spacing, [count * deformation.spacing for count in cells])
    inside = tuple(slice(2 * deformation.spacing, 2 * deformation.spacing + size) for size in shape)
    velocity = velocity[(slice(None), *inside)]
    # The mean over a cell of the sum of a cubic B-spline's squared weights is 151 / 315.
    velocity = velocity * deformation.amplitude * (315 / 151) ** (len(shape) / 2)
    return exponential(velocity, integration_steps=INTEGRATION_STEPS)
