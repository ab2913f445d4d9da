"""Every registered model: its parameters, its contract, its checks of options."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import THOROUGH
from model_helpers import compiled, perturbed, random_variables

from air_jax.errors import OptionError
from air_jax.models import MODELS, SEGMENTERS, AiR, Segmenter, UNet
from air_jax.transforms import exponential

# Parameters of each model with its defaults on 28 x 28 images, counted by hand.
# PyramidAiR, three levels: embedding 144*64+64, positions 49*64, encoder with 2 norms 2*128 and feed-forward
# 64*128+128 + 128*64+64, decoder the same + norm 128, attention 4*(64*64+64) and bias 4*13*13. Heads with 1, 4 and 16
# vectors: 65*2 each.
PYRAMID = 3 * (9_280 + 3_136 + 16_832 + 16_832 + 128 + 16_640 + 676) + 130 * (1 + 4 + 16)
GOLDEN_PARAMETERS = {
    "air": 8_770,
    "pyramid_air": PYRAMID,
    # MatchingAiR, three levels: embedding 36*32+32 twice and 144*32+32 once, hidden and feed-forward 2*(32*32+32),
    # mixing of 5 tokens 5*32*32, temperature 2, bias 2*25, gate of 32 features and 2 entropies 34*2+2.
    "matching_air": 2 * 1_184 + 4_640 + 3 * (2_112 + 5_120 + 2 + 50 + 70),
    # MatchingUNet contains the segmenter below without its head. Projections: 128 and 64 features to 32, 24 to 16, and
    # 24 to the 4 voxels of a patch with 8 each. Four times temperature 1 and bias 9. Gates: features, one entropy.
    "matching_unet": 396_736 + 4_128 + 2_080 + 400 + 800 + 4 * (1 + 9) + 2 * (33 + 1) + 17 + 1 + 9 + 1,
    # Convolutions 3 x 3: 2-16, 16-32, 3 times 32-32, 3 times 64-32, 48-32, 32-16, 16-16, 16-2.
    "unet": 304 + 4_640 + 3 * 9_248 + 3 * 18_464 + 13_856 + 4_624 + 2_320 + 290,
    # Convolutions 3 x 3: 2-32, 3 times 32-32; 1 x 1: 2 times 32-32, 32-2.
    "dlir": 608 + 3 * 9_248 + 2 * 1_056 + 66,
    "unrolled_demons": 0,
    # Three levels: embedding twice as above and once 64*64+64, positions (4+16+16)*64, Transformers as above with bias
    # 4*9*9, force embedding twice 4*4*2*64 and once 8*8*2*64, heads with 1 vector and 2 gates: 65*4 each.
    "gated_demons": 2 * 9_280 + 4_160 + 2_304 + 3 * (2 * 16_832 + 128 + 16_640 + 324) + 2 * 2_048 + 8_192 + 3 * 260,
    # With 2 classes. Pairs of 1-D convolutions a-b and b-b, 3*a*b + 3*b*b, and norms 2*b: 4-24, 24-64, 64-128, 128-128,
    # 256-128, 192-64, 88-24. Head: 24*8+8.
    "segmenter": 2_064 + 17_024 + 73_984 + 98_560 + 147_712 + 49_280 + 8_112 + 200,
}
# Options that make a model quick to compile.
ATTENTION = dict(
    stride=(4, 4),
    patch_size=(12, 4),
    spacing=(4, 2),
    num_steps=(1, 1),
    downsampling=(2, 1),
    width=8,
    num_heads=2,
    feed_forward=8,
)
MATCHING = dict(
    downsampling=(2, 1),
    stride=(2, 4),
    patch_size=(6, 4),
    num_steps=(1, 1),
    radius=(2, 1),
    width=8,
    num_heads=2,
    feed_forward=8,
)
SMALL = {
    "air": dict(width=8, num_heads=2, feed_forward=8),
    "matching_air": MATCHING,
    "matching_unet": dict(features=(4, 4), num_steps=(1, 1, 1), radius=(1, 1, 1), width=(4, 4, 4), num_heads=2),
    "dlir": dict(width=4),
    "pyramid_air": ATTENTION,
    "unet": dict(encoder=(4, 4), decoder=(4, 4), final=(4,)),
    "unrolled_demons": dict(downsampling=(2, 1), num_steps=(1, 1)),
    "gated_demons": ATTENTION,
}
MOVE_UNTRAINED = {
    "unrolled_demons",
    "gated_demons",
    "matching_air",
    "matching_unet",
}  # all others start from the identity


def _initial(model, fixed, moving):
    return jax.jit(model.init)(jax.random.key(0), fixed, moving)


@functools.cache
def small(name):
    return MODELS[name](**SMALL.get(name, {}))


def shapes_of(model, *images):
    return jax.eval_shape(model.init, jax.random.key(0), *images).get("params", {})


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS | SEGMENTERS)
def test_golden_parameter_count_of_each_model(name):
    assert name in GOLDEN_PARAMETERS, f"a new model needs its golden parameter count here: {name}"
    image = jnp.zeros((1, 28, 28, 1))
    params = shapes_of(MODELS[name](), image, image) if name in MODELS else shapes_of(SEGMENTERS[name](2), image)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == GOLDEN_PARAMETERS[name]


@pytest.mark.slow
def test_parameter_names_are_those_of_saved_runs():
    image = jnp.zeros((1, 16, 16, 1))
    level = {"patch_embedding", "position", "encoder", "decoder", "head"}
    params = shapes_of(small("pyramid_air"), image, image)
    assert {name: set(level) for name, level in params.items()} == {"level_0": level, "level_1": level}
    assert set(params["level_0"]["decoder"]["block_0"]) == {
        "cross_attention",
        "cross_attention_bias",
        "LayerNorm_0",
        "LayerNorm_1",
        "FeedForward_0",
    }
    params = shapes_of(MODELS["gated_demons"](**ATTENTION, segmenter=Segmenter(3)), image, image)
    assert set(params) == {"level_0", "level_1", "segmenter"}
    assert set(params["level_1"]) == level | {"force_embedding"}
    assert params["segmenter"] == shapes_of(Segmenter(3), image)
    of_unet = {f"{kind}_{i}" for kind, count in (("Dense", 2 * 7), ("GroupNorm", 7)) for i in range(count)}
    assert set(params["segmenter"]) == of_unet | {"head"}
    of_step = {"log_temperature", "bias", "gate"}
    params = shapes_of(small("matching_air"), image, image)
    assert set(params["level_0"]) == of_step | {"features"}
    params = shapes_of(MODELS["matching_unet"](), image, image)
    matching = {f"{kind}_{i}" for kind in ("level", "projection") for i in range(4)}
    assert set(params) == of_unet | matching
    assert set(params["level_3"]) == of_step
    params = shapes_of(MODELS["unrolled_demons"](segmenter=Segmenter(3)), image, image)
    assert set(params) == {"segmenter"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        *((name, (9, 12, 10)) for name in MODELS),
        # All but these two have further tests in two dimensions, in files of their own.
        *(pytest.param(name, (18, 29), marks=() if name in ("dlir", "unet") else THOROUGH) for name in MODELS),
        *(pytest.param(name, (28, 28), marks=THOROUGH) for name in MODELS),
    ],
)
def test_every_model_keeps_the_contract(name, shape):
    model = small(name)
    fixed, moving = np.random.default_rng(0).random((2, 2, *shape, 1), dtype=np.float32)
    untrained = random_variables if name in MOVE_UNTRAINED else _initial
    variables = untrained(model, fixed, moving)
    apply = compiled(model)
    start, out = apply(variables, fixed, moving)
    assert start.shape == (2, *shape, len(shape))
    assert start.dtype == jnp.float32
    assert isinstance(out, dict)
    if name not in MOVE_UNTRAINED:
        assert np.abs(start).max() < 1e-2, "training starts from the identity"
    # With other parameters the displacement depends on both images, and each pair is independent of the others.
    variables = perturbed(variables, 0.05)
    moved = apply(variables, fixed, moving)[0]
    for changed in (apply(variables, 1 - fixed, moving)[0], apply(variables, fixed, 1 - moving)[0]):
        assert np.abs(changed - moved).max() > 1e-4
    other = apply(variables, np.concatenate([fixed[:1], moving[:1]]), np.concatenate([moving[:1], fixed[:1]]))[0]
    np.testing.assert_allclose(other[:1], moved[:1], atol=2e-4)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_names_images_that_do_not_fit(name):
    with pytest.raises(ValueError, match=f"{type(small(name)).__name__}: fixed has shape .* must be the same"):
        shapes_of(small(name), np.zeros((1, 8, 8, 1)), np.zeros((1, 8, 9, 1)))
    with pytest.raises(ValueError, match=r"must be \[B, H, W, C\]"):
        shapes_of(small(name), np.zeros((8, 8)), np.zeros((8, 8)))


@pytest.mark.parametrize("name", MODELS)
def test_models_are_equal_and_hashed_by_their_options(name):
    model, same = (MODELS[name](**SMALL.get(name, {})) for _ in range(2))
    assert model == same
    assert hash(model) == hash(same)


@pytest.mark.slow
@pytest.mark.parametrize("model", [AiR(integration_steps=5), UNet(integration_steps=5, **SMALL["unet"])])
def test_velocities_are_exponentiated(model):
    fixed, moving = np.random.default_rng(0).random((2, 2, 28, 28, 1), dtype=np.float32)
    variables = random_variables(model, fixed, moving)
    displacement, out = compiled(model)(variables, fixed, moving)
    expected = jax.jit(lambda velocity: exponential(velocity, integration_steps=5))(out["velocity"])
    np.testing.assert_allclose(displacement, expected, atol=1e-5)
    assert np.abs(displacement - out["velocity"]).max() > 1e-3


NAN, INFINITY = float("nan"), float("inf")
LEVELS = [
    ("stride", (), "must be positive integers"),
    ("stride", (4, 0), "must be positive integers"),
    ("stride", (4, 4.0), "must be positive integers"),
    ("patch_size", (12,), r"must have one number for each of stride \(2\)"),
    ("patch_size", (8, 4), "must be odd multiples of stride"),
    ("patch_size", (12, 6), "must be odd multiples of stride"),
    ("spacing", (4, 2, 1), "must have one number for each of stride"),
    ("spacing", (3, 2), "must be divisors of stride"),
    ("num_steps", (1,), "must have one number for each of stride"),
    ("num_steps", (1, True), "must be positive integers"),
    ("downsampling", (1,), "must have one number for each of stride"),
    ("downsampling", (), "must be positive integers"),
    ("width", 9, r"must be a multiple of num_heads \(2\)"),
    ("width", 0, "must be a positive integer"),
    ("num_heads", 3, None),
    ("encoder_depth", 0, "must be a positive integer"),
    ("decoder_depth", -1, "must be a positive integer"),
    ("feed_forward", 2.5, "must be a positive integer"),
    ("relative_radius", 0, "must be a positive integer"),
    ("dropout", 1.0, "must be at least 0 and less than 1"),
    ("dropout", NAN, "must be at least 0 and less than 1"),
    ("dtype", "float16", "must be float32 or bfloat16"),
    ("dtype", "double precision", "must be float32 or bfloat16"),
]
DEMONS = [
    ("force_sigma", -1.0, "must not be negative"),
    ("force_sigma", NAN, "must not be negative, and must be finite"),
    ("total_sigma", INFINITY, "must not be negative, and must be finite"),
    ("min_jacobian", -0.1, "must not be negative"),
    ("expansion", -0.1, "must not be negative"),
    ("expansion", 2.0, "must be less than 2"),
]
WRONG_OPTIONS = {
    "air": [
        ("patch_size", 0, "must be a positive integer"),
        ("patch_size", (4, 0), "must be positive integers"),
        ("width", 7, r"must be a multiple of num_heads \(2\), or set head_size"),
        ("head_size", 0, "must be a positive integer"),
        ("head", "spline", "must be one of dense, control_grid, bspline"),
        ("integration_steps", -1, "must not be negative"),
        ("integration_steps", 1.5, "must be an integer"),
        ("encoder_depth", 0, "must be a positive integer"),
        ("decoder_depth", 0, "must be a positive integer"),
        ("feed_forward", 0, "must be a positive integer"),
        ("dropout", -0.1, "must be at least 0 and less than 1"),
        ("dtype", "int32", "must be float32 or bfloat16"),
    ],
    "pyramid_air": LEVELS,
    "matching_air": [
        ("downsampling", (), "must be positive integers"),
        ("stride", (2, 0), "must be positive integers"),
        ("stride", (2,), r"must have one number for each of downsampling \(2\)"),
        ("patch_size", (4, 4), "must be odd multiples of stride"),
        ("num_steps", (1, 1.5), "must be positive integers"),
        ("radius", (0, 1), "must be positive integers"),
        ("radius", (1, 1, 1), "must have one number for each of downsampling"),
        ("width", 9, r"must be a multiple of num_heads \(2\)"),
        ("num_heads", 3, None),
        ("feed_forward", 0, "must be a positive integer"),
        ("vote_sigma", -1.0, "must not be negative"),
        ("total_sigma", NAN, "must not be negative, and must be finite"),
    ],
    "matching_unet": [
        ("features", (4, 0), "must be positive integers"),
        ("num_steps", (1, 1, 1, 1), "must be at most 3 integers, one more than features"),
        ("num_steps", (), "must be positive integers"),
        ("radius", (1,), r"must have one number for each of num_steps \(3\)"),
        ("radius", (33, 1, 1), "must be at most 32"),
        ("width", (4, 4), r"must have one number for each of num_steps \(3\)"),
        ("width", 4, "must be positive integers"),
        ("width", (4, 4, 5), r"must be multiples of num_heads \(2\)"),
        ("num_heads", 3, None),
        ("num_heads", 0, "must be a positive integer"),
        ("vote_sigma", -1.0, "must not be negative"),
        ("total_sigma", NAN, "must not be negative, and must be finite"),
        ("dtype", "float16", "must be float32 or bfloat16"),
    ],
    "dlir": [
        ("num_poolings", 0, "must be a positive integer"),
        ("width", 0, "must be a positive integer"),
        ("dtype", "float64", "must be float32 or bfloat16"),
    ],
    "unet": [
        ("encoder", (4, 0), "must be positive integers"),
        ("decoder", (4,), r"must have one number for each of encoder \(2\)"),
        ("final", (), "must be positive integers"),
        ("integration_steps", -2, "must not be negative"),
        ("dtype", None, "must be float32 or bfloat16"),
    ],
    "unrolled_demons": [
        *DEMONS,
        ("downsampling", (), "must be positive integers"),
        ("downsampling", (2, 0), "must be positive integers"),
        ("num_steps", (1, 0), "must be positive integers"),
        ("num_steps", (1,), r"must have one number for each of downsampling \(2\)"),
        ("force_gain", (1.0,), "must be two numbers: for intensities and for classes"),
        ("force_gain", 1.0, "must be two numbers"),
        ("force_gain", (1.0, -1.0), "must not be negative"),
        ("force_gain", (NAN, 1.0), "must not be negative, and must be finite"),
    ],
    "gated_demons": [
        *LEVELS,
        *DEMONS,
        ("max_force_gain", (1.0, 2.0, 3.0), "must be two numbers"),
        ("max_force_gain", (-1.0, 1.0), "must not be negative"),
    ],
    "segmenter": [
        ("num_classes", 1, "must be at least 2, the background included"),
        ("num_classes", 2.0, "must be a positive integer"),
        ("features", (), "must be positive integers"),
        ("features", (4, -4), "must be positive integers"),
        ("dtype", "float16", "must be float32 or bfloat16"),
    ],
}


@pytest.mark.parametrize(
    ("name", "option", "value", "message"),
    [(name, *case) for name in MODELS | SEGMENTERS for case in WRONG_OPTIONS[name]],
)
def test_wrong_options_are_refused_when_a_model_is_made(name, option, value, message):
    options = SMALL.get(name, {"num_classes": 2})
    (MODELS | SEGMENTERS)[name](**options)
    with pytest.raises(OptionError, match=message) as error:
        (MODELS | SEGMENTERS)[name](**options | {option: value})
    assert "\n" not in str(error.value)
    if message:  # num_heads is named by the width that does not fit
        assert error.value.option == option
