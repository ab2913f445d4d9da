"""Checks of arrays and options that public functions share. Each raises an error of one line that names the argument.

Shapes and dtypes are checked always. Values are checked outside of `jax.jit` and `jax.vmap` only: inside, an array has
no values yet.
"""

import math
import os
from collections.abc import Callable, Iterable, Sequence
from numbers import Integral, Real
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jax.core import Tracer

from air_jax.errors import OptionError

MOST_SQUARINGS = 30  # 2^30 parts of a unit of time: beyond them float32 has no digits of a part
MOST_STEPS = 2**31 - 1  # JAX counts in int32
NOT_VALUES = (Tracer, jax.ShapeDtypeStruct)  # arrays of a shape and dtype only
LARGEST_LABEL = 2**31 - 1  # of data sets, whose labels go to the devices as int32
LARGEST_SEED = 2**32 - 1  # JAX's keys have 32 bits; a larger seed would be another one


def require(condition: bool, option: str, value: Any, what: str) -> None:
    """Raises `OptionError` unless the condition holds; `what` says what is wrong and what to do."""
    if not condition:
        raise OptionError(option, value, what)


def is_integer(value: Any) -> bool:
    """Whether a value is an integer; a boolean is none."""
    return isinstance(value, Integral) and not isinstance(value, (bool, np.bool_))


def is_number(value: Any) -> bool:
    """Whether a value is a finite real number that float32 can hold; a boolean is none."""
    if not isinstance(value, Real) or isinstance(value, (bool, np.bool_)):
        return False
    largest: Any = float(np.finfo(np.float32).max)
    return bool(-largest <= value <= largest)


def check_integer(option: str, value: Any, low: int, high: int = MOST_STEPS) -> None:
    """Checks an option that is an integer.

    Args:
      option: its name.
      value: its value.
      low, high: the smallest and the largest value that it can have.

    Raises:
      OptionError: it is no integer, or outside of the limits.
    """
    require(is_integer(value), option, value, "must be an integer")
    require(value >= low, option, value, "must not be negative" if low == 0 else f"must be at least {low}")
    require(value <= high, option, value, f"must be at most {high}")


def check_number(option: str, value: Any, *, low: float = -math.inf, positive: bool = False) -> None:
    """Checks an option that is a finite real number.

    Args:
      option: its name.
      value: its value.
      low: the smallest value that it can have.
      positive: whether it must be above 0.

    Raises:
      OptionError: it is no such number.
    """
    require(is_number(value), option, value, "must be a finite number")
    require(value > 0 or not positive, option, value, "must be above 0")
    require(value >= low, option, value, "must not be negative" if low == 0 else f"must be at least {low:g}")


def check_choice(option: str, value: Any, choices: Iterable[str]) -> None:
    """Raises `OptionError` unless an option is one of several names."""
    require(isinstance(value, str) and value in choices, option, value, f"must be one of {', '.join(choices)}")


def check_flag(option: str, value: Any) -> None:
    """Raises `OptionError` unless an option is True or False."""
    require(isinstance(value, (bool, np.bool_)), option, value, "must be True or False")


def check_text(**options: Any) -> None:
    """Raises `OptionError` unless options are texts."""
    for option, value in options.items():
        require(isinstance(value, str), option, value, "must be a text")


def check_path(**options: Any) -> None:
    """Raises `OptionError` unless options are paths of files or folders; an empty text is none."""
    for option, value in options.items():
        require(isinstance(value, (str, os.PathLike)) and value != "", option, value, "must be a path")


def check_instance(option: str, value: Any, kind: type, what: str) -> None:
    """Raises `OptionError` unless an option is an object of a class; `what` is the class with its article."""
    require(isinstance(value, kind), option, value, f"must be {what}")


def check_shape(option: str, value: Any, num_axes: int | None = None) -> None:
    """Checks a spatial shape.

    Args:
      option: its name.
      value: sizes, one an axis.
      num_axes: number of axes. Default: at least one.

    Raises:
      OptionError: it is no sequence of as many integers of at least 1.
    """
    check_entries(option, value, num_axes, _is_size, f"integers from 1 to {MOST_STEPS}, one an axis")


def check_spacing(option: str, value: Any, num_axes: int | None = None) -> None:
    """Checks lengths of voxels.

    Args:
      option: its name.
      value: lengths, one an axis, in any unit.
      num_axes: number of axes. Default: at least one.

    Raises:
      OptionError: it is no sequence of as many finite numbers above 0.
    """
    check_entries(
        option, value, num_axes, lambda length: is_number(length) and length > 0, "finite and above 0, one an axis"
    )


