import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from air_jax import AiR, warp
from air_jax.models import MODELS, UNet
from air_jax.models.layers.attention import MultiHeadAttention
from air_jax.models.layers.heads import HEADS
from air_jax.models.layers.inputs import pad_to_multiple
from air_jax.models.layers.patches import patchify, unpatchify
from air_jax.models.layers.positions import position_table
from air_jax.models.layers.transformer import Block
from air_jax.transforms import exponential

# Parameters of each head of the paper's model on 28 x 28 images (sixteen 7 x 7 patches, feed-forward 64), counted by
# hand: projection 49*16+16, positions 16*16, encoder 4*(16*16+16) + 16*64+64+64*16+16 + 2*32, decoder the same +
# 4*(16*16+16) + 32, head 16*2+2 or 16*98+98.
GOLDEN_PARAMETERS = {"control_grid": 8_770, "bspline": 8_770, "dense": 10_402}

# Parameters of each model with its defaults on 28 x 28 images, counted by hand.
GOLDEN_MODELS = {
    "air": 8_770,
    # Three levels: embedding 144*64+64, positions 49*64, encoder 2 norms 2*128 and feed-forward 64*128+128 + 128*64+64,
    # decoder the same + norm 128, attention 4*(64*64+64) and bias 4*13*13. Heads with 1, 4 and 16 vectors: 65 * 2 each.
    "pyramid_air": 3 * (9_280 + 3_136 + 16_832 + 16_832 + 128 + 16_640 + 676) + 130 * (1 + 4 + 16),
    # Convolutions 3 x 3: 2-16, 16-32, 3 times 32-32, 3 times 64-32, 48-32, 32-16, 16-16, 16-2.
    "unet": 304 + 4_640 + 3 * 9_248 + 3 * 18_464 + 13_856 + 4_624 + 2_320 + 290,
    # Convolutions 3 x 3: 2-32, 3 times 32-32; 1 x 1: 2 times 32-32, 32-2.
    "dlir": 608 + 3 * 9_248 + 2 * 1_056 + 66,
}


class Head(nn.Module):
    """A head on its own: the functions in HEADS are called inside a module's compact method."""

    name_of_head: str
    patch_size: tuple[int, ...]

    @nn.compact
    def __call__(self, tokens):
        return HEADS[self.name_of_head](tokens, self.patch_size)


def init(model, shape, channels=1, batch=2):
    """Parameters with a head that no longer is zero, and a pair of images."""
    fixed, moving = np.random.default_rng(0).random((2, batch, *shape, channels), dtype=np.float32)
    variables = jax.jit(model.init)(jax.random.key(0), fixed, moving)
    kernel = variables["params"]["head"]["kernel"]
    variables["params"]["head"]["kernel"] = jax.random.normal(jax.random.key(1), kernel.shape)
    return variables, fixed, moving


def count(variables):
    return sum(leaf.size for leaf in jax.tree.leaves(variables))


@pytest.mark.parametrize("head", HEADS)
def test_golden_parameter_count(head):
    assert head in GOLDEN_PARAMETERS, f"a new head needs its golden parameter count here: {head}"
    assert count(init(AiR(head=head), (28, 28))[0]) == GOLDEN_PARAMETERS[head]


@pytest.mark.parametrize("name", MODELS)
def test_every_model_has_a_golden_parameter_count(name):
    assert name in GOLDEN_MODELS, "a new model needs its golden parameter count in this file"
    image = jnp.zeros((1, 28, 28, 1))
    shapes = jax.eval_shape(MODELS[name]().init, jax.random.key(0), image, image)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == GOLDEN_MODELS[name]


