"""Similarities: losses that compare `fixed` with `warped`. Lower is better; one value for each pair."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from air_jax.errors import OptionError
from air_jax.losses.correlation import lncc_loss, ncc_loss, squared_lncc_loss
from air_jax.losses.information import mi_loss, nmi_loss
from air_jax.losses.mind import mind_ssc_loss
from air_jax.losses.windows import seen, voxel_weights, weighted_mean
from air_jax.runtime.any_mesh import on_any_mesh
from air_jax.transforms.shapes import check_images

Similarity = Callable[..., jax.Array]
"""A function of `fixed` and `warped` `[B, *S, C]` that returns `[B]`; lower is better.

One with a keyword `weights` `[B, *S]` also compares images in which some voxels do not count.

Examples:
  >>> def absolute_loss(fixed, warped):
  ...     return jnp.mean(jnp.abs(fixed - warped), axis=range(1, fixed.ndim))
  >>> similarity: air_jax.losses.Similarity = absolute_loss
  >>> loss, terms = air_jax.losses.make_objective(similarity)(
  ...     jnp.zeros((1, 8, 8, 1)), jnp.full((1, 8, 8, 1), 0.5), jnp.zeros((1, 8, 8, 2))
  ... )
  >>> loss.tolist()
  [0.5]
"""


@on_any_mesh
def mse_loss(fixed: jax.Array, warped: jax.Array, *, weights: jax.Array | None = None) -> jax.Array:
    """Mean squared difference of two images (paper section 2.1, Fig. 2 steps (c)-(d)).

    With weights `w` it is `sum(w (warped - fixed)^2) / sum(w)`.

    Args:
      fixed: `[B, *S, C]` in [0, 1].
      warped: the same shape.
      weights: `[B, *S]` in [0, 1], the share by which a voxel counts. Default: all count alike.

    Returns:
      `[B]`: the mean over voxels and channels, 0 for equal images.

    Raises:
      ValueError: the shapes do not fit each other.

    Examples:
      >>> fixed, warped = jnp.zeros((1, 8, 8, 1)), jnp.full((1, 8, 8, 1), 0.5)
      >>> air_jax.losses.mse_loss(fixed, warped).tolist()
      [0.25]
    """
    check_images("mse_loss", fixed, warped)
    weights = voxel_weights("mse_loss", fixed, weights)
    fixed, warped = seen(fixed, weights), seen(warped, weights)
    return weighted_mean(jnp.square(warped - fixed), weights, range(1, fixed.ndim))


SIMILARITIES: dict[str, Similarity] = {
    "mse": mse_loss,
    "ncc": ncc_loss,
    "lncc": lncc_loss,
    "squared_lncc": squared_lncc_loss,
    "mi": mi_loss,
    "nmi": nmi_loss,
    "mind_ssc": mind_ssc_loss,
}
"""Similarities by their names in the config and in commands.

Examples:
  >>> sorted(air_jax.losses.SIMILARITIES)
  ['lncc', 'mi', 'mind_ssc', 'mse', 'ncc', 'nmi', 'squared_lncc']
"""


def check_similarity(similarity: Any) -> None:
    """Raises `OptionError` unless a similarity is a key of `SIMILARITIES` or a function."""
    if not callable(similarity) and (not isinstance(similarity, str) or similarity not in SIMILARITIES):
        raise OptionError("similarity", similarity, f"must be one of {', '.join(SIMILARITIES)}, or a function")


@jax.tree_util.register_static
@dataclass(frozen=True)
class _Static:
    """A value that is part of a program, in a tree of arrays."""

    value: Any


def to_tree(similarity: str | Similarity) -> Any:
    """Makes a tree of a similarity, so that a jitted function can take it as an argument.

    Args:
      similarity: a function, a key of `SIMILARITIES`, or a function that is itself a tree, such as
        `jax.tree_util.Partial(function, parameters)`.

    Returns:
      A tree whose leaves are the arrays of the similarity. Functions and keys have none.
    """
    is_leaf = jax.tree_util.treedef_is_leaf(jax.tree.structure(similarity))
    return _Static(similarity) if is_leaf else similarity


def from_tree(tree: Any) -> Any:
    """Returns the similarity of `to_tree`.

    Args:
      tree: result of `to_tree`, whose leaves may be others.
    """
    return tree.value if isinstance(tree, _Static) else tree


def takes_weights(similarity: Similarity) -> bool:
    """Returns whether a similarity has a keyword `weights`.

    Args:
      similarity: the function.
    """
    parameters = inspect.signature(similarity).parameters.values()
    return any(each.name == "weights" or each.kind is each.VAR_KEYWORD for each in parameters)


def weights_option(similarity: Similarity, weights: jax.Array | None) -> dict[str, jax.Array]:
    """Returns the keyword that passes weights to a similarity.

    Args:
      similarity: the function.
      weights: `[B, *S]`, or None.

    Returns:
      `{"weights": weights}`; empty without weights.

    Raises:
      OptionError: the function has no keyword `weights`.
    """
    if weights is None:
        return {}
    if not takes_weights(similarity):
        raise OptionError("similarity", similarity, "needs a keyword `weights` where some voxels do not count")
    return {"weights": weights}
