"""Landmarks that guide a registration, besides the similarity."""

import math
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from air_jax.checks import check_arrays, check_instance, is_number
from air_jax.errors import OptionError
from air_jax.optimize.geometry import Geometry, Sizes, check_geometry
from air_jax.runtime.any_mesh import on_any_mesh
from air_jax.transforms import apply_affine, sample
from air_jax.transforms.shapes import check_displacement

# Standard deviation, in voxels, of the Gaussian of which a landmark pulls as many voxels as the default smoothing of
# updates spreads its force over. A landmark then counts as much as the image around it, in images of any size.
_SPREAD = 3.0


# Equality by identity: the elements of arrays have no single truth value.
@partial(jax.tree_util.register_dataclass, data_fields=("fixed", "moving"), meta_fields=("weight", "tolerance"))
@dataclass(frozen=True, eq=False)
class Guidance:
    """Landmarks that pull the map. A JAX pytree: the points are data, the numbers are static.

    A pair of points at the distance `e` in the moving image costs `sqrt(1 + h^2) - 1`, where `h` is
    `max(e - tolerance, 0)` divided by the smallest voxel length of the fixed image. So far points pull with constant
    force and close ones in proportion to their distance.

    Attributes:
      fixed: `[B, K, N]`, points in voxels of the fixed image, array-index order; K is at least 1.
      moving: `[B, K, N]`, the same points in voxels of the moving image.
      weight: how strongly landmarks pull, compared with the similarity: above 0. At 1, a landmark counts as much as a
        loss of its cost in the voxels around it.
      tolerance: distance in the unit of the voxel sizes (mm) that costs nothing: 0 or more.

    Raises:
      OptionError: a weight or tolerance that is not finite, negative, or a weight of 0.

    Examples:
      >>> fixed, moving = np.array([[[2.0, 2.0]]]), np.array([[[3.0, 2.0]]])
      >>> guidance = air_jax.optimize.Guidance(fixed, moving, weight=1.0, tolerance=0.5)
      >>> guidance.fixed.shape, guidance.tolerance
      ((1, 1, 2), 0.5)
    """

    fixed: jax.Array | np.ndarray
    moving: jax.Array | np.ndarray
    weight: float = 0.1
    tolerance: float = 0.0

    def __post_init__(self):
        if not is_number(self.weight) or self.weight <= 0:
            raise OptionError("weight", self.weight, "of landmarks must be finite and above 0")
        if not is_number(self.tolerance) or self.tolerance < 0:
            raise OptionError("tolerance", self.tolerance, "of landmarks must be finite and not negative")


def check_guidance(function: str, fixed: jax.Array, guidance: Guidance | None) -> None:
    """Checks landmarks against an image.

    Args:
      function: name of the calling function, for the message.
      fixed: `[B, *S, C]`; only its shape matters.
      guidance: the landmarks, or None.

    Raises:
      OptionError, TypeError: it is no guidance, or its points are no arrays.
      ValueError: the points of both images differ in shape, do not fit the image, or are not finite.
    """
    if guidance is None:
        return
    check_points(function, guidance)
    shapes, batch, num_axes = (np.shape(guidance.fixed), np.shape(guidance.moving)), fixed.shape[0], fixed.ndim - 2
    shape = shapes[0]
    if shapes[0] != shapes[1] or len(shape) != 3 or (shape[0], shape[2]) != (batch, num_axes) or not shape[1]:
        raise ValueError(
            f"{function}: landmarks have shapes {shapes[0]} and {shapes[1]}; both must be ({batch}, K, {num_axes})"
        )
    for points in (guidance.fixed, guidance.moving):
        concrete = not isinstance(points, (Tracer, jax.ShapeDtypeStruct))
        if concrete and not np.isfinite(np.asarray(points)).all():
            raise ValueError(f"{function}: landmarks have coordinates that are not finite")


def check_points(function: str, guidance: Guidance) -> None:
    """Checks the types of a guidance and its points; arguments and errors are those of `check_guidance`."""
    check_instance("guidance", guidance, Guidance, "a Guidance")
    check_arrays(function, "fiu", **{"guidance.fixed": guidance.fixed, "guidance.moving": guidance.moving})


def deformation_cost(
    guidance: Guidance,
    displacement: jax.Array,
    matrix: jax.Array | None,
    sizes: tuple[Sizes, Sizes],
    smallest: float,
) -> jax.Array:
    """Computes the loss of landmarks that is added to a similarity, on any grid.

    Args:
      guidance: points in voxels of the grids.
      displacement: `[B, *S, N]` in voxels of the fixed grid.
      matrix: `[B, N, N + 1]` from fixed to moving voxels, or None: the identity.
      sizes: lengths of the fixed and the moving voxels.
      smallest: the smallest voxel length of the fixed image.

    Returns:
      `[B]`: the sum of the landmarks' costs, times the voxels for which each counts, divided by those of the grid.
    """
    num_axes = displacement.shape[-1]
    fixed = jnp.asarray(guidance.fixed, jnp.float32)
    on_grid = fixed.reshape(*fixed.shape[:2], *(1,) * (num_axes - 1), num_axes)
    moved = fixed + sample(displacement, on_grid, mode="nearest").reshape(fixed.shape)
    counts = (2 * math.pi * _SPREAD**2) ** (num_axes / 2) / math.prod(displacement.shape[1:-1])
    return guidance.weight * counts * jnp.sum(_costs(guidance, moved, matrix, sizes[1], smallest), axis=-1)


