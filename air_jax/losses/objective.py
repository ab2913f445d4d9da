"""The objective of training and instance optimisation: a weighted sum of similarities and regularizers."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import jax
import numpy as np
from jax.core import Tracer

from air_jax.checks import check_arrays, check_integer, is_number, is_sequence, require
from air_jax.errors import OptionError
from air_jax.losses.overlap import pooled_dice_loss
from air_jax.losses.regularization import REGULARIZERS
from air_jax.losses.similarity import SIMILARITIES, Similarity, check_similarity, from_tree, to_tree, weights_option
from air_jax.losses.windows import check_weights, check_window
from air_jax.transforms.shapes import check_images

Weight = float | jax.Array


@dataclass(frozen=True)
class Objective:
    """A weighted sum of losses, see `make_objective`. Equal and hashed by value, if the weights are numbers.

    A JAX pytree: weights that are arrays are data, and so are the arrays of a similarity that is a pytree, such as
    `jax.tree_util.Partial(function, parameters)`. Numbers are part of the compiled program.

    Attributes:
      similarity: a key of `SIMILARITIES`, or a function of `fixed` and `warped` `[B, *S, C]` that returns `[B]`.
        Its weight is 1. Functions are equal if they are the same object.
      window: side of the windows of local correlation, in voxels, odd. None: the default of each similarity.
      weights: `((name, weight), ...)` of the other terms. Names are keys of `SIMILARITIES` or `REGULARIZERS`. They are
        stored sorted by name and without numbers that are 0. A weight is a number, an array `[]`, or `[B]` for one
        weight a pair. Values of traced arrays are not checked.
      overlap_weight: weight of `pooled_dice_loss` of the last `num_classes` channels, at least 0.
      num_classes: number of channels that are class probabilities; 0 without such channels.

    Examples:
      >>> objective = air_jax.losses.Objective("mse", weights=(("diffusion", 0.1), ("folding", 0.0)))
      >>> objective.weights
      (('diffusion', 0.1),)
      >>> objective == air_jax.losses.make_objective("mse", diffusion=0.1)
      True
    """

    similarity: str | Similarity
    window: int | None = None
    weights: tuple[tuple[str, Weight], ...] = ()
    overlap_weight: Weight = 0.0
    num_classes: int = 0

    def __post_init__(self):
        """Checks all options.

        Raises:
          OptionError: an unknown name, a weight that is negative or not finite, or a window that no similarity has.
        """
        check_similarity(self.similarity)
        pairs = is_sequence(self.weights) and all(map(_is_term, self.weights))
        require(pairs, "weights", self.weights, "must be pairs of a name and a weight")
        for name, weight in self.weights:
            if name not in SIMILARITIES and name not in REGULARIZERS:
                known = ", ".join([*SIMILARITIES, *REGULARIZERS])
                raise OptionError(name, weight, f"no loss has this name; there are {known}")
            _check_weight(name, weight)
            if not _is_zero(weight) and name == self.similarity:
                raise OptionError(name, weight, "is the similarity already; its weight is 1")
        nonzero = [(name, _as_weight(weight)) for name, weight in self.weights if not _is_zero(weight)]
        object.__setattr__(self, "weights", tuple(sorted(nonzero, key=lambda term: term[0])))
        _check_weight("overlap_weight", self.overlap_weight)
        object.__setattr__(self, "overlap_weight", _as_weight(self.overlap_weight))
        check_integer("num_classes", self.num_classes, 0)
        if self.window is not None:
            check_window(self.window)
            if not any(map(_has_window, self._similarities().values())):
                raise OptionError("window", self.window, f"{', '.join(self._similarities())} has no windows")

    def __call__(
        self,
        fixed: jax.Array,
        warped: jax.Array,
        displacement: jax.Array,
        *,
        weights: jax.Array | None = None,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Computes the loss and its terms.

        Args:
          fixed: `[B, *S, C]` in [0, 1]. The last `num_classes` channels are class probabilities.
          warped: the same shape.
          displacement: `[B, *S, N]` in voxel units.
          weights: `[B, *S]` in [0, 1], the share by which a voxel counts in the similarities and in the overlap.
            Default: all count alike.

        Returns:
          The loss `[B]`, and its unweighted terms by name, each `[B]`. The name of a similarity that is a function is
          "similarity"; the name of the overlap is "pooled_dice".

        Raises:
          ValueError: the shapes do not fit each other.
          OptionError: with weights, a similarity that is a function without this keyword.
        """
        check_images("Objective", fixed, warped)
        check_arrays("Objective", "fiu", displacement=displacement)
        check_weights("Objective", fixed, weights)
        num_channels = fixed.shape[-1] - self.num_classes
        terms: dict[str, jax.Array] = {}
        for name, similarity in self._similarities().items():
            options = {"window": self.window} if self.window is not None and _has_window(similarity) else {}
            options |= weights_option(similarity, weights)
            terms[name] = similarity(fixed[..., :num_channels], warped[..., :num_channels], **options)
        for name, _ in self.weights:
            if name in REGULARIZERS:
                terms[name] = REGULARIZERS[name](displacement)
        if self.num_classes:
            classes = fixed[..., num_channels:], warped[..., num_channels:]
            terms["pooled_dice"] = pooled_dice_loss(*classes, weights=weights)
        factors = dict(self.weights) | {"pooled_dice": self.overlap_weight}
        weighted = [factors.get(name, 1.0) * term for name, term in terms.items()]
        return sum(weighted[1:], start=weighted[0]), terms

    def with_overlap(self, weight: Weight, num_classes: int) -> Self:
        """Returns the objective of images whose last channels are class probabilities.

        The other terms then compare only the channels before them.

        Args:
          weight: weight of `pooled_dice_loss` of the classes, at least 0: a number, or an array `[]` or `[B]`.
          num_classes: number of class channels, without the background.

        Returns:
          The new objective.

        Raises:
          OptionError: a negative weight or number.
        """
        _check_weight("weight", weight)
        return replace(self, overlap_weight=weight, num_classes=num_classes)

    def _similarities(self) -> dict[str, Callable[..., jax.Array]]:
        """The similarities by the names of their terms; the main one, whose weight is 1, comes first."""
        names = [name for name, _ in self.weights if name in SIMILARITIES]
        if isinstance(self.similarity, str):
            return {name: SIMILARITIES[name] for name in (self.similarity, *names)}
        return {"similarity": self.similarity} | {name: SIMILARITIES[name] for name in names}


