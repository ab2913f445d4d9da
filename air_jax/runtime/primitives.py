"""JAX primitives of our own, for operations whose derivatives have a faster form than JAX would derive."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir


def make_primitive(
    name: str,
    implementation: Callable,
    abstract: Callable,
    *,
    multiple_results: bool,
    by_platform: Mapping[str, Callable] | None = None,
) -> Primitive:
    """Makes a primitive that compiles to `implementation`; the caller adds its derivatives (`jax.interpreters.ad`).

    Args:
      name: name of the primitive in jaxprs.
      implementation: `implementation(*arrays, **parameters)`, made of other JAX operations. The first axis of every
        array and result counts independent items; `vmap` merges the mapped axis into it.
      abstract: the same function from abstract arrays to abstract results.
      multiple_results: whether the result is a list of arrays.
      by_platform: other implementations for some platforms, such as "cpu" or "gpu". The choice is made when a program
        is lowered, so that one exported program serves several platforms. A program that XLA partitions over CPU
        devices takes `implementation`: XLA would collect on each device what a loop over pieces reads.

    Returns:
      The primitive; its `bind(*arrays, **parameters)` applies it. Parameters must be hashable.
    """
    primitive = Primitive(name)
    primitive.multiple_results = multiple_results

    @cache  # JAX compiles each new function again
    def compiled(parameters):
        return jax.jit(partial(primitive.bind, **dict(parameters)))

    primitive.def_impl(lambda *arrays, **parameters: compiled(tuple(sorted(parameters.items())))(*arrays))
    primitive.def_abstract_eval(abstract)
    general = mlir.lower_fun(implementation, multiple_results=multiple_results)
    mlir.register_lowering(primitive, general)
    for platform, other in (by_platform or {}).items():
        lowering = mlir.lower_fun(other, multiple_results=multiple_results)
        if platform == "cpu":
            lowering = partial(_lower_on_cpu, lowering, general)
        mlir.register_lowering(primitive, lowering, platform=platform)
    batching.primitive_batchers[primitive] = partial(_batch, primitive)
    return primitive


def is_partitioned(context: mlir.LoweringRuleContext) -> bool:
    """Returns whether XLA partitions the program over several devices: `jit` on a mesh, not `shard_map`.

    Args:
      context: context in which an operation is lowered.
    """
    place = context.module_context.axis_context
    return isinstance(place, mlir.ShardingContext) and place.num_devices > 1


def _lower_on_cpu(on_cpu: Callable, general: Callable, context: mlir.LoweringRuleContext, *arrays, **parameters):
    return (general if is_partitioned(context) else on_cpu)(context, *arrays, **parameters)


def _batch(primitive: Primitive, arrays: Sequence[jax.Array], dims: Sequence[int | None], **parameters):
    size = next(array.shape[dim] for array, dim in zip(arrays, dims, strict=True) if dim is not None)

    def merge(array, dim):
        first = jnp.broadcast_to(array, (size, *array.shape)) if dim is None else jnp.moveaxis(array, dim, 0)
        return first.reshape(-1, *first.shape[2:])

    results = primitive.bind(*map(merge, arrays, dims), **parameters)
    split = jax.tree.map(lambda array: array.reshape(size, -1, *array.shape[1:]), results)
    return split, jax.tree.map(lambda _: 0, split)
