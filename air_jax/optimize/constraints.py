"""Constraints of a deformation: axes without movement, regions that stay rigid, regions that keep their volume.

During an optimisation bodies are made rigid after every round, and volumes are restored after every 10 steps. Both are
exact at its start and at its end. The components of the start along axes that are not free stay.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from air_jax.checks import check_arrays, check_entries, check_instance, check_integer, is_number
from air_jax.errors import OptionError
from air_jax.optimize.geometry import Geometry, Sizes, check_geometry
from air_jax.optimize.rigid import blend_weights, project_rigid
from air_jax.optimize.volume import NUM_STEPS, correct_volume
from air_jax.runtime.any_mesh import on_any_mesh
from air_jax.transforms import shrink
from air_jax.transforms.shapes import check_displacement

Projection = Callable[[jax.Array], jax.Array]


# Equality by identity: the elements of arrays have no single truth value.
@partial(jax.tree_util.register_dataclass, data_fields=("rigid_regions", "keep_volume"), meta_fields=("restrict",))
@dataclass(frozen=True, eq=False)
class Constraints:
    """What a registration must not do. A JAX pytree: the regions are data, `restrict` is static.

    Attributes:
      restrict: `[N]`, one number for each array axis of the fixed image: 1 where points may move along it, 0 where the
        map keeps their coordinate. Default: all axes are free.
      rigid_regions: `[B, *S, K]`, one channel for each of K bodies, above 0 inside. Inside a body the whole map, of
        displacement and `Geometry.matrix`, is a rigid motion in lengths. Bodies should be at least 2 voxels apart.
      keep_volume: `[B, *S]`, above 0 inside. There the Jacobian determinant of the whole map in lengths is 1, by
        central differences; voxels at the border of the image are left out.

    Raises:
      OptionError: `restrict` has other values than 0 and 1, or no free axis.

    Examples:
      >>> only_rows = air_jax.optimize.Constraints(restrict=(1, 0))
      >>> fixed = np.zeros((8, 8), np.float32)
      >>> fixed[2:6, 2:6] = 1
      >>> moving = np.roll(fixed, (1, 1), axis=(0, 1))
      >>> result = air_jax.register_images(fixed, moving, similarity="mse", refine_steps=4, constraints=only_rows)
      >>> (np.abs(result.displacement).max(axis=(0, 1)) > 0).tolist()
      [True, False]
    """

    restrict: Sequence[float] | None = None
    rigid_regions: jax.Array | None = None
    keep_volume: jax.Array | None = None

    def __post_init__(self):
        if self.restrict is None:
            return
        check_restrict(self.restrict)
        restrict = tuple(map(float, self.restrict))
        if not any(restrict):
            raise OptionError("restrict", restrict, "leaves no axis free; nothing could move")
        object.__setattr__(self, "restrict", restrict)

    def free(self, num_axes: int) -> tuple[float, ...]:
        """Returns `restrict` with its default.

        Args:
          num_axes: N, 2 or 3.

        Returns:
          N numbers: 1 for free axes, else 0.

        Raises:
          OptionError: N is no integer, or another number of axes.
        """
        check_integer("num_axes", num_axes, 1)
        if self.restrict is not None and len(self.restrict) != num_axes:
            raise OptionError("restrict", self.restrict, f"must have {num_axes} numbers, one an axis")
        return tuple(self.restrict or (1.0,) * num_axes)

    def has_regions(self) -> bool:
        """Returns whether there is a region."""
        return self.rigid_regions is not None or self.keep_volume is not None


def check_restrict(restrict: Any) -> None:
    """Raises `OptionError` unless `restrict` is a sequence of 0 and 1, at least one number."""
    what = "1 for axes that are free and 0 for the others"
    check_entries("restrict", restrict, None, lambda each: is_number(each) and each in (0, 1), what)


def check_constraints(function: str, fixed: jax.Array, constraints: Constraints) -> None:
    """Checks constraints against an image.

    Args:
      function: name of the calling function, for the message.
      fixed: `[B, *S, C]`; only its shape matters.
      constraints: the constraints.

    Raises:
      OptionError: `restrict` has another number of axes.
      ValueError: a region has another shape, values that are not finite or below 0, or is empty.
    """
    check_instance("constraints", constraints, Constraints, "Constraints")
    constraints.free(fixed.ndim - 2)
    shape = fixed.shape[:-1]
    regions = ("rigid_regions", constraints.rigid_regions), ("keep_volume", constraints.keep_volume)
    for name, region in regions:
        if region is None:
            continue
        check_arrays(function, "fiub", **{name: region})
        has_channels = name == "rigid_regions"
        found = region.shape[:-1] if has_channels and region.ndim == len(shape) + 1 else region.shape
        if found != shape or (has_channels and region.ndim == len(shape)):
            expected = f"{shape} and an axis of bodies" if has_channels else f"{shape}"
            raise ValueError(f"{function}: {name} has shape {region.shape}; for its image it must be {expected}")
        if isinstance(region, (Tracer, jax.ShapeDtypeStruct)):
            continue  # its values are not known yet
        values = np.asarray(region)
        if not (np.isfinite(values).all() and values.min() >= 0):
            raise ValueError(f"{function}: {name} has values that are negative or not finite")
        if not values.any(axis=tuple(range(1, len(shape)))).all():
            raise ValueError(f"{function}: {name} is empty; a region is above 0 where it holds")


def at_level(constraints: Constraints, shape: Sequence[int]) -> Constraints:
    """Averages the regions onto a level's grid: a voxel belongs to a body where a part of it does.

    Args:
      constraints: the constraints on the fixed grid.
      shape: sizes of the level's grid.

    Returns:
      The constraints of the level.
    """
    rigid, volume = constraints.rigid_regions, constraints.keep_volume
    if rigid is not None:
        rigid = shrink(jnp.asarray(rigid > 0, jnp.float32), shape)
    if volume is not None:
        volume = shrink(jnp.asarray(volume > 0, jnp.float32)[..., None], shape)[..., 0]
    return Constraints(constraints.restrict, rigid, volume)


def projection(constraints: Constraints, matrix: jax.Array | None, sizes: tuple[Sizes, Sizes]) -> Projection:
    """Returns the function that makes a displacement rigid inside of the rigid regions, and leaves it else.

    Args:
      constraints: those of a level, see `at_level`.
      matrix: `[B, N, N + 1]` from fixed to moving voxels of the level, or None: the identity.
      sizes: lengths of the level's fixed and moving voxels.

    Returns:
      A function of displacements `[B, *S, N]`, see `air_jax.optimize.rigid.project_rigid`.
    """
    regions = constraints.rigid_regions
    if regions is None:
        return lambda displacement: displacement
    free, blend = constraints.free(len(sizes[0])), blend_weights(regions, sizes[0])
    return lambda displacement: project_rigid(displacement, regions, blend, matrix, sizes, free)


def volume_projection(
    constraints: Constraints,
    matrix: jax.Array | None,
    sizes: tuple[Sizes, Sizes],
    *,
    num_steps: tuple[int, int] = NUM_STEPS,
) -> Projection:
    """Returns the function that restores volumes, outside of the rigid regions.

    Args:
      constraints, matrix, sizes: those of `projection`.
      num_steps: see `air_jax.optimize.volume.correct_volume`.

    Returns:
      A function of displacements `[B, *S, N]`.
    """
    region = constraints.keep_volume
    if region is None:
        return lambda displacement: displacement
    region, movable = region >= 0.5, jnp.ones(region.shape)
    if constraints.rigid_regions is not None:
        movable = 1 - jnp.max(blend_weights(constraints.rigid_regions, sizes[0]), axis=-1)
    free = constraints.free(len(sizes[0]))
    return lambda displacement: correct_volume(displacement, region, movable, matrix, sizes, free, num_steps=num_steps)


def hold_axes(constraints: Constraints, displacement: jax.Array, start: jax.Array) -> jax.Array:
    """Keeps the components of the start along the axes without movement.

    Args:
      constraints: the constraints.
      displacement: `[B, *S, N]`.
      start: the same shape.

    Returns:
      `[B, *S, N]`.
    """
    if constraints.restrict is None:
        return displacement
    free = jnp.asarray(constraints.restrict) > 0
    return jnp.where(free.reshape((1,) * (displacement.ndim - 1) + (-1,)), displacement, start)


@on_any_mesh
def satisfy(constraints: Constraints, displacement: jax.Array, *, geometry: Geometry = Geometry()) -> jax.Array:
    """Makes a displacement meet the constraints of regions, at full resolution.

    Args:
      constraints: regions on the fixed grid, see `Constraints`.
      displacement: `[B, *S, N]` in voxels of the fixed grid.
      geometry: affine that follows the displacement, and voxel sizes.

    Returns:
      `[B, *S, N]`: rigid in the rigid regions to rounding (less than 0.01 voxels). In `keep_volume` determinants
      differ from 1 by less than 0.01, where the Newton iteration converges.

    Raises:
      OptionError, ValueError: constraints that do not fit the displacement.

    Examples:
      >>> body = jnp.zeros((1, 8, 8, 1), bool).at[:, 2:6, 2:6].set(True)
      >>> constraints = air_jax.optimize.Constraints(rigid_regions=body)
      >>> stretched = 0.2 * air_jax.transforms.identity_grid((8, 8))[None]
      >>> fields = stretched, air_jax.optimize.satisfy(constraints, stretched)
      >>> [round(float(air_jax.transforms.jacobian_determinant(field)[0, 3, 3]), 2) for field in fields]
      [1.44, 1.0]
    """
    check_displacement("satisfy", displacement)
    check_geometry("satisfy", geometry)
    check_constraints("satisfy", displacement, constraints)
    sizes = geometry.sizes(displacement.shape[-1])
    return _satisfy(constraints, displacement, geometry.matrix, sizes) if constraints.has_regions() else displacement


def compile_satisfy(
    constraints: Constraints, displacement: jax.Array | jax.ShapeDtypeStruct, geometry: Geometry
) -> None:
    """Compiles the program of `satisfy` into JAX's persistent cache; only shapes and dtypes of its arguments matter."""
    if not constraints.has_regions():
        return
    _satisfy.lower(constraints, displacement, geometry.matrix, geometry.sizes(displacement.shape[-1])).compile()


@partial(jax.jit, static_argnums=3)
def _satisfy(
    constraints: Constraints, displacement: jax.Array, matrix: jax.Array | None, sizes: tuple[Sizes, Sizes]
) -> jax.Array:
    constraints = at_level(constraints, displacement.shape[1:-1])
    projected = projection(constraints, matrix, sizes)(displacement)
    return hold_axes(constraints, volume_projection(constraints, matrix, sizes)(projected), displacement)
