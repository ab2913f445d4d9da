"""Multi-head attention between patches ([15] of the paper), relative position bias, flash attention on GPUs."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.backend import get_backend
from jax.typing import DTypeLike

from air_jax.models.layers.small_attention import small_attention, suits_small_attention

# The paper does not name its initialisation. At AiR's small width, a tenth of LeCun's variance trains faster than the
# whole of it (Flax's default) or a third of it (PyTorch's default).
KERNEL_INIT = nn.initializers.variance_scaling(0.1, "fan_in", "uniform")
# For layers that read a normalised input and do not write to the residual stream.
PRE_NORM_KERNEL_INIT = nn.initializers.lecun_normal()

# Queries in each chunk of `chunked_attention`.
CHUNK_SIZE = 512


class RelativePositionBias(nn.Module):
    """A learned bias for each head and each offset between two tokens of a grid (Liu et al. 2021, Swin, section 3.2).

    The initial bias is `-slope * min(squared distance, 8)`. The slope rises from 0.1 in the first head to 2 in the last
    but one, where a token attends to little but its own position; it is 0 in the last head. So tokens first attend to
    their surroundings in the other image.

    Attributes:
      num_heads: number of heads.
      radius: largest offset along an axis, in tokens, with its own bias. Larger offsets share the bias of the largest.
    """

    num_heads: int
    radius: int

    @nn.compact
    def __call__(self, token_grid: Sequence[int]) -> jax.Array:
        """Returns the bias `[heads, T, T]`, queries first, of the tokens of a grid `G`, with `T = prod(G)`."""
        num_axes, size = len(token_grid), 2 * self.radius + 1
        places = np.stack(np.meshgrid(*map(np.arange, token_grid), indexing="ij"), axis=-1).reshape(-1, num_axes)
        offsets = np.clip(places[None] - places[:, None], -self.radius, self.radius) + self.radius
        table = self.param("table", self._init, (self.num_heads, *(size,) * num_axes), jnp.float32)
        return table[(slice(None), *np.moveaxis(offsets, -1, 0))]

    def _init(self, _: jax.Array, shape: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
        slopes = np.geomspace(0.1, 2.0, self.num_heads - 1) if self.num_heads > 1 else np.zeros(0)
        axes = [np.arange(-self.radius, self.radius + 1) ** 2] * (len(shape) - 1)
        # Capped: the softmax is almost 0 at a bias of -16; further down its gradient would vanish for good.
        squared = np.minimum(sum(np.meshgrid(*axes, indexing="ij")), 8)
        return jnp.asarray(-np.multiply.outer(np.append(0.0, slopes), squared), dtype)


class MultiHeadAttention(nn.Module):
    """Scaled dot-product attention with several heads ([15], section 3.2).

    Attributes:
      num_heads: number of heads.
      head_size: size of each head's queries, keys and values.
      kernel_init: initialises the projections to queries, keys and values.
      flash_attention: never holds all attention weights in memory, and returns none. Uses cuDNN where `can_use_cudnn`
        allows it, and `chunked_attention` elsewhere. A bias is still held whole.
      dtype: dtype of the computation. Parameters are float32.
    """

    num_heads: int
    head_size: int
    kernel_init: nn.initializers.Initializer = KERNEL_INIT
    flash_attention: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, queries: jax.Array, memory: jax.Array, bias: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array | None]:
        """Attends to a memory.

        Args:
          queries: `[B, Tq, F]`.
          memory: `[B, Tk, F]`.
          bias: `[heads, Tq, Tk]`, added to the logits.

        Returns:
          `[B, Tq, F]` and the attention weights `[B, heads, Tq, Tk]`, or None with flash attention.
        """

        def project(name, inputs):
            features = (self.num_heads, self.head_size)
            return nn.DenseGeneral(features, dtype=self.dtype, kernel_init=self.kernel_init, name=name)(inputs)

        query, key, value = project("query", queries), project("key", memory), project("value", memory)
        bias = None if bias is None else bias[None].astype(self.dtype)
        weights = None
        if self.flash_attention and can_use_cudnn(query, key, bias is not None, jax.default_backend()):
            attended = jax.nn.dot_product_attention(query, key, value, bias, implementation="cudnn")
        elif self.flash_attention:
            attended = chunked_attention(query, key, value, bias)
        elif suits_small_attention(query, key):
            arguments = query, key, value, None if bias is None else bias[0]
            attended, weights = jax.lax.platform_dependent(*arguments, cpu=small_attention, default=plain_attention)
        else:
            attended, weights = plain_attention(query, key, value, None if bias is None else bias[0])
        output = nn.DenseGeneral(
            queries.shape[-1], axis=(-2, -1), dtype=self.dtype, kernel_init=KERNEL_INIT, name="out"
        )
        return output(attended), weights


def plain_attention(
    query: jax.Array, key: jax.Array, value: jax.Array, bias: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Computes attention with all weights in memory.

    Args:
      query: `[B, Tq, H, D]`.
      key, value: `[B, Tk, H, D]`.
      bias: `[H, Tq, Tk]`, added to the logits.

    Returns:
      `[B, Tq, H, D]`, and the weights `[B, H, Tq, Tk]`.
    """
    bias = None if bias is None else bias[None]
    weights = nn.dot_product_attention_weights(query, key, bias=bias, dtype=query.dtype)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, value), weights


def chunked_attention(query: jax.Array, key: jax.Array, value: jax.Array, bias: jax.Array | None = None) -> jax.Array:
    """Computes attention chunk by chunk of the queries, in memory that grows linearly with the number of tokens.

    The backward pass computes the weights again (Rabe & Staats 2021, without their chunks of keys).

    Args:
      query: `[B, Tq, H, D]`.
      key, value: `[B, Tk, H, D]`.
      bias: `[1, H, Tq, Tk]`, added to the logits.

    Returns:
      `[B, Tq, H, D]`.
    """
    num_queries = query.shape[1]
    size = min(num_queries, CHUNK_SIZE)
    padding = -num_queries % size

    def chunks(array, axis):
        """Pads an axis to whole chunks, and moves the axis of chunks to the front."""
        widths = [(0, padding if index == axis else 0) for index in range(array.ndim)]
        array = jnp.pad(array, widths)
        shape = (*array.shape[:axis], -1, size, *array.shape[axis + 1 :])
        return jnp.moveaxis(array.reshape(shape), axis, 0)

    @jax.checkpoint
    def attend(chunk):
        query, bias = chunk
        weights = nn.dot_product_attention_weights(query, key, bias=bias, dtype=query.dtype)
        return jnp.einsum("bhqk,bkhd->bqhd", weights, value)

    attended = jax.lax.map(attend, (chunks(query, 1), None if bias is None else chunks(bias, 2)))
    attended = jnp.moveaxis(attended, 0, 1)
    return attended.reshape(query.shape[0], -1, *attended.shape[3:])[:, :num_queries]


def can_use_cudnn(query: jax.Array, key: jax.Array, has_bias: bool, platform: str) -> bool:
    """Whether cuDNN's flash attention supports queries `[B, Tq, H, D]` and keys `[B, Tk, H, D]` on this platform.

    It needs an NVIDIA GPU, half precision, and a head size that is a multiple of 8 and at most 128. Gradients with a
    bias also need even numbers of tokens.
    """
    num_queries, _, head_size = query.shape[1:]
    suits = query.dtype in (jnp.bfloat16, jnp.float16) and head_size % 8 == 0 and head_size <= 128
    even = num_queries % 2 == 0 and key.shape[1] % 2 == 0
    return platform == "gpu" and suits and (even or not has_bias) and "cuda" in get_backend().platform_version
