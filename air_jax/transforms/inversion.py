"""Inversion of displacements, voxel by voxel, by damped fixed-point steps and Newton steps."""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from air_jax.checks import check_arrays, check_integer, check_number
from air_jax.runtime.any_mesh import on_any_mesh
from air_jax.transforms.grid import identity_grid
from air_jax.transforms.jacobian import determinant
from air_jax.transforms.sampling.sampler import sample, warp

# Length of a fixed-point step. A full step diverges where the map stretches by more than 2, half a step by more than 4.
DAMPING = 0.5
# Newton steps need a Jacobian determinant above this value.
MIN_DETERMINANT = 0.05
# Voxels. With a tolerance, Newton steps begin where every residual is shorter: they then converge at once.
NEAR = 0.3
# With a tolerance, when at most one voxel in this many has a longer residual, only these voxels go on.
FEW = 64


@on_any_mesh
def inverse(
    displacement: jax.Array, *, num_iterations: int = 60, tolerance: float | None = None
) -> tuple[jax.Array, jax.Array]:
    """Inverts a displacement: solves `v(p) = -u(p + v(p))` at every voxel (Chen et al. 2008).

    At most two thirds of the iterations are damped fixed-point steps, `v - r / 2` with the residual `r(p) = v(p) +
    u(p + v(p))`. They may increase the residual for a while, so they pass the folds at which a descent gets stuck. The
    rest are Newton steps from the best result of each voxel, with the derivative of `u` interpolated at `p + v(p)`.
    They converge where the map stretches too much for fixed-point steps. A Newton step that does not decrease a voxel's
    residual is undone and halved.

    Args:
      displacement: `u` `[B, *S, N]` in voxel units, 2-D or 3-D.
      num_iterations: evaluations of the residual, at least 0; 60 by default.
      tolerance: length of the residual in voxels at which the iterations end. When few voxels are left with a longer
        one, only these go on. The function then has no derivative in reverse mode. Default: all iterations are done.

    Returns:
      `v` `[B, *S, N]` in voxel units, and the length of the residual `[B, *S]` in voxels. `compose(u, v)` is the
      residual. `compose(v, u)` is also about 0 where `u` does not fold. Where a fold makes several points map to `p`,
      `v(p)` leads to one of them.

    Raises:
      ValueError: the shape is not that of a 2-D or 3-D displacement with at least 2 voxels along each axis.
      OptionError: `num_iterations` is no integer of at least 0, or `tolerance` is negative or not finite.

    Examples:
      >>> displacement = jnp.zeros((1, 8, 8, 2)).at[..., 0].set(1.5)
      >>> back, residual = air_jax.transforms.inverse(displacement)
      >>> back[0, 4, 4].tolist(), float(residual.max())
      ([-1.5, 0.0], 0.0)
    """
    check_arrays("inverse", "f", displacement=displacement)
    check_integer("num_iterations", num_iterations, 0)
    if tolerance is not None:
        check_number("tolerance", tolerance, low=0)
    if displacement.ndim not in (4, 5) or displacement.shape[-1] != displacement.ndim - 2:
        raise ValueError(
            f"inverse: displacement has shape {displacement.shape}; it must be [B, H, W, 2] or [B, D, H, W, 3]"
        )
    if any(size < 2 for size in displacement.shape[1:-1]):
        raise ValueError(f"inverse: displacement has shape {displacement.shape}; it needs 2 voxels along each axis")
    num_fixed_point = num_iterations - num_iterations // 3
    near = None if tolerance is None else max(NEAR, tolerance)
    start = jnp.zeros_like(displacement), displacement
    carry = *start, *start
    done, carry = _repeat(num_fixed_point, partial(_fixed_point, displacement), carry, 3, near)

    axes = range(1, displacement.ndim - 1)
    derivative = jnp.concatenate([jnp.asarray(jnp.gradient(displacement, axis=axis)) for axis in axes], axis=-1)
    carry = *carry[2:], jnp.ones_like(displacement[..., :1])
    num_newton = num_iterations - done
    _, (best, residual, _) = _repeat(num_newton, partial(_newton, displacement, derivative), carry, 1, tolerance)
    return best, jnp.linalg.norm(residual, axis=-1)


Carry = tuple[jax.Array, ...]  # arrays `[B, *P, K]`, one row a point
Step = Callable[[jax.Array | None, Carry], Carry]  # of points `[B, *P, N]`; None: all voxels


def _moved(field: jax.Array, points: jax.Array | None, candidate: jax.Array) -> jax.Array:
    """Samples a field at `p + candidate(p)`; `warp` keeps more digits than absolute coordinates of long axes do."""
    if points is None:
        return warp(field, candidate, mode="nearest")
    return sample(field, points + candidate, mode="nearest")


