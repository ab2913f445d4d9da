"""The two tasks that a model can be trained for: registering pairs, and segmenting images.

A task is the loss of a training step and the scores of a validation; everything else of a run is the same for both.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from air_jax import metrics
from air_jax.data.deformation import Deformation
from air_jax.data.pairs import Pair, unit_pair
from air_jax.losses import Objective
from air_jax.training.pair_loss import TrainingTerms, pair_loss, segmenter_loss
from air_jax.training.steps import Loss
from air_jax.transforms import warp

Refine = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
StageScores = dict[str, dict[str, jax.Array]]


class Task(NamedTuple):
    """A task for one model.

    Attributes:
      num_images: images that the model takes in one call.
      loss: loss of a training step, see `air_jax.training.steps.Loss`.
      evaluate: `evaluate(params, pair, keys)` scores a batch of pairs. It returns scores `[B]` by name
        (`air_jax.metrics`) for each of the `STAGES` that the task has. `keys` `[B]` are those of artificial
        deformations.
      predict: `predict(params, fixed, moving)` is the model's work that is timed.
    """

    num_images: int
    loss: Loss
    evaluate: Callable[[Any, Pair, jax.Array], StageScores]
    predict: Callable[[Any, jax.Array, jax.Array], Any]


# Before and after the model, and after instance optimisation.
STAGES = ("before", "after", "refined")


def registration_task(
    model: nn.Module,
    objective: Objective,
    terms: TrainingTerms,
    *,
    label_ids: tuple[int, ...] = (),
    deformation: Deformation | None = None,
    refine: Refine | None = None,
) -> Task:
    """The task of registering pairs.

    Args:
      model: `model.apply({"params": params}, fixed, moving)` returns a displacement and intermediates.
      objective, terms: the training loss, see `pair_loss`.
      label_ids: of the segmentations that are scored, where pairs have them: `dice` is then the mean of their Dice, and
        `dice_1` that of label id 1. Without, `dice` is that of the masks `> 0.5`.
      deformation: artificial deformation that makes fixed images; endpoint errors are scored as well then.
      refine: `refine(fixed, moving, displacement)` returns a better displacement, which is scored as well.
    """

    def predict(params: Any, fixed: jax.Array, moving: jax.Array) -> jax.Array:
        return model.apply({"params": params}, fixed, moving)[0]

    def evaluate(params: Any, pair: Pair, keys: jax.Array) -> StageScores:
        pair, truth = unit_pair(pair) if deformation is None else unit_pair(pair, deformation, keys)
        displacement = predict(params, pair.fixed, pair.moving)
        score = partial(_registration_scores, pair, truth, label_ids)
        result = {"before": score(jnp.zeros_like(displacement)), "after": score(displacement)}
        if refine is not None:
            result["refined"] = score(refine(pair.fixed, pair.moving, displacement))
        return result

    return Task(2, partial(pair_loss, objective=objective, terms=terms), evaluate, predict)


def _registration_scores(
    pair: Pair, truth: jax.Array | None, label_ids: tuple[int, ...], displacement: jax.Array
) -> dict[str, jax.Array]:
    scores = metrics.image_scores(pair.fixed, warp(pair.moving, displacement))
    scores |= metrics.displacement_scores(displacement)
    if label_ids:
        fixed, moving = pair.segmentations()
        scores |= _dice_scores(fixed, warp(moving, displacement, order=0), label_ids)
    if truth is not None:
        scores |= metrics.endpoint_errors(displacement, truth, pair.fixed)
    return scores


def segmentation_task(model: nn.Module, label_ids: tuple[int, ...]) -> Task:
    """The task of segmenting images, both of each pair.

    Args:
      model: `model.apply({"params": params}, image)` returns logits.
      label_ids: label id of each class after the background.
    """
    ids = jnp.asarray((0, *label_ids))

    def segment(params: Any, image: jax.Array) -> jax.Array:
        logits: Any = model.apply({"params": params}, image)
        return ids[jnp.argmax(logits, axis=-1)]

    def predict(params: Any, fixed: jax.Array, moving: jax.Array) -> tuple[jax.Array, jax.Array]:
        return segment(params, fixed), segment(params, moving)

    def evaluate(params: Any, pair: Pair, keys: jax.Array) -> StageScores:
        del keys
        pair, _ = unit_pair(pair)
        found = predict(params, pair.fixed, pair.moving)
        both = [_dice_scores(*images, label_ids) for images in zip(pair.segmentations(), found, strict=True)]
        return {"after": jax.tree.map(lambda a, b: 0.5 * (a + b), *both)}

    return Task(1, partial(segmenter_loss, label_ids=label_ids), evaluate, predict)


def _dice_scores(known: jax.Array, found: jax.Array, label_ids: tuple[int, ...]) -> dict[str, jax.Array]:
    dice = metrics.label_dice(known, found, label_ids)
    return {"dice": metrics.label_mean(dice)} | {f"dice_{label}": dice[:, i] for i, label in enumerate(label_ids)}
