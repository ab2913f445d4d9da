"""What a model costs: the table that a run prints before it starts."""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


def count_parameters(params: Any) -> int:
    """Number of scalars in a tree of parameters."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def count_flops(function: Callable, *arguments: Any) -> float | None:
    """Floating-point operations of `function(*arguments)`, by XLA's cost analysis before optimisation.

    None where the host's own platform is switched off (`JAX_PLATFORMS=cuda`): accelerators count only what is compiled.
    """
    try:
        host = jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), arguments)  # of no device
    with jax.default_device(host):
        return jax.jit(function).lower(*shapes).cost_analysis()["flops"]


def table(model: nn.Module, params: Any, image_shape: tuple[int, ...]) -> str:
    """Parameters of each part of a model, their sum, and the forward pass's FLOPs, as lines of text.

    `model.tabulate` tells more, with every input and output.
    """
    rows = [(name, count_parameters(part)) for name, part in params.items()]
    rows.append(("all", count_parameters(params)))
    lines = [f"{'model ' + type(model).__name__:<24}{'parameters':>14}"]
    lines += [f"  {name:<22}{count:>14,}" for name, count in rows]
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    flops = count_flops(lambda params, *pair: model.apply({"params": params}, *pair)[0], params, image, image)
    if flops is not None:
        lines.append(f"  forward pass of one pair of {list(image_shape)} images: {flops / 1e6:,.2f} MFLOP")
    return "\n".join(lines)
