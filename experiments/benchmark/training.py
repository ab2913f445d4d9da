"""Training as `python -m air_jax.main` does it, of any model on any images."""

import dataclasses
import importlib
from collections.abc import Callable, Sequence
from functools import partial

import flax.linen as nn
import jax
import numpy as np

from air_jax.data import Dataset, Images
from air_jax.losses import Objective
from air_jax.runtime.parallel import AXIS_NAME, replicate
from air_jax.training import feed
from air_jax.training.evaluation import task_of
from air_jax.training.optimizer import make_optimizer
from air_jax.training.pair_loss import TrainingTerms, pair_loss
from air_jax.training.recipe import training_recipe
from air_jax.training.run import steps_of
from air_jax.training.steps import Params, init_params, init_state, make_train_steps
from air_jax.workdir.config import SavedConfig, complete
from air_jax.workdir.recipe import inference_recipe

# Shape of the images of each coarse-to-fine config that trains; mnist.py for comparison.
SHAPES = {
    "mnist": (28, 28, 1),
    "mnist_best": (28, 28, 1),
    "cardiac": (128, 128, 1),
    "cardiac_matching": (128, 128, 1),
    "hippocampus_matching_labels": (48, 64, 48, 1),
}
NUM_RANDOM = 12


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


def prepare_config(
    name: str, devices: Sequence[jax.Device], *, steps_a_call: int, sharded_jit: bool = False, batch_size: int = 0
) -> Callable[[], dict[str, jax.Array]]:
    """A function that takes the next steps of a config, as `air_jax.training.run` builds them, on random images.

    Args:
      name: key of `SHAPES`.
      devices: as for a run.
      steps_a_call: steps in one call; fewer where the model has convolutions.
      sharded_jit: as the config key.
      batch_size: instead of the config's; 0 for the config's.
    """
    config = importlib.import_module(f"configs.{name}").get_config()
    with config.unlocked():
        config.dataset.name = config.dataset.name or "random.npz"
        config.batch_size = batch_size or config.batch_size
    config, shape, rng = complete(config), SHAPES[name], np.random.default_rng(0)
    images = rng.integers(0, 256, (NUM_RANDOM, *shape), dtype=np.uint8)
    train = Images(images, segmentations=(images[..., 0] // 86).astype(np.int32))
    recipe, inference = training_recipe(config), inference_recipe(SavedConfig(config, shape))
    optimizer = make_optimizer(**dataclasses.asdict(recipe.optimizer))
    loss = task_of(recipe, inference, Dataset(train, train, train), train).loss
    steps = steps_of(recipe, inference.model, optimizer, loss, train, num_devices=len(devices))
    state = replicate(init_state(init_params(inference.model, 0, shape, num_images=2), optimizer), devices)
    run = feed.resident(steps, train, devices, sharded_jit=sharded_jit)

    def call() -> dict[str, jax.Array]:
        nonlocal state
        state, metrics = jax.block_until_ready(run(state, steps_a_call))
        return metrics

    return call
