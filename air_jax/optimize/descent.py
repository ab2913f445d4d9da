"""Gradient descent of refinement on one level."""

import jax
import jax.numpy as jnp

from air_jax.losses import Objective
from air_jax.optimize.extras import Extra
from air_jax.optimize.field import Field
from air_jax.optimize.geometry import Sizes
from air_jax.optimize.levels import warp_between
from air_jax.optimize.solution import Solution
from air_jax.runtime.any_mesh import zeros_for

STEPS_BETWEEN_CHECKS = 10
# The step length of a pair is halved when its steps do not lower the loss. At this length the pair has converged.
SHORTEST = 1 / 16


def descend(
    objective: Objective,
    extra: Extra,
    fixed: jax.Array,
    moving: jax.Array,
    weights: jax.Array | None,
    displacement: jax.Array,
    matrix: jax.Array | None,
    num_steps: int,
    field: Field,
    level: int,
    voxel_size: Sizes,
    tolerance: float,
) -> Solution:
    """Descends on the grid of one level until every pair has converged, at most `num_steps` steps.

    Args:
      objective, num_steps, field, tolerance: those of `air_jax.optimize.refine`.
      extra: constraints and guidance of the level.
      fixed, moving: `[B, *S, C]` and `[B, *V, C]`, on the level's grids.
      weights: `[B, *S]`, or None: all voxels count.
      displacement: `[B, *S, N]` in voxels of the level, the start.
      matrix: `[B, N, N + 1]`, affine between the level's grids, or None.
      level: index of the level.
      voxel_size: `[N]`, lengths of the level's voxels.

    Returns:
      The solution on the level's grid.
    """
    optimizer = field.optimizer(voxel_size)

    def loss(displacement):
        value = objective(fixed, warp_between(moving, displacement, matrix), displacement, weights=weights)[0]
        return value if extra.loss is None else value + extra.loss(displacement)

    def run_round(start, num_steps, length):
        def step(carry, _):
            parameters, state = carry
            gradient = jax.grad(lambda parameters: jnp.sum(loss(field.trial(start, parameters, level))))(parameters)
            updates, state = optimizer.update(extra.gradient(gradient), state)
            return (parameters + length * updates, state), None

        parameters = zeros_for((start.shape[0], *field.shape(start.shape[1:-1], level), start.shape[-1]), start)
        carry = parameters, optimizer.init(parameters)
        if num_steps == 1:
            (parameters, _), _ = step(carry, None)
        else:
            (parameters, _), _ = jax.lax.scan(step, carry, length=num_steps)
        return extra.accept(field.accept(start, parameters, level, voxel_size, length), start)

    def run(start, num_steps, length):
        rounds, rest = divmod(num_steps, field.steps_per_round)
        displacement, _ = jax.lax.scan(
            lambda each, _: (run_round(each, field.steps_per_round, length), None), start, length=rounds
        )
        return extra.finish(run_round(displacement, rest, length) if rest else displacement, start)

    def of_pairs(values):
        return values.reshape(-1, *(1,) * (displacement.ndim - 1))

    # In reverse mode the steps between two checks are computed again, instead of kept in memory.
    @jax.checkpoint
    def advance(carry):
        solution, length = carry
        running = length > 0
        candidate = run(solution.displacement, STEPS_BETWEEN_CHECKS, of_pairs(length))
        candidate_loss = loss(candidate)
        gain = solution.loss - candidate_loss
        taken = running & (gain > 0)
        stops = jnp.where(gain > 0, gain < tolerance * jnp.abs(first), length <= SHORTEST)
        converged = solution.converged | stops
        length = jnp.where(converged, 0.0, jnp.where(gain > 0, length, 0.5 * length))
        return (
            Solution(
                jnp.where(of_pairs(taken), candidate, solution.displacement),
                jnp.where(taken, candidate_loss, solution.loss),
                solution.steps + STEPS_BETWEEN_CHECKS * running,
                converged,
            ),
            length,
        )

    def check(carry, _):
        return jax.lax.cond(jnp.any(carry[1] > 0), advance, lambda carry: carry, carry), None

    first = loss(displacement)
    solution = Solution(displacement, first, jnp.zeros_like(first, jnp.int32), jnp.zeros_like(first, bool))
    length = jnp.ones_like(first)
    if num_steps >= STEPS_BETWEEN_CHECKS:
        # Not a `while_loop`, which has no derivative in reverse mode.
        checks = num_steps // STEPS_BETWEEN_CHECKS
        (solution, length), _ = jax.lax.scan(check, (solution, length), length=checks)
    if rest := num_steps % STEPS_BETWEEN_CHECKS:
        running = length > 0
        candidate = run(solution.displacement, rest, of_pairs(length))
        candidate_loss = loss(candidate)
        taken = running & (candidate_loss < solution.loss)
        solution = solution._replace(
            displacement=jnp.where(of_pairs(taken), candidate, solution.displacement),
            loss=jnp.where(taken, candidate_loss, solution.loss),
            steps=solution.steps + rest * running,
        )
    return solution
