"""AiR from coarse to fine: overlapping patches, relative positions, pre-norm blocks, composed steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from air_jax import warp
from air_jax.models import PyramidAiR
from air_jax.models.layers.attention import MultiHeadAttention, RelativePositionBias
from air_jax.models.layers.patches import overlapping_patches, patchify
from air_jax.models.layers.transformer import Block
from air_jax.transforms import compose, jacobian_determinant


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


@pytest.mark.parametrize("token_grid", [(4, 5), (2, 3, 4)])
def test_relative_position_bias_depends_on_the_offset_alone(token_grid):
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


def pyramid(shape, **options):
    """A small pyramid with a head that no longer is zero, and a pair of images."""
    model = PyramidAiR(stride=(4, 4), patch_size=(4, 12), spacing=(4, 1), num_steps=(1, 2), width=16, **options)
    fixed, moving = np.random.default_rng(0).random((2, 2, *shape, 1), dtype=np.float32)
    variables = jax.jit(model.init)(jax.random.key(0), fixed, moving)
    for level in variables["params"].values():
        level["head"]["kernel"] = 10 * jax.random.normal(jax.random.key(1), level["head"]["kernel"].shape)
    return model, variables, fixed, moving


@pytest.mark.parametrize("shape", [(28, 28), (8, 9, 7)])
def test_pyramid_folds_hardly_whatever_its_parameters(shape):
    model, variables, fixed, moving = pyramid(shape)
    displacement, out = jax.jit(model.apply)(variables, fixed, moving)
    assert np.abs(displacement).max() > 1
    assert len(out["displacements"]) == 2
    np.testing.assert_array_equal(out["displacements"][-1], displacement)
    # The first level is one B-spline within Choi & Lee's bound.
    assert float(jacobian_determinant(out["displacements"][0]).min()) > 0
    assert float(np.mean(jacobian_determinant(displacement) <= 0)) < 0.02


def test_pyramid_warps_the_moving_image_between_its_steps():
    """Once the moving image is what the fixed image is, another step sees the same two images again."""
    _, variables, fixed, moving = pyramid((28, 28))
    one_level = PyramidAiR(stride=(4,), patch_size=(4,), spacing=(4,), num_steps=(1,), width=16)
    two_steps = PyramidAiR(stride=(4,), patch_size=(4,), spacing=(4,), num_steps=(2,), width=16)
    variables = {"params": {"level_0": variables["params"]["level_0"]}}
    first = one_level.apply(variables, fixed, moving)[0]
    second = one_level.apply(variables, fixed, warp(moving, first))[0]
    np.testing.assert_allclose(two_steps.apply(variables, fixed, moving)[0], compose(first, second), atol=1e-4)


def test_pyramid_takes_other_sizes_than_it_was_initialised_with():
    model, variables, _, _ = pyramid((28, 28))
    fixed, moving = np.random.default_rng(0).random((2, 1, 33, 21, 1), dtype=np.float32)
    assert model.apply(variables, fixed, moving)[0].shape == (1, 33, 21, 2)


def test_pyramid_mistakes_are_told_in_one_line():
    images = np.zeros((2, 1, 28, 28, 1), np.float32)
    with pytest.raises(ValueError, match="must divide its stride"):
        PyramidAiR(stride=(4,), patch_size=(4,), spacing=(3,), num_steps=(1,)).init(jax.random.key(0), *images)


def test_pre_norm_blocks_normalise_what_they_read():
    """LayerNorm takes shift and scale away from what the attention reads, so they do not change what it adds."""
    block = Block(num_heads=2, head_size=4, feed_forward=16, pre_norm=True)
    x = jax.random.normal(jax.random.key(0), (2, 5, 8))
    variables = block.init(jax.random.key(1), x)
    variables["params"]["FeedForward_0"] = jax.tree.map(jnp.zeros_like, variables["params"]["FeedForward_0"])
    added = block.apply(variables, x)[0] - x
    assert np.abs(added).max() > 0
    np.testing.assert_allclose(block.apply(variables, 3 * x + 7)[0] - (3 * x + 7), added, atol=1e-4)
