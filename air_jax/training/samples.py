"""A sheet of training pairs, as the model sees them."""

import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from air_jax import visualize
from air_jax.checks import check_integer
from air_jax.data import load_dataset
from air_jax.data.pairs import Pair, gather, pairs_of_step, step_key
from air_jax.errors import UserError, naming_flag
from air_jax.io.access import writing
from air_jax.training.recipe import synthesizer, training_recipe
from air_jax.training.steps import make_preparation
from air_jax.workdir import config as configs
from air_jax.workdir.defaults import Config

PICTURES = (".png", ".pdf", ".svg")


def draw_samples(config: Config, path: Path, *, step: int = 0, num_pairs: int = 8) -> Pair:
    """Draws pairs of a training step: artificial deformations, synthesis and augmentation included.

    Args:
      config: keys of `air_jax.workdir.defaults.default_config`.
      path: the picture, PNG, PDF or SVG; its folder must exist.
      step: number of steps before this one, at least 0.
      num_pairs: number of pairs, at least 1. They are the first of the step if `batch_size` is the same.

    Returns:
      The pairs; of volumes, the middle slices are drawn.

    Raises:
      UserError: the config, the data or the path cannot be used.
    """
    if path.suffix.lower() not in PICTURES:
        raise UserError(f"--output={path}: unknown kind of picture; its name must end in one of {', '.join(PICTURES)}")
    with naming_flag():
        check_integer("step", step, 0)
        check_integer("num_pairs", num_pairs, 1)
    if path.parent.is_dir() and not os.access(path.parent, os.W_OK | os.X_OK):  # noticed before the work
        raise UserError(f"--output={path}: its folder may not be written; choose another one")
    pair, title = _prepared_pairs(configs.complete(config), step, num_pairs)
    host: Any = pair  # NumPy's arrays
    segmentations = host.fixed_segmentation, host.moving_segmentation
    figure = visualize.samples_figure(host.fixed, host.moving, *segmentations, title)
    with writing(path, path.suffix) as partial:
        figure.savefig(partial, dpi=150)
    return pair


def _prepared_pairs(config: Config, step: int, num_pairs: int) -> tuple[Pair, str]:
    """The pairs of a step, and a title."""
    recipe = training_recipe(config)
    train = load_dataset(**recipe.dataset).train
    if train.images.shape[-1] not in (1, 3):
        raise UserError(f"--config.dataset.name={recipe.dataset['name']!r}: only images of 1 or 3 channels are drawn")
    prepare = make_preparation(
        augmentation=recipe.augmentation,
        deformation=recipe.deformation,
        synthesize=synthesizer(recipe.synthesis, train),
    )
    this_step = np.asarray(step, np.int32)
    key = step_key(recipe.seed, this_step)

    def keys(stream: int) -> jax.Array:
        return jax.random.split(jax.random.fold_in(key, stream), num_pairs)

    indices = pairs_of_step(recipe.seed, this_step, len(train), num_pairs, listed=train.pairs)
    pair = gather(train, *map(jax.device_get, indices))
    pair = jax.device_get(jax.jit(lambda pair: prepare(pair, keys))(pair))
    title = f"{Path(recipe.dataset['name']).name}: pairs of training step {step:,}, seed {recipe.seed}"
    return pair, title
