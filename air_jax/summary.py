"""What a model costs: the table that a run prints before it starts."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


def count_parameters(params: Any) -> int:
    """Number of scalars in a tree of parameters."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def forward_flops(model: nn.Module, params: Any, image_shape: tuple[int, ...]) -> float:
    """Floating-point operations of one pair's forward pass, by XLA's cost analysis before optimisation."""
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    lowered = jax.jit(lambda params, fixed, moving: model.apply({"params": params}, fixed, moving)[0]).lower(
        params, image, image
    )
    return lowered.cost_analysis()["flops"]


def table(model: nn.Module, params: Any, image_shape: tuple[int, ...]) -> str:
    """Parameters of each part of a model, their sum, and the forward pass's FLOPs, as lines of text.

    `model.tabulate` tells more, with every input and output.
    """
    rows = [(name, count_parameters(part)) for name, part in params.items()]
    rows.append(("all", count_parameters(params)))
    lines = [f"{'model ' + type(model).__name__:<24}{'parameters':>14}"]
    lines += [f"  {name:<22}{count:>14,}" for name, count in rows]
    flops = forward_flops(model, params, image_shape)
    lines.append(f"  forward pass of one pair of {list(image_shape)} images: {flops / 1e6:,.2f} MFLOP")
    return "\n".join(lines)
