"""Hints for XLA's CPU compiler: which arrays it writes to memory, and in which order of axes."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint


def apart(arrays: Any) -> Any:
    """Keeps the computation of arrays apart from that of their users on a CPU: XLA does not fuse the two.

    Args:
      arrays: tree of arrays.

    Returns:
      The same arrays.
    """
    return jax.lax.optimization_barrier(arrays) if jax.default_backend() == "cpu" else arrays


def in_order(array: jax.Array) -> jax.Array:
    """Writes an array to memory in the order of its axes on a CPU, the last axis fastest.

    XLA fuses a transpose, and the reshapes and pads around it, with the operation that reads it. On a CPU the position
    of each element is then computed by divisions, and neighbours in a vector lie far apart; writing the array first is
    ten times as fast. GPUs and TPUs choose good layouts themselves. (On a CPU, `jax.export` needs
    `DisabledSafetyCheck.custom_call("LayoutConstraint")` among its `disabled_checks`.)

    Args:
      array: array of any shape.

    Returns:
      The same array.
    """
    if jax.default_backend() != "cpu":
        return array
    return apart(with_layout_constraint(jnp.asarray(array), Layout(tuple(range(array.ndim)))))
