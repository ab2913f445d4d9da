"""Regions that keep their volume: the smallest smooth change of a displacement that restores it."""

import math
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax.scipy.sparse.linalg import cg

from air_jax.optimize.geometry import Sizes
from air_jax.transforms import jacobian_determinant, smooth

TOLERANCE = 0.005  # largest error of a Jacobian determinant at which the correction ends
NUM_STEPS = (8, 60)  # Newton's, and those of conjugate gradients in each of them; at most
FEW_STEPS = (1, 15)  # the same during an optimisation, whose steps go on to change volumes
# The correction is smoothed by a Gaussian of this standard deviation, in the smallest voxel length, so that it spreads
# outside of the region. The small rest that is not smoothed corrects differences between neighbouring voxels.
SIGMA, ROUGH = 4.0, 0.02


def correct_volume(
    displacement: jax.Array,
    region: jax.Array,
    movable: jax.Array,
    matrix: jax.Array | None,
    sizes: tuple[Sizes, Sizes],
    free: Sequence[float],
    *,
    num_steps: tuple[int, int] = NUM_STEPS,
) -> jax.Array:
    """Changes a displacement by little, so that the determinants of the whole map are 1 in a region.

    Each Newton step solves the linearised equations with the smallest smooth change: `S D^T x` with
    `D S D^T x = 1 - J`, where `D` is the derivative of the determinants and `S` smooths. Conjugate gradients find `x`.

    Args:
      displacement: `[B, *S, N]` in voxels.
      region: `[B, *S]`, above 0 inside.
      movable: `[B, *S]` in [0, 1]; 0 where the displacement must stay.
      matrix: `[B, N, N + 1]` that follows the displacement, or None: the identity.
      sizes: lengths of the fixed and the moving voxels.
      free: `[N]`, 0 for components that must stay.
      num_steps: largest numbers of Newton steps, and of steps of conjugate gradients in each of them.

    Returns:
      `[B, *S, N]`: errors of determinants below `TOLERANCE` where it converged. A step that does not lower a pair's
      mean squared error is not taken.
    """

    def of_pair(displacement, region, movable, matrix):
        pair = jax.tree.map(lambda array: array[None], (displacement, region, movable, matrix))
        return _corrected(*pair, sizes=sizes, free=free, num_steps=num_steps)[0]

    # One pair at a time, so that steps and their ends do not depend on the other pairs of a batch.
    batch = displacement.shape[:-1]
    region, movable = jnp.broadcast_to(region, batch), jnp.broadcast_to(movable, batch)
    return jax.vmap(of_pair)(displacement, region, movable, matrix)


def _corrected(
    displacement: jax.Array,
    region: jax.Array,
    movable: jax.Array,
    matrix: jax.Array | None,
    *,
    sizes: tuple[Sizes, Sizes],
    free: Sequence[float],
    num_steps: tuple[int, int],
) -> jax.Array:
    """`correct_volume` of one pair, with a batch axis of 1."""
    voxel_size, num_axes = jnp.asarray(sizes[0]), displacement.shape[-1]
    sigma = tuple(SIGMA / 2**0.5 * min(sizes[0]) / size for size in sizes[0])
    # At the border of the image `smooth` is not symmetric; with its transpose it is, as conjugate gradients need.
    once = partial(smooth, sigma=sigma)
    back = jax.linear_transpose(once, displacement)
    # A gradient by voxels, twice divided by their size, is a step in voxels along the gradient by lengths.
    factor = jnp.asarray(free) * jnp.square(min(sizes[0]) / voxel_size)
    mask = movable[..., None] * jnp.sqrt(factor).reshape((1,) * (num_axes + 1) + (-1,))
    inner = (_inner(region) > 0) * (_inner(movable) > 0)
    wanted = _wanted(matrix, sizes, displacement)

    def error(displacement):
        return inner * (jacobian_determinant(displacement) / wanted - 1)

    def spread(change):
        change = mask * change
        (gathered,) = back(change)
        return mask * (once(gathered) + ROUGH * change)

    def keep_going(carry):
        count, _, errors, running = carry
        return (count < num_steps[0]) & running & (jnp.max(jnp.abs(errors)) > TOLERANCE)

    def newton(carry):
        count, displacement, errors, _ = carry
        _, derivative = jax.linearize(error, displacement)
        transposed = jax.linear_transpose(derivative, displacement)

        def normal(x):
            (change,) = transposed(x)
            return derivative(spread(change)) + 1e-4 * x

        solution, _ = cg(normal, -errors, tol=1e-2, maxiter=num_steps[1])
        (change,) = transposed(solution)
        candidate = displacement + spread(change)
        candidate_errors = error(candidate)
        better = jnp.sum(jnp.square(candidate_errors)) < jnp.sum(jnp.square(errors))
        take = partial(jnp.where, better)
        return count + 1, take(candidate, displacement), take(candidate_errors, errors), better

    start = jnp.zeros((), jnp.int32), displacement, error(displacement), jnp.asarray(True)
    return jax.lax.while_loop(keep_going, newton, start)[1]


def _inner(region: jax.Array) -> jax.Array:
    """Cuts `[B, *S]` to the interior voxels, where central differences exist."""
    return region[(slice(None), *(slice(1, -1),) * (region.ndim - 1))]


def _wanted(matrix: jax.Array | None, sizes: tuple[Sizes, Sizes], displacement: jax.Array) -> jax.Array:
    """The determinant of the displacement `[B, 1, ...]` at which the whole map keeps volume."""
    ratio = math.prod(sizes[0]) / math.prod(sizes[1])
    if matrix is None:
        return jnp.full((displacement.shape[0], *(1,) * (displacement.ndim - 2)), ratio)
    change = jnp.abs(jnp.linalg.det(matrix[..., :-1]))
    return (ratio / jnp.maximum(change, 1e-6)).reshape(-1, *(1,) * (displacement.ndim - 2))
