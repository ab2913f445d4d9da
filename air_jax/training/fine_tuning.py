"""Fine-tuning: a registration's model is trained further on a few pairs that are in memory."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from air_jax.checks import check_integer, check_number
from air_jax.losses import Objective
from air_jax.registration import Registration
from air_jax.transforms import warp


def fine_tune(
    registration: Registration,
    fixed: np.ndarray,
    moving: np.ndarray,
    *,
    num_steps: int = 100,
    learning_rate: float = 1e-3,
    batch_size: int = 8,
    objective: Objective | None = None,
    seed: int = 0,
) -> tuple[Registration, Sequence[float]]:
    """Trains a registration's model further on pairs, by Adam. The given registration does not change.

    Args:
      registration: with a model that has parameters.
      fixed: `[n, *S]` or `[n, *S, C]` with finite values, raw: they are normalised as `register` does.
      moving: the same shape.
      num_steps: number of steps, at least 1.
      learning_rate: of Adam, above 0.
      batch_size: pairs of a step, at least 1, drawn at random without repetition; at most n are drawn.
      objective: loss of the warped images. Default: the objective of the registration's refinement.
      seed: of the draws.

    Returns:
      The fine-tuned registration, and the mean loss of each step's pairs before the step.

    Raises:
      OptionError: an option has a value that it cannot take.
      ValueError: shapes, dtypes or values that do not fit.
    """
    check_integer("num_steps", num_steps, 1)
    check_integer("batch_size", batch_size, 1)
    check_integer("seed", seed, 0)
    check_number("learning_rate", learning_rate, positive=True)
    objective = registration.comparing(registration.objective if objective is None else objective)
    num_axes = len(registration.image_shape) - 1
    shape = np.shape(fixed)
    if len(shape) not in (num_axes + 1, num_axes + 2) or shape != np.shape(moving):
        raise ValueError(f"fixed has shape {shape} and moving {np.shape(moving)}; give equal [n, *S] or [n, *S, C]")
    batch = (*shape[: num_axes + 1], -1)
    images = [np.asarray(registration.normalize(image)).reshape(batch) for image in (fixed, moving)]
    optimizer = optax.adam(learning_rate)

    def loss_fn(params: Any, fixed: jax.Array, moving: jax.Array) -> jax.Array:
        displacement, _ = dataclasses.replace(registration, params=params).predict(fixed, moving)
        warped = warp(registration.compared(moving), displacement)
        return jnp.mean(objective(registration.compared(fixed), warped, displacement)[0])

    @jax.jit
    def step(params, state, fixed, moving):
        loss, gradient = jax.value_and_grad(loss_fn)(params, fixed, moving)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, loss

    rng, params, losses = np.random.default_rng(seed), registration.params, []
    state = jax.jit(optimizer.init)(params)
    for _ in range(num_steps):
        chosen = rng.choice(len(images[0]), min(batch_size, len(images[0])), replace=False)
        params, state, loss = step(params, state, *(image[chosen] for image in images))
        losses.append(loss)
    return dataclasses.replace(registration, params=params), np.asarray(jax.device_get(losses)).tolist()
