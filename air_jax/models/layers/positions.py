"""Learned position embeddings for grids of tokens of any size."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp


def position_table(module: nn.Module, token_grid: Sequence[int], width: int) -> jax.Array:
    """Returns the position embedding of a module, its parameter `position`, for a grid of tokens.

    Args:
      module: the module that owns the parameter; call this inside its `compact` method.
      token_grid: tokens along each spatial axis.
      width: token width.

    Returns:
      `[1, *token_grid, width]`, interpolated linearly if the module was initialised with another grid.

    Raises:
      ValueError: the module was initialised with another number of spatial axes.
    """
    if not module.has_variable("params", "position"):
        init = nn.initializers.normal(stddev=0.1)
        return module.param("position", init, (*token_grid, width), jnp.float32)[None]
    table = module.get_variable("params", "position")
    if table.ndim != len(token_grid) + 1:
        name = type(module).__name__
        raise ValueError(f"{name}: trained on {table.ndim - 1}-D images, given {len(token_grid)}-D images")
    if table.shape[:-1] != tuple(token_grid):
        table = jax.image.resize(table, (*token_grid, width), method="linear")
    return table[None]
