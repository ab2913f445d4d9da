"""Hints for XLA's compiler: which arrays it writes to memory, and in which order of axes."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from air_jax.runtime.primitives import is_partitioned

_in_order_p = Primitive("air_jax_in_order")


def apart(arrays: Any) -> Any:
    """Keeps the computation of arrays apart from that of their users: XLA does not fuse the two.

    Args:
      arrays: tree of arrays.

    Returns:
      The same arrays.
    """
    return jax.lax.optimization_barrier(arrays)


def in_order(array: jax.Array) -> jax.Array:
    """Writes an array to memory in the order of its axes on a CPU, the last axis fastest.

    XLA fuses a transpose, and the reshapes and pads around it, with the operation that reads it. On a CPU the position
    of each element is then computed by divisions, and neighbours in a vector lie far apart; writing the array first is
    ten times as fast. GPUs and TPUs choose good layouts themselves. An exported program has no such order, because it
    could not be serialised; nor has a program that XLA partitions, because XLA would collect the array on each device.

    Args:
      array: array of any shape.

    Returns:
      The same array.
    """
    return _in_order_p.bind(jnp.asarray(array))


def _constrain(array: jax.Array) -> jax.Array:
    return jax.lax.optimization_barrier(with_layout_constraint(array, Layout(tuple(range(array.ndim)))))


def _lower_on_cpu(context: mlir.LoweringRuleContext, array: Any) -> Any:
    if context.module_context.lowering_parameters.for_export or is_partitioned(context):
        return _barrier(context, array)
    return _ordered(context, array)


_barrier = mlir.lower_fun(jax.lax.optimization_barrier, multiple_results=False)
_ordered = mlir.lower_fun(_constrain, multiple_results=False)

_in_order_p.def_impl(lambda array: jax.jit(_in_order_p.bind)(array))
_in_order_p.def_abstract_eval(lambda array: array)
mlir.register_lowering(_in_order_p, lambda context, array: [array])
mlir.register_lowering(_in_order_p, _lower_on_cpu, platform="cpu")
ad.deflinear2(_in_order_p, lambda cotangent, _: [in_order(cotangent)])
batching.primitive_batchers[_in_order_p] = lambda arrays, axes: (in_order(jnp.moveaxis(arrays[0], axes[0], 0)), 0)
