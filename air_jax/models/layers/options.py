"""Checks of the options of models. Each raises `OptionError` for the first option that has a value it cannot take."""

import math
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import jax.numpy as jnp

from air_jax.errors import OptionError

DTYPES = ("float32", "bfloat16")


def require(condition: bool, option: str, value: Any, what: str) -> None:
    """Raises `OptionError` unless the condition holds; `what` says what is wrong and what to do."""
    if not condition:
        raise OptionError(option, value, what)


def require_positive_integers(**options: Any) -> None:
    """Requires a positive integer, or a non-empty sequence of positive integers."""
    for option, value in options.items():
        numbers = _numbers(value)
        what = "must be positive integers" if numbers is value else "must be a positive integer"
        require(len(numbers) > 0 and all(_is_integer(number) and number > 0 for number in numbers), option, value, what)


def require_integration_steps(integration_steps: int) -> None:
    """Requires an integer of at least 0."""
    valid = _is_integer(integration_steps) and integration_steps >= 0
    require(valid, "integration_steps", integration_steps, "must be an integer and not be negative")


def require_not_negative(**options: Any) -> None:
    """Requires a finite number of at least 0, or a sequence of such numbers."""
    for option, value in options.items():
        valid = all(isinstance(number, (int, float)) and 0 <= number < math.inf for number in _numbers(value))
        require(valid, option, value, "must not be negative, and must be finite")


def require_same_length(reference: str, length: int, **options: Sequence[Any]) -> None:
    """Requires one number for each level, where the option named `reference` has `length` levels."""
    for option, value in options.items():
        require(
            len(_numbers(value)) == length, option, value, f"must have one number for each of {reference} ({length})"
        )


def require_dropout(dropout: float) -> None:
    """Requires a dropout rate in [0, 1)."""
    require(0 <= dropout < 1, "dropout", dropout, "must be at least 0 and less than 1")


def require_dtype(dtype: Any) -> None:
    """Requires float32 or bfloat16, by name or as a dtype."""
    try:
        valid = jnp.dtype(dtype).name in DTYPES
    except TypeError:
        valid = False
    require(valid, "dtype", dtype, f"must be {' or '.join(DTYPES)}")


def _is_integer(number: Any) -> bool:
    return isinstance(number, Integral) and not isinstance(number, bool)


def _numbers(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (tuple, list)) else [value]