# Options that make a model quick to compile.
SMALL = {
    "pyramid_air": {"width": 16, "feed_forward": 16, "num_steps": (1, 2, 1)},
    "unet": {"encoder": (4, 4), "decoder": (4, 4), "final": (4,)},
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("shape", [(28, 28), (18, 29), (9, 12, 10)])
def test_every_model_keeps_the_contract(name, shape):
    model = MODELS[name](**SMALL.get(name, {}))
    fixed, moving = np.random.default_rng(0).random((2, 2, *shape, 1), dtype=np.float32)
    variables = jax.jit(model.init)(jax.random.key(0), fixed, moving)
    apply = jax.jit(model.apply)
    start, out = apply(variables, fixed, moving)
    assert start.shape == (2, *shape, len(shape))
    assert start.dtype == jnp.float32
    assert isinstance(out, dict)
    assert np.abs(start).max() < 1e-2, "training starts from the identity"
    # With other parameters the displacement depends on both images, and pairs do not see each other.
    variables = jax.tree.map(lambda leaf: leaf + 0.05 * jax.random.normal(jax.random.key(1), leaf.shape), variables)
    moved = apply(variables, fixed, moving)[0]
    for changed in (apply(variables, 1 - fixed, moving)[0], apply(variables, fixed, 1 - moving)[0]):
        assert np.abs(changed - moved).max() > 1e-4
    other = apply(variables, np.concatenate([fixed[:1], moving[:1]]), np.concatenate([moving[:1], fixed[:1]]))[0]
    np.testing.assert_allclose(other[:1], moved[:1], atol=2e-4)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(
    ("shape", "patch_size", "channels"),
    [((28, 28), 4, 1), ((30, 17), 7, 1), ((21, 28), (7, 4), 3), ((8, 12, 16), 4, 1), ((9, 7, 10), (4, 3, 5), 2)],
)
def test_any_size_in_2d_and_3d(head, shape, patch_size, channels):
    variables, fixed, moving = init(AiR(head=head, patch_size=patch_size), shape, channels)
    displacement, _ = AiR(head=head, patch_size=patch_size).apply(variables, fixed, moving)
    assert displacement.shape == (2, *shape, len(shape))
    assert np.isfinite(np.asarray(warp(moving, displacement))).all()


@pytest.mark.parametrize(("shape", "patch_size"), [((6, 8), (2, 4)), ((4, 6, 6), (2, 3, 2))])
def test_patches_hold_the_pixels_they_should_and_go_back(shape, patch_size):
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


def test_control_grid_passes_constant_and_linear_fields():
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


def test_block_is_post_norm():
    x = np.random.default_rng(0).standard_normal((2, 5, 8)).astype(np.float32)
    block = Block(num_heads=2, head_size=4, feed_forward=16)
    y = np.asarray(block.apply(block.init(jax.random.key(0), x), x)[0])
    # What leaves a post-norm block has been normalised last.
    np.testing.assert_allclose(y.mean(axis=-1), 0, atol=1e-5)
    np.testing.assert_allclose(y.std(axis=-1), 1, atol=1e-2)


def test_the_encoder_reads_the_fixed_image_and_the_decoder_the_moving_one():
    variables, fixed, moving = init(AiR(), (28, 28))
    other = np.ascontiguousarray(fixed[:, ::-1])
    _, out = AiR().apply(variables, fixed, moving)
    _, other_moving = AiR().apply(variables, fixed, other)
    _, other_fixed = AiR().apply(variables, other, moving)
    np.testing.assert_array_equal(out["memory"], other_moving["memory"])
    assert not np.allclose(out["memory"], other_fixed["memory"])

    def first(out):
        return np.asarray(out["decoder"]["block_0"]["self_attention"])

    np.testing.assert_array_equal(first(out), first(other_fixed))
    assert not np.allclose(first(out), first(other_moving))


def test_attention_weights_are_given_for_plotting():
    model = AiR(encoder_depth=2, decoder_depth=3)
    variables, fixed, moving = init(model, (28, 21))
    _, out = model.apply(variables, fixed, moving)
    assert out["token_grid"] == (4, 3)
    assert set(out["encoder"]) == {"block_0", "block_1"}
    assert set(out["decoder"]) == {"block_0", "block_1", "block_2"}
    for weights in jax.tree.leaves((out["encoder"], out["decoder"])):
        assert weights.shape == (2, 4, 12, 12)
        np.testing.assert_allclose(np.asarray(weights).sum(axis=-1), 1, rtol=1e-5)


def test_recursive_blocks_share_one_set_of_weights():
    once = count(init(AiR(), (28, 28))[0])
    assert count(init(AiR(encoder_depth=3, decoder_depth=3, recursive=True), (28, 28))[0]) == once
    assert count(init(AiR(encoder_depth=3, decoder_depth=3), (28, 28))[0]) == once + 2 * (3_280 + 4_400)


def test_head_size_sets_the_size_of_each_head():
    variables, _, _ = init(AiR(head_size=8), (28, 28))
    assert variables["params"]["encoder"]["block_0"]["self_attention"]["query"]["kernel"].shape == (16, 4, 8)


def test_bfloat16_computation_keeps_float32_parameters_and_displacement():
    model = AiR(dtype="bfloat16")
    variables, fixed, moving = init(model, (28, 28))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    displacement, out = model.apply(variables, fixed, moving)
    assert displacement.dtype == jnp.float32
    assert out["tokens"].dtype == jnp.bfloat16
    reference, _ = AiR().apply(variables, fixed, moving)
    np.testing.assert_allclose(displacement, reference, atol=0.1)


@pytest.mark.parametrize(("trained", "given"), [((28, 28), (35, 30)), ((8, 8, 8), (8, 12, 10))])
def test_position_table_is_interpolated_to_another_size(trained, given):
    patch_size = 7 if len(trained) == 2 else 4
    model = AiR(patch_size=patch_size)
    variables, _, _ = init(model, trained)
    rng = np.random.default_rng(0)
    fixed, moving = rng.random((2, 1, *given, 1), dtype=np.float32)
    displacement, _ = model.apply(variables, fixed, moving)
    assert displacement.shape == (1, *given, len(given))


def test_interpolated_position_table_of_a_linear_table_is_linear():
    model = AiR(patch_size=2, width=4)
    variables, _, _ = init(model, (8, 8))
    table = jnp.broadcast_to(jnp.arange(4.0)[:, None, None], (4, 4, 4))
    positions, _ = model.apply(
        {"params": {**variables["params"], "position": table}},
        (8, 4),
        method=lambda module, grid: (position_table(module, grid, 4), 0),
    )
    # Twice the patches: new centres at (i + 0.5) / 2 - 0.5 of the old ones; constant beyond the first and last.
    np.testing.assert_allclose(positions[0, :, 0, 0], np.clip((np.arange(8) + 0.5) / 2 - 0.5, 0, 3), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "shapes", "message"),
    [
        ({}, ((1, 28, 28, 1), (1, 28, 27, 1)), "must be the same"),
        ({}, ((28, 28), (28, 28)), r"must be \[B, H, W, C\]"),
        ({"head": "spline"}, ((1, 28, 28, 1),) * 2, "head is 'spline'"),
        ({"patch_size": (4, 4, 4)}, ((1, 28, 28, 1),) * 2, "patch_size"),
        ({"num_heads": 3}, ((1, 28, 28, 1),) * 2, "not a multiple of num_heads"),
    ],
)
def test_mistakes_are_told_in_one_line(options, shapes, message):
    with pytest.raises(ValueError, match=message):
        AiR(**options).init(jax.random.key(0), *map(np.zeros, shapes))


