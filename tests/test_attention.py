"""Flash attention and rematerialisation change memory and time, not what is computed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from air_jax import AiR
from air_jax.models import PyramidAiR, attention
from air_jax.models.attention import can_use_flash_attention

MODELS = {
    "air": (AiR, dict(encoder_depth=2, decoder_depth=2)),
    "air, recursive": (AiR, dict(encoder_depth=2, decoder_depth=2, recursive=True)),
    "pyramid": (PyramidAiR, dict(width=16, feed_forward=16, num_steps=(1, 2, 1))),
}


def start(name, **options):
    kind, own = MODELS[name]
    model = kind(**own, **options)
    fixed, moving = np.random.default_rng(0).random((2, 2, 28, 28, 1), dtype=np.float32)
    variables = jax.jit(model.init)(jax.random.key(0), fixed, moving)
    variables = jax.tree.map(lambda leaf: leaf + 0.05 * jax.random.normal(jax.random.key(1), leaf.shape), variables)
    return model, variables, fixed, moving


@pytest.mark.parametrize("name", MODELS)
def test_remat_keeps_parameters_displacement_and_gradients(name):
    model, variables, fixed, moving = start(name)
    remat = model.clone(remat=True)

    def loss(model, variables):
        return jnp.sum(model.apply(variables, fixed, moving)[0] ** 2)

    shapes = [jax.eval_shape(m.init, jax.random.key(0), fixed, moving) for m in (model, remat)]
    assert shapes[0] == shapes[1]
    (value, gradient), (other_value, other_gradient) = (
        jax.jit(jax.value_and_grad(lambda variables, m=m: loss(m, variables)))(variables) for m in (model, remat)
    )
    np.testing.assert_allclose(value, other_value, rtol=1e-5)
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(gradient))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4 * largest), gradient, other_gradient)


def test_remat_recomputes_the_attention_of_each_block():
    model, variables, fixed, moving = start("air")

    def exponentials(model):
        jaxpr = jax.make_jaxpr(jax.grad(lambda v: jnp.sum(model.apply(v, fixed, moving)[0])))(variables)
        return str(jaxpr).count(" exp ")

    # Two blocks with one attention and two with two; the backward pass of plain blocks needs no new exponentials.
    assert exponentials(model) == 6
    assert exponentials(model.clone(remat=True)) > 6


@pytest.mark.parametrize("name", ["air", "pyramid"])
def test_flash_attention_computes_the_same(name, monkeypatch):
    """With XLA's attention in cuDNN's place, which needs a GPU."""
    model, variables, fixed, moving = start(name)
    expected, out = model.apply(variables, fixed, moving)
    assert out["decoder"]["block_0"]["cross_attention"].ndim == 4
    asked, real = [], jax.nn.dot_product_attention

    def stand_in(*arguments, implementation):
        asked.append(implementation)
        return real(*arguments, implementation="xla")

    monkeypatch.setattr(jax.nn, "dot_product_attention", stand_in)
    monkeypatch.setattr(attention, "can_use_flash_attention", lambda *_: True)
    displacement, out = model.clone(flash_attention=True).apply(variables, fixed, moving)
    assert set(asked) == {"cudnn"}
    assert out["decoder"]["block_0"] == {}
    np.testing.assert_allclose(displacement, expected, atol=1e-4)


def test_cudnn_where_it_can():
    assert can_use_flash_attention(16, jnp.bfloat16, "gpu")
    assert not can_use_flash_attention(4, jnp.bfloat16, "gpu")
    assert not can_use_flash_attention(16, jnp.float32, "gpu")
    assert not can_use_flash_attention(16, jnp.bfloat16, "cpu")


@pytest.mark.parametrize("name", ["air", "pyramid"])
@pytest.mark.parametrize("chunk_size", [3, 100])
def test_elsewhere_flash_attention_goes_by_chunks_and_computes_the_same(name, chunk_size, monkeypatch):
    model, variables, fixed, moving = start(name)
    monkeypatch.setattr(attention, "CHUNK_SIZE", chunk_size)

    def value_and_out(variables, model):
        displacement, out = model.apply(variables, fixed, moving)
        return jnp.sum(displacement**2), (displacement, out)

    (_, (expected, _)), gradient = jax.value_and_grad(value_and_out, has_aux=True)(variables, model)
    (_, (found, out)), found_gradient = jax.value_and_grad(value_and_out, has_aux=True)(
        variables, model.clone(flash_attention=True)
    )
    assert out["decoder"]["block_0"] == {}
    np.testing.assert_allclose(found, expected, atol=1e-4)
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(gradient))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4 * largest), found_gradient, gradient)


def test_chunks_do_without_the_memory_of_all_weights():
    tokens, heads, head_size = 16 * attention.CHUNK_SIZE, 2, 8
    query = jnp.zeros((1, tokens, heads, head_size))
    loss = jax.jit(jax.grad(lambda q, k, v: jnp.sum(attention.chunked_attention(q, k, v)), (0, 1, 2)))
    needed = loss.lower(query, query, query).compile().memory_analysis().temp_size_in_bytes
    all_weights = 4 * heads * tokens**2  # bytes; a plain gradient needs several such arrays
    assert needed < all_weights / 2
