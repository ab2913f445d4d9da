"""Fast attention on a CPU for few tokens and small heads, such as the paper's 16 tokens and heads of size 4.

XLA's CPU compiler computes such attention as thousands of small matrix products (16 x 4), one after another. Here the
batch is the last axis, so that one vector instruction serves 16 pairs, and the sums over tokens and features are
written term by term, so that they become fused loops. For queries `q` and keys `k` `[H, D, T, B]` and weights `p`
`[H, Tq, Tk, B]` (heads, features, tokens, batch), there are three bilinear maps:

    scores:   S(q, k)[h, i, j] = sum_d q[h, d, i] k[h, d, j]
    gather:   O(p, v)[h, d, i] = sum_j p[h, i, j] v[h, d, j]
    scatter:  R(p, g)[h, d, j] = sum_i p[h, i, j] g[h, d, i]

The derivative of each map by each argument is again one of the maps. So, as primitives, they have forward and reverse
derivatives of any order, and JAX does not differentiate the sums term by term.
"""

from functools import reduce
from operator import add

import jax
import jax.numpy as jnp
from jax.interpreters import ad

from air_jax.runtime.primitives import make_primitive
from air_jax.runtime.xla_layout import in_order

MAX_TOKENS, MAX_HEAD_SIZE, MIN_BATCH = 32, 8, 16


def suits_small_attention(queries: jax.Array, keys: jax.Array) -> bool:
    """Whether `small_attention` is faster on a CPU for queries `[B, Tq, H, D]` and keys `[B, Tk, H, D]`."""
    batch, num_queries, _, head_size = queries.shape
    tokens = num_queries, keys.shape[1]
    # An exported program may have symbols in its shapes. Its batch counts as large.
    few = all(isinstance(number, int) and number <= MAX_TOKENS for number in tokens) and head_size <= MAX_HEAD_SIZE
    many = not isinstance(batch, int) or batch >= MIN_BATCH
    # Before jax 0.11 the compiler fuses the sums with the transposes around them, which takes five times as long.
    return few and many and queries.dtype == jnp.float32 and jax.__version_info__ >= (0, 11)


def small_attention(
    queries: jax.Array, keys: jax.Array, values: jax.Array, bias: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Computes scaled dot-product attention ([15] of the paper, equation 1).

    Args:
      queries: `[B, Tq, H, D]`.
      keys, values: `[B, Tk, H, D]`.
      bias: `[H, Tq, Tk]`, added to the logits.

    Returns:
      `[B, Tq, H, D]`, and the weights `[B, H, Tq, Tk]`.
    """
    queries = queries * queries.shape[-1] ** -0.5
    q, k, v = (jnp.transpose(array, (2, 3, 1, 0)) for array in (queries, keys, values))
    logits = _scores(q, k)
    if bias is not None:
        logits = logits + bias[..., None]
    exponentials = jnp.exp(logits - _largest(jax.lax.stop_gradient(logits))[:, :, None])
    # An additional feature of ones gives the sum of the weights.
    sums = _gather(exponentials, jnp.concatenate([v, jnp.ones_like(v[:, :1])], axis=1))
    attended, total = sums[:, :-1], sums[:, -1:]
    weights = exponentials / total[:, 0, :, None]
    return jnp.transpose(attended / total, (3, 2, 0, 1)), jnp.transpose(weights, (3, 0, 1, 2))


def _largest(logits: jax.Array) -> jax.Array:
    """The maximum over the keys of `[H, Tq, Tk, B]`, which prevents an overflow of `exp`."""
    return jax.lax.optimization_barrier(reduce(jnp.maximum, (logits[:, :, j] for j in range(logits.shape[2]))))


# ---- The three maps --------------------------------------------------------------------------------------------------


def _scores_impl(q, k):
    return reduce(add, (q[:, d, :, None] * k[:, d, None, :] for d in range(q.shape[1])))


def _gather_impl(p, v):
    return reduce(add, (p[:, None, :, j] * v[:, :, None, j] for j in range(v.shape[2])))


def _scatter_impl(p, g):
    return reduce(add, (p[:, None, i] * g[:, :, i, None] for i in range(g.shape[2])))


def _on_its_own(implementation):
    """Keeps the compiler from computing the arguments again for each term of the sum."""

    def function(*arguments):
        return jax.lax.optimization_barrier(implementation(*map(in_order, arguments)))

    return function


def _bilinear(name, implementation, left_rule, right_rule):
    """Makes a primitive that is linear in each of two arguments; the rules return their cotangents."""

    def abstract(left, right):
        return left.update(shape=jax.eval_shape(implementation, left, right).shape)

    primitive = make_primitive(name, _on_its_own(implementation), abstract, multiple_results=False)
    ad.defbilinear(primitive, left_rule, right_rule)
    return primitive.bind


_scores = _bilinear(
    "small_attention_scores",
    _scores_impl,
    lambda ct, q, k: _gather(ct, k),
    lambda ct, q, k: _scatter(ct, q),
)
_gather = _bilinear(
    "small_attention_gather",
    _gather_impl,
    lambda ct, p, v: _scores(ct, v),
    lambda ct, p, v: _scatter(p, ct),
)
_scatter = _bilinear(
    "small_attention_scatter",
    _scatter_impl,
    lambda ct, p, g: _scores(g, ct),
    lambda ct, p, g: _gather(p, ct),
)
