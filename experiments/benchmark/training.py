"""Training as `python -m air_jax.main` does it, of any model on any images."""

from collections.abc import Callable, Sequence
from functools import partial

import flax.linen as nn
import jax
import numpy as np

from air_jax.data import Images
from air_jax.losses import Objective
from air_jax.runtime.parallel import AXIS_NAME, replicate
from air_jax.training import feed
from air_jax.training.optimizer import make_optimizer
from air_jax.training.pair_loss import TrainingTerms, pair_loss
from air_jax.training.steps import Params, init_params, init_state, make_train_steps


def prepare(
    model: nn.Module,
    objective: Objective,
    images: np.ndarray,
    batch_size: int,
    devices: Sequence[jax.Device],
    *,
    steps_a_call: int,
    clip_norm: float = 0.0,
) -> tuple[Callable[[], dict[str, jax.Array]], Params]:
    """A function that takes the next steps, on random pairs of `images`, and returns their metrics; and parameters."""
    optimizer = make_optimizer(1e-3, "constant", 0, 1, clip_norm)
    steps = make_train_steps(
        model,
        optimizer,
        partial(pair_loss, objective=objective, terms=TrainingTerms()),
        seed=0,
        batch_size=batch_size,
        num_devices=len(devices),
        axis_name=AXIS_NAME,
    )
    initial = init_state(init_params(model, 0, images.shape[1:], num_images=2), optimizer)
    state = replicate(initial, devices)
    run = feed.resident(steps, Images(images), devices)

    def call() -> dict[str, jax.Array]:
        nonlocal state
        state, metrics = jax.block_until_ready(run(state, steps_a_call))
        return metrics

    return call, initial.params
