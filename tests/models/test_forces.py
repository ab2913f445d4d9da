"""The forces that steps follow, against NumPy and SciPy, and what the network makes of them before any training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from air_jax.models.layers.forces import (
    CONTRAST_FLOOR,
    DENSEST,
    DENSITY_SIGMA,
    FLATNESS,
    SMOOTHINGS,
    WINDOW_SIGMA,
    forces,
    leeway,
    normalize_locally,
    overlap_forces,
    volume_forces,
)
from scipy.ndimage import gaussian_filter

from air_jax import warp
from air_jax.losses import dice_loss
from air_jax.models import PyramidAiR
from air_jax.transforms import compose, jacobian_determinant

RNG = np.random.default_rng(0)
SHAPES = [(14, 17), (9, 12, 10)]


def blurred(image, sigma):
    """`[*S]`, smoothed as `air_jax.transforms.smooth` does."""
    return gaussian_filter(np.float64(image), sigma, mode="nearest", truncate=3.0)


def images(shape, channels=1):
    """Two smooth images `[2, 1, *S, C]` in [0, 1]."""
    noise = RNG.random((2, channels, *shape))
    smooth = np.stack([[gaussian_filter(channel, 1.5) for channel in image] for image in noise])
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    return jnp.asarray(np.moveaxis(smooth, 1, -1)[:, None], jnp.float32)


@pytest.mark.parametrize("shape", SHAPES)
def test_local_normalization(shape):
    image, _ = images(shape)
    flat = np.float64(image[0, ..., 0])
    mean = blurred(flat, WINDOW_SIGMA)
    deviation = np.sqrt(np.maximum(blurred(flat**2, WINDOW_SIGMA) - mean**2, CONTRAST_FLOOR**2))
    np.testing.assert_allclose(normalize_locally(image)[0, ..., 0], (flat - mean) / deviation, atol=2e-3)


def test_local_normalization_sees_no_brightness_and_no_contrast():
    image = jnp.asarray(RNG.random((1, 12, 13, 1)), jnp.float32)  # noise: all of its windows have contrast
    np.testing.assert_allclose(normalize_locally(0.5 * image + 0.3), normalize_locally(image), atol=1e-3)
    np.testing.assert_allclose(normalize_locally(jnp.full((1, 12, 13, 1), 0.7)), 0, atol=1e-9)


def pulled(wanted, f, w, sigma=1.0):
    """Demons' forces in NumPy and SciPy: `wanted`, fixed, warped `[*S, C]` to `[*S, N]` for each of SMOOTHINGS."""
    num_axes = f.ndim - 1
    slopes = (np.stack(np.gradient(image, axis=tuple(range(num_axes))), axis=-1) for image in (f, w))  # [*S, C, N]
    slope = sum(slopes) / 2
    below = (slope**2).sum((-2, -1)) + (wanted**2).sum(-1) + FLATNESS
    force = (wanted[..., None] * slope).sum(-2) / below[..., None]
    assert np.linalg.norm(force, axis=-1).max() <= 0.5
    narrow, wide = (sigma * multiple for multiple in SMOOTHINGS)
    for further in (narrow, (wide**2 - narrow**2) ** 0.5):
        force = np.stack([blurred(force[..., axis], further) for axis in range(num_axes)], axis=-1)
        yield force


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("channels", "sigma"), [(1, 1.0), (2, 1.0), (1, 0.7)])
def test_forces_are_those_of_demons(shape, channels, sigma):
    fixed, warped = images(shape, channels)
    f, w = np.float64(fixed[0]), np.float64(warped[0])
    for found, expected in zip(forces(fixed, warped, sigma), pulled(f - w, f, w, sigma), strict=True):
        np.testing.assert_allclose(found[0], expected, atol=1e-3)  # cut off a voxel apart


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("channels", "sigma"), [(1, 1.0), (2, 1.0), (2, 1.5)])
def test_overlap_forces_raise_the_overlap(shape, channels, sigma):
    fixed, warped = images(shape, channels)
    f, w = np.float64(fixed[0]), np.float64(warped[0])
    # The slope of the loss, for each class, in units in which a voxel that is certainly of the class has 1 minus half
    # of the Dice.
    slope = -jax.grad(lambda w: jnp.sum(dice_loss(fixed, w)))(warped)[0]
    wanted = np.float64(slope) * channels * (f + w).sum(tuple(range(len(shape)))) / 2
    for found, expected in zip(overlap_forces(fixed, warped, sigma), pulled(wanted, f, w, sigma), strict=True):
        np.testing.assert_allclose(found[0], expected, atol=1e-3)


def test_equal_images_and_flat_ones_have_no_forces():
    image, _ = images((10, 11))
    flat = jnp.zeros_like(image)
    for force in (*forces(image, image), *forces(flat, flat), *overlap_forces(flat, flat)):
        np.testing.assert_array_equal(force, 0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("volume", "expected"), [(1.2, 1.0), (1.0, 0.8), (0.85, 0.5), (0.6, 0.0), (0.3, 0.0)])
