"""Checks of the shapes of displacements, fields and images."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from air_jax.checks import check_arrays

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
      TypeError: one of them is no array.
      ValueError: the shapes differ. The message is one line with both shapes.
    """
    check_arrays(function, "fiub", **arrays)
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


def check_displacement(function: str, displacement: Any, name: str = "displacement") -> int:
    """Checks that an array is a displacement `[B, *S, N]`.

    Args:
      function: name of the calling function, for the message.
      displacement: the array.
      name: its name in the signature.

    Returns:
      N.

    Raises:
      TypeError: it is no array.
      ValueError: it is not of floats, or its shape is another one.
    """
    check_arrays(function, "f", **{name: displacement})
    shape = displacement.shape
    if len(shape) < 3 or len(shape) != shape[-1] + 2:
        raise ValueError(
            f"{function}: {name} has shape {shape}; it must be [B, *S, N], with as many spatial axes S as vector "
            "components N"
        )
    return shape[-1]


def check_field(function: str, field: Any, name: str) -> int:
    """Checks that an array is `[B, *S, F]`, images or fields, with at least one spatial axis.

    Args:
      function: name of the calling function, for the message.
      field: the array.
      name: its name in the signature.

    Returns:
      The number of spatial axes.

    Raises:
      TypeError: it is no array.
      ValueError: it has fewer than 3 axes.
    """
    check_arrays(function, "fiub", **{name: field})
    if len(field.shape) < 3:
        raise ValueError(f"{function}: {name} has shape {field.shape}; it must be [B, *S, F]")
    return len(field.shape) - 2


def check_fields(function: str, **fields: Any) -> None:
    """Checks several arrays by name, see `check_field`."""
    for name, field in fields.items():
        check_field(function, field, name)
