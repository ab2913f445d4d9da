"""`warp` and `sample`: exactness, all border modes against SciPy, dtypes, shapes and messages."""

import functools
import inspect
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from helpers import REAL_KERNELS, THOROUGH

from air_jax import warp
from air_jax.transforms import identity_grid, sample

# Further sizes are of the kinds of these: odd and even sides, a long one, three axes.
SHAPES = [(7, 9), (257, 33), (9, 8, 7), *(pytest.param(size, marks=THOROUGH) for size in [(8, 8), (5, 12), (4, 5, 6)])]
# SciPy names the modes "constant" and "wrap" of JAX differently.
SCIPY_MODES = {
    "constant": "grid-constant",
    "wrap": "grid-wrap",
    "nearest": "nearest",
    "mirror": "mirror",
    "reflect": "reflect",
}


def random_image(shape, channels=1, batch=2, seed=0):
    return np.random.default_rng(seed).random((batch, *shape, channels), dtype=np.float32)


def random_displacement(shape, batch=2, scale=2.0, seed=1):
    return scale * np.random.default_rng(seed).standard_normal((batch, *shape, len(shape))).astype(np.float32)


def test_identity_grid_holds_index_coordinates():
    grid = np.asarray(identity_grid((3, 4, 5)))
    assert grid.shape == (3, 4, 5, 3)
    assert grid.dtype == np.float32
    for index in np.ndindex(3, 4, 5):
        np.testing.assert_array_equal(grid[index], index)


@pytest.mark.slow
@pytest.mark.real_compiler
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("mode", SCIPY_MODES)
def test_zero_displacement_is_the_identity_to_the_last_bit(shape, order, mode):
    image = random_image(shape, channels=2)
    compiled = jax.jit(functools.partial(warp, order=order, mode=mode), compiler_options=REAL_KERNELS)
    warped = compiled(image, np.zeros((2, *shape, len(shape)), np.float32))
    np.testing.assert_array_equal(np.asarray(warped), image)


@pytest.mark.parametrize("shape", [(6, 7), (4, 5, 6)])
def test_shift_by_one_pixel_along_each_axis(shape):
    image = random_image(shape)
    for axis, direction in itertools.product(range(len(shape)), (1, -1)):
        displacement = np.zeros((2, *shape, len(shape)), np.float32)
        displacement[..., axis] = direction
        # Pull-back: warped(p) = image(p + u), so u = +1 moves the content towards lower indices, and zeros come in.
        expected = np.roll(image, -direction, axis=axis + 1)
        border = [slice(None)] * image.ndim
        border[axis + 1] = -1 if direction == 1 else 0
        expected[tuple(border)] = 0
        np.testing.assert_array_equal(np.asarray(warp(image, displacement)), expected)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [pytest.param((8, 8), marks=THOROUGH), (7, 9), (5, 6, 7)])
@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("mode", SCIPY_MODES)
def test_random_fields_agree_with_scipy(shape, order, mode):
    image, displacement = random_image(shape, channels=3), random_displacement(shape, scale=3.0)
    warped = np.asarray(warp(image, displacement, order=order, mode=mode))
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"))
    for batch, channel in itertools.product(range(2), range(3)):
        expected = scipy.ndimage.map_coordinates(
            image[batch, ..., channel].astype(np.float64),
            grid + np.moveaxis(displacement[batch], -1, 0).astype(np.float64),
            order=order,
            mode=SCIPY_MODES[mode],
            prefilter=False,
        )
        np.testing.assert_allclose(warped[batch, ..., channel], expected, atol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(6, 7), (4, 5, 4)])
def test_gradients_agree_with_finite_differences(shape):
    # Away from integer coordinates, where linear interpolation has a kink. float64 makes the differences exact.
    rng = np.random.default_rng(2)
    image = rng.random((1, *shape, 2))
    size = (1, *shape, len(shape))
    displacement = np.floor(rng.uniform(-2, 2, size)) + rng.uniform(0.2, 0.8, size)
    weights = rng.random(image.shape)
    with jax.enable_x64(True):
        # `warp` keeps coordinates in float32 also for float64 arguments, which suffices to 1e-6 here.
        @jax.jit
        @functools.partial(jax.value_and_grad, argnums=(0, 1))
        def weighted_sum(*arguments):
            return jnp.sum(weights * warp(*arguments))

        arguments = image, displacement
        gradients = weighted_sum(*arguments)[1]
        step = 2.0**-6
        for which, gradient in enumerate(gradients):
            for index in rng.permutation(list(np.ndindex(gradient.shape)))[:40]:
                ahead, behind = ([array.copy() for array in arguments] for _ in range(2))
                ahead[which][tuple(index)] += step
                behind[which][tuple(index)] -= step
                difference = (weighted_sum(*ahead)[0] - weighted_sum(*behind)[0]) / (2 * step)
                np.testing.assert_allclose(gradient[tuple(index)], difference, atol=2e-5)


