"""Forces of intensities and of classes, against NumPy and SciPy."""

import demons_reference as reference
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from air_jax.models.layers.demons_step import (
    DemonsOptions,
    apply_step,
    class_forces,
    demons_forces,
    force_channels,
    intensity_forces,
    normalize_locally,
    total_force,
)
from air_jax.models.layers.level_state import Channels, LevelState
from air_jax.transforms import compose, smooth, with_edges

SHAPES = [(14, 17), (9, 12, 10)]
OPTIONS = DemonsOptions(force_sigma=1.0, total_sigma=0.5, edges=False, min_jacobian=0.5, expansion=0.0)


def make_images(shape, channels=1):
    return reference.smooth_images(np.random.default_rng(0), shape, channels)


@pytest.mark.parametrize("shape", SHAPES)
def test_local_normalization_agrees_with_scipy(shape):
    image, _ = make_images(shape)
    np.testing.assert_allclose(normalize_locally(image)[0], reference.normalized(image[0]), atol=2e-3)


def test_local_normalization_removes_brightness_and_contrast():
    image = jnp.asarray(np.random.default_rng(0).random((1, 12, 13, 1)), jnp.float32)  # every window has contrast
    np.testing.assert_allclose(normalize_locally(0.5 * image + 0.3), normalize_locally(image), atol=1e-3)
    np.testing.assert_allclose(normalize_locally(jnp.full((1, 12, 13, 1), 0.7)), 0, atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("channels", "sigma"), [(1, 1.0), (2, 1.0), (1, 0.7)])
def test_intensity_forces_are_those_of_demons(shape, channels, sigma):
    fixed, warped = make_images(shape, channels)
    f, w = np.float64(fixed[0]), np.float64(warped[0])
    expected = reference.forces(f - w, f, w, sigma)
    np.testing.assert_allclose([force[0] for force in intensity_forces(fixed, warped, sigma)], expected, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("channels", "sigma"), [(1, 1.0), (2, 1.0), (2, 1.5)])
def test_class_forces_follow_the_derivative_of_soft_dice(shape, channels, sigma):
    fixed, warped = make_images(shape, channels)
    axes = tuple(range(len(shape)))

    def dice(warped):
        return 2 * jnp.sum(fixed[0] * warped, axes) / jnp.sum(fixed[0] + warped, axes)

    # In units in which a voxel of probability 1 has 1 minus half of the Dice.
    f, w = np.float64(fixed[0]), np.float64(warped[0])
    wanted = np.float64(jax.grad(lambda w: jnp.sum(dice(w)))(warped[0])) * (f + w).sum(axes) / 2
    expected = reference.forces(wanted, f, w, sigma)
    np.testing.assert_allclose([force[0] for force in class_forces(fixed, warped, sigma)], expected, atol=1e-5)
    np.testing.assert_allclose(wanted, reference.dice_slope(f, w), atol=1e-5)


def test_equal_images_and_flat_images_have_no_forces():
    image, _ = make_images((10, 11))
    flat = np.zeros_like(image)
    pairs = intensity_forces(image, image, 1.0), intensity_forces(flat, flat, 1.0), class_forces(flat, flat, 1.0)
    for force in (force for pair in pairs for force in pair):
        np.testing.assert_array_equal(force, 0)


@pytest.mark.slow
def test_an_axis_of_one_voxel_has_no_force():
    fixed, warped = make_images((6, 7))
    flat = make_images((6, 7))[0][:, None], make_images((6, 7))[1][:, None]
    for force, expected in zip(intensity_forces(*flat, 1.0), intensity_forces(fixed, warped, 1.0), strict=True):
        np.testing.assert_array_equal(force[..., 0], 0)
        np.testing.assert_allclose(force[:, 0, ..., 1:], expected, atol=1e-6)


def test_channels_are_the_image_its_edges_and_all_classes_but_the_background():
    image, probabilities = make_images((10, 11), 3)
    channels = force_channels(image, probabilities, edges=True)
    np.testing.assert_array_equal(channels.image, image)
    np.testing.assert_array_equal(channels.intensities, with_edges(image))
    np.testing.assert_array_equal(channels.classes, probabilities[..., 1:])
    plain = force_channels(image, None, edges=False)
    assert (plain.edges, plain.classes) == (None, None)
    np.testing.assert_array_equal(plain.intensities, image)


def test_mapped_channels_keep_their_places():
    image, other = make_images((10, 11), 2)
    channels = Channels(image, None, other)
    calls = []
    mapped = channels.map(lambda values: calls.append(values.shape) or 2 * values)
    assert calls == [(1, 10, 11, 4)]
    assert mapped.edges is None
    np.testing.assert_array_equal(mapped.image, 2 * image)
    np.testing.assert_array_equal(mapped.classes, 2 * other)


@pytest.mark.slow
def test_only_class_forces_are_damped():
    image, probabilities = make_images((10, 11), 3)
    compressed = np.zeros((1, 10, 11, 2), np.float32)
    compressed[..., 0] = -0.8 * np.arange(10)[:, None]  # to a fifth of its volume
    fixed = force_channels(image, probabilities, edges=False)
    warped = force_channels(probabilities, image, edges=False)
    kept, damped = (demons_forces(LevelState(fixed, warped, field), OPTIONS) for field in (0 * compressed, compressed))
    for before, after in zip(kept[0], damped[0], strict=True):
        np.testing.assert_array_equal(before, after)
    for before, after in zip(kept[1], damped[1], strict=True):
        assert np.abs(before).max() > 1e-3
        np.testing.assert_array_equal(after, 0)


def test_total_force_weighs_kinds_and_gates():
    rng = np.random.default_rng(0)
    forces = [[rng.random((1, 4, 5, 2)) for _ in range(2)] for _ in range(2)]
    gates = rng.random((1, 4, 5, 4))
    (a, b), (c, d) = forces
    np.testing.assert_allclose(total_force(forces, (2.0, 3.0)), 2 * (a + b) + 3 * (c + d), rtol=1e-6)
    expected = sum(
        g * f * gates[..., i : i + 1] for i, (g, f) in enumerate(zip((2, 2, 3, 3), (a, b, c, d), strict=True))
    )
    np.testing.assert_allclose(total_force(forces, (2.0, 3.0), jnp.asarray(gates)), expected, rtol=1e-5)
    np.testing.assert_allclose(total_force(forces[:1], (2.0, 3.0)), 2 * (a + b), rtol=1e-6)


def test_a_step_is_composed_and_then_smoothed():
    rng = np.random.default_rng(0)
    field, step = (jnp.asarray(rng.normal(size=(1, 9, 8, 2)), jnp.float32) for _ in range(2))
    channels = Channels(jnp.zeros((1, 9, 8, 1)))
    found = apply_step(LevelState(channels, channels, field), step, OPTIONS)
    np.testing.assert_allclose(found, smooth(compose(field, step), 0.5), atol=1e-6)