def test_the_leeway_of_what_is_compressed(shape, volume, expected):
    """Along one axis alone, so that the determinant is the stretch: from none at 0.6 to all at 1.1."""
    displacement = np.zeros((1, *shape, len(shape)), np.float32)
    displacement[..., 0] = (volume - 1) * np.arange(shape[0]).reshape(-1, *(1,) * (len(shape) - 1))
    found = leeway(jnp.asarray(displacement), 0.6)
    assert found.shape == (1, *shape, 1)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_leeway_ends_where_it_is_compressed_and_thin_images_keep_their_volume():
    displacement = np.zeros((1, 20, 8, 2), np.float32)
    displacement[0, :, :, 0] = np.minimum(0, -0.6 * (np.arange(20) - 10))[:, None]  # from row 10 on at 0.4
    found = np.asarray(leeway(jnp.asarray(displacement), 0.5))[0, :, 4, 0]
    np.testing.assert_allclose(found[:6], 1, atol=1e-3)
    np.testing.assert_allclose(found[15:], 0, atol=1e-3)
    steps = np.diff(found)
    assert np.all(steps <= 1e-6)
    assert steps.min() > -0.5  # no jump: smoothed
    np.testing.assert_allclose(leeway(jnp.zeros((1, 2, 8, 8, 3)), 0.5), np.ones((1, 2, 8, 8, 1)), rtol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_volume_forces_are_the_slope_of_the_density(shape):
    num_axes = len(shape)
    displacement = np.stack([gaussian_filter(RNG.normal(size=shape), 1.5) for _ in shape], axis=-1)
    displacement *= 1.5 / displacement.std()
    slopes = np.stack([np.gradient(displacement[..., axis]) for axis in range(num_axes)], axis=0)  # [N, N, *S]
    determinants = np.linalg.det(np.moveaxis(slopes, (0, 1), (-2, -1)) + np.eye(num_axes))
    inside = determinants[(slice(1, -1),) * num_axes]
    assert inside.min() < 0 < 1 / DENSEST < 1 < inside.max()  # folded, compressed and expanded
    density = np.maximum(0, -np.log(np.maximum(np.pad(inside, 1, mode="edge") / 0.8, 1 / DENSEST)))  # 0.3 + 0.5
    expected = -np.stack(np.gradient(blurred(density, DENSITY_SIGMA)), axis=-1)
    found = volume_forces(jnp.asarray(displacement[None], jnp.float32), 0.3)[0]
    np.testing.assert_allclose(found, expected, atol=1e-2 * np.abs(expected).max())


def test_volume_forces_let_what_is_compressed_spread_and_leave_the_rest():
    rows = np.arange(40.0)
    compressed = np.zeros((1, 40, 8, 2), np.float32)
    compressed[..., 0] = -4 * np.tanh((rows - 20) / 5)[:, None]  # down to a fifth of its volume around row 20
    smallest = [0.2]
    field = jnp.asarray(compressed)
    for _ in range(10):
        field = compose(field, volume_forces(field, 0.5))
        smallest.append(float(jnp.min(jacobian_determinant(field))))
    assert np.all(np.diff(smallest) > 0)
    assert smallest[-1] > 0.4
    np.testing.assert_allclose(field[0, :4], compressed[0, :4], atol=0.05)
    np.testing.assert_allclose(volume_forces(-jnp.asarray(compressed), 0.5), 0, atol=1e-2)  # expanded alone
    thin = volume_forces(jnp.zeros((1, 2, 8, 8, 3)), 0.5)
    np.testing.assert_array_equal(thin, 0)


def blobs(shape, shift):
    """A pair of Gaussian blobs `[1, *S, 1]`, the fixed one `shift` voxels further along the first axis."""
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    centre = (np.asarray(shape) - 1) / 2

    def blob(offset):
        distance = places - centre - offset * np.eye(len(shape))[0]
        return jnp.asarray(np.exp(-0.5 * (distance**2).sum(-1) / 3**2)[None, ..., None], jnp.float32)

    return blob(shift), blob(0)


def small(shape, **options):
    model = PyramidAiR(
        stride=(4, 4), patch_size=(12, 4), spacing=(4, 2), num_steps=(4, 4), downsampling=(2, 1), width=16, **options
    )
    fixed, moving = blobs(shape, 3)
    return model, jax.jit(model.init)(jax.random.key(0), fixed, moving), fixed, moving


@pytest.mark.parametrize("edges", [False, True])
@pytest.mark.parametrize("shape", [(26, 24), (18, 16, 17)])
def test_the_untrained_network_registers_by_forces(shape, edges):
    model, variables, fixed, moving = small(shape, forces=True, edges=edges)
    displacement, out = jax.jit(model.apply)(variables, fixed, moving)
    assert out["read"].shape[1:-1] == shape
    before, after = (float(jnp.mean(jnp.square(image - fixed))) for image in (moving, warp(moving, displacement)))
    assert after < 0.1 * before
    # The pull-back field points from the fixed blob back to the moving one.
    centre = tuple(size // 2 for size in shape)
    assert displacement[(0, *centre)][0] < -1.5
    assert jnp.min(jacobian_determinant(displacement)) > 0


def test_without_forces_the_untrained_network_moves_nothing():
    model, variables, fixed, moving = small((26, 24))
    np.testing.assert_array_equal(model.apply(variables, fixed, moving)[0], 0)


def test_the_derivative_of_one_step_is_exact():
    """Of several it is not: what a step looks at is taken as given."""
    fixed, moving = blobs((26, 24), 3)
    model = PyramidAiR(stride=(4,), patch_size=(12,), spacing=(2,), num_steps=(1,), width=16, forces=True)
    params = jax.jit(model.init)(jax.random.key(0), fixed, moving)["params"]
    leaves, structure = jax.tree.flatten(params)
    noise, direction = (
        structure.unflatten([0.1 * jax.random.normal(jax.random.key(seed), leaf.shape) for leaf in leaves])
        for seed in (1, 2)
    )
    params = jax.tree.map(jnp.add, params, noise)

    @jax.jit
    def loss(length):
        moved = jax.tree.map(lambda p, d: p + length * d, params, direction)
        return jnp.mean(jnp.square(warp(moving, model.apply({"params": moved}, fixed, moving)[0]) - fixed))

    step = 1e-3  # linear sampling has kinks
    slope = (loss(step) - loss(-step)) / (2 * step)
    np.testing.assert_allclose(jax.grad(loss)(0.0), slope, rtol=0.02)
