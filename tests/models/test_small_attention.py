"""Attention with the batch last, against attention written out in NumPy and against finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from air_jax.models.layers.small_attention import MAX_TOKENS, small_attention, suits_small_attention


def arrays(batch=3, num_queries=5, num_keys=6, heads=2, head_size=4):
    rng = np.random.default_rng(0)
    queries = rng.standard_normal((batch, num_queries, heads, head_size))
    keys, values = rng.standard_normal((2, batch, num_keys, heads, head_size))
    bias = rng.standard_normal((heads, num_queries, num_keys))
    return [array.astype(np.float32) for array in (queries, keys, values, bias)]


def reference(queries, keys, values, bias):
    """In float64, pair by pair and head by head."""
    attended = np.zeros(queries.shape)
    weights = np.zeros((len(queries), bias.shape[0], queries.shape[1], keys.shape[1]))
    for b, h in np.ndindex(weights.shape[:2]):
        logits = queries[b, :, h].astype(np.float64) @ keys[b, :, h].T / np.sqrt(queries.shape[-1]) + bias[h]
        exponentials = np.exp(logits)
        weights[b, h] = exponentials / exponentials.sum(axis=1, keepdims=True)
        attended[b, :, h] = weights[b, h] @ values[b, :, h]
    return attended, weights


def test_it_is_attention():
    for found, expected in zip(jax.jit(small_attention)(*arrays()), reference(*arrays()), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_without_bias():
    *rest, bias = arrays()
    for found, expected in zip(small_attention(*rest), reference(*rest, 0 * bias), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_large_logits_do_not_overflow():
    queries, keys, values, bias = arrays()
    attended, weights = small_attention(1e3 * queries, keys, values, bias)
    assert np.isfinite(attended).all()
    np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=1e-6)


@pytest.mark.slow
def test_finite_differences_to_second_order_forward_and_reverse():
    check_grads(jax.jit(small_attention), arrays(2, 3, 4), order=2, modes=("fwd", "rev"), atol=1e-2, rtol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("axes", [(0, 0, 0, 0), (None, 0, None, 0), (1, None, 2, None)])
def test_vmap_over_any_argument(axes):
    single = arrays()
    several = [
        array if axis is None else np.stack([array, 2 * array, -array], axis)
        for array, axis in zip(single, axes, strict=True)
    ]
    found = jax.vmap(small_attention, axes)(*several)
    for index, factor in enumerate((1, 2, -1)):
        one = [array if axis is None else factor * array for array, axis in zip(single, axes, strict=True)]
        for mapped, expected in zip(found, reference(*one), strict=True):
            np.testing.assert_allclose(mapped[index], expected, atol=1e-5)


@pytest.mark.skipif(jax.__version_info__ < (0, 11), reason="not used before jax 0.11")
def test_it_is_used_only_on_a_cpu_for_few_tokens():
    queries = keys = jnp.zeros((64, 16, 4, 4))
    assert suits_small_attention(queries, keys)
    assert not suits_small_attention(queries.astype(jnp.bfloat16), keys)
    assert not suits_small_attention(queries, jnp.zeros((64, MAX_TOKENS + 1, 4, 4)))
    assert not suits_small_attention(queries[:2], keys[:2])