def affine_cost(guidance: Guidance, matrix: jax.Array, sizes: tuple[Sizes, Sizes]) -> jax.Array:
    """Computes the loss of landmarks under an affine map.

    Args:
      guidance: points in voxels of the images.
      matrix: `[B, N, N + 1]` from fixed to moving voxels.
      sizes: lengths of the fixed and the moving voxels.

    Returns:
      `[B]`: the mean of the landmarks' costs, times the weight.
    """
    fixed = jnp.asarray(guidance.fixed, jnp.float32)
    return guidance.weight * jnp.mean(_costs(guidance, fixed, matrix, sizes[1], min(sizes[0])), axis=-1)


@on_any_mesh
def guide_loss(guidance: Guidance, displacement: jax.Array, *, geometry: Geometry = Geometry()) -> jax.Array:
    """Computes the loss that `refine` adds for landmarks, on the image's grid.

    Args:
      guidance: the landmarks.
      displacement: `[B, *S, N]` in voxels of the fixed grid.
      geometry: affine that follows the displacement, and voxel sizes.

    Returns:
      `[B]`.

    Raises:
      OptionError: voxel sizes that do not fit.

    Examples:
      >>> fixed, moving = np.array([[[2.0, 2.0]]]), np.array([[[3.0, 2.0]]])
      >>> guidance = air_jax.optimize.Guidance(fixed, moving, weight=1.0)
      >>> still = jnp.zeros((1, 8, 8, 2))
      >>> down = still.at[..., 0].set(1.0)
      >>> [round(float(air_jax.optimize.guide_loss(guidance, field)[0]), 3) for field in (still, down)]
      [0.366, 0.0]
    """
    check_points("guide_loss", guidance)
    check_displacement("guide_loss", displacement)
    check_geometry("guide_loss", geometry)
    sizes = geometry.sizes(displacement.shape[-1])
    return deformation_cost(guidance, displacement, geometry.matrix, sizes, min(sizes[0]))


@on_any_mesh
def affine_guide_loss(guidance: Guidance, geometry: Geometry) -> jax.Array:
    """Computes the loss that `register_affine` adds for landmarks.

    Args:
      guidance: the landmarks.
      geometry: the affine, and voxel sizes.

    Returns:
      `[B]`.

    Raises:
      OptionError: voxel sizes that do not fit.
      ValueError: the geometry has no matrix.

    Examples:
      >>> fixed, moving = np.array([[[2.0, 2.0]]]), np.array([[[3.0, 2.0]]])
      >>> guidance = air_jax.optimize.Guidance(fixed, moving, weight=1.0)
      >>> identity = air_jax.optimize.Geometry(matrix=jnp.eye(2, 3)[None])
      >>> round(float(air_jax.optimize.affine_guide_loss(guidance, identity)[0]), 3)
      0.414
    """
    check_points("affine_guide_loss", guidance)
    check_geometry("affine_guide_loss", geometry)
    if geometry.matrix is None:
        raise ValueError("affine_guide_loss: geometry has no matrix")
    return affine_cost(guidance, geometry.matrix, geometry.sizes(geometry.matrix.shape[-2]))


def at_grids(guidance: Guidance, to_fixed: jax.Array, to_moving: jax.Array) -> Guidance:
    """Converts landmarks to the voxels of other grids.

    Args:
      guidance: the landmarks.
      to_fixed, to_moving: affines `[N, N + 1]` from voxels of the images to those of the grids.

    Returns:
      The landmarks in voxels of the grids.
    """
    points = []
    for matrix, each in ((to_fixed, guidance.fixed), (to_moving, guidance.moving)):
        each = jnp.asarray(each, jnp.float32)
        points.append(apply_affine(jnp.broadcast_to(matrix, (len(each), *matrix.shape)), each))
    return Guidance(points[0], points[1], guidance.weight, guidance.tolerance)


def _costs(
    guidance: Guidance, points: jax.Array, matrix: jax.Array | None, moving_voxel_size: Sizes, smallest: float
) -> jax.Array:
    """Costs `[B, K]` of the landmarks, whose fixed points were displaced to `points` `[B, K, N]`."""
    moved = points if matrix is None else apply_affine(matrix, points)
    size = jnp.asarray(moving_voxel_size)[None, None]
    difference = (moved - jnp.asarray(guidance.moving, jnp.float32)) * size
    # The small number keeps the square root differentiable at zero.
    distance = jnp.sqrt(jnp.sum(jnp.square(difference), axis=-1) + 1e-12)
    return jnp.sqrt(1 + jnp.square(jax.nn.relu(distance - guidance.tolerance) / smallest)) - 1
