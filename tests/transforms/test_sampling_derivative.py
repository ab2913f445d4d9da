"""Derivatives of the sampler, against finite differences and the derivatives that JAX finds for map_coordinates."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.ndimage import map_coordinates
from jax.test_util import check_grads

from air_jax import warp
from air_jax.runtime import startup
from air_jax.transforms import sample
from air_jax.transforms.sampling import gather_scatter, interpolation
from air_jax.transforms.sampling.cells import MODES


def pair(shape, channels=2, batch=2, largest=3):
    """An image, and a displacement of up to `largest` voxels, never close to integers, where the derivative jumps."""
    rng = np.random.default_rng(0)
    image = rng.random((batch, *shape, channels), dtype=np.float32)
    size = (batch, *shape, len(shape))
    displacement = rng.integers(-largest, largest, size) + rng.uniform(0.3, 0.7, size)
    return jnp.asarray(image), jnp.asarray(displacement, jnp.float32)


def plain_warp(image, displacement, mode):
    """`warp` by map_coordinates, with the derivative that JAX finds."""
    grid = np.stack(np.meshgrid(*map(np.arange, image.shape[1:-1]), indexing="ij"), axis=-1).astype(np.float32)
    coordinates = jnp.moveaxis(grid[None] + displacement, -1, 1)

    def sample(volume, coordinates):
        return map_coordinates(volume, list(coordinates), order=1, mode=mode)

    return jax.vmap(jax.vmap(sample, (-1, None), -1))(image, coordinates)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(6, 5), (1, 7), (4, 5, 3)])
@pytest.mark.parametrize("mode", MODES)
def test_both_gradients_agree_with_map_coordinates(shape, mode):
    if mode == "mirror" and 1 in shape:
        pytest.skip("map_coordinates divides by zero for a mirrored axis of one voxel")
    image, displacement = pair(shape, largest=8)
    weights = jnp.asarray(np.random.default_rng(1).standard_normal(image.shape), jnp.float32)
    ours, plain = (
        jax.jit(jax.grad(lambda *arguments, f=f: jnp.sum(weights * f(*arguments, mode=mode)), (0, 1)))
        for f in (warp, plain_warp)
    )
    for found, expected in zip(ours(image, displacement), plain(image, displacement), strict=True):
        assert np.abs(expected).max() > 0
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "mode"), [((4, 5), "constant"), ((4, 5), "nearest"), ((4, 5), "mirror"), ((3, 4, 3), "constant")]
)
def test_finite_differences_to_second_order_forward_and_reverse(shape, mode):
    image, displacement = pair(shape, channels=1, batch=1)

    def value(image, displacement):
        # Squared, so that the second derivative with respect to the image is not 0.
        return warp(image, displacement, mode=mode) ** 2

    check_grads(jax.jit(value), (image, displacement), order=2, modes=("fwd", "rev"), eps=5e-3, atol=2e-2, rtol=2e-2)


def test_derivative_at_integer_coordinates_is_the_one_towards_larger_coordinates():
    image = jnp.asarray(np.random.default_rng(0).random((1, 6, 7, 1)), jnp.float32)
    gradient = jax.grad(lambda u: warp(image, u).sum())(jnp.zeros((1, 6, 7, 2)))
    padded = np.pad(np.asarray(image)[0, ..., 0], 1)
    np.testing.assert_allclose(gradient[0, ..., 0], padded[2:, 1:-1] - padded[1:-1, 1:-1], atol=1e-6)
    np.testing.assert_allclose(gradient[0, ..., 1], padded[1:-1, 2:] - padded[1:-1, 1:-1], atol=1e-6)


@pytest.mark.slow
def test_vmap_and_pmap_change_nothing():
    image, displacement = pair((6, 5), batch=4)

    def gradients(image, displacement):
        return jax.grad(lambda *arguments: (warp(*arguments) ** 2).sum(), (0, 1))(image, displacement)

    expected = gradients(image, displacement)
    split = [array.reshape(2, 2, *array.shape[1:]) for array in (image, displacement)]
    for found in (jax.vmap(gradients)(*split), jax.pmap(gradients, devices=jax.devices()[:2])(*split)):
        for ours, array in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours.reshape(array.shape), array, atol=1e-6)


@pytest.mark.slow
def test_one_image_under_many_displacements():
    """vmap over the displacement only: the gradient of the image is the sum over all displacements."""
    image, displacement = pair((6, 5), batch=3)

    def total(image):
        return jax.vmap(lambda u: warp(image[:1], u[None]))(displacement).sum()

    expected = sum(jax.grad(lambda v, u=u: warp(v, u[None]).sum())(image[:1]) for u in displacement)
    np.testing.assert_allclose(jax.grad(total)(image)[:1], expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_undefined_coordinates_stay_in_their_image(mode):
    """Far, infinite and undefined coordinates of one image do not change the gradients of the other."""
    image, displacement = pair((6, 5), batch=2)
    for bad in (np.nan, np.inf, -np.inf, 3e9, -3e9):
        spoiled = displacement.at[0].set(bad)
        gradient = jax.grad(lambda *arguments: warp(*arguments, mode=mode).sum(), (0, 1))(image, spoiled)
        expected = jax.grad(lambda *arguments: warp(*arguments, mode=mode).sum(), (0, 1))(image, displacement)
        for found, array in zip(gradient, expected, strict=True):
            np.testing.assert_allclose(found[1], array[1], atol=1e-6)


def test_bfloat16_images_keep_their_dtype():
    image, displacement = pair((6, 5))
    value, tangent = jax.jvp(lambda u: warp(image.astype(jnp.bfloat16), u), (displacement,), (displacement,))
    assert value.dtype == tangent.dtype == jnp.bfloat16
    exact = jax.jvp(lambda u: warp(image, u), (displacement,), (displacement,))[1]
    np.testing.assert_allclose(tangent.astype(jnp.float32), exact, atol=0.05)


# A piece is several whole images, a part that divides an image, or a part that has to be padded.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "batch", "at_once"), [((4, 5), 6, 50), ((6, 4), 2, 9), ((5, 7), 2, 6), ((7, 1), 3, 3)]
)
@pytest.mark.parametrize("channels", [1, 2])
def test_pieces_change_nothing(shape, batch, at_once, channels, monkeypatch):
    image, displacement = pair(shape, channels, batch)
    weights = jnp.asarray(np.random.default_rng(1).standard_normal(image.shape), jnp.float32)

    def compute(sample):
        def function(image, displacement):
            warped = sample(image, displacement)
            return jnp.sum(weights * warped), warped

        (_, warped), gradients = jax.jit(jax.value_and_grad(function, (0, 1), has_aux=True))(image, displacement)
        return warped, *gradients

    pieces, real = [], gather_scatter._pieces
    monkeypatch.setattr(gather_scatter, "POINTS_AT_ONCE", at_once)
    monkeypatch.setattr(gather_scatter, "_pieces", lambda *a: pieces.append(len(real(*a)[0])) or real(*a))
    found = compute(partial(interpolation.interpolate, mode="constant", relative=True))
    assert min(pieces) > 1
    for ours, expected in zip(found, compute(partial(plain_warp, mode="constant")), strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-5)


@pytest.mark.real_compiler
def test_float64_images_keep_their_precision_under_differentiation():
    with jax.enable_x64(True):
        image = jnp.asarray(np.random.default_rng(0).random((1, 6, 5, 1)))
        zero = jnp.zeros((1, 6, 5, 2), jnp.float32)
        warped, pull = jax.vjp(warp, image, zero)
        np.testing.assert_array_equal(warped, image)
        cotangent = jnp.asarray(np.random.default_rng(1).random(image.shape))
        np.testing.assert_array_equal(pull(cotangent)[0], cotangent)


def test_without_jit_nothing_is_compiled_twice():
    image, displacement = pair((5, 4))
    interpolation.interpolate(image, displacement, mode="constant", relative=True)
    clock = startup.CompileClock()
    interpolation.interpolate(image, displacement, mode="constant", relative=True)
    assert clock.programs == 0


# More points than voxels along one axis, fewer along another, with pieces and without.
@pytest.mark.slow
@pytest.mark.parametrize(("voxels", "points", "at_once"), [((5, 7), (8, 4), 2**15), ((4, 5, 3), (3, 6, 5), 20)])
@pytest.mark.parametrize("channels", [1, 2])
def test_points_on_a_grid_of_their_own(voxels, points, at_once, channels, monkeypatch):
    monkeypatch.setattr(gather_scatter, "POINTS_AT_ONCE", at_once)
    rng = np.random.default_rng(0)
    image = jnp.asarray(rng.random((2, *voxels, channels)), jnp.float32)
    coordinates = rng.integers(-2, max(voxels) + 2, (2, *points, len(voxels))) + rng.uniform(
        0.3, 0.7, (2, *points, len(voxels))
    )
    coordinates = jnp.asarray(coordinates, jnp.float32)
    weights = jnp.asarray(rng.standard_normal((2, *points, channels)), jnp.float32)

    def plain(image, coordinates):
        def one(volume, coordinates):
            return map_coordinates(volume, list(jnp.moveaxis(coordinates, -1, 0)), order=1, mode="constant")

        return jax.vmap(jax.vmap(one, (-1, None), -1))(image, coordinates)

    np.testing.assert_allclose(sample(image, coordinates), plain(image, coordinates), atol=1e-5)
    ours, expected = (
        jax.jit(jax.grad(lambda *arguments, f=f: jnp.sum(weights * f(*arguments) ** 2), (0, 1)))(image, coordinates)
        for f in (sample, plain)
    )
    for found, reference in zip(ours, expected, strict=True):
        np.testing.assert_allclose(found, reference, atol=2e-5)
    second = [
        jax.jit(lambda x, f=f: jax.jvp(jax.grad(lambda x: jnp.sum(f(image, x) ** 2)), (x,), (x,))[1])(coordinates)
        for f in (sample, plain)
    ]
    np.testing.assert_allclose(*second, rtol=1e-3, atol=1e-3)
