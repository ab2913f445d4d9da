"""The training objective: one similarity plus weighted regularizers."""

from collections.abc import Callable, Mapping

import jax

from air_jax.losses.regularization import REGULARIZERS
from air_jax.losses.similarity import SIMILARITIES

Similarity = Callable[[jax.Array, jax.Array], jax.Array]
Objective = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, dict[str, jax.Array]]]


def make_objective(similarity: str | Similarity, **weights: float) -> Objective:
    """Builds the objective from the config's `loss` section.

    Args:
      similarity: a key of `SIMILARITIES`, or any function of `fixed` and `warped` `[B, *S, C]` that returns `[B]`, such
        as `functools.partial(lncc, window=5)`.
      **weights: the weight of each regularizer, by its key in `REGULARIZERS`; those of weight 0 are not computed.

    Returns:
      A function of `fixed`, `warped` `[B, *S, C]` and `displacement` `[B, *S, N]` that returns the loss `[B]` and its
      unweighted terms by name, each `[B]`; the term of a similarity that is not given by its key is "similarity".

    Raises:
      KeyError: an unknown similarity or regularizer.
    """
    name_of_similarity = "similarity" if callable(similarity) else similarity
    measure = similarity if callable(similarity) else SIMILARITIES[similarity]
    regularizers: Mapping[str, tuple[float, Callable]] = {
        name: (weight, REGULARIZERS[name]) for name, weight in weights.items() if weight
    }

    def objective(fixed, warped, displacement):
        loss = measure(fixed, warped)
        terms = {name_of_similarity: loss}
        for name, (weight, regularizer) in regularizers.items():
            terms[name] = regularizer(displacement)
            loss = loss + weight * terms[name]
        return loss, terms

    return objective
