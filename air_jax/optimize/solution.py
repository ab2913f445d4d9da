"""The result of refinement."""

from typing import NamedTuple

import jax


class Solution(NamedTuple):
    """The result of `refine`, one value a pair.

    Attributes:
      displacement: `[B, *S, N]` in voxels.
      loss: `[B]`, the objective at the end, on the grid of the last level.
      steps: `[B]` int32, optimiser steps that were run before the pair stopped, over all levels. Steps that did not
        lower the loss and were undone count.
      converged: `[B]` bool, whether the pair met the stopping criterion on the last level: the tolerance, or the
        shortest step. False where the steps ran out first.

    Examples:
      >>> fixed = jnp.zeros((1, 8, 8, 1)).at[:, 2:6, 2:6].set(1.0)
      >>> objective = air_jax.losses.make_objective("mse")
      >>> solution = air_jax.optimize.refine(objective, fixed, jnp.roll(fixed, 1, axis=1), num_steps=4)
      >>> solution.loss.shape, float(solution.loss[0]) < 0.125
      ((1,), True)
    """

    displacement: jax.Array
    loss: jax.Array
    steps: jax.Array
    converged: jax.Array
