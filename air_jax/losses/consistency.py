"""Inverse consistency: losses of the deviation of two maps from being inverse to each other.

`forward` is the displacement `u` of the fixed image's grid, which points into the moving image. `backward` is the
displacement `v` of the moving image's grid. The residual of the composed maps is

    r(p) = u(p) + v(p + u(p))        (id + v) o (id + u) = id + r

and the other order, `v` first, has a residual of its own. Lower is better; one value for each pair. Outside the image
both displacements continue with their edge values, as everywhere in `air_jax.transforms`, so translations are exact
inverses.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from air_jax.checks import check_arrays, check_number
from air_jax.runtime.any_mesh import on_any_mesh
from air_jax.transforms import compose, identity_grid, sample
from air_jax.transforms.shapes import check_same_shape


@on_any_mesh
def inverse_consistency_loss(forward: jax.Array, backward: jax.Array) -> jax.Array:
    """Mean squared length of the residual (Christensen & Johnson 2001; Greer et al. 2021, ICON).

    Voxels that the first map takes out of the image do not count, because the second map is unknown there. Nothing in
    this loss keeps a voxel inside; the similarity has to.

    Args:
      forward: `[B, *S, N]` in voxel units.
      backward: the same shape.

    Returns:
      `[B]` in voxels squared: the mean of `|r|^2` over the voxels that stay inside, and over both orders; 0 for exact
      inverses. An order in which all voxels leave the image adds 0.

    Raises:
      ValueError: the shapes differ, or are not those of displacements.

    Examples:
      >>> forward = jnp.zeros((1, 8, 8, 2)).at[..., 0].set(1.0)
      >>> losses = [air_jax.losses.inverse_consistency_loss(forward, backward) for backward in (-forward, forward)]
      >>> [float(loss[0]) for loss in losses]
      [0.0, 4.0]
    """
    first, second = _both_orders("inverse_consistency_loss", forward, backward)
    squared_length = jnp.sum(jnp.square(compose(second, first)), axis=-1)
    shape, num_axes = first.shape[1:-1], first.shape[-1]
    reached = identity_grid(shape)[None] + first
    last = (jnp.asarray(shape, reached.dtype) - 1).reshape((1,) * (num_axes + 1) + (num_axes,))
    inside = jnp.all((reached >= 0) & (reached <= last), axis=-1)
    axes = tuple(range(1, num_axes + 1))
    total = jnp.sum(jnp.where(inside, squared_length, 0), axis=axes)
    return _mean_of_orders(total / jnp.maximum(jnp.sum(inside, axis=axes), 1))


@on_any_mesh
def gradient_inverse_consistency_loss(
    forward: jax.Array, backward: jax.Array, *, offset: float | jax.Array = 0.5
) -> jax.Array:
    """GradICON: mean squared derivative of the residual (Tian et al. 2023, "GradICON: Approximate Diffeomorphisms via
    Gradient Inverse Consistency").

    The derivative is that of the interpolated maps, exact to rounding. (The authors' package takes forward differences,
    at random points and in one order.) It is taken at one point of each cell, because it jumps at the voxels. A cell is
    the square or cube between voxels. The value jumps slightly where the first map moves such a point from one cell
    into the next; gradients ignore these jumps. Where the first map leads out of the image, the second map is a
    translation, so the derivative of the first map is penalised there.

    Args:
      forward: `[B, *S, N]` in voxel units, at least 2 voxels along each axis.
      backward: the same shape.
      offset: position of the point in its cell, in voxels from the cell's first corner, between 0 and 1: one number, or
        `[*(S - 1), N]`, for example random. At the centre, the default 0.5, a displacement that changes sign from voxel
        to voxel along two axes or more (a checkerboard) costs nothing; at other points it costs.

    Returns:
      `[B]`, without a unit: the mean of `|dr|^2` (Frobenius) over cells and both orders, where `dr` is the Jacobian of
      `r`; 0 for exact inverses, and for a constant residual.

    Raises:
      ValueError: the shapes differ, are not those of displacements, or an axis has fewer than 2 voxels.
      OptionError: `offset` is neither a finite number nor an array.

    Examples:
      >>> forward = jnp.zeros((1, 8, 8, 2)).at[..., 0].set(1.0)
      >>> air_jax.losses.gradient_inverse_consistency_loss(forward, forward).tolist()  # the residual is constant
      [0.0]
    """
    first, second = _both_orders("gradient_inverse_consistency_loss", forward, backward)
    if hasattr(offset, "dtype"):
        check_arrays("gradient_inverse_consistency_loss", "fiu", offset=offset)
    else:
        check_number("offset", offset)
    batch, *shape, num_axes = first.shape
    if any(size < 2 for size in shape):
        raise ValueError(
            f"gradient_inverse_consistency_loss: displacements have shape {forward.shape}; "
            "derivatives need at least 2 voxels along each axis"
        )
    cells = [size - 1 for size in shape]
    points = jnp.broadcast_to((identity_grid(cells) + offset)[None], (batch, *cells, num_axes))

    def residual(points):
        step = sample(first, points, mode="nearest")
        return step + sample(second, points + step, mode="nearest")

    def slope(direction):
        return jax.jvp(residual, (points,), (jnp.broadcast_to(direction, points.shape),))[1]

    # Under vmap all directions share the parts that do not depend on them: the residual and the reading of corners.
    directions = jnp.eye(num_axes, dtype=points.dtype).reshape(num_axes, *(1,) * (num_axes + 1), num_axes)
    slopes = jax.vmap(slope)(directions)
    frobenius = jnp.sum(jnp.square(slopes), axis=(0, -1))
    return _mean_of_orders(jnp.mean(frobenius, axis=tuple(range(1, num_axes + 1))))


def _both_orders(function: str, forward: jax.Array, backward: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the first and the second maps of both orders, `[2 B, *S, N]` each: forward first, then backward first."""
    layout = "[B, *S, N] with as many spatial axes S as components N"
    check_same_shape(function, layout, forward=forward, backward=backward)
    if not forward.ndim or forward.ndim != forward.shape[-1] + 2:
        raise ValueError(f"{function}: forward has shape {forward.shape}; it must be {layout}")
    return jnp.concatenate([forward, backward]), jnp.concatenate([backward, forward])


def _mean_of_orders(values: jax.Array) -> jax.Array:
    """`[2 B]` to `[B]`."""
    return jnp.mean(values.reshape(2, -1), axis=0)


CONSISTENCIES: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "inverse_consistency": inverse_consistency_loss,
    "gradient_inverse_consistency": gradient_inverse_consistency_loss,
}
"""Losses of two displacements, there and back, by their keys in the config.

Examples:
  >>> sorted(air_jax.losses.CONSISTENCIES)
  ['gradient_inverse_consistency', 'inverse_consistency']
"""
