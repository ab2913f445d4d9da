"""The training objective: one similarity plus weighted regularizers."""

from collections.abc import Callable, Mapping

import jax

from air_jax.losses.regularization import REGULARIZERS
from air_jax.losses.similarity import SIMILARITIES

Objective = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, dict[str, jax.Array]]]


def make_objective(similarity: str, **weights: float) -> Objective:
    """Builds the objective from the config's `loss` section.

    Args:
      similarity: a key of `SIMILARITIES`.
      **weights: the weight of each regularizer, by its key in `REGULARIZERS`; those of weight 0 are not computed.

    Returns:
      A function of `fixed`, `warped` `[B, *S, C]` and `displacement` `[B, *S, N]` that returns the loss `[B]` and its
      unweighted terms by name, each `[B]`.

    Raises:
      KeyError: an unknown similarity or regularizer.
    """
    measure = SIMILARITIES[similarity]
    regularizers: Mapping[str, tuple[float, Callable]] = {
        name: (weight, REGULARIZERS[name]) for name, weight in weights.items() if weight
    }

    def objective(fixed, warped, displacement):
        loss = measure(fixed, warped)
        terms = {similarity: loss}
        for name, (weight, regularizer) in regularizers.items():
            terms[name] = regularizer(displacement)
            loss = loss + weight * terms[name]
        return loss, terms

    return objective
