"""The objective of training and refinement: similarities and regularizers, weighted."""

import inspect
from collections.abc import Callable
from functools import cache, partial

import jax

from air_jax.losses.overlap import pooled_dice
from air_jax.losses.regularization import REGULARIZERS
from air_jax.losses.similarity import SIMILARITIES

Similarity = Callable[[jax.Array, jax.Array], jax.Array]
Objective = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, dict[str, jax.Array]]]


def make_objective(similarity: str | Similarity, *, window: int | None = None, **weights: float) -> Objective:
    """Builds the objective from the config's `loss` section.

    Args:
      similarity: a key of `SIMILARITIES`, or any function of `fixed` and `warped` `[B, *S, C]` that returns `[B]`.
      window: side in voxels of the windows of local correlation, odd. Default: the function's own.
      **weights: the weight of each further similarity and each regularizer, by its key in `SIMILARITIES` or
        `REGULARIZERS`; those of weight 0 are not computed.

    Returns:
      A function of `fixed`, `warped` `[B, *S, C]` and `displacement` `[B, *S, N]` that returns the loss `[B]` and its
      unweighted terms by name, each `[B]`; the term of a similarity that is not given by its key is "similarity".

    Raises:
      KeyError: an unknown similarity or regularizer.
      ValueError: a window for similarities that have none.
    """
    measures: dict[str, tuple[float, Similarity]] = {}
    if callable(similarity):
        measures["similarity"] = (1.0, similarity)
    else:
        measures[similarity] = (1.0, SIMILARITIES[similarity])
    regularizers: dict[str, tuple[float, Callable[[jax.Array], jax.Array]]] = {}
    for name, weight in weights.items():
        if name not in SIMILARITIES and name not in REGULARIZERS:
            raise KeyError(name)
        if weight and name in SIMILARITIES:
            measures[name] = (weight, SIMILARITIES[name])
        elif weight:
            regularizers[name] = (weight, REGULARIZERS[name])
    if window is not None:
        measures = {name: (weight, _with_window(measure, window)) for name, (weight, measure) in measures.items()}
        if not any(isinstance(measure, partial) for _, measure in measures.values()):
            raise ValueError(f"window is {window}, but {', '.join(measures)} has no windows")

    def objective(fixed, warped, displacement):
        loss, terms = 0.0, {}
        for name, (weight, measure) in measures.items():
            terms[name] = measure(fixed, warped)
            loss = loss + weight * terms[name]
        for name, (weight, regularizer) in regularizers.items():
            terms[name] = regularizer(displacement)
            loss = loss + weight * terms[name]
        return loss, terms

    return objective


@cache  # the same function each time, so that what is made with it is compiled once
def with_overlap(objective: Objective, weight: float, num_labels: int) -> Objective:
    """The objective of images whose last `num_labels` channels are segmentations, one-hot or soft.

    These count by the overlap of the labels (`pooled_dice`), with a weight; the channels before them as they did.
    """

    def whole(fixed, warped, displacement):
        loss, terms = objective(fixed[..., :-num_labels], warped[..., :-num_labels], displacement)
        terms = terms | {"pooled_dice": pooled_dice(fixed[..., -num_labels:], warped[..., -num_labels:])}
        return loss + weight * terms["pooled_dice"], terms

    return whole


def _with_window(measure: Similarity, window: int) -> Similarity:
    has_window = "window" in inspect.signature(measure).parameters
    return partial(measure, window=window) if has_window else measure