def _fixed_point(displacement: jax.Array, points: jax.Array | None, carry: Carry) -> Carry:
    candidate, residual, best, best_residual = carry
    candidate = candidate - DAMPING * residual
    residual = candidate + _moved(displacement, points, candidate)
    return candidate, residual, *_shorter(best, best_residual, candidate, residual)[1:]


def _newton(displacement: jax.Array, derivative: jax.Array, points: jax.Array | None, carry: Carry) -> Carry:
    best, residual, length = carry
    candidate = best - length * _newton_step(derivative, points, best, residual)
    better, best, residual = _shorter(best, residual, candidate, candidate + _moved(displacement, points, candidate))
    return best, residual, jnp.where(better, jnp.minimum(2 * length, 1.0), length / 2)


def _repeat(
    count: int | jax.Array, step: Step, carry: Carry, residual_at: int, tolerance: float | None
) -> tuple[int | jax.Array, Carry]:
    """Repeats a step; with a tolerance, until every residual, `carry[residual_at]`, is shorter.

    When few voxels are left with a longer one, the step goes on with these alone. Returns the number of steps also.
    """
    batch, *shape, num_axes = carry[0].shape
    if tolerance is None:
        return count, jax.lax.fori_loop(0, count, lambda _, carry: step(None, carry), carry)

    def num_long(carry):
        long = jnp.linalg.norm(carry[residual_at], axis=-1) >= tolerance
        return jnp.sum(long.reshape(batch, -1), axis=1).max()

    def until(num_left, points, state):
        return jax.lax.while_loop(
            lambda state: (state[0] < count) & (num_long(state[1]) > num_left),
            lambda state: (state[0] + 1, step(points, state[1])),
            state,
        )

    few = -(-math.prod(shape) // FEW)
    index, carry = until(few, None, (0, carry))
    voxels = (batch, -1)
    long = (jnp.linalg.norm(carry[residual_at], axis=-1) >= tolerance).reshape(voxels)
    # Places beyond the last voxel fill up: nothing is written there.
    places = jax.vmap(lambda each: jnp.nonzero(each, size=few, fill_value=each.size)[0])(long)

    def taken(array):
        array = jnp.take_along_axis(array.reshape(*voxels, array.shape[-1]), places[..., None], axis=1, mode="clip")
        return array.reshape(batch, few, *(1,) * (num_axes - 1), array.shape[-1])

    def put(array, part):
        flat = array.reshape(*voxels, array.shape[-1])
        return jax.vmap(lambda a, p, v: a.at[p].set(v, mode="drop"))(
            flat, places, part.reshape(batch, few, -1)
        ).reshape(array.shape)

    points = taken(jnp.broadcast_to(identity_grid(shape), carry[0].shape))
    index, part = until(0, points, (index, jax.tree.map(taken, carry)))
    return index, jax.tree.map(put, carry, part)


def _shorter(best, best_residual, candidate, residual):
    """Returns where the candidate has the shorter residual, and for each point the better one and its residual."""
    better = (jnp.linalg.norm(residual, axis=-1) < jnp.linalg.norm(best_residual, axis=-1))[..., None]
    return better, jnp.where(better, candidate, best), jnp.where(better, residual, best_residual)


def _newton_step(
    derivative: jax.Array, points: jax.Array | None, candidate: jax.Array, residual: jax.Array
) -> jax.Array:
    """Solves `(1 + du) x = residual` at `p + candidate(p)` by Cramer's rule; `x = residual` close to a fold.

    Args:
      derivative: `[B, *S, N * N]`, the derivative of the displacement along each axis in turn.
      points: `p`, `[B, *P, N]` in voxel units. None: all voxels.
      candidate: the same shape, in voxel units.
      residual: the same shape.

    Returns:
      The same shape.
    """
    num_axes = candidate.shape[-1]
    columns = jnp.split(_moved(derivative, points, candidate), num_axes, axis=-1)
    position = candidate + (identity_grid(candidate.shape[1:-1])[None] if points is None else points)
    last = jnp.asarray(derivative.shape[1:-1], jnp.float32) - 1
    within = (position >= 0) & (position <= last.reshape((1,) * (num_axes + 1) + (num_axes,)))
    for axis, unit in enumerate(jnp.eye(num_axes)):  # the displacement is constant beyond the border
        column = jnp.where(within[..., axis, None], columns[axis], 0.0)
        columns[axis] = column + jnp.broadcast_to(unit, column.shape)
    det = determinant(columns)
    solved = [determinant([*columns[:axis], residual, *columns[axis + 1 :]]) for axis in range(num_axes)]
    sound = det > MIN_DETERMINANT
    step = jnp.stack(solved, axis=-1) / jnp.where(sound, det, 1.0)[..., None]
    return jnp.where(sound[..., None], step, residual)
