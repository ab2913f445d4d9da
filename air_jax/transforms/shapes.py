"""Checks of array shapes that losses and metrics share."""

import jax
import numpy as np

Array = jax.Array | np.ndarray


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
