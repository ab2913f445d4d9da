"""Artificial deformations: random smooth diffeomorphisms, which give pairs whose true displacement is known.

An image warped by such a displacement is the fixed image of a pair, the image itself the moving one.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax

from air_jax.transforms import bspline, exponential

INTEGRATION_STEPS = 6


class Deformation(NamedTuple):
    """How strong and how smooth artificial deformations are.

    Attributes:
      amplitude: root mean square, over the image and over draws, of each component of the velocity, in voxels.
      spacing: voxels between the control points of its cubic B-spline; the larger, the smoother.
    """

    amplitude: float
    spacing: int


def draw_displacements(keys: jax.Array, shape: Sequence[int], deformation: Deformation) -> jax.Array:
    """Draws displacements: exponentials of velocities that are cubic B-splines with independent normal coefficients.

    Args:
      keys: random keys `[B]`, one a field.
      shape: the images' spatial shape `S`.
      deformation: amplitude and smoothness. Where the amplitude is well below the spacing, none folds.

    Returns:
      `[B, *S, N]` in voxels.
    """
    spacing = (deformation.spacing,) * len(shape)
    # Two cells more than the image needs on each side, so that no voxel of it sees repeated control points.
    cells = [-(-size // deformation.spacing) + 4 for size in shape]
    control = jax.vmap(lambda key: jax.random.normal(key, (*cells, len(shape))))(keys)
    velocity = bspline(control, spacing, [count * deformation.spacing for count in cells])
    inside = tuple(slice(2 * deformation.spacing, 2 * deformation.spacing + size) for size in shape)
    velocity = velocity[(slice(None), *inside)]
    # The squares of a cubic B-spline's weights, averaged over a cell, sum to 151 / 315.
    return exponential(
        velocity * deformation.amplitude * (315 / 151) ** (len(shape) / 2), integration_steps=INTEGRATION_STEPS
    )
