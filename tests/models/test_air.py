"""AiR: heads, sizes, recursion, positions and derivatives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import THOROUGH
from model_helpers import compiled, random_variables

from air_jax import AiR
from air_jax.models.layers.heads import HEADS
from air_jax.models.layers.positions import position_table

# Parameters of each head of the paper's model on 28 x 28 images (sixteen 7 x 7 patches, feed-forward 64), counted by
# hand: projection 49*16+16, positions 16*16, encoder 4*(16*16+16) + 16*64+64+64*16+16 + 2*32, decoder the same +
# 4*(16*16+16) + 32, head 16*2+2 or 16*98+98.
GOLDEN_PARAMETERS = {"control_grid": 8_770, "bspline": 8_770, "dense": 10_402}


@functools.cache
def start(model, shape, channels=1, batch=2):
    """Random parameters and a pair of images."""
    fixed, moving = np.random.default_rng(0).random((2, batch, *shape, channels), dtype=np.float32)
    return random_variables(model, fixed, moving), fixed, moving


def count(model):
    image = jnp.zeros((1, 28, 28, 1))
    return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(model.init, jax.random.key(0), image, image)))


@pytest.mark.parametrize("head", HEADS)
def test_golden_parameter_count_of_each_head(head):
    assert head in GOLDEN_PARAMETERS, f"a new head needs its golden parameter count here: {head}"
    assert count(AiR(head=head)) == GOLDEN_PARAMETERS[head]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("head", "shape", "patch_size", "channels"),
    [
        # Each head in each dimension; sizes that patches divide and others; patches of equal and of unequal sides.
        ("control_grid", (30, 17), 7, 1),
        ("control_grid", (8, 12, 16), 4, 1),
        ("dense", (21, 28), (7, 4), 3),
        ("dense", (9, 7, 10), (4, 3, 5), 2),
        *(pytest.param(head, (28, 28), 4, 1, marks=THOROUGH) for head in HEADS),
        *(pytest.param(head, (21, 28), (7, 4), 3, marks=THOROUGH) for head in HEADS if head != "dense"),
        *(pytest.param(head, (30, 17), 7, 1, marks=THOROUGH) for head in HEADS if head != "control_grid"),
        *(pytest.param(head, (8, 12, 16), 4, 1, marks=THOROUGH) for head in HEADS if head != "control_grid"),
        *(pytest.param(head, (9, 7, 10), (4, 3, 5), 2, marks=THOROUGH) for head in HEADS if head != "dense"),
    ],
)
def test_any_size_in_2d_and_3d(head, shape, patch_size, channels):
    model = AiR(head=head, patch_size=patch_size)
    variables, fixed, moving = start(model, shape, channels)
    displacement, _ = compiled(model)(variables, fixed, moving)
    assert displacement.shape == (2, *shape, len(shape))
    assert np.isfinite(displacement).all()
    assert np.abs(displacement).max() > 1e-3


@pytest.mark.slow
def test_the_encoder_reads_the_fixed_image_and_the_decoder_the_moving_image():
    variables, fixed, moving = start(AiR(), (28, 28))
    other = np.ascontiguousarray(fixed[:, ::-1])
    _, out = compiled(AiR())(variables, fixed, moving)
    _, other_moving = compiled(AiR())(variables, fixed, other)
    _, other_fixed = compiled(AiR())(variables, other, moving)
    np.testing.assert_array_equal(out["memory"], other_moving["memory"])
    assert not np.allclose(out["memory"], other_fixed["memory"])

    def first(out):
        return np.asarray(out["decoder"]["block_0"]["self_attention"])

    np.testing.assert_array_equal(first(out), first(other_fixed))
    assert not np.allclose(first(out), first(other_moving))


@pytest.mark.slow
def test_out_has_the_attention_weights_of_every_block():
    model = AiR(encoder_depth=2, decoder_depth=1)
    variables, fixed, moving = start(model, (28, 21))
    _, out = compiled(model)(variables, fixed, moving)
    assert tuple(map(int, out["token_grid"])) == (4, 3)
    assert tuple(map(int, out["patch_size"])) == (7, 7)
    assert set(out["encoder"]) == {"block_0", "block_1"}
    assert set(out["decoder"]) == {"block_0"}
    for weights in jax.tree.leaves((out["encoder"], out["decoder"])):
        assert weights.shape == (2, 4, 12, 12)
        np.testing.assert_allclose(np.asarray(weights).sum(axis=-1), 1, rtol=1e-5)


@pytest.mark.slow
def test_recursive_blocks_share_one_set_of_weights():
    once = count(AiR())
    assert count(AiR(encoder_depth=3, decoder_depth=3, recursive=True)) == once
    assert count(AiR(encoder_depth=3, decoder_depth=3)) == once + 2 * (3_280 + 4_400)


@pytest.mark.slow
def test_head_size_sets_the_size_of_each_head():
    variables, _, _ = start(AiR(head_size=8), (28, 28))
    assert variables["params"]["encoder"]["block_0"]["self_attention"]["query"]["kernel"].shape == (16, 4, 8)


@pytest.mark.slow
def test_bfloat16_keeps_float32_parameters_and_displacement():
    model = AiR(dtype="bfloat16")
    variables, fixed, moving = start(model, (28, 28))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    displacement, out = compiled(model)(variables, fixed, moving)
    assert displacement.dtype == jnp.float32
    assert out["tokens"].dtype == jnp.bfloat16
    reference, _ = compiled(AiR())(variables, fixed, moving)
    np.testing.assert_allclose(displacement, reference, atol=0.1)


@pytest.mark.slow
@pytest.mark.parametrize(("trained", "given"), [((28, 28), (35, 30)), ((8, 8, 8), (8, 12, 10))])
def test_position_table_is_interpolated_to_another_size(trained, given):
    model = AiR(patch_size=7 if len(trained) == 2 else 4)
    variables, _, _ = start(model, trained)
    fixed, moving = np.random.default_rng(0).random((2, 1, *given, 1), dtype=np.float32)
    displacement, _ = compiled(model)(variables, fixed, moving)
    assert displacement.shape == (1, *given, len(given))


def test_interpolated_position_table_of_a_linear_table_is_linear():
    model = AiR(patch_size=2, width=4)
    table = jnp.broadcast_to(jnp.arange(4.0)[:, None, None], (4, 4, 4))
    positions, _ = model.apply(
        {"params": {"position": table}}, (8, 4), method=lambda module, grid: (position_table(module, grid, 4), 0)
    )
    # Twice the patches: new centres at (i + 0.5) / 2 - 0.5 of the old ones; constant beyond the first and last.
    np.testing.assert_allclose(positions[0, :, 0, 0], np.clip((np.arange(8) + 0.5) / 2 - 0.5, 0, 3), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "shapes", "message"),
    [
        ({}, ((1, 28, 28, 1), (1, 28, 27, 1)), "must be the same"),
        ({}, ((28, 28), (28, 28)), r"must be \[B, H, W, C\]"),
        ({"patch_size": (4, 4, 4)}, ((1, 28, 28, 1),) * 2, "patch_size"),
    ],
)
def test_images_that_do_not_fit_are_refused(options, shapes, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(AiR(**options).init, jax.random.key(0), *map(np.zeros, shapes))


def test_another_number_of_axes_is_refused():
    variables, _, _ = start(AiR(), (28, 28))
    with pytest.raises(ValueError, match="trained on 2-D images, given 3-D"):
        jax.eval_shape(AiR().apply, variables, *np.zeros((2, 1, 7, 7, 7, 1)))


def test_another_number_of_channels_is_refused():
    variables, _, _ = start(AiR(), (28, 28))
    with pytest.raises(Exception, match="kernel"):
        jax.eval_shape(AiR().apply, variables, *np.zeros((2, 1, 28, 28, 3)))


@pytest.mark.slow
def test_dropout_needs_a_random_stream_and_changes_the_output():
    model = AiR(dropout=0.5)
    variables, fixed, moving = start(model, (28, 28))

    @jax.jit
    def apply(seed):
        rngs = {"dropout": jax.random.key(seed)}
        return model.apply(variables, fixed, moving, deterministic=False, rngs=rngs)[0]

    assert not np.allclose(apply(0), apply(1))
    np.testing.assert_array_equal(apply(0), apply(0))
    with pytest.raises(Exception, match="dropout"):
        jax.eval_shape(lambda: model.apply(variables, fixed, moving, deterministic=False))


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 16])  # small and large batches are computed differently, see small_attention
def test_vmap_forward_mode_and_reverse_mode_agree(batch):
    model = AiR()
    images = np.random.default_rng(0).random((2, 3, batch, 28, 28, 1), dtype=np.float32)
    variables = random_variables(model, *images[:, 0])

    def predict(variables, fixed, moving):
        return model.apply(variables, fixed, moving)[0]

    single = jax.jit(predict)
    mapped = jax.jit(jax.vmap(predict, (None, 0, 0)))(variables, *images)
    for index in range(3):
        np.testing.assert_allclose(mapped[index], single(variables, *images[:, index]), atol=1e-5)

    arguments = (variables, *images[:, 0])
    rng = np.random.default_rng(1)
    tangents = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape, dtype=np.float32), arguments)
    cotangent = rng.standard_normal((batch, 28, 28, 2), dtype=np.float32)

    @jax.jit
    def both(arguments, tangents, cotangent):
        return jax.jvp(predict, arguments, tangents)[1], jax.vjp(predict, *arguments)[1](cotangent)

    pushed, pulled = both(arguments, tangents, cotangent)
    products = jax.tree.map(lambda a, b: np.vdot(a, b), tangents, pulled)
    expected = np.vdot(pushed, cotangent)
    assert abs(expected) > 1
    np.testing.assert_allclose(sum(jax.tree.leaves(products)), expected, rtol=1e-3)
