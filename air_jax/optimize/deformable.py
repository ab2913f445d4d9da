"""Refinement: optimises displacements on the given pairs with the objective of training."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from air_jax.checks import check_arrays, check_finite, check_integer, check_number
from air_jax.errors import OptionError
from air_jax.losses import Objective
from air_jax.optimize.constraints import Constraints, check_constraints, compile_satisfy, satisfy
from air_jax.optimize.descent import descend
from air_jax.optimize.extras import level_extra
from air_jax.optimize.field import Field, check_parametrisation
from air_jax.optimize.fields import FIELDS, DenseField
from air_jax.optimize.geometry import Geometry, Sizes, check_geometry
from air_jax.optimize.guidance import Guidance, check_guidance
from air_jax.optimize.levels import level_matrix, level_shape, shares
from air_jax.optimize.solution import Solution
from air_jax.optimize.visibility import Images, check_images, check_objective, filled, pair_weights, shrink_images
from air_jax.runtime.any_mesh import on_any_mesh, zeros_for
from air_jax.transforms import resize


@on_any_mesh
def refine(
    objective: Objective,
    fixed: jax.Array,
    moving: jax.Array,
    displacement: jax.Array | None = None,
    *,
    num_steps: int,
    field: Field = DenseField(),
    geometry: Geometry = Geometry(),
    tolerance: float = 0.0,
    weights: jax.Array | None = None,
    moving_weights: jax.Array | None = None,
    constraints: Constraints = Constraints(),
    guidance: Guidance | None = None,
) -> Solution:
    """Refines displacements by gradient descent on the objective; from zero, it registers without a model.

    The displacement is composed with a small one whose parameters are optimised. After every round of steps the result
    replaces the displacement and the parameters restart at zero: large deformations are composed of small ones and
    hardly fold. The pairs are optimised together, each independently of the others. A pair that has converged keeps its
    displacement while the others continue. A displacement is only replaced by one of lower loss.

    Compiled once for equal objectives, fields, voxel sizes and shapes; weights that are arrays may have other values.

    Differentiable with respect to the images, the weights of the voxels, the start, and the arrays of the objective,
    forward and in reverse: the derivative is that of all steps. Reverse mode keeps every tenth displacement.

    Args:
      objective: see `air_jax.losses.make_objective`. With a `BSplineField` it should hold a penalty on folding.
      fixed: `[B, *S, C]` in [0, 1].
      moving: `[B, *S, C]` in [0, 1]; with `geometry.matrix`, `[B, *V, C]` on its own grid.
      displacement: `[B, *S, N]` in voxels of the fixed grid, the start. Default: zero.
      num_steps: largest number of steps, 0 or more, shared equally among the levels.
      field: the parametrisation: `DenseField`, `BSplineField` or `VelocityField`.
      geometry: affine that follows the displacement, `warped(p) = moving(matrix(p + u(p)))`, and voxel sizes.
      tolerance: a pair has converged on a level when 10 steps lower its loss by less than this share of its loss at
        the level's start. 0 or more.
      weights: `[B, *S]` in [0, 1], the share by which a voxel of the fixed image counts. Default: all count alike.
      moving_weights: `[B, *S]`, or `[B, *V]` with `geometry.matrix`, the same of the moving image; its surround then
        does not count. They are sampled at the start of each level and stay until its end, so that a level compares
        values of one function and the loss does not fall by moving voxels out of view. Default: the moving image
        continues outside with its values at the border.
      constraints: axes and regions that must not move or deform, see `air_jax.optimize.Constraints`. They hold at the
        end; the loss is that before the last correction.
      guidance: landmarks, whose cost is added to the objective, see `air_jax.optimize.Guidance`. Default: none.

    Returns:
      The displacement, loss, number of steps and convergence of each pair.

    Raises:
      OptionError: a wrong `num_steps`, `field`, `tolerance` or voxel size; or, with weights, a similarity that is a
        function without the keyword `weights`.
      ValueError: shapes that do not fit, or values that count and are NaN or infinite.

    Reference:
      Christensen, Rabbitt, Miller 1996, Deformable templates using large deformation kinematics.

    Examples:
      >>> fixed = jnp.zeros((1, 8, 8, 1)).at[:, 2:6, 2:6].set(1.0)
      >>> objective = air_jax.losses.make_objective("mse")
      >>> solution = air_jax.optimize.refine(objective, fixed, jnp.roll(fixed, 1, axis=1), num_steps=4)
      >>> solution.displacement.shape, solution.steps.tolist()
      ((1, 8, 8, 2), [4])
    """
    images = Images(fixed, moving, weights, moving_weights)
    extra = constraints, guidance
    arguments = _arguments(objective, images, displacement, num_steps, field, geometry, tolerance, *extra)
    begin = satisfy(constraints, arguments[2], geometry=geometry)
    solution = _refine(*arguments[:2], begin, *arguments[3:])
    return solution._replace(displacement=satisfy(constraints, solution.displacement, geometry=geometry))


def compile_refine(
    objective: Objective,
    fixed: jax.Array,
    moving: jax.Array,
    displacement: jax.Array | None = None,
    *,
    num_steps: int,
    field: Field = DenseField(),
    geometry: Geometry = Geometry(),
    tolerance: float = 0.0,
    weights: jax.Array | None = None,
    moving_weights: jax.Array | None = None,
    constraints: Constraints = Constraints(),
    guidance: Guidance | None = None,
) -> None:
    """Compiles the program of `refine` into JAX's persistent cache, without running it.

    It may run in another thread while this one is busy: XLA compiles on one core.

    Args:
      objective, num_steps, field, geometry, tolerance: those of `refine`.
      fixed, moving, displacement: `[B, *S, C]`, `[B, *V, C]` and `[B, *S, N]` as in `refine`. Only shapes and dtypes
        matter: `jax.ShapeDtypeStruct` will do.
      weights, moving_weights, constraints, guidance: those of `refine` in the same way.

    Raises:
      OptionError, ValueError: as `refine`.

    Examples:
      >>> objective = air_jax.losses.make_objective("mse")
      >>> image = jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32)
      >>> air_jax.optimize.compile_refine(objective, image, image, num_steps=4)
      >>> image = jnp.zeros((1, 8, 8, 1))
      >>> air_jax.optimize.refine(objective, image, image, num_steps=4).loss.tolist()
      [0.0]
    """
    images = Images(fixed, moving, weights, moving_weights)
    extra = constraints, guidance
    arguments = _arguments(objective, images, displacement, num_steps, field, geometry, tolerance, *extra)
    _refine.lower(*arguments).compile()
    compile_satisfy(constraints, arguments[2], geometry)


def _arguments(
    objective: Objective,
    images: Images,
    displacement: jax.Array | None,
    num_steps: int,
    field: Field,
    geometry: Geometry,
    tolerance: float,
    constraints: Constraints,
    guidance: Guidance | None,
) -> tuple[Any, ...]:
    """Checks the arguments of `refine` and returns those of `_refine`."""
    if isinstance(field, str):
        raise OptionError("field", field, f"must be an object such as {FIELDS.get(field, DenseField)()}")
    check_parametrisation(field)
    check_objective(objective)
    check_geometry("refine", geometry)
    check_integer("num_steps", num_steps, 0)
    check_number("tolerance", tolerance, low=0)
    fixed, moving = images[:2]
    check_images("refine", images, geometry.matrix)
    if displacement is not None:
        check_arrays("refine", "f", displacement=displacement)
    check_finite("refine", displacement=displacement)
    check_constraints("refine", fixed, constraints)
    check_guidance("refine", fixed, guidance)
    num_axes, matrix = fixed.ndim - 2, geometry.matrix
    if displacement is None:
        displacement = jnp.zeros((*fixed.shape[:-1], num_axes))
    if matrix is None and moving.shape != fixed.shape:
        raise ValueError(f"refine: fixed has shape {fixed.shape} and moving {moving.shape}; give geometry.matrix")
    if displacement.shape != (*fixed.shape[:-1], num_axes):
        shape = (*fixed.shape[:-1], num_axes)
        raise ValueError(f"refine: displacement has shape {displacement.shape}; for these images it must be {shape}")
    sizes = geometry.sizes(num_axes)
    settings = int(num_steps), field, sizes, float(tolerance)
    return objective, images, displacement, matrix, *settings, constraints, guidance


@partial(jax.jit, static_argnums=(4, 5, 6, 7))
def _refine(
    objective: Objective,
    images: Images,
    displacement: jax.Array,
    matrix: jax.Array | None,
    num_steps: int,
    field: Field,
    sizes: tuple[Sizes, Sizes],
    tolerance: float,
    constraints: Constraints,
    guidance: Guidance | None,
) -> Solution:
    voxel_size, moving_voxel_size = sizes
    images = filled(images)
    fixed, moving = images.fixed, images.moving
    shape, moving_shape = fixed.shape[1:-1], moving.shape[1:-1]
    arrays = [array for array in (*images, displacement, matrix) if array is not None]
    last, none = len(field.factors) - 1, zeros_for(fixed.shape[:1], *arrays)
    displacement += zeros_for((1,) * displacement.ndim, *arrays)
    solution = Solution(displacement, none, none.astype(jnp.int32), none.astype(bool))
    for level, share in enumerate(shares(num_steps, len(field.factors))):
        if not share and level < last:
            continue  # the last level gives the loss, also without steps
        length = field.factors[level] * min(voxel_size)
        coarse = level_shape(shape, length, voxel_size)
        coarse_moving = level_shape(moving_shape, length, moving_voxel_size)
        between = None if matrix is None else level_matrix(matrix, shape, moving_shape, coarse, coarse_moving)
        small = shrink_images(images, coarse, coarse_moving)
        lengths = tuple(size * old / new for size, old, new in zip(voxel_size, shape, coarse, strict=True))
        displacement = solution.displacement
        start = displacement if coarse == shape else resize(displacement, coarse)
        extra = level_extra(constraints, guidance, between, sizes, images, small)
        begin = extra.accept(start, start)
        seen = pair_weights(small, begin, between)
        arguments = small.fixed, small.moving, seen, begin, between, share, field, level, lengths, tolerance
        end = descend(objective, extra, *arguments)
        # Only the change is resized to the finer grid, so that details of the start remain.
        displacement = end.displacement if coarse == shape else displacement + resize(end.displacement - start, shape)
        solution = end._replace(displacement=displacement, steps=solution.steps + end.steps)
    return solution
