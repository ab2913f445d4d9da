"""Transformer blocks of the paper's reference [15] (Vaswani et al. 2017), post-norm, and the pre-norm variant."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from air_jax.models.layers.attention import KERNEL_INIT, PRE_NORM_KERNEL_INIT, MultiHeadAttention, RelativePositionBias


class FeedForward(nn.Module):
    """Position-wise feed-forward network ([15], section 3.3): two linear layers and a ReLU between them."""

    width: int
    dropout: float = 0.0
    kernel_init: nn.initializers.Initializer = KERNEL_INIT
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, deterministic: bool) -> jax.Array:
        tokens = x.reshape(-1, x.shape[-1])  # on a CPU, gradients of matrix products are faster for matrices
        hidden = nn.relu(nn.Dense(self.width, dtype=self.dtype, kernel_init=self.kernel_init)(tokens))
        hidden = nn.Dropout(self.dropout)(hidden, deterministic=deterministic)
        return nn.Dense(x.shape[-1], dtype=self.dtype, kernel_init=KERNEL_INIT)(hidden).reshape(x.shape)


class Block(nn.Module):
    """One encoder block or, with a memory, one decoder block ([15], Fig. 1).

    Attributes:
      num_heads, head_size: see `MultiHeadAttention`.
      feed_forward: hidden width of the feed-forward network.
      dropout: dropout rate of each sub-layer's output and inside the feed-forward network.
      self_attention: whether the block has self-attention.
      pre_norm: normalises the input of each sub-layer (Xiong et al. 2020) instead of the sum of its input and output.
      relative_radius: radius of the relative position bias, see `RelativePositionBias`; None for no bias.
      flash_attention: see `MultiHeadAttention`.
      dtype: dtype of the computation.
    """

    num_heads: int
    head_size: int
    feed_forward: int
    dropout: float = 0.0
    self_attention: bool = True
    pre_norm: bool = False
    relative_radius: int | None = None
    flash_attention: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        memory: jax.Array | None = None,
        token_grid: Sequence[int] | None = None,
        deterministic: bool = True,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Applies the block.

        Args:
          x: tokens `[B, T, F]`.
          memory: tokens `[B, Tm, F]` that the decoder attends to.
          token_grid: tokens along each spatial axis, of `x` and of the memory; the relative position bias needs it.
          deterministic: False applies dropout.

        Returns:
          `[B, T, F]` and the attention weights `[B, heads, T, Tm]` by name.
        """
        out = {}
        kernel_init = PRE_NORM_KERNEL_INIT if self.pre_norm else KERNEL_INIT

        def attend(x, memory, name):
            bias = None
            if self.relative_radius is not None:
                if token_grid is None:
                    raise ValueError("Block: the relative position bias needs token_grid")
                bias = RelativePositionBias(self.num_heads, self.relative_radius, name=f"{name}_bias")(token_grid)
            attention = MultiHeadAttention(
                self.num_heads, self.head_size, kernel_init, self.flash_attention, self.dtype, name=name
            )
            update, weights = attention(x, memory, bias)
            if weights is not None:
                out[name] = weights
            return update

        def add(x, sub_layer):
            norm = nn.LayerNorm(dtype=self.dtype)
            update = sub_layer(norm(x) if self.pre_norm else x)
            x = x + nn.Dropout(self.dropout)(update, deterministic=deterministic)
            return x if self.pre_norm else norm(x)

        if self.self_attention:
            x = add(x, lambda x: attend(x, x, "self_attention"))
        if memory is not None:
            x = add(x, lambda x: attend(x, memory, "cross_attention"))
        feed_forward = FeedForward(self.feed_forward, self.dropout, kernel_init, self.dtype)
        return add(x, lambda x: feed_forward(x, deterministic=deterministic)), out


class Stack(nn.Module):
    """A sequence of blocks.

    Attributes:
      depth: number of blocks.
      recursive: whether all blocks share one set of weights.
      block: attributes of each `Block`.
      remat: the backward pass computes the inside of each block again instead of keeping it: less memory, more time.
    """

    depth: int
    recursive: bool
    block: dict[str, Any]
    remat: bool = False

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        memory: jax.Array | None = None,
        *,
        token_grid: Sequence[int] | None = None,
        deterministic: bool = True,
    ) -> tuple[jax.Array, dict[str, dict[str, jax.Array]]]:
        """Applies the blocks: `[B, T, F]` to `[B, T, F]` and `{"block_0": attention weights, ...}`; see `Block`."""
        kind = nn.remat(Block, static_argnums=(3, 4)) if self.remat else Block
        shared = kind(**self.block, name="block") if self.recursive else None
        token_grid = None if token_grid is None else tuple(token_grid)
        out = {}
        for index in range(self.depth):
            block = shared or kind(**self.block, name=f"block_{index}")
            x, out[f"block_{index}"] = block(x, memory, token_grid, deterministic)
        if self.block.get("pre_norm"):
            x = nn.LayerNorm(dtype=self.block["dtype"], name="norm")(x)
        return x, out
