"""Patches, padding, heads, attention and blocks, against NumPy."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from air_jax.models.layers.attention import MultiHeadAttention, RelativePositionBias
from air_jax.models.layers.heads import HEADS
from air_jax.models.layers.inputs import pad_to_multiple
from air_jax.models.layers.patches import overlapping_patches, patchify, unpatchify
from air_jax.models.layers.transformer import Block


class Head(nn.Module):
    """A module that only has a head: the functions in HEADS are called inside a compact method."""

    name_of_head: str
    patch_size: tuple[int, ...]

    @nn.compact
    def __call__(self, tokens):
        return HEADS[self.name_of_head](tokens, self.patch_size)


@pytest.mark.parametrize(("shape", "patch_size"), [((6, 8), (2, 4)), ((4, 6, 6), (2, 3, 2))])
def test_patches_hold_their_own_pixels_and_can_be_inverted(shape, patch_size):
    image = np.random.default_rng(0).random((2, *shape, 3))
    patches = np.asarray(patchify(jnp.asarray(image), patch_size))
    for token in np.ndindex(patches.shape[1:-1]):
        block = tuple(slice(t * p, (t + 1) * p) for t, p in zip(token, patch_size, strict=True))
        np.testing.assert_array_equal(
            patches[(slice(None), *token)], image[(slice(None), *block)].reshape(2, -1).astype(np.float32)
        )
    np.testing.assert_array_equal(np.asarray(unpatchify(jnp.asarray(patches), patch_size)), image.astype(np.float32))


def test_padding_repeats_the_border_only_where_needed():
    image = np.arange(6, dtype=np.float32).reshape(1, 2, 3, 1)
    padded = np.asarray(pad_to_multiple(jnp.asarray(image), (2, 2)))
    np.testing.assert_array_equal(padded[0, ..., 0], [[0, 1, 2, 2], [3, 4, 5, 5]])


@pytest.mark.parametrize(("shape", "stride", "size"), [((8, 12), (4, 4), (12, 12)), ((4, 6, 6), (2, 3, 2), (6, 9, 2))])
def test_overlapping_patches_hold_the_cell_and_its_neighbours(shape, stride, size):
    image = np.random.default_rng(0).random((2, *shape, 3), dtype=np.float32)
    patches = np.asarray(overlapping_patches(jnp.asarray(image), stride, size))
    margins = [(big - small) // 2 for big, small in zip(size, stride, strict=True)]
    padded = np.pad(image, [(0, 0), *((m, m) for m in margins), (0, 0)], mode="edge")
    for token in np.ndindex(patches.shape[1:-1]):
        window = tuple(slice(t * step, t * step + big) for t, step, big in zip(token, stride, size, strict=True))
        expected = padded[(slice(None), *window)]
        np.testing.assert_array_equal(
            np.sort(patches[(slice(None), *token)], axis=-1), np.sort(expected.reshape(2, -1), axis=-1)
        )
    same = overlapping_patches(jnp.asarray(image), stride, stride)
    np.testing.assert_array_equal(same, patchify(jnp.asarray(image), stride))


def test_patches_that_cannot_be_centred_are_refused():
    with pytest.raises(ValueError, match="odd multiples of their stride"):
        overlapping_patches(jnp.zeros((1, 8, 8, 1)), (4, 4), (8, 12))


def test_control_grid_reproduces_constant_and_linear_fields():
    """A bicubic upsampling reproduces a constant everywhere, and a linear field where no control point is missing."""

    def upsample(vectors):
        identity = {"params": {"head": {"kernel": jnp.eye(2), "bias": jnp.zeros(2)}}}
        return np.asarray(Head("control_grid", (4, 4)).apply(identity, jnp.asarray(vectors, jnp.float32)))

    np.testing.assert_allclose(upsample(np.full((1, 6, 6, 2), 3.0)), 3.0, rtol=1e-5)
    centres = np.arange(6) * 4 + 1.5  # a patch's centre, in pixels
    linear = upsample(np.stack(np.meshgrid(centres, centres, indexing="ij"), axis=-1)[None])
    np.testing.assert_allclose(linear[0, 8:16, 8:16, 0], np.arange(8, 16)[:, None].repeat(8, axis=1), atol=1e-4)
    np.testing.assert_allclose(linear[0, 8:16, 8:16, 1], np.arange(8, 16)[None].repeat(8, axis=0), atol=1e-4)


def test_dense_head_predicts_each_patch_from_its_own_token():
    head = Head("dense", (3, 3))
    tokens = np.zeros((1, 2, 2, 5), np.float32)
    variables = jax.tree.map(lambda leaf: leaf + 1, head.init(jax.random.key(0), tokens))
    changed = tokens.copy()
    changed[0, 1, 0] = 1
    difference = np.array(head.apply(variables, changed) - head.apply(variables, tokens))[0]
    assert (difference[3:, :3] != 0).all()
    difference[3:, :3] = 0
    assert (difference == 0).all()


def test_attention_agrees_with_numpy():
    rng = np.random.default_rng(0)
    x, memory = rng.standard_normal((2, 5, 8)), rng.standard_normal((2, 7, 8))
    module = MultiHeadAttention(num_heads=2, head_size=3)
    variables = module.init(jax.random.key(1), x, memory)
    variables = jax.tree.map(lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape)), variables)
    output, weights = module.apply(variables, x, memory)

    p = jax.tree.map(np.asarray, variables["params"])

    def project(name, y):
        return np.einsum("btf,fhd->bhtd", y, p[name]["kernel"]) + p[name]["bias"][:, None]

    q, k, v = project("query", x), project("key", memory), project("value", memory)
    scores = np.exp(q @ k.swapaxes(-1, -2) / np.sqrt(3))
    expected_weights = scores / scores.sum(axis=-1, keepdims=True)
    expected = np.einsum("bhtd,hdf->btf", expected_weights @ v, p["out"]["kernel"]) + p["out"]["bias"]
    np.testing.assert_allclose(weights, expected_weights, atol=1e-5)
    np.testing.assert_allclose(output, expected, atol=1e-4)


@pytest.mark.slow
def test_block_is_post_norm():
    x = np.random.default_rng(0).standard_normal((2, 5, 8)).astype(np.float32)
    block = Block(num_heads=2, head_size=4, feed_forward=16)
    y = np.asarray(block.apply(block.init(jax.random.key(0), x), x)[0])
    # The last operation of a post-norm block is a normalisation.
    np.testing.assert_allclose(y.mean(axis=-1), 0, atol=1e-5)
    np.testing.assert_allclose(y.std(axis=-1), 1, atol=1e-2)


def test_pre_norm_blocks_normalise_their_input():
    """LayerNorm removes the shift and the scale of the input, so they do not change the update of the attention."""
    block = Block(num_heads=2, head_size=4, feed_forward=16, pre_norm=True)
    x = jax.random.normal(jax.random.key(0), (2, 5, 8))
    variables = block.init(jax.random.key(1), x)
    variables["params"]["FeedForward_0"] = jax.tree.map(jnp.zeros_like, variables["params"]["FeedForward_0"])
    added = block.apply(variables, x)[0] - x
    assert np.abs(added).max() > 0
    np.testing.assert_allclose(block.apply(variables, 3 * x + 7)[0] - (3 * x + 7), added, atol=1e-4)


@pytest.mark.parametrize("token_grid", [(4, 5), (2, 3, 4)])
def test_relative_position_bias_depends_only_on_the_offset(token_grid):
    module = RelativePositionBias(num_heads=3, radius=2)
    variables = module.init(jax.random.key(0), token_grid)
    table = variables["params"]["table"]
    assert np.asarray(table[-1]).max() == 0
    centre = (slice(None), *(2,) * len(token_grid))
    np.testing.assert_array_equal(table[centre], np.zeros(3))
    variables["params"]["table"] = jax.random.normal(jax.random.key(1), table.shape)
    bias = np.asarray(module.apply(variables, token_grid))
    places = list(np.ndindex(token_grid))
    for i, query in enumerate(places):
        for j, key in enumerate(places):
            offset = np.clip(np.subtract(key, query), -2, 2) + 2
            np.testing.assert_array_equal(bias[:, i, j], variables["params"]["table"][(slice(None), *offset)])


def test_bias_is_added_to_the_logits():
    rng = np.random.default_rng(0)
    x, memory = rng.standard_normal((2, 5, 8)), rng.standard_normal((2, 7, 8))
    module = MultiHeadAttention(num_heads=2, head_size=3)
    variables = module.init(jax.random.key(1), x, memory)
    only_key_3 = np.full((2, 5, 7), -1e9)
    only_key_3[:, :, 3] = 0
    _, weights = module.apply(variables, x, memory, jnp.asarray(only_key_3, jnp.float32))
    np.testing.assert_allclose(weights, np.broadcast_to(np.eye(7)[3], weights.shape), atol=1e-6)
