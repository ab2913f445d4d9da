"""Matching of U-Net features: one step against a reference, the composition over grids, training by segmentations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from model_helpers import compiled, perturbed, random_variables
from scipy import ndimage
from test_matching import blobs, reference

from air_jax.losses import dice_loss
from air_jax.models import MatchingUNet
from air_jax.transforms import bspline, corner_jacobian_determinant, resize, warp
from air_jax.transforms.filters import shrink

MODEL = MatchingUNet(features=(4, 8, 8), num_steps=(2, 2, 1), radius=(2, 1, 1), width=(8, 8, 4), num_heads=2)


@functools.cache
def parameters():
    image = np.zeros((1, 64, 56, 1), np.float32)
    return random_variables(MODEL, image, image)


@pytest.mark.slow
@pytest.mark.parametrize("num_grids", [1, 2])
def test_one_step_is_the_bounded_mean_offset_of_the_matches(num_grids):
    """On the voxels, and before on patches of 2 voxels. Without smoothing; all confidence is 1/2 before training."""
    ones = (1,) * num_grids
    model = MatchingUNet(
        features=(4, 4), num_steps=ones, radius=ones, width=(4,) * num_grids, num_heads=2, vote_sigma=0, total_sigma=0
    )
    fixed, moving = np.random.default_rng(0).random((2, 1, 9, 12, 1), np.float32)
    variables = jax.jit(model.init)(jax.random.key(0), fixed, moving)
    noise = np.random.default_rng(1).standard_normal((2, 3, 3)).astype(np.float32)
    variables["params"]["level_0"]["bias"] += noise
    projections = functools.partial(
        model.apply, capture_intermediates=lambda module, _: module.name == "projection_0", mutable="intermediates"
    )
    (_, out), kept = jax.jit(projections)(variables, fixed, moving)
    # Distances are means over the two features of a head. The images are padded to 12 voxels.
    tokens = np.asarray(kept["intermediates"]["projection_0"]["__call__"][0])
    if num_grids == 1:  # the first half of a patch's vector is its first row of voxels
        tokens = tokens.reshape(2, 6, 6, 2, 2, 4).transpose(0, 1, 3, 2, 4, 5).reshape(2, 12, 12, 4)
    tokens = tokens.reshape(2, 1, *tokens.shape[1:3], 2, 2) / np.sqrt(2)
    bias = np.asarray(variables["params"]["level_0"]["bias"]).reshape(2, 9)
    offset, weights = reference(*tokens, [10.0, 10.0], bias, 1)
    np.testing.assert_allclose(out["attention"][0], weights, atol=1e-4)
    mean = offset.mean(axis=-2) / (1 + 1e-3)
    update = bspline(jnp.asarray(0.48 * np.tanh(mean / 0.48), jnp.float32), (1, 1), tokens.shape[2:4])
    expected = update if num_grids == 1 else resize(update, (12, 12))
    np.testing.assert_allclose(out["displacements"][0], expected[:, :9], atol=1e-3)


class ImageMatching(MatchingUNet):
    """Matches averaged images instead of features."""

    def _tokens(self, images):
        factors = [2**power for power in reversed(range(len(self.width)))]
        return [shrink(images, tuple(size // factor for size in images.shape[1:-1])) for factor in factors]


@pytest.mark.slow
def test_a_translation_is_composed_over_the_grids():
    """The images' values are coordinates, which match at one place only."""
    model = ImageMatching(features=(1, 1), num_steps=(4, 4, 4), radius=(1, 1, 1), width=(1, 1, 1))
    fixed = np.moveaxis(np.indices((40, 36), np.float32), 0, -1)[None]
    moving = fixed - np.float32([5, -3])
    variables = jax.jit(model.init)(jax.random.key(0), fixed, moving)
    for index, level in enumerate(variables["params"].values()):
        temperature = jnp.log(jnp.full(1, 4 / 4 ** (2 - index)))  # tokens of 4, 2 and 1 voxels
        level["bias"], level["log_temperature"] = jnp.zeros((1, 3, 3)), temperature
    displacement, _ = compiled(model)(variables, fixed, moving)
    inside = np.asarray(displacement)[0, 12:28, 12:24]
    np.testing.assert_allclose(inside, np.broadcast_to([5, -3], inside.shape), atol=0.1)


