"""The table of a model's parameters and floating-point operations that a run prints before it starts."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.extend.core import jaxpr_as_fun


def count_parameters(params: Any) -> int:
    """Returns the number of scalars in a tree of parameters."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def count_flops(function: Callable, *arguments: Any) -> float | None:
    """Counts the floating-point operations of `function(*arguments)` by XLA's cost analysis before optimisation.

    The body of `jax.lax.scan` counts as often as it runs. The body of other loops counts once.

    Returns:
      The number, or None where the host's own platform is switched off (`JAX_PLATFORMS=cuda`): accelerators count only
      compiled programs.
    """
    try:
        host = jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), arguments)  # of no device
    with jax.default_device(host):
        return _flops(jax.make_jaxpr(function)(*shapes))


def _flops(jaxpr: Any) -> float | None:
    """The operations of a jaxpr, with its loops as often as they run."""
    counted = _counted(jaxpr)
    if counted is None:
        return None
    return counted + sum(length * (_flops(body) or 0) - (_counted(body) or 0) for length, body in _scans(jaxpr.jaxpr))


def _counted(jaxpr: Any) -> float | None:
    """XLA's count, in which the body of each loop counts once."""
    shapes = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in jaxpr.in_avals]
    analysis = jax.jit(jaxpr_as_fun(jaxpr)).lower(*shapes).cost_analysis()
    return None if analysis is None else analysis["flops"]


def _scans(jaxpr: Any) -> Iterator[tuple[int, Any]]:
    """The length and the body of each scan of a jaxpr, but not of those inside such a body."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "scan":
            yield equation.params["length"], equation.params["jaxpr"]
            continue
        for inner in jax.tree.leaves(equation.params, is_leaf=lambda leaf: hasattr(leaf, "eqns")):
            if hasattr(inner, "eqns"):  # a jaxpr, closed or not
                yield from _scans(inner)


def table(model: nn.Module, params: Any, image_shape: tuple[int, ...], num_images: int = 2) -> str:
    """Lists the parameters of each part of a model, their sum, and the FLOPs of a forward pass.

    Args:
      model: the module; `model.tabulate` also lists every input and output.
      params: its parameters.
      image_shape: `(*S, C)`.
      num_images: images that the model takes in one call.

    Returns:
      Lines of text.
    """
    rows = [(name, count_parameters(part)) for name, part in params.items()]
    rows.append(("all", count_parameters(params)))
    lines = [f"{'model ' + type(model).__name__:<24}{'parameters':>14}"]
    lines += [f"  {name:<22}{count:>14,}" for name, count in rows]
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    images = [image] * num_images
    flops = count_flops(lambda params, *images: model.apply({"params": params}, *images), params, *images)
    if flops is not None:
        of_what = "one pair of" if num_images == 2 else "one of the"
        lines.append(f"  forward pass of {of_what} {list(image_shape)} images: {flops / 1e6:,.2f} MFLOP")
    return "\n".join(lines)
