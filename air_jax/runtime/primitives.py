"""JAX primitives of our own: operations whose derivatives are known better than JAX would find them."""

from collections.abc import Callable, Sequence
from functools import cache, partial

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir


def make_primitive(name: str, implementation: Callable, abstract: Callable, *, multiple_results: bool) -> Primitive:
    """A primitive that is compiled as `implementation`; whoever makes it adds its derivatives (`jax.interpreters.ad`).

    Args:
      name: for jaxprs.
      implementation: `implementation(*arrays, **parameters)`, in terms of other JAX operations. The first axis of every
        array and result counts independent items: under `vmap`, the mapped axis joins it.
      abstract: the same, from abstract arrays to abstract results.
      multiple_results: whether the results come as a list.
    """
    primitive = Primitive(name)
    primitive.multiple_results = multiple_results

    @cache  # a new function each time would be compiled each time
    def compiled(parameters):
        return jax.jit(partial(implementation, **dict(parameters)))

    primitive.def_impl(lambda *arrays, **parameters: compiled(tuple(sorted(parameters.items())))(*arrays))
    primitive.def_abstract_eval(abstract)
    mlir.register_lowering(primitive, mlir.lower_fun(implementation, multiple_results=multiple_results))
    batching.primitive_batchers[primitive] = partial(_batch, primitive)
    return primitive


def _batch(primitive: Primitive, arrays: Sequence[jax.Array], dims: Sequence[int | None], **parameters):
    size = next(a.shape[d] for a, d in zip(arrays, dims, strict=True) if d is not None)

    def merge(array, dim):
        first = jnp.broadcast_to(array, (size, *array.shape)) if dim is None else jnp.moveaxis(array, dim, 0)
        return first.reshape(-1, *first.shape[2:])

    found = primitive.bind(*map(merge, arrays, dims), **parameters)
    split = jax.tree.map(lambda array: array.reshape(size, -1, *array.shape[1:]), found)
    return split, jax.tree.map(lambda _: 0, split)