def test_batch_and_channels_are_independent():
    image, displacement = random_image((6, 7), channels=3, batch=4), random_displacement((6, 7), batch=4)
    whole = np.asarray(warp(image, displacement))
    for batch, channel in itertools.product(range(4), range(3)):
        one = warp(image[batch : batch + 1, ..., channel : channel + 1], displacement[batch : batch + 1])
        np.testing.assert_array_equal(whole[batch, ..., channel], np.asarray(one)[0, ..., 0])


@pytest.mark.parametrize("shape", [(6, 7), (4, 5, 6)])
def test_segmentations_keep_their_integers(shape):
    segmentation = np.random.default_rng(0).integers(0, 40, (2, *shape))
    displacement = np.zeros((2, *shape, len(shape)), np.float32)
    displacement[..., 0] = 0.6  # the nearest voxel is the next one
    warped = np.asarray(warp(segmentation, displacement, order=0))
    assert np.issubdtype(warped.dtype, np.integer)
    np.testing.assert_array_equal(warped[:, :-1], segmentation[:, 1:])


def test_coordinates_stay_float32_for_a_bfloat16_displacement():
    image = np.arange(300, dtype=np.float32).reshape(1, 300, 1, 1).repeat(3, axis=2)
    displacement = jnp.full((1, 300, 3, 2), 0.5, jnp.bfloat16).at[..., 1].set(0)
    np.testing.assert_array_equal(np.asarray(warp(image, displacement))[0, 257, 0, 0], 257.5)


@pytest.mark.parametrize(
    ("image_shape", "displacement_shape", "options", "message"),
    [
        ((2, 6, 7, 1), (2, 6, 8, 2), {}, r"\(2, 6, 7, 1\) does not fit .*\(2, 6, 8, 2\)"),
        ((2, 6, 7, 1), (3, 6, 7, 2), {}, "does not fit"),
        ((6, 7), (6, 7, 2), {}, r"must be \[B, \*S, N\]"),
        ((2, 6, 7, 1), (2, 6, 7, 3), {}, r"must be \[B, \*S, N\]"),
        ((2, 6, 7, 1), (2, 6, 7, 2), {"order": 3}, "order=3: must be 0"),
        ((2, 6, 7, 1), (2, 6, 7, 2), {"mode": "edge"}, "mode='edge': must be one of constant"),
    ],
)
def test_wrong_arguments_raise_an_error_of_one_line(image_shape, displacement_shape, options, message):
    with pytest.raises(ValueError, match=message) as error:
        warp(np.zeros(image_shape), np.zeros(displacement_shape), **options)
    assert "\n" not in str(error.value)


def test_signatures_show_the_parameters():
    assert list(inspect.signature(warp).parameters) == ["image", "displacement", "order", "mode"]
    assert list(inspect.signature(sample).parameters) == ["image", "coordinates", "order", "mode"]
    assert all(inspect.isfunction(function) for function in (warp, sample))  # so that help() prints the signature


@pytest.mark.parametrize("order", [0, 1])
def test_coordinates_keep_their_digits_on_long_axes(order):
    """Coordinates must not become displacements from the points' own grid: 999999 + (2.3 - 999999) is 2.3125."""
    coordinates = jnp.full((1, 10**6, 1), 2.3)
    sampled = sample(jnp.arange(8.0)[None], coordinates, order=order)
    np.testing.assert_allclose(sampled, 2.3 if order else 2.0, atol=1e-6)
    if order:
        gradient = jax.grad(lambda x: sample(jnp.arange(8.0)[None] ** 2, x).sum())(coordinates)
        np.testing.assert_array_equal(gradient, 5.0)  # 3^2 - 2^2


@pytest.mark.parametrize("mode", SCIPY_MODES)
@pytest.mark.parametrize("size", [1, 2, 4, 5])
def test_halves_take_the_voxel_that_scipy_takes(mode, size):
    """Order 0 at integers, halves and their neighbours in float32, up to three image sizes beyond the border."""
    values = np.arange(1.0, size + 1)
    steps = np.arange(-6 * size, 8 * size + 1, dtype=np.float32) / 2
    coordinates = np.concatenate(
        [steps, np.nextafter(steps, np.float32(np.inf)), np.nextafter(steps, np.float32(-np.inf))]
    )
    expected = scipy.ndimage.map_coordinates(
        values, coordinates[None].astype(np.float64), order=0, mode=SCIPY_MODES[mode], prefilter=False
    )
    found = sample(jnp.asarray(values[None]), jnp.asarray(coordinates[None, :, None]), order=0, mode=mode)
    np.testing.assert_array_equal(found[0], expected)


