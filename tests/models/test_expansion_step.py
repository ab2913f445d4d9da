"""Damping of class forces and the expansion of compressed regions, against NumPy and SciPy."""

import demons_reference as reference
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from air_jax.models.layers.expansion_step import class_force_damping, expansion_displacement
from air_jax.transforms import compose, jacobian_determinant

SHAPES = [(14, 17), (9, 12, 10)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("volume", "expected"), [(1.2, 1.0), (1.0, 0.8), (0.85, 0.5), (0.6, 0.0), (0.3, 0.0)])
def test_damping_of_a_constant_compression(shape, volume, expected):
    """Along one axis, so that the determinant is the stretch: the factor is 0 at 0.6 and 1 from 1.1 on."""
    displacement = np.zeros((1, *shape, len(shape)), np.float32)
    displacement[..., 0] = (volume - 1) * np.arange(shape[0]).reshape(-1, *(1,) * (len(shape) - 1))
    found = class_force_damping(jnp.asarray(displacement), 0.6)
    assert found.shape == (1, *shape, 1)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_damping_is_smooth_and_leaves_thin_images_free():
    displacement = np.zeros((1, 20, 8, 2), np.float32)
    displacement[0, :, :, 0] = np.minimum(0, -0.6 * (np.arange(20) - 10))[:, None]  # from row 10 on at 0.4
    found = np.asarray(class_force_damping(jnp.asarray(displacement), 0.5))[0, :, 4, 0]
    np.testing.assert_allclose(found[:6], 1, atol=1e-3)
    np.testing.assert_allclose(found[15:], 0, atol=1e-3)
    steps = np.diff(found)
    assert np.all(steps <= 1e-6)
    assert steps.min() > -0.5
    thin = class_force_damping(jnp.zeros((1, 2, 8, 8, 3)), 0.5)
    np.testing.assert_allclose(thin, np.ones((1, 2, 8, 8, 1)), rtol=1e-6)


def rough_displacement(shape):
    rng = np.random.default_rng(0)
    displacement = np.stack([gaussian_filter(rng.normal(size=shape), 1.5) for _ in shape], axis=-1)
    return displacement * 1.5 / displacement.std()


@pytest.mark.parametrize("shape", SHAPES)
def test_damping_of_a_rough_displacement_agrees_with_scipy(shape):
    displacement = rough_displacement(shape)
    found = class_force_damping(jnp.asarray(displacement[None], jnp.float32), 0.3)[0]
    np.testing.assert_allclose(found, reference.damping(displacement, 0.3), atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_expansion_is_the_gradient_of_the_density(shape):
    displacement = rough_displacement(shape)
    inner = reference.determinant(displacement)
    assert inner.min() < 0 < 1 / reference.MAX_DENSITY < 1 < inner.max()  # folded, compressed and expanded
    expected = reference.expansion(displacement, 0.3)
    found = expansion_displacement(jnp.asarray(displacement[None], jnp.float32), 0.3)[0]
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())


@pytest.mark.slow
def test_compressed_regions_expand_and_others_stay():
    rows = np.arange(40.0)
    compressed = np.zeros((1, 40, 8, 2), np.float32)
    compressed[..., 0] = -4 * np.tanh((rows - 20) / 5)[:, None]  # down to a fifth of its volume around row 20
    smallest = [0.2]
    field = jnp.asarray(compressed)
    for _ in range(10):
        field = compose(field, expansion_displacement(field, 0.5))
        smallest.append(float(jnp.min(jacobian_determinant(field))))
    assert np.all(np.diff(smallest) > 0)
    assert smallest[-1] > 0.4
    np.testing.assert_allclose(field[0, :4], compressed[0, :4], atol=0.05)
    np.testing.assert_allclose(expansion_displacement(-jnp.asarray(compressed), 0.5), 0, atol=1e-2)  # expanded already
    np.testing.assert_array_equal(expansion_displacement(jnp.zeros((1, 2, 8, 8, 3)), 0.5), 0)
