"""Flash attention and rematerialisation: less memory, the same results."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import REAL_KERNELS
from model_helpers import compiled, perturbed, random_variables

from air_jax import AiR
from air_jax.models import PyramidAiR
from air_jax.models.layers import attention

MODELS = {
    "air": (AiR, {}),
    "air, recursive": (AiR, dict(encoder_depth=2, decoder_depth=2, recursive=True)),
    "pyramid": (
        PyramidAiR,
        dict(stride=(4,), patch_size=(12,), spacing=(4,), num_steps=(2,), width=8, num_heads=2, feed_forward=8),
    ),
}


@functools.cache
def start(name):
    """A model, random parameters and a pair of images."""
    kind, options = MODELS[name]
    model = kind(**options)
    fixed, moving = np.random.default_rng(0).random((2, 2, 28, 28, 1), dtype=np.float32)
    return model, random_variables(model, fixed, moving), fixed, moving


@functools.cache
def values_and_gradients(model, name):
    """The displacement, `out`, and the gradient of the sum of squared displacements by the parameters."""
    _, variables, fixed, moving = start(name)

    def loss(variables):
        displacement, out = model.apply(variables, fixed, moving)
        return jnp.sum(displacement**2), (displacement, out)

    (_, (displacement, out)), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(variables)
    return displacement, out, gradient


def assert_gradients_agree(found, expected):
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4 * largest), found, expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_remat_keeps_parameters_displacement_and_gradients(name):
    model, _, fixed, moving = start(name)
    remat = model.clone(remat=True)

    shapes = [jax.eval_shape(m.init, jax.random.key(0), fixed, moving) for m in (model, remat)]
    assert shapes[0] == shapes[1]
    (expected, _, expected_gradient), (found, _, gradient) = (values_and_gradients(m, name) for m in (model, remat))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert_gradients_agree(gradient, expected_gradient)


@pytest.mark.slow
def test_remat_recomputes_the_attention_of_each_block():
    model, variables, fixed, moving = start("air")

    def exponentials(model):
        jaxpr = jax.make_jaxpr(jax.grad(lambda v: jnp.sum(model.apply(v, fixed, moving)[0])))(variables)
        return str(jaxpr).count(" exp ")

    # A block with one attention and one with two; plain blocks need no exponentials in the backward pass.
    assert exponentials(model) == 3
    assert exponentials(model.clone(remat=True)) > 3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["air", "pyramid"])
def test_flash_attention_computes_the_same(name, monkeypatch):
    """XLA's attention replaces that of cuDNN, which needs a GPU."""
    model, variables, fixed, moving = start(name)
    expected, out = compiled(model)(variables, fixed, moving)
    assert out["decoder"]["block_0"]["cross_attention"].ndim == 4
    asked, real = [], jax.nn.dot_product_attention

    def stand_in(*arguments, implementation):
        asked.append(implementation)
        return real(*arguments, implementation="xla")

    monkeypatch.setattr(jax.nn, "dot_product_attention", stand_in)
    monkeypatch.setattr(attention, "can_use_cudnn", lambda *_: True)
    displacement, out = jax.jit(model.clone(flash_attention=True).apply)(variables, fixed, moving)
    assert set(asked) == {"cudnn"}
    assert out["decoder"]["block_0"] == {}
    np.testing.assert_allclose(displacement, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "dtype", "has_bias", "platform", "expected"),
    [
        ((2, 48, 4, 16), jnp.bfloat16, True, "gpu", True),
        ((2, 49, 4, 16), jnp.bfloat16, False, "gpu", True),
        ((2, 49, 4, 16), jnp.bfloat16, True, "gpu", False),  # odd numbers of tokens, in training with a bias
        ((2, 48, 4, 4), jnp.bfloat16, False, "gpu", False),
        ((2, 48, 4, 256), jnp.bfloat16, False, "gpu", False),
        ((2, 48, 4, 16), jnp.float32, False, "gpu", False),
        ((2, 48, 4, 16), jnp.bfloat16, False, "cpu", False),
    ],
)
def test_cudnn_is_used_where_it_is_supported(shape, dtype, has_bias, platform, expected, monkeypatch):
    monkeypatch.setattr(attention, "get_backend", lambda: SimpleNamespace(platform_version="PJRT C API\ncuda 13000"))
    query = jnp.zeros(shape, dtype)
    assert attention.can_use_cudnn(query, query, has_bias, platform) == expected
    monkeypatch.setattr(attention, "get_backend", lambda: SimpleNamespace(platform_version="rocm 60300"))
    assert not attention.can_use_cudnn(query, query, has_bias, platform)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["air", "pyramid"])
@pytest.mark.parametrize("chunk_size", [3, 100])
def test_elsewhere_flash_attention_works_in_chunks_and_computes_the_same(name, chunk_size, monkeypatch):
    model = start(name)[0]
    expected, _, expected_gradient = values_and_gradients(model, name)
    monkeypatch.setattr(attention, "CHUNK_SIZE", chunk_size)
    # Not from the cache, which has no entry for the size of chunks.
    found, out, gradient = values_and_gradients.__wrapped__(model.clone(flash_attention=True), name)
    assert out["decoder"]["block_0"] == {}
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert_gradients_agree(gradient, expected_gradient)


@pytest.mark.real_compiler
def test_chunks_need_less_memory_than_all_weights():
    tokens, heads, head_size = 16 * attention.CHUNK_SIZE, 2, 8
    query = jnp.zeros((1, tokens, heads, head_size))
    loss = jax.jit(jax.grad(lambda q, k, v: jnp.sum(attention.chunked_attention(q, k, v)), (0, 1, 2)))
    needed = loss.lower(query, query, query).compile(REAL_KERNELS).memory_analysis().temp_size_in_bytes
    all_weights = 4 * heads * tokens**2  # bytes; a plain gradient needs several such arrays
    assert needed < all_weights / 2


@pytest.mark.slow
@pytest.mark.skipif(jax.__version_info__ < (0, 11), reason="small attention is not used before jax 0.11")
def test_small_attention_with_a_bias_computes_the_same_in_a_model(monkeypatch):
    model = PyramidAiR(
        stride=(7,), patch_size=(7,), spacing=(7,), num_steps=(2,), width=16, feed_forward=8, self_attention=True
    )
    fixed, moving = np.random.default_rng(0).random((2, 16, 28, 28, 1), dtype=np.float32)
    variables = jax.jit(model.init)(jax.random.key(0), fixed, moving)
    variables = perturbed(variables, 0.05)

    def compute():
        return jax.jit(jax.value_and_grad(lambda v: jnp.sum(model.apply(v, fixed, moving)[0] ** 2)))(variables)

    used, real = [], attention.small_attention
    monkeypatch.setattr(attention, "small_attention", lambda *a: used.append(a[3] is not None) or real(*a))
    value, gradient = compute()
    assert used
    assert all(used)
    monkeypatch.setattr(attention, "suits_small_attention", lambda *_: False)
    expected, expected_gradient = compute()
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    assert_gradients_agree(gradient, expected_gradient)
