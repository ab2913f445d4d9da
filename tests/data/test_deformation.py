"""Artificial deformations: their amplitude, their smoothness, their inverse, and the endpoint errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from air_jax import metrics
from air_jax.data.deformation import Deformation, draw_displacements
from air_jax.errors import OptionError
from air_jax.transforms import corner_jacobian_determinant, exponential


def draw(deformation, shape, num=200, seed=0):
    keys = jax.random.split(jax.random.key(seed), num)
    return np.asarray(draw_displacements(keys, shape, deformation))


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "num"), [((28, 21), 400), ((14, 16, 12), 100)])
def test_amplitude_is_the_root_mean_square_of_each_component(shape, num):
    # For small velocities the exponential is the velocity.
    fields = draw(Deformation(amplitude=0.01, spacing=5), shape, num)
    assert fields.shape == (num, *shape, len(shape))
    rms = np.sqrt((fields**2).mean(axis=tuple(range(fields.ndim - 1))))
    np.testing.assert_allclose(rms, 0.01, rtol=0.1)


@pytest.mark.slow
def test_displacements_are_diffeomorphic_and_smoother_for_larger_spacings():
    roughness = []
    for spacing in (5, 7, 14):
        fields = draw(Deformation(amplitude=1.5, spacing=spacing), (28, 28), 100)
        assert float(corner_jacobian_determinant(jnp.asarray(fields)).min()) > 0
        roughness.append(np.mean(np.diff(fields, axis=1) ** 2))
    assert roughness[0] > 1.5 * roughness[1] > 1.5 * roughness[2]


@pytest.mark.slow
def test_each_displacement_is_a_function_of_its_key():
    deformation = Deformation(amplitude=1.0, spacing=7)
    keys = jax.random.split(jax.random.key(3), 4)
    fields = draw_displacements(keys, (20, 20), deformation)
    np.testing.assert_allclose(draw_displacements(keys[2:3], (20, 20), deformation)[0], fields[2], atol=1e-5)
    assert np.abs(fields[0] - fields[1]).max() > 0.1


def test_the_opposite_velocity_gives_the_inverse(monkeypatch):
    """`u(p) + v(p + u(p)) = 0` inside the image, sampled by SciPy."""
    velocities = []

    def recorded(velocity, **options):
        velocities.append((velocity, options))
        return exponential(velocity, **options)

    monkeypatch.setattr("air_jax.data.deformation.exponential", recorded)
    field = draw(Deformation(amplitude=1.5, spacing=8), (40, 42), num=2)
    ((velocity, options),) = velocities
    inverse = np.asarray(exponential(-velocity, **options))
    grid = np.stack(np.meshgrid(np.arange(40), np.arange(42), indexing="ij"))
    for forward, backward in zip(np.moveaxis(field, -1, 1), np.moveaxis(inverse, -1, 1), strict=True):
        there = [scipy.ndimage.map_coordinates(component, grid + forward, order=1) for component in backward]
        residual = (forward + there)[:, 8:-8, 8:-8]  # beyond the border the inverse is not known
        assert np.abs(forward).max() > 2
        assert np.abs(residual).max() < 0.1


@pytest.mark.parametrize(("options", "option"), [((-1.0, 7), "amplitude"), ((1.0, 0), "spacing")])
def test_values_out_of_range_are_refused(options, option):
    with pytest.raises(OptionError) as error:
        Deformation(*options)
    assert error.value.option == option


def test_endpoint_errors_agree_with_a_computation_by_hand():
    truth, found = np.zeros((2, 1, 4, 4, 2), np.float32)
    found[0, :2] = [3.0, 4.0]  # an error of 5 voxels in the upper half
    fixed = np.zeros((1, 4, 4, 1), np.float32)
    fixed[0, 0, 0] = fixed[0, 3, 3] = 1
    errors = metrics.endpoint_errors(*map(jnp.asarray, (found, truth, fixed)))
    np.testing.assert_allclose(errors["endpoint_error"], 2.5)
    np.testing.assert_allclose(errors["foreground_endpoint_error"], 2.5)
    fixed[0, 3, 3] = 0
    errors = metrics.endpoint_errors(*map(jnp.asarray, (found, truth, fixed)))
    np.testing.assert_allclose(errors["foreground_endpoint_error"], 5)
