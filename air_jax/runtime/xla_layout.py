"""What XLA's CPU compiler has to be told: which arrays to write to memory, and in which order."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint


def apart(arrays: Any) -> Any:
    """The same tree of arrays, computed before whatever reads them, where this is a CPU: not fused into it."""
    return jax.lax.optimization_barrier(arrays) if jax.default_backend() == "cpu" else arrays


def in_order(array: jax.Array) -> jax.Array:
    """The same array, written to memory in the order of its axes, the last one fastest, where this is a CPU.

    XLA leaves a transpose to whatever reads it, and merges reshapes and pads with it; on a CPU each element's place is
    then found by divisions, and neighbours in one vector lie far apart. A pass of its own over the array is ten times
    as fast. GPUs and TPUs choose their layouts better than we could. (`jax.export` on a CPU asks that
    `DisabledSafetyCheck.custom_call("LayoutConstraint")` be among its `disabled_checks`.)
    """
    if jax.default_backend() != "cpu":
        return array
    return apart(with_layout_constraint(jnp.asarray(array), Layout(tuple(range(array.ndim)))))
