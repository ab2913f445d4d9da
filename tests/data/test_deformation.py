"""Artificial deformations: their amplitude, their smoothness, and the endpoint errors scored on them."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from air_jax import metrics
from air_jax.data.deformation import INTEGRATION_STEPS, Deformation, draw_displacements
from air_jax.training.run import train
from air_jax.transforms import corner_jacobian_determinant, exponential


def draw(deformation, shape, num=200, seed=0):
    keys = jax.random.split(jax.random.key(seed), num)
    return np.asarray(draw_displacements(keys, shape, deformation))


@pytest.mark.parametrize(("shape", "num"), [((28, 21), 400), ((14, 16, 12), 100)])
def test_amplitude_is_the_root_mean_square_of_each_component(shape, num):
    # So small that the exponential is the velocity itself.
    fields = draw(Deformation(amplitude=0.01, spacing=5), shape, num)
    assert fields.shape == (num, *shape, len(shape))
    rms = np.sqrt((fields**2).mean(axis=tuple(range(fields.ndim - 1))))
    np.testing.assert_allclose(rms, 0.01, rtol=0.1)


def test_they_are_diffeomorphic_and_smoother_for_larger_spacings():
    roughness = []
    for spacing in (5, 7, 14):
        fields = draw(Deformation(amplitude=1.5, spacing=spacing), (28, 28), 100)
        assert float(corner_jacobian_determinant(jnp.asarray(fields)).min()) > 0
        roughness.append(np.mean(np.diff(fields, axis=1) ** 2))
    assert roughness[0] > 1.5 * roughness[1] > 1.5 * roughness[2]


def test_each_field_is_its_keys_own_and_inverts_by_the_opposite_velocity():
    deformation = Deformation(amplitude=1.0, spacing=7)
    keys = jax.random.split(jax.random.key(3), 4)
    fields = draw_displacements(keys, (20, 20), deformation)
    np.testing.assert_allclose(draw_displacements(keys[2:3], (20, 20), deformation)[0], fields[2], atol=1e-5)
    assert np.abs(fields[0] - fields[1]).max() > 0.1
    assert INTEGRATION_STEPS >= 6
    assert np.abs(exponential(jnp.zeros((1, 5, 5, 2)), integration_steps=INTEGRATION_STEPS)).max() == 0


def test_endpoint_errors_by_hand():
    truth, found = np.zeros((2, 1, 4, 4, 2), np.float32)
    found[0, :2] = [3.0, 4.0]  # a miss of 5 voxels in the upper half
    fixed = np.zeros((1, 4, 4, 1), np.float32)
    fixed[0, 0, 0] = fixed[0, 3, 3] = 1
    errors = metrics.endpoint_errors(*map(jnp.asarray, (found, truth, fixed)))
    np.testing.assert_allclose(errors["endpoint_error"], 2.5)
    np.testing.assert_allclose(errors["foreground_endpoint_error"], 2.5)
    fixed[0, 3, 3] = 0
    errors = metrics.endpoint_errors(*map(jnp.asarray, (found, truth, fixed)))
    np.testing.assert_allclose(errors["foreground_endpoint_error"], 5)


def test_a_run_on_artificial_pairs_reports_endpoint_errors(digits_config, tmp_path):
    digits_config.deformation.amplitude = 1.5
    report = train(digits_config, tmp_path / "run")
    before = report["random_pairs"]["before"]
    # Before registration the error is the length of the true displacement; its components have a spread near 1.5.
    assert 1.0 < before["endpoint_error"] < 3.0
    assert report["random_pairs"]["after"]["endpoint_error"] > 0
    assert (
        "foreground_endpoint_error" in json.loads((tmp_path / "run" / "eval.json").read_text())["random_pairs"]["after"]
    )
