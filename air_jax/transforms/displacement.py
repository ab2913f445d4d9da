"""Displacement algebra: composing, exponentiating, inverting and resizing fields `[B, *S, N]` in voxel units.

A field is known inside the image alone; outside it is taken to go on with its edge values, so that a translation
composes and inverts exactly. (Zeros, the other habit, leak inward from the border.)
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from air_jax.transforms.grid import identity_grid
from air_jax.transforms.jacobian import determinant
from air_jax.transforms.sampling.sampler import warp


def compose(first: jax.Array, second: jax.Array) -> jax.Array:
    """The one displacement that does the work of two warps: `warp(warp(image, first), second)` without the second blur.

    As pull-back maps, `id + compose(first, second) = (id + first) o (id + second)`.

    Args:
      first: `[B, *S, N]`, applied to the image first.
      second: the same shape; where it points, `first` is sampled linearly.

    Returns:
      `[B, *S, N]`: `second(p) + first(p + second(p))`.

    Raises:
      ValueError: the shapes differ.
    """
    if first.shape != second.shape:
        raise ValueError(f"compose: displacements have shapes {first.shape} and {second.shape}; they must be the same")
    return second + warp(first, second, mode="nearest")


def exponential(velocity: jax.Array, integration_steps: int = 7) -> jax.Array:
    """Displacement at time 1 of the flow of a stationary velocity, by scaling and squaring (Arsigny et al. 2006).

    Args:
      velocity: `[B, *S, N]`, voxels a unit of time.
      integration_steps: the velocity is halved this often, and the small displacement composed with itself as often.
        Enough of them keep a smooth field from folding; the discretised exponential still can, so measure it.

    Returns:
      `[B, *S, N]`: `u` with `id + u = exp(velocity)`.

    Raises:
      ValueError: `integration_steps` is negative.
    """
    if integration_steps < 0:
        raise ValueError(f"exponential: integration_steps is {integration_steps}; it must not be negative")
    displacement = velocity / 2**integration_steps
    for _ in range(integration_steps):
        displacement = compose(displacement, displacement)
    return displacement


def inverse(displacement: jax.Array, num_iterations: int = 30) -> tuple[jax.Array, jax.Array]:
    """Inverts a displacement: finds the fixed point of `v(p) = -u(p + v(p))` (Chen et al. 2008), voxel by voxel.

    The plain iteration diverges where the map stretches by more than 2 or turns far. So each step is Newton's, with the
    derivative of `u` sampled where `p + v(p)` lies, and a voxel takes back and halves a step that does not bring its
    residual down.

    Args:
      displacement: `u` `[B, *S, N]`, 2-D or 3-D; where a field folds it has no inverse, and the residual stays large.
      num_iterations: evaluations of the residual.

    Returns:
      `v` `[B, *S, N]` with `compose(v, u)` and `compose(u, v)` about 0; and the residual `[B, *S]` in voxels, the
      length of `compose(u, v)`: how far each voxel misses itself.
    """
    num_axes = displacement.shape[-1]
    spatial = tuple(range(1, num_axes + 1))
    gradients = jnp.gradient(displacement, axis=spatial)
    derivative = jnp.concatenate(gradients, axis=-1)

    def length(field):
        return jnp.linalg.norm(field, axis=-1)

    def newton(candidate, error):
        """Solves `(1 + du) x = error` by Cramer's rule; falls back on `error` where the map all but folds."""
        columns = jnp.split(warp(derivative, candidate, mode="nearest"), num_axes, axis=-1)
        position = identity_grid(displacement.shape[1:-1])[None] + candidate
        last = jnp.asarray(displacement.shape[1:-1], jnp.float32) - 1
        within = (position >= 0) & (position <= last.reshape((1,) * (num_axes + 1) + (num_axes,)))
        for axis, unit in enumerate(jnp.eye(num_axes)):  # beyond the border the field is constant
            column = jnp.where(within[..., axis, None], columns[axis], 0.0)
            columns[axis] = column + jnp.broadcast_to(unit, column.shape)
        det = determinant(columns)
        solved = [determinant([*columns[:axis], error, *columns[axis + 1 :]]) for axis in range(num_axes)]
        sound = det > 0.05
        return jnp.where(sound[..., None], jnp.stack(solved, axis=-1) / jnp.where(sound, det, 1.0)[..., None], error)

    def iterate(_, carry):
        best, error, step = carry
        candidate = best - step[..., None] * newton(best, error)
        candidate_error = compose(displacement, candidate)
        better = length(candidate_error) < length(error)
        return (
            jnp.where(better[..., None], candidate, best),
            jnp.where(better[..., None], candidate_error, error),
            jnp.where(better, jnp.minimum(2 * step, 1.0), step / 2),
        )

    start = jnp.zeros_like(displacement), displacement, jnp.ones_like(displacement[..., 0])
    best, error, _ = jax.lax.fori_loop(0, num_iterations, iterate, start)
    return best, length(error)


def resize(displacement: jax.Array, shape: Sequence[int]) -> jax.Array:
    """Resamples a field to another grid over the same extent, and scales its vectors to the new voxels.

    Args:
      displacement: `[B, *S, N]` in voxels of the grid `S`.
      shape: the new spatial shape `S'`. Voxels are cells: the first edge stays the first edge, the last the last.

    Returns:
      `[B, *S', N]` in voxels of the grid `S'`, interpolated linearly (averaged where the grid becomes coarser).

    Raises:
      ValueError: `shape` has not as many axes as the field.
    """
    batch, *old_shape, num_axes = displacement.shape
    if len(shape) != len(old_shape):
        raise ValueError(f"resize: shape {tuple(shape)} does not fit a displacement of shape {displacement.shape}")
    scale = jnp.asarray([new / old for new, old in zip(shape, old_shape, strict=True)], displacement.dtype)
    resized = jax.image.resize(displacement, (batch, *shape, num_axes), method="linear")
    return resized * scale.reshape((1,) * (displacement.ndim - 1) + (num_axes,))
