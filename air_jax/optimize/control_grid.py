"""Refinement: optimising a displacement on the pairs at hand, with the objective that models are trained with."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import optax

from air_jax.losses import Objective
from air_jax.transforms import bspline, compose, control_shape, warp

STEPS_PER_ROUND = 10


def refine(
    objective: Objective,
    fixed: jax.Array,
    moving: jax.Array,
    displacement: jax.Array,
    *,
    num_steps: int,
    spacing: Sequence[int] = (4, 2, 1),
    learning_rate: float = 0.1,
) -> jax.Array:
    """Continues from a displacement by gradient descent on the objective; from zero, it registers without a model.

    The displacement is composed with a small cubic B-spline displacement, whose control points Adam moves. Every 10
    steps the result becomes the displacement to go on from and the B-spline starts at zero again, so that large
    deformations are made of small ones, as in the greedy scheme of Christensen et al. (1996), and hardly fold. All
    pairs are optimised at once, each on its own: Adam works element by element, and no pair sees another.

    Args:
      objective: see `air_jax.losses.make_objective`; it should hold a penalty on folding.
      fixed, moving: `[B, *S, C]` in [0, 1].
      displacement: `[B, *S, N]` in voxels, where to start.
      num_steps: steps in all, shared out equally among the spacings.
      spacing: voxels between control points, the same along each axis; one after the other, coarse to fine.
      learning_rate: of Adam, in voxels.

    Returns:
      `[B, *S, N]`.

    Raises:
      ValueError: a number of steps or a spacing that cannot be.
    """
    if num_steps < 0 or not spacing or min(spacing) < 1:
        raise ValueError(f"refine: num_steps is {num_steps} and spacing {tuple(spacing)}; both must be positive")
    return _refine(objective, fixed, moving, displacement, num_steps, tuple(spacing), learning_rate)


@partial(jax.jit, static_argnames=("objective", "num_steps", "spacing", "learning_rate"))
def _refine(
    objective: Objective,
    fixed: jax.Array,
    moving: jax.Array,
    displacement: jax.Array,
    num_steps: int,
    spacing: tuple[int, ...],
    learning_rate: float,
) -> jax.Array:
    num_axes, shape = displacement.shape[-1], fixed.shape[1:-1]
    optimizer = optax.adam(learning_rate)

    def run_round(start: jax.Array, spacing: tuple[int, ...], num_steps: int) -> jax.Array:
        def moved(control):
            return compose(start, bspline(control, spacing, shape))

        def loss(control):
            displacement = moved(control)
            return jnp.sum(objective(fixed, warp(moving, displacement), displacement)[0])

        def step(carry, _):
            control, state = carry
            updates, state = optimizer.update(jax.grad(loss)(control), state)
            return (optax.apply_updates(control, updates), state), None

        control = jnp.zeros((len(fixed), *control_shape(shape, spacing), num_axes))
        (control, _), _ = jax.lax.scan(step, (control, optimizer.init(control)), length=num_steps)
        return moved(control)

    for index, step in enumerate(spacing):
        voxels = (step,) * num_axes
        share = num_steps // len(spacing) + (index >= len(spacing) - num_steps % len(spacing))
        rounds, rest = divmod(share, STEPS_PER_ROUND)
        displacement, _ = jax.lax.scan(
            lambda start, _, voxels=voxels: (run_round(start, voxels, STEPS_PER_ROUND), None),
            displacement,
            length=rounds,
        )
        if rest:
            displacement = run_round(displacement, voxels, rest)
    return displacement
