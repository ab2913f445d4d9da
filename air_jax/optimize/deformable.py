"""Refinement: optimising a displacement on the pairs at hand, with the objective that models are trained with."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from air_jax.losses import Objective
from air_jax.optimize.fields import FIELDS, TOTAL_SIGMA, UPDATE_SIGMA, Field
from air_jax.optimize.levels import level_matrix, level_shape, shares, warp_between
from air_jax.transforms import resize
from air_jax.transforms.filters import shrink

STEPS_BETWEEN_CHECKS = 10
# Steps that do not help are halved; a pair for which even this share of a full step does not help has converged.
SHORTEST = 1 / 16


def refine(
    objective: Objective,
    fixed: jax.Array,
    moving: jax.Array,
    displacement: jax.Array,
    *,
    num_steps: int,
    field: str = "control_grid",
    levels: Sequence[tuple[int, int]] | None = None,
    matrix: jax.Array | None = None,
    voxel_size: Sequence[float] | None = None,
    moving_voxel_size: Sequence[float] | None = None,
    tolerance: float = 0.0,
    update_sigma: float = UPDATE_SIGMA,
    total_sigma: float = TOTAL_SIGMA,
) -> jax.Array:
    """Continues from a displacement by gradient descent on the objective; from zero, it registers without a model.

    The displacement is composed with a small one, whose parameters are optimised. Every few steps the result becomes
    the displacement to go on from and the parameters start at zero again, so that large deformations are made of small
    ones, as in the greedy scheme of Christensen et al. (1996), and hardly fold. All pairs are optimised at once, each
    on its own: no pair sees another, nor stops when another has converged.

    Args:
      objective: see `air_jax.losses.make_objective`. With `control_grid` it should hold a penalty on folding.
      fixed: `[B, *S, C]` in [0, 1].
      moving: the same shape; with `matrix`, `[B, *V, C]` on a grid of its own.
      displacement: `[B, *S, N]` in voxels of the fixed grid, where to start.
      num_steps: steps in all at most, shared out equally among the levels.
      field: what is optimised, a key of `FIELDS`.
      levels: from coarse to fine, how many times a level's voxels are larger than the image's, a power of two, and how
        many of them lie between control points. Default: the field's own.
      matrix: `[B, N, N + 1]`, an affine map from fixed to moving voxels that follows the displacement:
        `warped(p) = moving(matrix(p + u(p)))`. Default: the identity.
      voxel_size: `[N]`, the fixed image's, in any unit: how far is as far along each axis. Default: all the same.
      moving_voxel_size: the same of the moving image. Default: the fixed image's.
      tolerance: a pair has converged at a level when 10 steps bring its loss down by less than this share of what it
        was at the level's start.
      update_sigma: how smooth the updates of a `dense` field are: standard deviation of the Gaussian that smooths them,
        in the level's voxels. Less follows finer detail.
      total_sigma: the same of the whole `dense` field, which is smoothed after each update. Less lets it get rougher.

    Returns:
      `[B, *S, N]`.

    Raises:
      ValueError: a number of steps, a field or levels that cannot be.
    """
    return _refine(
        objective,
        fixed,
        moving,
        displacement,
        matrix,
        **_settings(
            displacement,
            num_steps,
            field,
            levels,
            voxel_size,
            moving_voxel_size,
            tolerance,
            update_sigma,
            total_sigma,
        ),
    )


def compile_refine(*arguments: Any, matrix: jax.Array | None = None, **options: Any) -> None:
    """Compiles what `refine` would run with the same arguments, into JAX's persistent cache, and runs nothing.

    For another thread, while this one is busy: XLA compiles on one core.
    """
    _refine.lower(*arguments, matrix, **_settings(arguments[-1], **options)).compile()


def _settings(
    displacement: jax.Array,
    num_steps: int,
    field: str,
    levels: Sequence[tuple[int, int]] | None = None,
    voxel_size: Sequence[float] | None = None,
    moving_voxel_size: Sequence[float] | None = None,
    tolerance: float = 0.0,
    update_sigma: float = UPDATE_SIGMA,
    total_sigma: float = TOTAL_SIGMA,
) -> dict[str, Any]:
    """The static arguments of `_refine`, checked."""
    if field not in FIELDS:
        raise ValueError(f"refine: field is {field!r}; it must be one of {', '.join(FIELDS)}")
    levels = FIELDS[field].levels if levels is None else tuple((factor, spacing) for factor, spacing in levels)
    if num_steps < 0 or not levels or min(min(level) for level in levels) < 1:
        raise ValueError(f"refine: num_steps is {num_steps} and levels {levels}; they must be positive")
    voxel_size = tuple(map(float, voxel_size)) if voxel_size is not None else (1.0,) * displacement.shape[-1]
    moving_voxel_size = tuple(map(float, moving_voxel_size)) if moving_voxel_size is not None else voxel_size
    return {
        "num_steps": num_steps,
        "field": FIELDS[field],
        "levels": levels,
        "sizes": (voxel_size, moving_voxel_size),
        "tolerance": tolerance,
        "sigmas": (float(update_sigma), float(total_sigma)),
    }


@partial(jax.jit, static_argnames=("objective", "num_steps", "field", "levels", "sizes", "tolerance", "sigmas"))
def _refine(objective, fixed, moving, displacement, matrix, num_steps, field, levels, sizes, tolerance, sigmas):
    (voxel_size, moving_voxel_size), (update_sigma, total_sigma) = sizes, sigmas
    shape, moving_shape = fixed.shape[1:-1], moving.shape[1:-1]
    for (factor, spacing), share in zip(levels, shares(num_steps, len(levels)), strict=True):
        if not share:
            continue
        length = factor * min(voxel_size)
        coarse = level_shape(shape, length, voxel_size)
        coarse_moving = level_shape(moving_shape, length, moving_voxel_size)
        between = None if matrix is None else level_matrix(matrix, shape, moving_shape, coarse, coarse_moving)
        images = shrink(fixed, coarse), shrink(moving, coarse_moving)
        lengths = tuple(size * old / new for size, old, new in zip(voxel_size, shape, coarse, strict=True))
        start = displacement if coarse == shape else resize(displacement, coarse)
        optimizer = field.optimizer(lengths, update_sigma)
        elastic = tuple(total_sigma * min(lengths) / size for size in lengths)
        end = _descend(objective, *images, start, between, share, field, optimizer, spacing, elastic, tolerance)
        # Only the change is taken to the finer grid, so that details of where we started stay.
        displacement = end if coarse == shape else displacement + resize(end - start, shape)
    return displacement


def _descend(
    objective: Objective,
    fixed: jax.Array,
    moving: jax.Array,
    displacement: jax.Array,
    matrix: jax.Array | None,
    num_steps: int,
    field: Field,
    optimizer: optax.GradientTransformation,
    spacing: int,
    elastic: Sequence[float],
    tolerance: float,
) -> jax.Array:
    """Descends on one level's grid, pair by pair until it has converged, at most `num_steps` steps."""

    def loss(displacement):
        return objective(fixed, warp_between(moving, displacement, matrix), displacement)[0]

    def run_round(start, num_steps, length):
        def step(carry, _):
            parameters, state = carry
            gradient = jax.grad(lambda parameters: jnp.sum(loss(field.trial(start, parameters, spacing))))(parameters)
            updates, state = optimizer.update(gradient, state)
            updates = length * updates
            return (optax.apply_updates(parameters, updates), state), None

        parameters = jnp.zeros((len(start), *field.shape(start.shape[1:-1], spacing), start.shape[-1]))
        carry = parameters, optimizer.init(parameters)
        if num_steps == 1:
            (parameters, _), _ = step(carry, None)
        else:
            (parameters, _), _ = jax.lax.scan(step, carry, length=num_steps)
        return field.accept(start, parameters, spacing, elastic, length)

    def run(displacement, num_steps, length):
        rounds, rest = divmod(num_steps, field.steps)
        displacement, _ = jax.lax.scan(
            lambda start, _: (run_round(start, field.steps, length), None), displacement, length=rounds
        )
        return run_round(displacement, rest, length) if rest else displacement

    def of_pairs(values):
        return values.reshape(-1, *(1,) * (displacement.ndim - 1))

    def keep_going(carry):
        check, _, _, length = carry
        return (check < num_steps // STEPS_BETWEEN_CHECKS) & jnp.any(length > 0)

    def advance(carry):
        check, displacement, value, length = carry
        candidate = run(displacement, STEPS_BETWEEN_CHECKS, of_pairs(length))
        candidate_value = loss(candidate)
        gain = value - candidate_value
        taken = (length > 0) & (gain > 0)
        converged = jnp.where(gain > 0, gain < tolerance * jnp.abs(first), length <= SHORTEST)
        length = jnp.where(converged, 0.0, jnp.where(gain > 0, length, 0.5 * length))
        return (
            check + 1,
            jnp.where(of_pairs(taken), candidate, displacement),
            jnp.where(taken, candidate_value, value),
            length,
        )

    first = loss(displacement)
    carry = jnp.zeros((), jnp.int32), displacement, first, jnp.ones(len(fixed))
    _, displacement, value, length = jax.lax.while_loop(keep_going, advance, carry)
    if rest := num_steps % STEPS_BETWEEN_CHECKS:
        last = run(displacement, rest, of_pairs(length))
        taken = (length > 0) & (loss(last) < value)
        displacement = jnp.where(of_pairs(taken), last, displacement)
    return displacement
