"""Losses of training: of pairs that are registered, and of images that are segmented."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from air_jax.data.pairs import Pair
from air_jax.losses import CONSISTENCIES, Objective, dice_loss, one_hot, segmentation_loss
from air_jax.transforms import warp, with_edges

SMALLEST_DISTANCE = 0.1  # voxels


class TrainingTerms(NamedTuple):
    """Terms of the training loss besides the objective.

    Attributes:
      soft_dice: weight of the overlap of segmentations.
      endpoint: weight of the mean distance from the true displacement, in voxels, for pairs that have one.
      label_ids: the label ids that count.
      consistencies: keys of `CONSISTENCIES` and their weights. With any, both directions are predicted, and their
        objectives and overlaps averaged.
      edges: True if the objective sees the images' edges as further channels, see `air_jax.transforms.with_edges`.
    """

    soft_dice: float = 0.0
    endpoint: float = 0.0
    label_ids: tuple[int, ...] = ()
    consistencies: tuple[tuple[str, float], ...] = ()
    edges: bool = False


def pair_loss(
    apply: Callable[..., Any], pair: Pair, *, objective: Objective, terms: TrainingTerms
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Computes the loss of registering pairs.

    Args:
      apply: `apply(fixed, moving, deterministic=False)` returns the displacement `[B, *S, N]` and intermediates.
      pair: images `[B, *S, C]` in [0, 1], with segmentations where `terms` has label ids.
      objective: see `air_jax.losses.Objective`.
      terms: further terms.

    Returns:
      The loss `[B]`, and its unweighted terms by name, each `[B]`.
    """

    def one_way(pair: Pair, displacement: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        fixed, moving = pair.fixed, pair.moving
        if terms.edges:
            fixed, moving = with_edges(fixed), with_edges(moving)
        loss, parts = objective(fixed, warp(moving, displacement), displacement)
        if terms.soft_dice:
            fixed, moving = (one_hot(segmentation, terms.label_ids) for segmentation in pair.segmentations())
            parts = parts | {"soft_dice": dice_loss(fixed, warp(moving, displacement))}
            loss = loss + terms.soft_dice * parts["soft_dice"]
        return loss, parts

    forward, _ = apply(pair.fixed, pair.moving, deterministic=False)
    loss, parts = one_way(pair, forward)
    if terms.consistencies:
        backward, _ = apply(pair.moving, pair.fixed, deterministic=False)
        both = (loss, parts), one_way(pair.swapped(), backward)
        loss, parts = jax.tree.map(lambda a, b: 0.5 * (a + b), *both)
        for name, weight in terms.consistencies:
            parts[name] = CONSISTENCIES[name](forward, backward)
            loss = loss + weight * parts[name]
    if terms.endpoint and pair.displacement is not None:
        squared = jnp.sum(jnp.square(forward - pair.displacement), axis=-1)
        # Its derivative is finite at 0.
        distance = jnp.sqrt(squared + SMALLEST_DISTANCE**2)
        parts = parts | {"endpoint": jnp.mean(distance, axis=tuple(range(1, distance.ndim)))}
        loss = loss + terms.endpoint * parts["endpoint"]
    return loss, parts


def segmenter_loss(
    apply: Callable[..., Any], pair: Pair, *, label_ids: tuple[int, ...]
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Computes the loss of segmenting both images of pairs, each by itself.

    Args:
      apply: `apply(image)` returns logits `[B, *S, 1 + L]`.
      pair: images `[B, *S, C]` in [0, 1], with segmentations.
      label_ids: the `L` label ids of the classes after the background.

    Returns:
      The mean loss `[B]` of the two images, and the same as the term "segmentation".
    """
    both = zip((pair.fixed, pair.moving), pair.segmentations(), strict=True)
    of_fixed, of_moving = (segmentation_loss(apply(image), known, label_ids) for image, known in both)
    loss = 0.5 * (of_fixed + of_moving)
    return loss, {"segmentation": loss}