@pytest.mark.parametrize("mode", SCIPY_MODES)
def test_order_0_at_coordinates_that_are_not_numbers_stays_inside(mode):
    image = np.arange(1, 13, dtype=np.int32).reshape(1, 3, 4)
    for bad in (np.nan, np.inf, -np.inf, 3e9, -3e9):
        found = np.asarray(sample(image, jnp.full((1, 2, 2, 2), bad), order=0, mode=mode))
        assert np.isin(found, [0, *range(1, 13)] if mode == "constant" else range(1, 13)).all()


@pytest.mark.parametrize(
    "dtype", [np.int32, np.uint32, np.int16, np.uint8, bool, np.float32, jnp.bfloat16, np.complex64]
)
def test_order_0_is_exact_for_every_dtype(dtype):
    """Also for integers that float32 cannot hold."""
    rng = np.random.default_rng(0)
    if np.dtype(dtype).kind in "iu":
        limits = np.iinfo(dtype)
        image = rng.integers(limits.min, limits.max, (1, 6, 7, 2), dtype=dtype, endpoint=True)
        image[0, 0, 0] = limits.max
    else:
        image = (10 * rng.standard_normal((1, 6, 7, 2))).astype(dtype)
    displacement = np.zeros((1, 6, 7, 2), np.float32)
    displacement[..., 1] = 1.0
    warped = np.asarray(warp(image, displacement, order=0))
    assert warped.dtype == image.dtype
    np.testing.assert_array_equal(warped[:, :, :-1], image[:, :, 1:])
    np.testing.assert_array_equal(warped[:, :, -1], np.zeros((), dtype))


def test_64_bit_integers_are_exact_or_refused():
    zero = np.zeros((1, 2, 2, 2), np.float32)
    for dtype, value in ((np.int64, 2**31), (np.int64, -(2**31) - 1), (np.uint64, 2**32)):
        image = np.full((1, 2, 2), value, dtype)
        for call in (lambda image=image: warp(image, zero, order=0), lambda image=image: sample(image, zero, order=0)):
            with pytest.raises(ValueError, match=f"image has dtype {np.dtype(dtype).name} and values beyond those of"):
                call()
        with jax.enable_x64(True):
            np.testing.assert_array_equal(warp(image, zero, order=0), image)
    small = np.full((1, 2, 2), 2**31 - 1, np.int64)
    np.testing.assert_array_equal(warp(small, zero, order=0), small)


def test_order_1_rounds_integer_images_and_keeps_their_dtype():
    """Halves away from zero; the same image as floats keeps its fractions."""
    image = np.array([[0, 1, 4, 255], [7, 10, 2, 0]], np.uint8)[None]
    displacement = np.zeros((1, 2, 4, 2), np.float32)
    displacement[..., 1] = 0.5
    exact = np.array([[0.5, 2.5, 129.5, 127.5], [8.5, 6, 1, 0]])
    np.testing.assert_array_equal(warp(image.astype(np.float32), displacement)[0], exact)
    warped = warp(image, displacement)
    assert warped.dtype == np.uint8
    np.testing.assert_array_equal(warped[0], np.floor(exact + 0.5))
    negative = warp(-image.astype(np.int16), displacement)
    assert negative.dtype == np.int16
    np.testing.assert_array_equal(negative[0], -np.floor(exact + 0.5))


def test_order_1_interpolates_both_parts_of_complex_images():
    rng = np.random.default_rng(0)
    real, imaginary = rng.standard_normal((2, 1, 5, 6, 1)).astype(np.float32)
    displacement = rng.uniform(-2, 2, (1, 5, 6, 2)).astype(np.float32)
    warped = np.asarray(warp(real + 1j * imaginary, displacement))
    np.testing.assert_allclose(warped.real, warp(real, displacement), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(warped.imag, warp(imaginary, displacement), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shapes", [((1, 6, 7, 1), (1, 4, 4)), ((6, 7), (1, 4, 4, 2)), ((2, 6, 7), (1, 4, 4, 2))])
def test_sample_refuses_shapes_that_do_not_fit(shapes):
    with pytest.raises(ValueError, match="sample: image of shape"):
        sample(*map(jnp.zeros, shapes))
