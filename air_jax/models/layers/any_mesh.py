"""Models on meshes with `Explicit` axes, see `air_jax.runtime.any_mesh`."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from air_jax.runtime.any_mesh import auto_mesh, sharded_array, to_auto, to_explicit


def model_on_any_mesh(call: Callable[..., Any]) -> Callable[..., Any]:
    """`on_any_mesh` for the `__call__` of a module: parameters and random keys are converted with the arguments.

    Args:
      call: a `compact` method of a module.

    Returns:
      The same method.
    """

    @functools.wraps(call)
    def inside(self, *args, **kwargs):
        self.scope.rngs = to_auto(self.scope.rngs)
        return call(self, *args, **kwargs)

    @functools.wraps(call)
    def wrapped(self, *args, **kwargs):
        template = sharded_array((args, kwargs))
        if template is None:
            return call(self, *args, **kwargs)

        outside = jax.sharding.get_abstract_mesh()

        def back(variables):
            if outside.empty:  # new parameters are on one device
                return variables
            with jax.sharding.use_abstract_mesh(outside):
                return to_explicit(variables, None)

        init = self.is_initializing()
        lifted = nn.map_variables(inside, "params", to_auto, back, init=init, mutable=init)
        with jax.sharding.use_abstract_mesh(auto_mesh(template)):
            args, kwargs = to_auto((args, kwargs))
            results = lifted(self, *args, **kwargs)
        return to_explicit(results, template)

    return wrapped
