"""What a refinement moves: displacements voxel by voxel, control grids, velocities. A new one is a line in `FIELDS`."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from air_jax.transforms import bspline, compose, control_shape, exponential, smooth

UPDATE_SIGMA = 3.0  # of a dense update where nothing else is said, in voxels
TOTAL_SIGMA = 0.5  # of the whole dense displacement, after each update, where nothing else is said
INTEGRATION_STEPS = 4  # of the small velocities of one round

Shape = tuple[int, ...]


class Field(NamedTuple):
    """A parametrisation of a small displacement that is composed with the one reached so far.

    Attributes:
      levels: from coarse to fine, how many times a level's voxels are larger, and the spacing of its control points in
        those voxels.
      steps: of the optimiser, before the result is taken over and the parameters start at zero again.
      optimizer: makes the optax transformation, given the relative voxel sizes `[N]` and the fluid's sigma.
      shape: of the parameters' spatial axes, given the image's and the spacing.
      trial: `(start, parameters, spacing)` to the displacement that is differentiated.
      accept: the same, when a round ends, for steps of `length` `[B, 1, ...]`, a share of the full one:
        `(start, parameters, spacing, elastic, length)`, with what a dense displacement is smoothed by, `[N]` in voxels.
    """

    levels: tuple[tuple[int, int], ...]
    steps: int
    optimizer: Callable[[Sequence[float], float], optax.GradientTransformation]
    shape: Callable[[Shape, int], Shape]
    trial: Callable[[jax.Array, jax.Array, int], jax.Array]
    accept: Callable[[jax.Array, jax.Array, int, Sequence[float], jax.Array], jax.Array]


def fluid(voxel_size: Sequence[float], update_sigma: float, longest: float = 0.5) -> optax.GradientTransformation:
    """Smoothed steepest descent, whose longest step in each pair is `longest` of the smallest voxels.

    Smoothing the gradient is a viscous fluid's regularization (Christensen et al. 1996); one length for each pair, and
    not one for each voxel as in Adam, leaves flat background where it is.
    """
    size = jnp.asarray(voxel_size, jnp.float32) / min(voxel_size)
    sigma = tuple(update_sigma * min(voxel_size) / length for length in voxel_size)

    def update(gradient, state, params=None):
        del params
        sizes = size.reshape((1,) * (gradient.ndim - 1) + (-1,))
        # A gradient by voxels, twice divided by their size, is a step in voxels along the gradient by lengths.
        step = smooth(gradient, sigma) / jnp.square(sizes)
        length = jnp.sqrt(jnp.sum(jnp.square(step * sizes), axis=-1, keepdims=True))
        length = jnp.max(length, axis=tuple(range(1, gradient.ndim)), keepdims=True)
        return -longest * step / jnp.maximum(length, 1e-12), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _smoothed(start, parameters, spacing, elastic, length):
    del spacing
    composed = compose(start, parameters)
    # Shorter steps are smoothed less, so that the two come to rest at the same place.
    return composed + length * (smooth(composed, elastic) - composed)


def _bspline(start, control, spacing, *_):
    shape = start.shape[1:-1]
    return compose(start, bspline(control, (spacing,) * len(shape), shape))


def _velocity(start, control, spacing, *_):
    shape = start.shape[1:-1]
    return compose(
        start, exponential(bspline(control, (spacing,) * len(shape), shape), integration_steps=INTEGRATION_STEPS)
    )


def _control_shape(shape: Shape, spacing: int) -> Shape:
    return control_shape(shape, (spacing,) * len(shape))


FIELDS = {
    # Every voxel's own displacement, in single smoothed steps. From zero, added is as good as composed, and cheaper.
    "dense": Field(
        levels=((4, 1), (2, 1), (1, 1)),
        steps=1,
        optimizer=fluid,
        shape=lambda shape, spacing: shape,
        trial=lambda start, added, spacing: start + added,
        accept=_smoothed,
    ),
    # Cubic B-splines, at full resolution throughout: for small images and few, large deformations.
    "control_grid": Field(
        levels=((1, 4), (1, 2), (1, 1)),
        steps=10,
        optimizer=lambda voxel_size, update_sigma: optax.adam(0.1),
        shape=_control_shape,
        trial=_bspline,
        accept=_bspline,
    ),
    # Velocities that are B-splines: each round's part is a diffeomorphism.
    "velocity": Field(
        levels=((4, 4), (2, 4), (1, 4), (1, 2)),
        steps=10,
        optimizer=lambda voxel_size, update_sigma: optax.adam(0.1),
        shape=_control_shape,
        trial=_velocity,
        accept=_velocity,
    ),
}
