"""Transformer blocks as in the paper's reference [15] (Vaswani et al. 2017), post-norm, and the pre-norm variant."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

Dtype = Any

# The paper does not name its initialisation. At AiR's small width, kernels of a tenth of LeCun's variance train faster
# than Flax's default and than PyTorch's (a third), see experiments/README.md.
KERNEL_INIT = nn.initializers.variance_scaling(0.1, "fan_in", "uniform")
# Layers that read a normalised input and do not write to the residual stream can start at full size.
PRE_NORM_KERNEL_INIT = nn.initializers.lecun_normal()


class RelativePositionBias(nn.Module):
    """A learned bias for each head and each offset between two tokens of a grid (Liu et al. 2021, Swin, section 3.2).

    It starts as `-slope * min(squared distance, 8)`. The slope is 0 for the last head, which sees everything alike;
    from the first to the last but one it rises from 0.1 to 2, where a token sees hardly more than its own place. So a
    token that looks for its counterpart in the other image starts looking around where it is.

    Attributes:
      num_heads: number of heads.
      radius: offsets beyond it, along an axis, share the bias of the offset at the radius.
    """

    num_heads: int
    radius: int

    @nn.compact
    def __call__(self, token_grid: Sequence[int]) -> jax.Array:
        """The bias `[heads, T, T]`, queries first, of the tokens of a grid `G`, `T = prod(G)`."""
        num_axes, size = len(token_grid), 2 * self.radius + 1
        places = np.stack(np.meshgrid(*map(np.arange, token_grid), indexing="ij"), axis=-1).reshape(-1, num_axes)
        offsets = np.clip(places[None] - places[:, None], -self.radius, self.radius) + self.radius
        table = self.param("table", self._init, (self.num_heads, *(size,) * num_axes), jnp.float32)
        return table[(slice(None), *np.moveaxis(offsets, -1, 0))]

    def _init(self, _: jax.Array, shape: tuple[int, ...], dtype: Dtype) -> jax.Array:
        slopes = np.geomspace(0.1, 2.0, self.num_heads - 1) if self.num_heads > 1 else np.zeros(0)
        axes = [np.arange(-self.radius, self.radius + 1) ** 2] * (len(shape) - 1)
        # Capped: at a bias of -16 the softmax is 0 already, and further down nothing would bring an offset back.
        squared = np.minimum(sum(np.meshgrid(*axes, indexing="ij")), 8)
        return jnp.asarray(-np.multiply.outer(np.append(0.0, slopes), squared), dtype)


class MultiHeadAttention(nn.Module):
    """Scaled dot-product attention in several heads ([15], section 3.2).

    Attributes:
      num_heads: number of heads.
      head_size: size of each head's queries, keys and values.
      kernel_init: initialises the projections to queries, keys and values.
      dtype: dtype of the computation; parameters are float32.
    """

    num_heads: int
    head_size: int
    kernel_init: nn.initializers.Initializer = KERNEL_INIT
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, queries: jax.Array, memory: jax.Array, bias: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """`[B, Tq, F]` attends to `[B, Tk, F]`, with a bias `[heads, Tq, Tk]` on the logits.

        Returns:
          `[B, Tq, F]` and the weights `[B, heads, Tq, Tk]`.
        """

        def project(name, inputs):
            features = (self.num_heads, self.head_size)
            return nn.DenseGeneral(features, dtype=self.dtype, kernel_init=self.kernel_init, name=name)(inputs)

        query, key, value = project("query", queries), project("key", memory), project("value", memory)
        weights = nn.dot_product_attention_weights(
            query, key, bias=None if bias is None else bias[None].astype(self.dtype), dtype=self.dtype
        )
        attended = jnp.einsum("bhqk,bkhd->bqhd", weights, value)
        output = nn.DenseGeneral(
            queries.shape[-1], axis=(-2, -1), dtype=self.dtype, kernel_init=KERNEL_INIT, name="out"
        )
        return output(attended), weights


class FeedForward(nn.Module):
    """Position-wise feed-forward network ([15], section 3.3)."""

    width: int
    dropout: float = 0.0
    kernel_init: nn.initializers.Initializer = KERNEL_INIT
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, deterministic: bool) -> jax.Array:
        hidden = nn.relu(nn.Dense(self.width, dtype=self.dtype, kernel_init=self.kernel_init)(x))
        hidden = nn.Dropout(self.dropout)(hidden, deterministic=deterministic)
        return nn.Dense(x.shape[-1], dtype=self.dtype, kernel_init=KERNEL_INIT)(hidden)


class Block(nn.Module):
    """One encoder block, or, when it is given a memory, one decoder block ([15], Fig. 1).

    Attributes:
      num_heads, head_size: see `MultiHeadAttention`.
      feed_forward: hidden width of the feed-forward network.
      dropout: dropout rate on each sub-layer's output and inside the feed-forward network.
      self_attention: False leaves the self-attention out.
      pre_norm: normalises what a sub-layer reads (Xiong et al. 2020) instead of the sum of its input and output.
      relative_radius: radius of the relative position bias, see `RelativePositionBias`; None for no bias.
      dtype: dtype of the computation.
    """

    num_heads: int
    head_size: int
    feed_forward: int
    dropout: float = 0.0
    self_attention: bool = True
    pre_norm: bool = False
    relative_radius: int | None = None
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        memory: jax.Array | None = None,
        *,
        token_grid: Sequence[int] | None = None,
        deterministic: bool = True,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """`[B, T, F]` (and memory `[B, Tm, F]`) to `[B, T, F]` and the attention weights by name.

        `token_grid` is the grid that the tokens, and those of the memory, lie on; the relative position bias needs it.
        """
        out = {}
        kernel_init = PRE_NORM_KERNEL_INIT if self.pre_norm else KERNEL_INIT

        def attend(x, memory, name):
            bias = None
            if self.relative_radius is not None:
                bias = RelativePositionBias(self.num_heads, self.relative_radius, name=f"{name}_bias")(token_grid)
            attention = MultiHeadAttention(self.num_heads, self.head_size, kernel_init, self.dtype, name=name)
            update, out[name] = attention(x, memory, bias)
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
    """`depth` blocks one after another, each with its own weights, or one set applied `depth` times."""

    depth: int
    recursive: bool
    block: dict[str, Any]

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        memory: jax.Array | None = None,
        *,
        token_grid: Sequence[int] | None = None,
        deterministic: bool = True,
    ) -> tuple[jax.Array, dict[str, dict[str, jax.Array]]]:
        """`[B, T, F]` to `[B, T, F]` and `{"block_0": attention weights, ...}`; arguments as those of `Block`."""
        shared = Block(**self.block, name="block") if self.recursive else None
        out = {}
        for index in range(self.depth):
            block = shared or Block(**self.block, name=f"block_{index}")
            x, out[f"block_{index}"] = block(x, memory, token_grid=token_grid, deterministic=deterministic)
        if self.block.get("pre_norm"):
            x = nn.LayerNorm(dtype=self.block["dtype"], name="norm")(x)
        return x, out
