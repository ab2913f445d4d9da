"""Checks of arrays that losses and metrics share."""

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array | np.ndarray


def where_finite(scores: jax.Array, *arrays: Array) -> jax.Array:
    """Replaces the scores of pairs with values that are not finite by NaN.

    Comparisons with NaN are false, so without it such a pair would have no folds, for example.

    Args:
      scores: `[B]`.
      *arrays: `[B, ...]`, from which the scores were computed.

    Returns:
      `[B]`.
    """
    finite = [jnp.all(jnp.isfinite(array), axis=tuple(range(1, array.ndim))) for array in arrays]
    return jnp.where(jnp.stack(finite).all(axis=0), scores, jnp.nan)


def check_same_shape(function: str, layout: str, **arrays: Array) -> None:
    """Checks that two arrays have the same shape, because JAX broadcasts other shapes without a warning.

    Args:
      function: name of the calling function, for the message.
      layout: layout of the arrays, for the message, such as "[B, *S, C]".
      **arrays: the two arrays by name.

    Raises:
      ValueError: the shapes differ. The message is one line with both shapes.
    """
    (first, second), names = arrays.values(), list(arrays)
    if first.shape != second.shape:
        raise ValueError(
            f"{function}: {names[0]} has shape {first.shape} and {names[1]} has shape {second.shape}; "
            f"they must be the same, {layout}"
        )


def check_images(function: str, fixed: Array, warped: Array) -> None:
    """Checks that two arrays are images `[B, *S, C]` of the same shape.

    Args:
      function: name of the calling function, for the message.
      fixed: the first image.
      warped: the second image.

    Raises:
      ValueError: the shapes differ, or they have fewer than 3 axes. The message is one line with both shapes.
    """
    check_same_shape(function, "[B, *S, C]", fixed=fixed, warped=warped)
    if fixed.ndim < 3:
        raise ValueError(
            f"{function}: fixed has shape {fixed.shape} and warped has shape {warped.shape}; they must be [B, *S, C]"
        )
