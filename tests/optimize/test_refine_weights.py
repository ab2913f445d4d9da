"""Refinement: what does not count has no influence, and its derivatives are those of differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import THOROUGH
from refine_helpers import BSPLINE, DENSE, OBJECTIVE, ONE_LEVEL, blobs

from air_jax.losses import make_objective
from air_jax.optimize import Geometry, refine


@pytest.mark.slow
@pytest.mark.parametrize("field", [DENSE, pytest.param(BSPLINE, marks=THOROUGH)])
def test_what_does_not_count_has_no_influence_on_the_displacement(field):
    """Also on the coarser grid, which averages voxels."""
    rng = np.random.default_rng(0)
    fixed, moving = blobs((24, 24), [(10, 11)]), blobs((24, 24), [(12, 12)])
    weights, moving_weights = np.ones((2, 1, 24, 24), np.float32)
    weights[:, 15:, 16:], moving_weights[:, :5, :7] = 0, 0

    def displaced(garbage):
        hidden, moving_hidden = (array[..., None] == 0 for array in (weights, moving_weights))
        images = np.where(hidden, garbage, fixed), np.where(moving_hidden, garbage, moving)
        options = {"weights": weights, "moving_weights": moving_weights}
        return refine(OBJECTIVE, *images, num_steps=20, field=field, **options)

    clean, noise, nothing = (displaced(garbage) for garbage in (0.0, 9 * rng.random(fixed.shape), np.nan))
    for other in (noise, nothing):
        np.testing.assert_array_equal(other.displacement, clean.displacement)
        np.testing.assert_array_equal(other.loss, clean.loss)
    np.testing.assert_allclose(np.asarray(clean.displacement)[0, 10, 11], (2, 1), atol=0.6)


@pytest.mark.slow
def test_all_weights_one_give_the_displacement_without_weights():
    fixed, moving = blobs((24, 24), [(10, 11)]), blobs((24, 24), [(12, 12)])
    ones = np.ones((1, 24, 24), np.float32)
    plain = refine(OBJECTIVE, fixed, moving, num_steps=20, field=ONE_LEVEL)
    weighted = refine(OBJECTIVE, fixed, moving, num_steps=20, field=ONE_LEVEL, weights=ones)
    assert np.abs(plain.displacement).max() > 0.5
    np.testing.assert_allclose(weighted.displacement, plain.displacement, atol=1e-3)


@pytest.mark.slow
def test_what_lies_outside_of_the_moving_image_does_not_count():
    """The moving image shows the left 16 columns only; whatever the fixed image shows beside them has no influence."""
    fixed = blobs((24, 24), [(10, 8)])
    other = fixed.copy()
    other[:, :, 17:] = np.random.default_rng(0).random((1, 24, 7, 1))
    moving = blobs((24, 16), [(12, 9)])
    geometry = Geometry(np.eye(2, 3, dtype=np.float32)[None])
    ones = np.ones((1, 24, 16), np.float32)
    options = {"num_steps": 40, "field": DENSE, "geometry": geometry, "moving_weights": ones}
    seen = refine(OBJECTIVE, fixed, moving, **options)
    np.testing.assert_allclose(np.asarray(seen.displacement)[0, 10, 8], (2, 1), atol=0.3)
    np.testing.assert_array_equal(refine(OBJECTIVE, other, moving, **options).displacement, seen.displacement)


def test_weights_of_another_shape_are_refused():
    image = blobs((12, 12), [(5, 5)])
    for options in ({"weights": np.ones((1, 12, 11))}, {"moving_weights": np.ones((1, 12, 12, 1))}):
        with pytest.raises(ValueError, match="weights has shape"):
            refine(OBJECTIVE, image, image, num_steps=0, **options)


@pytest.mark.slow
def test_derivatives_of_a_registration_are_those_of_differences():
    """Forward and in reverse, through steps before and after a check; pairs whose images do not differ also."""
    fixed, moving = blobs((12, 12), [(6, 5.7), (7.3, 6)])

    def end(weight):
        objective = make_objective("mse", diffusion=weight)
        pair = jnp.concatenate([fixed, fixed]), jnp.concatenate([moving, fixed])
        return jnp.sum(refine(objective, *pair, num_steps=12, field=ONE_LEVEL).displacement ** 2)

    @jax.jit
    def both(weight):
        return jax.grad(end)(weight), jax.jvp(end, (weight,), (1.0,))[1]

    reverse, forward = both(0.02)
    assert np.isfinite(reverse)
    np.testing.assert_allclose(reverse, forward, rtol=1e-3)