def check_label_ids(label_ids: Sequence[int] | np.ndarray, *, background: bool = False) -> None:
    """Checks label ids.

    Args:
      label_ids: at least one integer of 32 bits; each once.
      background: whether 0, the background, may be among them.

    Raises:
      OptionError: they are not.
    """
    require(is_sequence(label_ids), "label_ids", label_ids, "must be a sequence of integers")
    given = list(label_ids)
    limits = np.iinfo(jax.dtypes.canonicalize_dtype(np.int64))
    require(len(given) > 0, "label_ids", given, "give at least one")
    require(all(map(is_integer, given)), "label_ids", given, "must be integers")
    require(background or 0 not in given, "label_ids", given, "0 is the background and has no score")
    fit = all(limits.min <= label_id <= limits.max for label_id in given)
    require(fit, "label_ids", given, f"JAX's integers end at {limits.max}; map them to smaller numbers")
    require(len(set(given)) == len(given), "label_ids", given, "has one of them twice")


def check_arrays(function: str, kinds: str, **arrays: Any) -> None:
    """Checks that arguments are arrays of a kind.

    Args:
      function: name of the calling function, for the message.
      kinds: kinds of dtypes as NumPy names them: "f" for floats, "iu" for integers, "b" for booleans, "c" for complex
        numbers.
      **arrays: arguments by name.

    Raises:
      TypeError: one of them is no array.
      ValueError: one of them is of another kind.
    """
    for name, array in arrays.items():
        if not hasattr(array, "shape") or not hasattr(array, "dtype"):
            raise TypeError(f"{function}: {name} is {type(array).__name__}; give an array")
        if _kind(array.dtype) not in kinds:
            words = {"f": "floats", "i": "integers", "b": "booleans", "U": "texts"}
            allowed = " or ".join(word for kind, word in words.items() if kind in kinds)
            raise ValueError(f"{function}: {name} has dtype {array.dtype}; give {allowed}")


def check_finite(function: str, **arrays: Any) -> None:
    """Checks that arrays have no NaN and no infinity; arrays inside of `jax.jit` are passed over.

    Args:
      function: name of the calling function, for the message.
      **arrays: arrays of any shape by name; None is passed over.

    Raises:
      ValueError: one of them has.
    """
    for name, array in arrays.items():
        if array is None or isinstance(array, NOT_VALUES) or not getattr(array, "is_fully_addressable", True):
            continue
        # NumPy reads a CPU's array without a copy, and compiles nothing.
        if not np.isfinite(np.asarray(array)).all():
            raise ValueError(f"{function}: {name} has values that are NaN or infinite; replace them first")


def check_integers(function: str, **arrays: Any) -> None:
    """Refuses NumPy integers that JAX, without its 64-bit mode, would cut off to 32 bits without a warning.

    Args:
      function: name of the calling function, for the message.
      **arrays: arrays of any dtype and shape by name.

    Raises:
      ValueError: an array has such integers.
    """
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "iu" or array.dtype.itemsize < 8:
            continue
        kept = np.iinfo(jax.dtypes.canonicalize_dtype(array.dtype))
        if array.size and (array.min() < kept.min or array.max() > kept.max):
            raise ValueError(
                f"{function}: {name} has dtype {array.dtype} and values beyond those of {kept.dtype}, to which JAX "
                'cuts off; use jax.config.update("jax_enable_x64", True), or smaller numbers'
            )


def as_array(function: str, name: str, value: Any, kinds: str = "fiub") -> np.ndarray:
    """Converts an array, or nested sequences of numbers, to a NumPy array.

    Args:
      function: name of the calling function, for the message.
      name: of the argument.
      value: its value.
      kinds: see `check_arrays`.

    Raises:
      TypeError: it is no array, and no list that makes one.
      ValueError: it is an array of another kind.
    """
    if not hasattr(value, "dtype") and not is_sequence(value):
        raise TypeError(f"{function}: {name} is {type(value).__name__}; give an array")
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise TypeError(f"{function}: {name} is a list with parts of different lengths; give an array") from error
    check_arrays(function, kinds, **{name: array})
    return array


def is_sequence(value: Any) -> bool:
    """Whether a value is a sequence or a NumPy array with one axis or more; a text is none."""
    if isinstance(value, np.ndarray):
        return value.ndim > 0
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def check_entries(option: str, value: Any, number: int | None, valid: Callable[[Any], bool], what: str) -> None:
    """Checks an option that is a sequence.

    Args:
      option: its name.
      value: its value.
      number: how many entries it must have. Default: at least one.
      valid: whether an entry is one that it can have.
      what: the entries that it can have, for the message.

    Raises:
      OptionError: it is no such sequence.
    """
    fits = is_sequence(value) and (len(value) == number if number is not None else len(value) > 0)
    suffix = "" if number is None else f" ({number})"
    require(bool(fits) and all(map(valid, value)), option, value, f"must be {what}{suffix}")


def _is_size(size: Any) -> bool:
    """Whether a value can be the size of an axis; the symbolic sizes of an export have no value to look at."""
    return export.is_symbolic_dim(size) or (is_integer(size) and 1 <= size <= MOST_STEPS)


def _kind(dtype: Any) -> str:
    """The kind of a dtype; of bfloat16 that of floats."""
    return "f" if jnp.issubdtype(dtype, jnp.floating) else np.dtype(dtype).kind
