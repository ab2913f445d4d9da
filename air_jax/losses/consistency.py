"""Inverse consistency: how far the maps of a pair, there and back, are from being inverse to each other.

`forward` is the displacement `u` of the fixed image's grid (it points into the moving image), `backward` is the
displacement `v` of the moving image's grid. Going there and back misses the start by the residual

    r(p) = u(p) + v(p + u(p))        (id + v) o (id + u) = id + r

and the other order, `v` first, has a residual of its own. Lower is better; one value a pair. Outside the image both
fields go on with their edge values, as everywhere in `air_jax.transforms`, so that translations are exact inverses.
"""

import jax
import jax.numpy as jnp

from air_jax.transforms import compose, identity_grid, sample


def inverse_consistency(forward: jax.Array, backward: jax.Array) -> jax.Array:
    """Mean squared length of what there and back misses (Christensen & Johnson 2001; Greer et al. 2021, ICON).

    Voxels that the first map leads out of the image do not count: the second map is not known there, and what a guess
    misses grows with the distance. Nothing here keeps a voxel from going there; the similarity has to.

    Args:
      forward, backward: `[B, *S, N]` in voxel units.

    Returns:
      `[B]` in voxels squared: the mean of `|r|^2` over the voxels that stay inside, and over both orders; 0 for exact
      inverses. An order whose voxels all leave adds 0.

    Raises:
      ValueError: the shapes differ, or are not those of displacements.
    """
    first, second = _both_orders("inverse_consistency", forward, backward)
    squared_length = jnp.sum(jnp.square(compose(second, first)), axis=-1)
    shape, num_axes = first.shape[1:-1], first.shape[-1]
    reached = identity_grid(shape)[None] + first
    last = (jnp.asarray(shape, reached.dtype) - 1).reshape((1,) * (num_axes + 1) + (num_axes,))
    inside = jnp.all((reached >= 0) & (reached <= last), axis=-1)
    axes = tuple(range(1, num_axes + 1))
    total = jnp.sum(jnp.where(inside, squared_length, 0), axis=axes)
    return _mean_of_orders(total / jnp.maximum(jnp.sum(inside, axis=axes), 1))


def gradient_inverse_consistency(
    forward: jax.Array, backward: jax.Array, *, offset: float | jax.Array = 0.5
) -> jax.Array:
    """GradICON: the squared derivative of what there and back misses (Tian et al. 2023, "GradICON: Approximate
    Diffeomorphisms via Gradient Inverse Consistency").

    The derivative is that of the maps as they are interpolated, exact to rounding (the authors' package takes forward
    differences, at random points and in one order). It is taken at one point of each cell, a cell being the square or
    cube between voxels, because at the voxels themselves it jumps. The value jumps a little where the first map carries
    such a point from one cell into the next; gradients leave that out. Where the first map leads out of the image, the
    second one is a translation, so that the first one's own derivative is penalised there.

    Args:
      forward, backward: `[B, *S, N]` in voxel units, at least 2 voxels along each axis.
      offset: where in its cell the point is, in voxels from the cell's first corner, between 0 and 1: one number, or
        `[*(S - 1), N]`, random ones for instance. At the centre, the default, a field that changes sign from voxel to
        voxel along two axes or more (a checkerboard) has neither value nor slope and costs nothing; elsewhere it does.

    Returns:
      `[B]`: the mean of `|dr|^2` (Frobenius) over cells and both orders, where `dr` is the Jacobian of `r`, a number
      without a unit; 0 for exact inverses, and for what is as far off everywhere.

    Raises:
      ValueError: the shapes differ, or are not those of displacements.
    """
    first, second = _both_orders("gradient_inverse_consistency", forward, backward)
    batch, *shape, num_axes = first.shape
    if min(shape) < 2:
        raise ValueError(
            f"gradient_inverse_consistency: displacements have shape {forward.shape}; "
            "derivatives need at least 2 voxels along each axis"
        )
    cells = [size - 1 for size in shape]
    points = jnp.broadcast_to((identity_grid(cells) + offset)[None], (batch, *cells, num_axes))

    def residual(points):
        step = sample(first, points, mode="nearest")
        return step + sample(second, points + step, mode="nearest")

    def slope(direction):
        return jax.jvp(residual, (points,), (jnp.broadcast_to(direction, points.shape),))[1]

    # Under vmap all directions share what does not depend on them: the residual itself and the reading of the corners.
    directions = jnp.eye(num_axes, dtype=points.dtype).reshape(num_axes, *(1,) * (num_axes + 1), num_axes)
    slopes = jax.vmap(slope)(directions)
    frobenius = jnp.sum(jnp.square(slopes), axis=(0, -1))
    return _mean_of_orders(jnp.mean(frobenius, axis=tuple(range(1, num_axes + 1))))


def _both_orders(name: str, forward: jax.Array, backward: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The maps that go first and those that go second, `[2 B, *S, N]` each: forward first, then backward first."""
    if forward.shape != backward.shape or forward.ndim != forward.shape[-1] + 2:
        raise ValueError(
            f"{name}: forward has shape {forward.shape} and backward {backward.shape}; "
            "they must be the same, [B, *S, N] with as many axes S as components N"
        )
    return jnp.concatenate([forward, backward]), jnp.concatenate([backward, forward])


def _mean_of_orders(values: jax.Array) -> jax.Array:
    """`[2 B]` to `[B]`."""
    return jnp.mean(values.reshape(2, -1), axis=0)


CONSISTENCIES = {
    "inverse_consistency": inverse_consistency,
    "gradient_inverse_consistency": gradient_inverse_consistency,
}
