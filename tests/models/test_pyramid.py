"""PyramidAiR: composed one-to-one steps, warping between the steps, several levels."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_helpers import compiled

from air_jax import warp
from air_jax.models import PyramidAiR
from air_jax.transforms import compose, jacobian_determinant, resize
from air_jax.transforms.filters import shrink

SMALL = dict(width=8, num_heads=2, feed_forward=8)
MODEL = PyramidAiR(stride=(4, 4), patch_size=(4, 12), spacing=(4, 1), num_steps=(1, 2), **SMALL)


@functools.cache
def start(model, shape):
    """Parameters with random heads instead of zero ones, and a pair of images."""
    fixed, moving = np.random.default_rng(0).random((2, 2, *shape, 1), dtype=np.float32)
    variables = jax.jit(model.init)(jax.random.key(0), fixed, moving)
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
    assert float(jacobian_determinant(out["displacements"][0]).min()) > 0
    assert float(np.mean(jacobian_determinant(displacement) <= 0)) < 0.02


@pytest.mark.slow
def test_the_moving_image_is_warped_between_steps():
    """After the moving image is warped by the first step's displacement, one step gives that of the second step."""
    variables, fixed, moving = start(MODEL, (28, 28))
    one_step, two_steps = (
        PyramidAiR(stride=(4,), patch_size=(4,), spacing=(4,), num_steps=(count,), **SMALL) for count in (1, 2)
    )
    variables = {"params": {"level_0": variables["params"]["level_0"]}}
    first = compiled(one_step)(variables, fixed, moving)[0]
    second = compiled(one_step)(variables, fixed, warp(moving, first))[0]
    found = compiled(two_steps)(variables, fixed, moving)[0]
    np.testing.assert_allclose(found, compose(first, second), atol=1e-4)


@pytest.mark.slow
def test_a_downsampled_level_works_on_smaller_images():
    """A level of factor 2 equals one of factor 1 on the averaged images, with its displacement resized."""
    plain, downsampled = (
        PyramidAiR(stride=(4,), patch_size=(4,), spacing=(4,), num_steps=(1,), downsampling=factors, **SMALL)
        for factors in (None, (2,))
    )
    variables, fixed, moving = start(downsampled, (21, 28))
    found, out = compiled(downsampled)(variables, fixed, moving)
    small = [shrink(jnp.asarray(image), (11, 14)) for image in (fixed, moving)]
    np.testing.assert_allclose(out["read"], small[1], atol=1e-6)
    np.testing.assert_allclose(found, resize(compiled(plain)(variables, *small)[0], (21, 28)), atol=1e-4)


@pytest.mark.slow
def test_the_untrained_network_moves_nothing():
    fixed, moving = np.random.default_rng(0).random((2, 1, 28, 28, 1), dtype=np.float32)
    variables = jax.jit(MODEL.init)(jax.random.key(0), fixed, moving)
    np.testing.assert_array_equal(compiled(MODEL)(variables, fixed, moving)[0], 0)


@pytest.mark.slow
def test_other_sizes_than_that_of_the_initialisation():
    variables, _, _ = start(MODEL, (28, 28))
    fixed, moving = np.random.default_rng(0).random((2, 1, 33, 21, 1), dtype=np.float32)
    assert compiled(MODEL)(variables, fixed, moving)[0].shape == (1, 33, 21, 2)