def make_objective(similarity: str | Similarity, *, window: int | None = None, **weights: Weight) -> Objective:
    """Makes an objective of a similarity and weighted further terms.

    Args:
      similarity: a key of `SIMILARITIES`, or a function of `fixed` and `warped` `[B, *S, C]` that returns `[B]`. Its
        weight is 1.
      window: side of the windows of local correlation, in voxels, odd. Default: the default of each similarity.
      **weights: weight of each further term, at least 0, by its key in `SIMILARITIES` or `REGULARIZERS`. Terms of
        weight 0 are not computed. A weight is a number, an array `[]`, or `[B]` for one weight a pair. It may be
        traced, as in `jax.vmap` over weights; the values of traced arrays are not checked.

    Returns:
      The objective.

    Raises:
      OptionError: an unknown name, a weight that is negative or not finite, or a window that no similarity has.

    Examples:
      >>> objective = air_jax.losses.make_objective("mse", diffusion=0.1)
      >>> fixed, warped = jnp.zeros((1, 8, 8, 1)), jnp.full((1, 8, 8, 1), 0.5)
      >>> loss, terms = objective(fixed, warped, jnp.zeros((1, 8, 8, 2)))
      >>> float(loss[0]), sorted(terms)
      (0.25, ['diffusion', 'mse'])
    """
    return Objective(similarity, window, tuple(weights.items()))


def _is_term(term: Any) -> bool:
    """Whether a term of `weights` is a pair that begins with a text."""
    return isinstance(term, (tuple, list)) and len(term) == 2 and isinstance(term[0], str)


def _check_weight(name: str, weight: Weight) -> None:
    if not _is_array(weight):
        require(is_number(weight) and bool(weight >= 0), name, weight, "a weight must be a finite number, at least 0")
        return
    check_arrays("Objective", "fiu", **{name: weight})
    if np.ndim(weight) > 1:
        raise OptionError(name, weight, "a weight must be one number, or one for each pair")
    if isinstance(weight, Tracer):
        return
    if not np.all(np.isfinite(weight) & (np.asarray(weight) >= 0)):
        raise OptionError(name, weight, "a weight must be a finite number, at least 0")


def _is_array(weight: Weight) -> bool:
    return isinstance(weight, (jax.Array, np.ndarray))


def _is_zero(weight: Weight) -> bool:
    """Whether a weight is the number 0. An array is not looked at, so that it can be traced."""
    return not _is_array(weight) and not weight


def _as_weight(weight: Weight) -> Weight:
    return weight if _is_array(weight) else float(weight)


def _has_window(similarity: Callable[..., jax.Array]) -> bool:
    return "window" in inspect.signature(similarity).parameters


def _flatten(objective: Objective) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    weights = *objective.weights, ("", objective.overlap_weight)
    data = to_tree(objective.similarity), tuple(weight for _, weight in weights if not isinstance(weight, float))
    static = tuple((name, weight if isinstance(weight, float) else None) for name, weight in weights)
    return data, (static, objective.window, objective.num_classes)


def _unflatten(static: tuple[Any, ...], data: tuple[Any, ...]) -> Objective:
    (weights, window, num_classes), (similarity, arrays) = static, data
    arrays = iter(arrays)
    *terms, (_, overlap_weight) = [(name, next(arrays) if weight is None else weight) for name, weight in weights]
    fields = dict(similarity=from_tree(similarity), window=window, weights=tuple(terms))
    # Without the checks: JAX also puts placeholders into pytrees.
    objective = object.__new__(Objective)
    for name, value in (fields | dict(overlap_weight=overlap_weight, num_classes=num_classes)).items():
        object.__setattr__(objective, name, value)
    return objective


jax.tree_util.register_pytree_node(Objective, _flatten, _unflatten)
