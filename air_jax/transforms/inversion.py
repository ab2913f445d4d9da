"""Inversion of displacements, voxel by voxel, by damped fixed-point steps and Newton steps."""

import jax
import jax.numpy as jnp

from air_jax.checks import check_arrays, check_integer
from air_jax.runtime.any_mesh import on_any_mesh
from air_jax.transforms.displacement import compose
from air_jax.transforms.grid import identity_grid
from air_jax.transforms.jacobian import determinant
from air_jax.transforms.sampling.sampler import warp

# Length of a fixed-point step. A full step diverges where the map stretches by more than 2, half a step by more than 4.
DAMPING = 0.5
# Newton steps need a Jacobian determinant above this value.
MIN_DETERMINANT = 0.05
# Voxels. With a tolerance, Newton steps begin where every residual is shorter: they then converge at once.
NEAR = 0.3


@on_any_mesh
def inverse(
    displacement: jax.Array, *, num_iterations: int = 60, tolerance: float | None = None
) -> tuple[jax.Array, jax.Array]:
    """Inverts a displacement: solves `v(p) = -u(p + v(p))` at every voxel (Chen et al. 2008).

    Two thirds of the iterations are damped fixed-point steps, `v - r / 2` with the residual `r(p) = v(p) + u(p +
    v(p))`. They may increase the residual for a while, so they pass the folds at which a descent gets stuck. The last
    third are Newton steps from the best result of each voxel, with the derivative of `u` interpolated at `p + v(p)`.
    They converge where the map stretches too much for fixed-point steps. A Newton step that does not decrease a voxel's
    residual is undone and halved.

    Args:
      displacement: `u` `[B, *S, N]` in voxel units, 2-D or 3-D.
      num_iterations: evaluations of the residual, at least 0; 60 by default.
      tolerance: length of the residual in voxels at which the iterations end, if that of every voxel is shorter. The
        function then has no derivative in reverse mode. Default: all iterations are done.

    Returns:
      `v` `[B, *S, N]` in voxel units, and the length of the residual `[B, *S]` in voxels. `compose(u, v)` is the
      residual. `compose(v, u)` is also about 0 where `u` does not fold. Where a fold makes several points map to `p`,
      `v(p)` leads to one of them.

    Raises:
      ValueError: the shape is not that of a 2-D or 3-D displacement with at least 2 voxels along each axis.
      OptionError: `num_iterations` is no integer of at least 0.
    """
    check_arrays("inverse", "f", displacement=displacement)
    check_integer("num_iterations", num_iterations, 0)
    if displacement.ndim not in (4, 5) or displacement.shape[-1] != displacement.ndim - 2:
        raise ValueError(
            f"inverse: displacement has shape {displacement.shape}; it must be [B, H, W, 2] or [B, D, H, W, 3]"
        )
    if any(size < 2 for size in displacement.shape[1:-1]):
        raise ValueError(f"inverse: displacement has shape {displacement.shape}; it needs 2 voxels along each axis")
    num_newton = num_iterations // 3

    def fixed_point(_, carry):
        candidate, residual, best, best_residual = carry
        candidate = candidate - DAMPING * residual
        residual = compose(displacement, candidate)
        return candidate, residual, *_shorter(best, best_residual, candidate, residual)[1:]

    start = jnp.zeros_like(displacement), displacement
    near = None if tolerance is None else max(NEAR, tolerance)
    *_, best, residual = _repeat(num_iterations - num_newton, fixed_point, (*start, *start), 3, near)

    axes = range(1, displacement.ndim - 1)
    derivative = jnp.concatenate([jnp.asarray(jnp.gradient(displacement, axis=axis)) for axis in axes], axis=-1)

    def newton(_, carry):
        best, residual, length = carry
        candidate = best - length[..., None] * _newton_step(derivative, best, residual)
        better, best, residual = _shorter(best, residual, candidate, compose(displacement, candidate))
        return best, residual, jnp.where(better, jnp.minimum(2 * length, 1.0), length / 2)

    carry = best, residual, jnp.ones_like(displacement[..., 0])
    best, residual, _ = _repeat(num_newton, newton, carry, 1, tolerance)
    return best, jnp.linalg.norm(residual, axis=-1)


def _repeat(count, step, carry, residual_at, tolerance):
    """Repeats a step; with a tolerance, until the longest residual, `carry[residual_at]`, is shorter."""
    if tolerance is None:
        return jax.lax.fori_loop(0, count, step, carry)

    def goes_on(state):
        index, carry = state
        return (index < count) & (jnp.max(jnp.linalg.norm(carry[residual_at], axis=-1)) >= tolerance)

    return jax.lax.while_loop(goes_on, lambda state: (state[0] + 1, step(*state)), (0, carry))[1]


def _shorter(best, best_residual, candidate, residual):
    """Returns where the candidate has the shorter residual, and for each voxel the better one and its residual."""
    better = jnp.linalg.norm(residual, axis=-1) < jnp.linalg.norm(best_residual, axis=-1)
    keep = better[..., None]
    return better, jnp.where(keep, candidate, best), jnp.where(keep, residual, best_residual)


def _newton_step(derivative: jax.Array, candidate: jax.Array, residual: jax.Array) -> jax.Array:
    """Solves `(1 + du) x = residual` at `p + candidate(p)` by Cramer's rule; `x = residual` close to a fold.

    Args:
      derivative: `[B, *S, N * N]`, the derivative of the displacement along each axis in turn.
      candidate: `[B, *S, N]` in voxel units.
      residual: the same shape.

    Returns:
      The same shape.
    """
    num_axes = candidate.shape[-1]
    columns = jnp.split(warp(derivative, candidate, mode="nearest"), num_axes, axis=-1)
    position = identity_grid(candidate.shape[1:-1])[None] + candidate
    last = jnp.asarray(candidate.shape[1:-1], jnp.float32) - 1
    within = (position >= 0) & (position <= last.reshape((1,) * (num_axes + 1) + (num_axes,)))
    for axis, unit in enumerate(jnp.eye(num_axes)):  # the displacement is constant beyond the border
        column = jnp.where(within[..., axis, None], columns[axis], 0.0)
        columns[axis] = column + jnp.broadcast_to(unit, column.shape)
    det = determinant(columns)
    solved = [determinant([*columns[:axis], residual, *columns[axis + 1 :]]) for axis in range(num_axes)]
    sound = det > MIN_DETERMINANT
    step = jnp.stack(solved, axis=-1) / jnp.where(sound, det, 1.0)[..., None]
    return jnp.where(sound[..., None], step, residual)