@pytest.mark.slow
def test_half_precision_of_a_tiny_image_with_two_channels():
    single, half = (
        MatchingUNet(features=(4, 4), num_steps=(1, 1), radius=(1, 1), width=(4, 4), dtype=dtype)
        for dtype in ("float32", "bfloat16")
    )
    fixed, moving = np.random.default_rng(0).random((2, 1, 3, 5, 2), np.float32)
    variables = random_variables(single, fixed, moving)
    assert {leaf.dtype for leaf in jax.tree.leaves(random_variables(half, fixed, moving))} == {jnp.dtype("float32")}
    expected, _ = compiled(single)(variables, fixed, moving)
    displacement, out = compiled(half)(variables, fixed, moving)
    assert displacement.shape == (1, 3, 5, 2)
    assert displacement.dtype == out["attention"][0].dtype == jnp.float32
    np.testing.assert_allclose(displacement, expected, atol=0.1)


@pytest.mark.slow
def test_a_large_deformation_does_not_fold():
    """Features that are random, and strong: every step is one-to-one."""
    variables = perturbed(parameters(), 0.5)
    rng = np.random.default_rng(0)
    fixed, moving = (ndimage.gaussian_filter(rng.random((64, 56)), 3)[None, ..., None] for _ in range(2))
    fixed, moving = (((image - image.min()) / np.ptp(image)).astype(np.float32) for image in (fixed, moving))
    displacement, out = compiled(MODEL)(variables, fixed, moving)
    assert np.abs(displacement).max() > 2
    assert float(corner_jacobian_determinant(displacement).min()) > 0
    assert [weights.shape for weights in out["attention"]] == [(1, 16, 14, 2, 25), (1, 32, 28, 2, 9), (1, 64, 56, 2, 9)]
    assert [one.shape for one in out["confidence"]] == [(1, 16, 14, 2), (1, 32, 28, 2), (1, 64, 56, 2)]
    np.testing.assert_array_equal(out["displacements"][-1], displacement)


@pytest.mark.slow
def test_attention_zeroed_sees_no_image():
    """The control of the experiments: at temperature 0 only the bias remains, and nothing moves."""
    variables = jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.full_like(leaf, -jnp.inf) if "log_temperature" in str(path) else leaf,
        jax.jit(MODEL.init)(jax.random.key(0), *(np.zeros((1, 64, 56, 1), np.float32),) * 2),
    )
    displacement, _ = compiled(MODEL)(variables, blobs((30, 28))[0], blobs((33, 28))[0])
    np.testing.assert_allclose(displacement, 0, atol=1e-4)


@pytest.mark.slow
def test_segmentations_teach_which_places_match():
    """A disc and its negative, moved: intensities lead astray, the overlap of discs trains the features."""
    fixed, fixed_disc = blobs((30, 28))
    moving, moving_disc = blobs((34, 25))
    moving = 1 - moving
    fixed_disc, moving_disc = (disc.astype(np.float32)[None, ..., None] for disc in (fixed_disc, moving_disc))
    optimizer = optax.adam(1e-2)

    def loss(variables):
        displacement, _ = MODEL.apply(variables, fixed, moving)
        return dice_loss(fixed_disc, warp(moving_disc, displacement))[0]

    def step(carry, _):
        variables, state = carry
        value, gradient = jax.value_and_grad(loss)(variables)
        updates, state = optimizer.update(gradient, state)
        return (optax.apply_updates(variables, updates), state), value

    variables = jax.jit(MODEL.init)(jax.random.key(0), fixed, moving)
    run = jax.jit(lambda variables: jax.lax.scan(step, (variables, optimizer.init(variables)), length=80)[1])
    values = run(variables)
    assert values[0] > 0.25
    assert values[-1] < 0.1
