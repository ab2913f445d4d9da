"""Transformer blocks as in the paper's reference [15] (Vaswani et al. 2017): post-norm, ReLU feed-forward."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

Dtype = Any

# The paper does not name its initialisation. At AiR's small width, kernels of a tenth of LeCun's variance train faster
# than Flax's default and than PyTorch's (a third), see experiments/README.md.
KERNEL_INIT = nn.initializers.variance_scaling(0.1, "fan_in", "uniform")


class MultiHeadAttention(nn.Module):
    """Scaled dot-product attention in several heads ([15], section 3.2).

    Attributes:
      num_heads: number of heads.
      head_size: size of each head's queries, keys and values.
      dtype: dtype of the computation; parameters are float32.
    """

    num_heads: int
    head_size: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, queries: jax.Array, memory: jax.Array) -> tuple[jax.Array, jax.Array]:
        """`[B, Tq, F]` attends to `[B, Tk, F]`; returns `[B, Tq, F]` and the weights `[B, heads, Tq, Tk]`."""

        def project(name, inputs):
            features = (self.num_heads, self.head_size)
            return nn.DenseGeneral(features, dtype=self.dtype, kernel_init=KERNEL_INIT, name=name)(inputs)

        query, key, value = project("query", queries), project("key", memory), project("value", memory)
        weights = nn.dot_product_attention_weights(query, key, dtype=self.dtype)
        attended = jnp.einsum("bhqk,bkhd->bqhd", weights, value)
        output = nn.DenseGeneral(
            queries.shape[-1], axis=(-2, -1), dtype=self.dtype, kernel_init=KERNEL_INIT, name="out"
        )
        return output(attended), weights


class FeedForward(nn.Module):
    """Position-wise feed-forward network ([15], section 3.3)."""

    width: int
    dropout: float = 0.0
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, deterministic: bool) -> jax.Array:
        hidden = nn.relu(nn.Dense(self.width, dtype=self.dtype, kernel_init=KERNEL_INIT)(x))
        hidden = nn.Dropout(self.dropout)(hidden, deterministic=deterministic)
        return nn.Dense(x.shape[-1], dtype=self.dtype, kernel_init=KERNEL_INIT)(hidden)


class Block(nn.Module):
    """One encoder block, or, when it is given a memory, one decoder block ([15], Fig. 1).

    Attributes:
      num_heads, head_size: see `MultiHeadAttention`.
      feed_forward: hidden width of the feed-forward network.
      dropout: dropout rate on each sub-layer's output and inside the feed-forward network.
      dtype: dtype of the computation.
    """

    num_heads: int
    head_size: int
    feed_forward: int
    dropout: float = 0.0
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, memory: jax.Array | None = None, *, deterministic: bool = True
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """`[B, T, F]` (and memory `[B, Tm, F]`) to `[B, T, F]` and the attention weights by name."""

        def add_and_norm(x, update):
            update = nn.Dropout(self.dropout)(update, deterministic=deterministic)
            return nn.LayerNorm(dtype=self.dtype)(x + update)

        def attention(name):
            return MultiHeadAttention(self.num_heads, self.head_size, self.dtype, name=name)

        out = {}
        update, out["self_attention"] = attention("self_attention")(x, x)
        x = add_and_norm(x, update)
        if memory is not None:
            update, out["cross_attention"] = attention("cross_attention")(x, memory)
            x = add_and_norm(x, update)
        update = FeedForward(self.feed_forward, self.dropout, self.dtype)(x, deterministic=deterministic)
        return add_and_norm(x, update), out


class Stack(nn.Module):
    """`depth` blocks one after another, each with its own weights, or one set applied `depth` times."""

    depth: int
    recursive: bool
    block: dict[str, Any]

    @nn.compact
    def __call__(
        self, x: jax.Array, memory: jax.Array | None = None, *, deterministic: bool = True
    ) -> tuple[jax.Array, dict[str, dict[str, jax.Array]]]:
        """`[B, T, F]` to `[B, T, F]` and `{"block_0": attention weights, ...}`."""
        shared = Block(**self.block, name="block") if self.recursive else None
        out = {}
        for index in range(self.depth):
            block = shared or Block(**self.block, name=f"block_{index}")
            x, out[f"block_{index}"] = block(x, memory, deterministic=deterministic)
        return x, out
