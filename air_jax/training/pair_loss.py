"""The loss of training pairs: the objective, what their segmentations say, and consistency of both directions."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from air_jax.data.pairs import Pair
from air_jax.losses import CONSISTENCIES, Objective, dice_loss, one_hot, segmentation_loss
from air_jax.transforms import warp, with_edges


class TrainingTerms(NamedTuple):
    """What a training has in its loss beside the objective.

    Attributes:
      soft_dice: weight of the overlap of segmentations.
      segmentation: weight of the model's own segmentations (`out["logits"]`), of both images.
      labels: the labels in them that count.
      consistencies: names in `CONSISTENCIES` and their weights. With any, both directions are predicted, and their
        objectives and overlaps averaged.
      edges: whether the objective sees the images' edges as channels of their own, see `air_jax.transforms.with_edges`.
    """

    soft_dice: float = 0.0
    segmentation: float = 0.0
    labels: tuple[int, ...] = ()
    consistencies: tuple[tuple[str, float], ...] = ()
    edges: bool = False


NO_TERMS = TrainingTerms()
Predict = Callable[[jax.Array, jax.Array], tuple[jax.Array, dict[str, Any]]]


def pair_loss(
    predict: Predict, objective: Objective, terms: TrainingTerms, pair: Pair
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The loss of pairs `[B]`, and its unweighted terms by name, each `[B]`.

    Args:
      predict: fixed and moving images to the displacement `[B, *S, N]` and the model's intermediates.
      objective: see `air_jax.losses.make_objective`.
      terms: what else counts.
      pair: with segmentations where `terms.labels` has any.
    """

    def one_way(pair, displacement):
        images = pair.fixed, pair.moving
        fixed, moving = map(with_edges, images) if terms.edges else images
        loss, parts = objective(fixed, warp(moving, displacement), displacement)
        if terms.soft_dice:
            fixed, moving = (
                one_hot(labels, terms.labels) for labels in (pair.fixed_segmentation, pair.moving_segmentation)
            )
            parts["soft_dice"] = dice_loss(fixed, warp(moving, displacement))
            loss = loss + terms.soft_dice * parts["soft_dice"]
        return loss, parts

    forward, out = predict(pair.fixed, pair.moving)
    loss, parts = one_way(pair, forward)
    if terms.consistencies:
        backward, _ = predict(pair.moving, pair.fixed)
        both = (loss, parts), one_way(pair.swapped(), backward)
        loss, parts = jax.tree.map(lambda a, b: 0.5 * (a + b), *both)
        for name, weight in terms.consistencies:
            parts[name] = CONSISTENCIES[name](forward, backward)
            loss = loss + weight * parts[name]
    if terms.segmentation:
        parts["segmentation"] = _segmentation(out, terms, pair)
        loss = loss + terms.segmentation * parts["segmentation"]
    return loss, parts


def segmenter_loss(
    predict: Predict, objective: Objective, terms: TrainingTerms, pair: Pair
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """As `pair_loss`, of the model's own segmentations alone: under jit, nothing else of the model is computed."""
    del objective
    _, out = predict(pair.fixed, pair.moving)
    parts = {"segmentation": _segmentation(out, terms, pair)}
    return terms.segmentation * parts["segmentation"], parts


def _segmentation(out: dict[str, Any], terms: TrainingTerms, pair: Pair) -> jax.Array:
    both = zip(out["logits"], (pair.fixed_segmentation, pair.moving_segmentation), strict=True)
    return sum(segmentation_loss(logits, labels, terms.labels) for logits, labels in both) / 2