def test_another_number_of_axes_is_refused():
    variables, _, _ = init(AiR(), (28, 28))
    with pytest.raises(ValueError, match="trained on 2-D images, given 3-D"):
        AiR().apply(variables, *np.zeros((2, 1, 7, 7, 7, 1)))


def test_another_number_of_channels_is_refused():
    variables, _, _ = init(AiR(), (28, 28))
    with pytest.raises(Exception, match="kernel"):
        AiR().apply(variables, *np.zeros((2, 1, 28, 28, 3)))


def test_dropout_needs_a_stream_and_changes_the_output():
    variables, fixed, moving = init(AiR(dropout=0.5), (28, 28))

    def apply(seed):
        rngs = {"dropout": jax.random.key(seed)}
        return AiR(dropout=0.5).apply(variables, fixed, moving, deterministic=False, rngs=rngs)[0]

    assert not np.allclose(apply(0), apply(1))
    np.testing.assert_array_equal(apply(0), apply(0))


@pytest.mark.parametrize("head", HEADS)
def test_training_starts_from_the_identity(head):
    model = AiR(head=head)
    fixed, moving = np.random.default_rng(0).random((2, 1, 28, 28, 1), dtype=np.float32)
    displacement, _ = model.apply(model.init(jax.random.key(0), fixed, moving), fixed, moving)
    np.testing.assert_array_equal(displacement, 0)


@pytest.mark.parametrize("model", [AiR(integration_steps=5), UNet(integration_steps=5, **SMALL["unet"])])
def test_velocities_are_exponentiated(model):
    fixed, moving = np.random.default_rng(0).random((2, 2, 28, 28, 1), dtype=np.float32)
    variables = model.init(jax.random.key(0), fixed, moving)
    head = variables["params"]["head"]["kernel"]
    variables["params"]["head"]["kernel"] = 0.5 * jax.random.normal(jax.random.key(1), head.shape)
    displacement, out = model.apply(variables, fixed, moving)
    np.testing.assert_allclose(displacement, exponential(out["velocity"], integration_steps=5), atol=1e-5)
    assert np.abs(displacement - out["velocity"]).max() > 1e-3


@pytest.mark.parametrize("batch", [1, 16])  # few pairs and many are computed in different ways, see small_attention
def test_vmap_forward_mode_and_reverse_mode_agree(batch):
    model = AiR()
    images = np.random.default_rng(0).random((2, 3, batch, 28, 28, 1), dtype=np.float32)
    variables = jax.jit(model.init)(jax.random.key(0), *images[:, 0])
    head = 0.1 * jax.random.normal(jax.random.key(1), variables["params"]["head"]["kernel"].shape)
    variables = {"params": {**variables["params"], "head": {**variables["params"]["head"], "kernel": head}}}

    def predict(variables, fixed, moving):
        return model.apply(variables, fixed, moving)[0]

    mapped = jax.jit(jax.vmap(predict, (None, 0, 0)))(variables, *images)
    for index in range(3):
        np.testing.assert_allclose(mapped[index], predict(variables, *images[:, index]), atol=1e-5)

    arguments = (variables, *images[:, 0])
    tangents = jax.tree.map(lambda leaf: jax.random.normal(jax.random.key(2), leaf.shape), arguments)
    displacement, pushed = jax.jit(lambda a, t: jax.jvp(predict, a, t))(arguments, tangents)
    cotangent = jax.random.normal(jax.random.key(3), displacement.shape)
    pulled = jax.jit(lambda a, ct: jax.vjp(predict, *a)[1](ct))(arguments, cotangent)
    products = jax.tree.map(lambda a, b: jnp.sum(a * b), tangents, pulled)
    expected = jnp.sum(pushed * cotangent)
    assert abs(expected) > 1
    np.testing.assert_allclose(sum(jax.tree.leaves(products)), expected, rtol=1e-3)
