"""Rows of the test of wrong types: the wrong values, the form of a row, and the inputs that several rows share.

`allows` names the wrong values that an argument may have, such as "text" for a title; None is always allowed where it
is the default, and True where the default is True or False. Rows are traced unless they are of NumPy arrays, files or
figures: a program that compiles takes long.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from air_jax import losses

WRONG = {
    "list": [],
    "none": None,
    "text": "",
    "word": "word",
    "dict": {},
    "object": object(),
    "complex": 1j,
    "bytes": b"x",
    "strings": np.array(["a"]),
    "nan": float("nan"),
    "ragged": [[1], [1, 2]],
    "true": True,
}
TEXT = "text word"
# JAX puts placeholders into pytrees: their leaves are checked by the functions, in the rows with a dot.
LEAF = " ".join(WRONG)

# Public names without arguments to check.
WITHOUT = {
    "OptionError": "an exception",
    "UserError": "an exception",
    "Field": "a protocol",
    "Result": "a result, made by the package",
    "Solution": "a result, made by the package",
    "Dataset": "a result, made by the package",
    "Source": "a result, made by the package",
    "Stack": "a result, made by the package",
    "Subject": "a result, made by the package",
}


class Row(NamedTuple):
    """A function, its arguments, the wrong values that each of them may have, and whether it is traced."""

    function: Any
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    allows: dict[str, str]
    traced: bool


def traced(function, *arguments, allows=None, **keywords):
    return Row(function, arguments, keywords, allows or {}, True)


def direct(function, *arguments, allows=None, **keywords):
    return Row(function, arguments, keywords, allows or {}, False)


SQUARE = np.zeros((8, 8), np.float32)
SQUARE[2:6, 2:6] = 1
IMAGE = jnp.asarray(SQUARE)[None, ..., None]
STILL = jnp.zeros((1, 8, 8, 2))
WEIGHTS, MASK = jnp.ones((1, 8, 8)), jnp.ones((1, 8, 8), bool)
SEGMENTATION = jnp.asarray(SQUARE, jnp.int32)[None]
AFFINE, POINTS = jnp.eye(2, 3)[None], jnp.array([[2.0, 3.0], [5.0, 1.5], [1.0, 6.0]])
OBJECTIVE = losses.make_objective("mse", diffusion=0.1)
