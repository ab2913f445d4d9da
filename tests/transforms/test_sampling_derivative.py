"""Derivatives of the sampler, against those of SciPy's map_coordinates by differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from helpers import REAL_KERNELS, THOROUGH
from jax.interpreters import ad
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
    return image, displacement.astype(np.float32)


# SciPy names the modes "constant" and "wrap" of JAX differently.
SCIPY_MODES = {mode: {"constant": "grid-constant", "wrap": "grid-wrap"}.get(mode, mode) for mode in MODES}


def plain_sample(image, coordinates, mode="constant"):
    """`sample` by SciPy in float64, one channel at a time."""
    volumes = np.moveaxis(np.asarray(image, np.float64), -1, 1)
    options = {"order": 1, "mode": SCIPY_MODES[mode]}
    return np.stack(
        [
            np.stack([scipy.ndimage.map_coordinates(each, np.moveaxis(at, -1, 0), **options) for each in volume], -1)
            for volume, at in zip(volumes, np.asarray(coordinates, np.float64), strict=True)
        ]
    )


def plain_gradients(image, coordinates, weights, mode="constant"):
    """Gradients of `sum(weights * plain_sample(image, coordinates))`.

    It is linear in the image: the gradient is its value for images of one voxel. It is also linear along each axis
    within a cell, so that differences are exact.
    """
    batch, *shape, channels = image.shape
    of_image, of_coordinates = np.zeros(image.shape), np.zeros(coordinates.shape)
    for voxel in np.ndindex(*shape):
        unit = np.zeros((batch, *shape, 1))
        unit[(slice(None), *voxel)] = 1
        share = weights * plain_sample(unit, coordinates, mode)
        of_image[(slice(None), *voxel)] = share.reshape(batch, -1, channels).sum(axis=1)
    for axis, step in enumerate(0.1 * np.eye(len(shape))):
        ahead, behind = (plain_sample(image, coordinates + sign * step, mode) for sign in (1, -1))
        of_coordinates[..., axis] = (weights * (ahead - behind)).sum(axis=-1) / 0.2
    return of_image, of_coordinates


def points_of(displacement):
    """Coordinates `p + u(p)` in float64."""
    return np.stack(np.indices(displacement.shape[1:-1]), axis=-1) + np.asarray(displacement, np.float64)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "shape"),
    [
        *((mode, shape) for mode in MODES for shape in [(6, 5), (1, 7)]),
        # The modes are of each axis by itself.
        *(pytest.param(mode, (4, 5, 3), marks=THOROUGH if mode in ("reflect", "wrap") else ()) for mode in MODES),
    ],
)
def test_both_gradients_agree_with_map_coordinates(shape, mode):
    image, displacement = pair(shape, largest=8)
    weights = np.random.default_rng(1).standard_normal(image.shape).astype(np.float32)
    found = jax.jit(jax.grad(lambda v, u: jnp.sum(weights * warp(v, u, mode=mode)), (0, 1)))(image, displacement)
    for ours, expected in zip(found, plain_gradients(image, points_of(displacement), weights, mode), strict=True):
        assert np.abs(expected).max() > 0
        np.testing.assert_allclose(ours, expected, atol=1e-5)


@pytest.mark.thorough  # forward over reverse also in the last test
@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "mode"),
    [
        *(((4, 5), mode) for mode in ("constant", "nearest", "mirror")),
        ((3, 4, 3), "constant"),
    ],
)
def test_finite_differences_to_second_order_forward_and_reverse(shape, mode):
    image, displacement = pair(shape, channels=1, batch=1)

    def value(image, displacement):
        # Squared, so that the second derivative with respect to the image is not 0.
        return warp(image, displacement, mode=mode) ** 2

    check_grads(jax.jit(value), (image, displacement), order=2, modes=("fwd", "rev"), eps=5e-3, atol=2e-2, rtol=2e-2)


def test_the_third_derivative_along_a_line_is_that_of_a_product_of_two_coordinates():
    """Within a cell, an image is bilinear: its second derivative along a line is constant, its third one is 0."""
    image = np.random.default_rng(0).random((1, 3, 4, 1), np.float32)
    start, direction = np.full((1, 3, 4, 2), 0.4, np.float32), np.broadcast_to(np.float32([0.3, 0.2]), (1, 3, 4, 2))

    def derivative(function):
        return lambda t: jax.jvp(function, (t,), (np.float32(1),))[1]

    def along(t):
        return warp(image, start + t * direction)[0, :2, :3, 0]

    second = derivative(derivative(along))
    corners = image[0, :-1, :-1, 0] + image[0, 1:, 1:, 0] - image[0, 1:, :-1, 0] - image[0, :-1, 1:, 0]
    np.testing.assert_allclose(second(np.float32(0)), 2 * 0.3 * 0.2 * corners, atol=1e-5)
    np.testing.assert_allclose(derivative(second)(np.float32(0)), 0, atol=1e-5)


def test_a_gradient_that_is_not_asked_for_costs_no_scatter():
    image, points = np.ones((1, 3, 4, 1), np.float32), np.zeros((1, 3, 4, 2), np.float32)
    options = dict(axis_sets=((),), mode="constant", relative=True, shape=(3, 4))
    assert interpolation._scatter_transpose(ad.Zero(jax.typeof(image)), image, points, **options) == [None, None]


def test_derivative_at_integer_coordinates_is_the_one_towards_larger_coordinates():
    image = np.random.default_rng(0).random((1, 6, 7, 1), np.float32)
    gradient = np.asarray(jax.jit(jax.grad(lambda u: warp(image, u).sum()))(np.zeros((1, 6, 7, 2), np.float32)))
    padded = np.pad(image[0, ..., 0], 1)
    np.testing.assert_allclose(gradient[0, ..., 0], padded[2:, 1:-1] - padded[1:-1, 1:-1], atol=1e-6)
    np.testing.assert_allclose(gradient[0, ..., 1], padded[1:-1, 2:] - padded[1:-1, 1:-1], atol=1e-6)


@pytest.mark.slow
def test_vmap_and_pmap_change_nothing():
    image, displacement = pair((6, 5), batch=4)

    def gradients(image, displacement):
        return jax.grad(lambda *arguments: (warp(*arguments) ** 2).sum(), (0, 1))(image, displacement)

    expected = jax.jit(gradients)(image, displacement)
    split = [array.reshape(2, 2, *array.shape[1:]) for array in (image, displacement)]
    for found in (jax.jit(jax.vmap(gradients))(*split), jax.pmap(gradients, devices=jax.devices()[:2])(*split)):
        for ours, array in zip(found, expected, strict=True):
            np.testing.assert_allclose(np.reshape(ours, array.shape), array, atol=1e-6)


@pytest.mark.slow
def test_one_image_under_many_displacements():
    """vmap over the displacement only: the gradient of the image is the sum over all displacements."""
    image, displacement = pair((6, 5), batch=3)

    @jax.jit
    @jax.grad
    def gradient(image):
        return jax.vmap(lambda u: warp(image, u[None]))(displacement).sum()

    each = plain_gradients(np.repeat(image[:1], 3, axis=0), points_of(displacement), np.ones(image.shape))[0]
    np.testing.assert_allclose(gradient(image[:1])[0], each.sum(axis=0), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_undefined_coordinates_stay_in_their_image(mode):
    """Far, infinite and undefined coordinates of one image do not change the gradients of the other."""
    image, displacement = pair((6, 5), batch=2)
    gradients = jax.jit(jax.grad(lambda *arguments: warp(*arguments, mode=mode).sum(), (0, 1)))
    expected = gradients(image, displacement)
    for bad in (np.nan, np.inf, -np.inf, 3e9, -3e9):
        spoiled = displacement.copy()
        spoiled[0] = bad
        gradient = gradients(image, spoiled)
        for found, array in zip(gradient, expected, strict=True):
            np.testing.assert_allclose(found[1], array[1], atol=1e-6)


def test_bfloat16_images_keep_their_dtype():
    image, displacement = pair((6, 5))
    along = jax.jit(lambda image, u: jax.jvp(lambda u: warp(image, u), (u,), (u,)))
    value, tangent = along(image.astype(jnp.bfloat16), displacement)
    assert value.dtype == tangent.dtype == jnp.bfloat16
    np.testing.assert_allclose(tangent.astype(np.float32), along(image, displacement)[1], atol=0.05)


# A piece is several whole images, a part that divides an image, or a part that has to be padded.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "batch", "at_once"), [((4, 5), 6, 50), ((4, 5), 4, 40), ((6, 4), 2, 9), ((5, 7), 2, 6), ((7, 1), 3, 3)]
)
@pytest.mark.parametrize("channels", [pytest.param(1, marks=THOROUGH), 2])
def test_pieces_change_nothing(shape, batch, at_once, channels, monkeypatch):
    image, displacement = pair(shape, channels, batch)
    weights = np.random.default_rng(1).standard_normal(image.shape).astype(np.float32)

    def function(image, displacement):
        warped = interpolation.interpolate(image, displacement, mode="constant", relative=True)
        return jnp.sum(weights * warped), warped

    pieces, real = [], gather_scatter._pieces
    monkeypatch.setattr(gather_scatter, "POINTS_AT_ONCE", at_once)
    monkeypatch.setattr(gather_scatter, "_pieces", lambda *a: pieces.append(len(real(*a)[0])) or real(*a))
    (_, warped), gradients = jax.jit(jax.value_and_grad(function, (0, 1), has_aux=True))(image, displacement)
    assert min(pieces) > 1
    points = points_of(displacement)
    np.testing.assert_allclose(warped, plain_sample(image, points), atol=1e-5)
    for ours, expected in zip(gradients, plain_gradients(image, points, weights), strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-5)


@pytest.mark.real_compiler
def test_float64_images_keep_their_precision_under_differentiation():
    with jax.enable_x64(True):
        image = jnp.asarray(np.random.default_rng(0).random((1, 6, 5, 1)))
        zero = jnp.zeros((1, 6, 5, 2), jnp.float32)
        cotangent = jnp.asarray(np.random.default_rng(1).random(image.shape))

        def pull_back(image, cotangent):
            warped, pull = jax.vjp(warp, image, zero)
            return warped, pull(cotangent)[0]

        warped, pulled = jax.jit(pull_back, compiler_options=REAL_KERNELS)(image, cotangent)
        np.testing.assert_array_equal(warped, image)
        np.testing.assert_array_equal(pulled, cotangent)


def test_without_jit_nothing_is_compiled_twice():
    image, displacement = map(jnp.asarray, pair((5, 4)))
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
    image = rng.random((2, *voxels, channels), np.float32)
    size = (2, *points, len(voxels))
    coordinates = (rng.integers(-2, max(voxels) + 2, size) + rng.uniform(0.3, 0.7, size)).astype(np.float32)

    @jax.jit
    def ours(image, coordinates):
        def of(image, coordinates):
            values = sample(image, coordinates)
            return jnp.sum(values**2), values

        (_, values), gradients = jax.value_and_grad(of, (0, 1), has_aux=True)(image, coordinates)
        gradient = jax.grad(lambda *arguments: of(*arguments)[0], (0, 1))
        return values, gradients, jax.jvp(gradient, (image, coordinates), (image, coordinates))[1]

    def plain(scale):
        """Gradients of the sum of squares, at both arguments times a number."""
        arguments = scale * image.astype(float), scale * coordinates.astype(float)
        return plain_gradients(*arguments, 2 * plain_sample(*arguments))

    values, gradients, second = ours(image, coordinates)
    np.testing.assert_allclose(values, plain_sample(image, coordinates), atol=1e-5)
    for found, reference in zip(gradients, plain(1.0), strict=True):
        np.testing.assert_allclose(found, reference, atol=2e-5)
    for found, ahead, behind in zip(second, plain(1 + 1e-5), plain(1 - 1e-5), strict=True):
        np.testing.assert_allclose(found, (ahead - behind) / 2e-5, rtol=1e-3, atol=1e-3)
