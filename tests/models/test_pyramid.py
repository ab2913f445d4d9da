"""PyramidAiR: composed one-to-one steps, warping between the steps, several levels."""

import functools

import jax
import numpy as np
import pytest
from model_helpers import compiled, random_variables

from air_jax import warp
from air_jax.models import PyramidAiR
from air_jax.transforms import compose, jacobian_determinant, resize
from air_jax.transforms.filters import shrink

SMALL = dict(width=8, num_heads=2, feed_forward=8)
# One step of one level compiles in a third of the time.
ONE_LEVEL = dict(stride=(4,), patch_size=(4,), spacing=(4,), **SMALL)
ONE_STEP = PyramidAiR(num_steps=(1,), **ONE_LEVEL)
MODEL = PyramidAiR(stride=(4, 4), patch_size=(4, 12), spacing=(4, 1), num_steps=(1, 2), **SMALL)


@functools.cache
def start(model, shape):
    """Random parameters with large heads, and a pair of images."""
    fixed, moving = np.random.default_rng(0).random((2, 2, *shape, 1), dtype=np.float32)
    variables = random_variables(model, fixed, moving)
    rng = np.random.default_rng(1)
    for level in variables["params"].values():
        level["head"]["kernel"] = 10 * rng.standard_normal(level["head"]["kernel"].shape, dtype=np.float32)
    return variables, fixed, moving


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(28, 28), (8, 9, 7)])
def test_displacements_hardly_fold_whatever_the_parameters(shape):
    variables, fixed, moving = start(MODEL, shape)
    displacement, out = compiled(MODEL)(variables, fixed, moving)
    assert np.abs(displacement).max() > 1
    assert len(out["displacements"]) == 2
    np.testing.assert_array_equal(out["displacements"][-1], displacement)
    # The first level is one B-spline within Choi & Lee's bound.
    first, last = map(jax.jit(jacobian_determinant), out["displacements"])
    assert np.min(first) > 0
    assert np.mean(np.asarray(last) <= 0) < 0.02


@pytest.mark.slow
def test_the_moving_image_is_warped_between_steps():
    """After the moving image is warped by the first step's displacement, one step gives that of the second step."""
    variables, fixed, moving = start(MODEL, (28, 28))
    two_steps = PyramidAiR(num_steps=(2,), **ONE_LEVEL)
    variables = {"params": {"level_0": variables["params"]["level_0"]}}
    first = compiled(ONE_STEP)(variables, fixed, moving)[0]
    second = compiled(ONE_STEP)(variables, fixed, jax.jit(warp)(moving, first))[0]
    found = compiled(two_steps)(variables, fixed, moving)[0]
    np.testing.assert_allclose(found, jax.jit(compose)(first, second), atol=1e-4)


@pytest.mark.slow
def test_a_downsampled_level_works_on_smaller_images():
    """A level of factor 2 equals one of factor 1 on the averaged images, with its displacement resized."""
    downsampled = PyramidAiR(num_steps=(1,), downsampling=(2,), **ONE_LEVEL)
    variables, fixed, moving = start(downsampled, (21, 28))
    found, out = compiled(downsampled)(variables, fixed, moving)
    small = [jax.jit(lambda image: shrink(image, (11, 14)))(image) for image in (fixed, moving)]
    np.testing.assert_allclose(out["read"], small[1], atol=1e-6)
    expected = jax.jit(lambda field: resize(field, (21, 28)))(compiled(ONE_STEP)(variables, *small)[0])
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.slow
def test_the_untrained_network_moves_nothing():
    fixed, moving = np.random.default_rng(0).random((2, 2, 28, 28, 1), dtype=np.float32)
    variables = jax.jit(MODEL.init)(jax.random.key(0), fixed, moving)
    np.testing.assert_array_equal(compiled(MODEL)(variables, fixed, moving)[0], 0)


@pytest.mark.slow
def test_other_sizes_than_that_of_the_initialisation():
    variables, _, _ = start(ONE_STEP, (28, 28))
    fixed, moving = np.random.default_rng(0).random((2, 1, 33, 21, 1), dtype=np.float32)
    assert compiled(ONE_STEP)(variables, fixed, moving)[0].shape == (1, 33, 21, 2)
