"""The table of a model's parameters and floating-point operations that a run prints before it starts."""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


def count_parameters(params: Any) -> int:
    """Returns the number of scalars in a tree of parameters."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def count_flops(function: Callable, *arguments: Any) -> float | None:
    """Counts the floating-point operations of `function(*arguments)` by XLA's cost analysis before optimisation.

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
        analysis = jax.jit(function).lower(*shapes).cost_analysis()
    return None if analysis is None else analysis["flops"]


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
