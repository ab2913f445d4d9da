"""Normalisation of one image, against percentiles and ranges computed by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from air_jax.transforms.intensity import CT_WINDOW, PERCENTILES, WINDOWS, normalize, normalize_traced, to_unit_range

DTYPES = (bool, np.uint8, np.int16, np.uint16, np.int32, np.float16, np.float32, np.float64)


def test_there_is_a_test_for_every_window():
    assert set(WINDOWS) == {"range", "percentile", "foreground", "ct"}
    assert (PERCENTILES, CT_WINDOW) == ((0.5, 99.5), (-160, 240))


@pytest.mark.parametrize("shape", [(4, 5), (3, 4, 5), (4, 5, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_range_agrees_with_to_unit_range(dtype, shape):
    image = np.random.default_rng(0).random(shape)
    if dtype != np.float32:
        image = image * np.iinfo(dtype).max
    image = image.astype(dtype)
    normalized = normalize(image, "range")
    assert normalized.dtype == np.float32
    np.testing.assert_allclose(normalized, to_unit_range(jnp.asarray(image)), rtol=1e-6)


def test_range_keeps_booleans_and_both_ends():
    np.testing.assert_array_equal(normalize(np.array([[True, False]]), "range"), [[1, 0]])
    np.testing.assert_array_equal(normalize(np.array([[0, 255]], np.uint8), "range"), [[0, 1]])
    np.testing.assert_array_equal(normalize(np.array([[0, 2**32 - 1]], np.uint32), "range"), [[0, 1]])
    # Half of the range stays half of it: the limits are not those of the image.
    np.testing.assert_array_equal(normalize(np.array([[0.25, 0.5]]), "range"), [[0.25, 0.5]])
    # Values that float32 rounds to 1 become 1.
    np.testing.assert_array_equal(normalize(np.array([[0, 1 + 1e-12]]), "range"), [[0, 1]])


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.float32, np.float64])
def test_percentiles_become_0_and_1(dtype):
    """Of 0, 10, ..., 2000 the 0.5th percentile is 10 and the 99.5th 1990; between them it is linear."""
    values = 10 * np.arange(201)
    expected = np.clip((values - 10) / 1980, 0, 1)
    shuffled = np.random.default_rng(0).permutation(201)
    normalized = normalize(values[shuffled].reshape(3, 67).astype(dtype), "percentile")
    assert normalized.dtype == np.float32
    assert normalized.shape == (3, 67)
    np.testing.assert_allclose(normalized.ravel(), expected[shuffled], rtol=1e-6)


def test_percentiles_lie_between_values_and_count_the_background():
    image = np.concatenate([np.zeros(900), np.linspace(100, 200, 100)]).reshape(10, 10, 10)
    low, high = 0, np.sort(image.ravel())[994] + 0.005 * (100 / 99)  # the 99.5th of 1000 is at 0.995 * 999 = 994.005
    np.testing.assert_allclose(normalize(image, "percentile"), np.clip((image - low) / (high - low), 0, 1), rtol=1e-6)


@pytest.mark.parametrize("surround", [0, 1000])
def test_the_background_does_not_change_the_scale_of_the_foreground(surround):
    """Of 1, ..., 201 the 98th percentile is 197."""
    values = np.concatenate([np.arange(1, 202), np.zeros(surround)])
    expected = np.clip(values / 197, 0, 1)
    np.testing.assert_allclose(normalize(values[None].astype(np.int16), "foreground")[0], expected, rtol=1e-6)
    np.testing.assert_array_equal(normalize(np.array([[-5, 0]]), "foreground"), [[0, 0]])


def test_channels_share_their_limits_so_that_colours_stay():
    image = np.zeros((20, 20, 3), np.uint8)
    image[..., 0], image[:10, :, 1] = 200, 100
    np.testing.assert_allclose(normalize(image, "percentile"), image / 200, rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_constant_images_become_0_and_masks_stay_masks(dtype):
    for value in (0, 1):
        image = np.full((8, 9), value, dtype)
        np.testing.assert_array_equal(normalize(image, "percentile"), np.zeros((8, 9)))
    sparse = np.zeros((40, 40), dtype)
    sparse[7, 3] = 1  # 1 of 1600: both percentiles are 0
    dense = np.zeros((40, 40), dtype)
    dense[:20] = 1
    for mask in (sparse, dense, (sparse == 0).astype(dtype)):
        np.testing.assert_array_equal(normalize(mask, "percentile"), mask.astype(np.float32))


def test_ct_uses_the_window_of_soft_tissue():
    image = np.array([[-1000, -160, 40], [140, 240, 3000]])
    expected = [[0, 0, 0.5], [0.75, 1, 1]]
    for dtype in (np.int16, np.int32, np.float32):
        np.testing.assert_allclose(normalize(image.astype(dtype), "ct"), expected)


@pytest.mark.parametrize("window", sorted(WINDOWS))
def test_the_result_is_finite_and_the_image_unchanged(window):
    image = np.random.default_rng(0).random((12, 12)).astype(np.float32)
    image[0, :3] = np.nan, np.inf, -np.inf
    before = image.copy()
    normalized = normalize(image, window)
    np.testing.assert_array_equal(image, before)
    assert np.isfinite(normalized).all()
    assert normalized.min() >= 0
    assert normalized.max() <= 1
    # They count as 0, as in the images that air_jax.io reads.
    np.testing.assert_array_equal(normalized, normalize(np.where(np.isfinite(image), image, 0), window))


def test_the_largest_floats_do_not_overflow():
    extremes = np.finfo(np.float32)
    image = np.array([[extremes.min, 0, extremes.max]], np.float32)
    np.testing.assert_allclose(normalize(image, "percentile"), [[0, 0.5, 1]])


@pytest.mark.parametrize(
    ("image", "window", "message"),
    [
        (np.array([[0, 300]], np.int16), "range", "has dtype int16, whose range tells nothing"),
        (np.array([[0, 1.5]]), "range", 'has values from 0 to 1.5, .* use "percentile"'),
        (np.array([[-0.5, 1]]), "range", "has values from -0.5 to 1"),
        (np.array([[0, 30]], np.uint16), "ct", "has dtype uint16, which cannot hold Hounsfield units"),
        (np.zeros((0, 3)), "percentile", r"has dtype float64 and shape \(0, 3\)"),
        (np.zeros((2, 3), complex), "percentile", "has dtype complex128"),
        (np.zeros((2, 3)), "minmax", "window='minmax': must be one of range, percentile, foreground, ct"),
    ],
)
def test_wrong_images_raise_an_error_of_one_line(image, window, message):
    with pytest.raises(ValueError, match=message) as error:
        normalize(image, window)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("kind", ["values", "sparse", "constant"])
def test_normalisation_inside_jit_is_that_outside(window, kind):
    image = np.random.default_rng(0).random((9, 8, 2), dtype=np.float32)
    if kind == "sparse":
        image = np.where(image > 0.999, image, 0)
    if kind == "constant":
        image = np.full_like(image, 0.0)
    if window != "range":
        image = 700 * image - (300 if window == "ct" else 0)
        image[0, 0, 0] = np.nan
    found = jax.jit(normalize_traced, static_argnums=1)(image, window)
    np.testing.assert_allclose(found, normalize(image, window), atol=1e-5)
    with pytest.raises(ValueError, match="dtype"):
        normalize_traced(jnp.zeros((3, 3), jnp.uint8), "ct")
