"""Checks of the options of models. Each raises `OptionError` for the first option that has a value it cannot take."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from air_jax.checks import MOST_SQUARINGS, MOST_STEPS, check_flag, check_integer, is_integer, is_number, require

DTYPES = ("float32", "bfloat16")
MOST_REPEATS = 256  # layers, steps or levels, each of which is a part of the program: more would be compiled for hours
# A window has `(2 * radius + 1)^N` offsets, and heads have products of features, each of which is in the program.
_MOST = {"radius": 32} | dict.fromkeys(("num_steps", "encoder_depth", "decoder_depth", "num_poolings"), MOST_REPEATS)
_MOST |= dict.fromkeys(("width", "num_heads", "head_size", "feed_forward"), 2**16)


def require_positive_integer(**options: Any) -> None:
    """Requires one positive integer, at most 256 where it counts layers."""
    for option, value in options.items():
        require(is_integer(value) and value > 0, option, value, "must be a positive integer")
        _require_at_most(option, value, value)


def require_positive_integers(**options: Any) -> None:
    """Requires 1 to 256 positive integers, at most 256 where they count steps, at most 32 for radii of windows."""
    for option, value in options.items():
        valid = isinstance(value, (tuple, list)) and len(value) > 0
        valid = valid and all(is_integer(number) and number > 0 for number in value)
        require(valid, option, value, "must be positive integers")
        require(len(value) <= MOST_REPEATS, option, value, f"must be at most {MOST_REPEATS} integers")
        _require_at_most(option, value, max(value))


def _require_at_most(option: str, value: Any, largest: int) -> None:
    most = _MOST.get(option, MOST_STEPS)
    require(largest <= most, option, value, f"must be at most {most}")


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
