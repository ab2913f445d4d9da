"""Functions on meshes with `Explicit` axes, the default of `jax.make_mesh`.

On such a mesh each operation must know the sharding of its result, and slices, pads and reshapes of a sharded axis are
refused. Here a function runs with these axes as `Auto`: XLA then chooses the shardings inside, and exchanges halos.
"""

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")


def on_any_mesh(function: Callable[Parameters, Returned]) -> Callable[Parameters, Returned]:
    """Makes a function of arrays work on meshes with `Explicit` axes. Without such a mesh it is the function itself.

    Args:
      function: any function of arrays and trees of arrays.

    Returns:
      The same function. On an `Explicit` mesh an axis of a result is sharded like that axis of the first sharded
      argument, as far as both have the same sizes from the first axis on; the other axes are not sharded.
    """

    @functools.wraps(function)
    def wrapped(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Returned:
        template = sharded_array((args, kwargs))
        if template is None:
            return function(*args, **kwargs)
        with jax.sharding.use_abstract_mesh(auto_mesh(template)):
            args, kwargs = to_auto((args, kwargs))
            results = function(*args, **kwargs)
        return to_explicit(results, template)

    return wrapped


def sharded_array(tree: Any) -> jax.Array | None:
    """Returns the first array of a tree that lies on a mesh with `Explicit` axes, if possible a sharded one."""
    found = None
    for leaf in jax.tree.leaves(tree):
        if isinstance(leaf, jax.Array) and jax.typeof(leaf).sharding.mesh.explicit_axes:
            if any(jax.typeof(leaf).sharding.spec):
                return leaf
            found = leaf if found is None else found
    return found


def auto_mesh(array: jax.Array) -> AbstractMesh:
    """Returns the mesh of an array with all `Explicit` axes as `Auto`."""
    mesh = jax.typeof(array).sharding.mesh
    return mesh.update_axis_types(dict.fromkeys(mesh.explicit_axes, AxisType.Auto))


def to_auto(tree: Any) -> Any:
    """Converts the arrays of a tree to the `Auto` mesh of the context. They stay where they are."""

    def convert(leaf):
        if not isinstance(leaf, jax.Array) or not jax.typeof(leaf).sharding.mesh.explicit_axes:
            return leaf
        return jax.sharding.reshard(leaf, PartitionSpec(*[None] * leaf.ndim))

    return jax.tree.map(convert, tree)


def to_explicit(tree: Any, template: jax.Array | None) -> Any:
    """Converts the arrays of a tree to the `Explicit` mesh of `template`, sharded as `on_any_mesh` says.

    Without a template they go to the mesh of the context, not sharded.
    """
    sharding = None if template is None else jax.typeof(template).sharding
    mesh = jax.sharding.get_abstract_mesh() if sharding is None else sharding.mesh
    sizes, axes = ((), ()) if template is None or sharding is None else (template.shape, sharding.spec)

    def convert(leaf):
        if not isinstance(leaf, jax.Array):
            return leaf
        spec = []
        for size, other, axis in zip(leaf.shape, sizes, axes, strict=False):
            if size != other:
                break
            spec.append(axis)
        spec += [None] * (leaf.ndim - len(spec))
        return jax.sharding.reshard(leaf, NamedSharding(mesh, PartitionSpec(*spec)))

    return jax.tree.map(convert, tree)


def zeros_for(shape: Sequence[int], *arrays: jax.Array) -> jax.Array:
    """Makes zeros as the start of a loop over some arrays.

    In `jax.shard_map` a loop's start must be marked as different on each device where its results are.

    Args:
      shape: of the zeros.
      *arrays: arrays, not empty, that the results depend on.

    Returns:
      Zeros of the arrays' dtype, marked like all of them together.
    """
    scalars = [jnp.zeros_like(array[(0,) * array.ndim]) for array in arrays]
    return jnp.broadcast_to(functools.reduce(operator.add, scalars), shape)
