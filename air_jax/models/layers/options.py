"""Checks of the options of models. Each raises `OptionError` for the first option that has a value it cannot take."""

from collections.abc import Iterable, Sequence
from typing import Any

import jax.numpy as jnp

from air_jax.checks import MOST_SQUARINGS, check_flag, check_integer, is_integer, is_number, require

DTYPES = ("float32", "bfloat16")


def require_positive_integer(**options: Any) -> None:
    """Requires one positive integer."""
    for option, value in options.items():
        require(is_integer(value) and value > 0, option, value, "must be a positive integer")


def require_positive_integers(**options: Any) -> None:
    """Requires a non-empty sequence of positive integers."""
    for option, value in options.items():
        valid = isinstance(value, (tuple, list)) and len(value) > 0
        valid = valid and all(is_integer(number) and number > 0 for number in value)
        require(valid, option, value, "must be positive integers")


def require_integration_steps(integration_steps: int) -> None:
    """Requires an integer from 0 to 30."""
    check_integer("integration_steps", integration_steps, 0, MOST_SQUARINGS)


def require_not_negative(**options: Any) -> None:
    """Requires a finite number of at least 0."""
    for option, value in options.items():
        require(is_number(value) and value >= 0, option, value, "must not be negative, and must be finite")


def require_flags(**options: Any) -> None:
    """Requires True or False."""
    for option, value in options.items():
        check_flag(option, value)


def require_choice(option: str, value: Any, choices: Iterable[str]) -> None:
    """Requires one of several names."""
    require(isinstance(value, str) and value in choices, option, value, f"must be one of {', '.join(choices)}")


def require_same_length(reference: str, length: int, **options: Sequence[Any]) -> None:
    """Requires one number for each level, where the option named `reference` has `length` levels."""
    for option, value in options.items():
        require(len(value) == length, option, value, f"must have one number for each of {reference} ({length})")


def require_dropout(dropout: float) -> None:
    """Requires a dropout rate in [0, 1)."""
    require(is_number(dropout) and 0 <= dropout < 1, "dropout", dropout, "must be at least 0 and less than 1")


def require_dtype(dtype: Any) -> None:
    """Requires float32 or bfloat16, by name or as a dtype."""
    try:
        valid = jnp.dtype(dtype).name in DTYPES
    except TypeError:
        valid = False
    require(valid, "dtype", dtype, f"must be {' or '.join(DTYPES)}")
