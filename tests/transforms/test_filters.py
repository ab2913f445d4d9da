"""Gaussian smoothing and edges, against SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from air_jax.transforms import shrink, smooth, with_edges


@pytest.mark.parametrize(
    ("shape", "sigma"), [((21, 16), 1.3), ((21, 5), (0.0, 4.0)), ((9, 12, 10), (2.0, 0.7, 1.0)), ((7, 7, 1), 3)]
)
def test_smooth_agrees_with_scipy(shape, sigma):
    field = np.random.default_rng(0).standard_normal((2, *shape, 3)).astype(np.float32)
    sigmas = (sigma,) * len(shape) if np.isscalar(sigma) else sigma
    expected = scipy.ndimage.gaussian_filter(
        field.astype(np.float64),
        (0, *sigmas, 0),
        mode="nearest",
        radius=(0, *(int(np.ceil(3 * each)) for each in sigmas), 0),
    )
    np.testing.assert_allclose(smooth(field, sigma), expected, atol=2e-6)
    constant = jnp.full((1, *shape, 1), 7.0)
    np.testing.assert_allclose(smooth(constant, sigma), constant, rtol=1e-6)


def test_shrink_by_whole_factors_weighs_each_cell_by_a_triangle_of_two_cells_width():
    image = np.random.default_rng(0).random((2, 12, 9, 1), dtype=np.float32)
    small = np.asarray(shrink(image, (4, 9)))
    weights = np.maximum(0, 1 - np.abs((np.arange(12) + 0.5)[None] - (3 * np.arange(4) + 1.5)[:, None]) / 3)
    weights /= weights.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(small, np.einsum("yx,bxzc->byzc", weights, image), atol=1e-6)
    assert shrink(image, (12, 9)) is image


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(9, 10), (7, 8, 9)])
def test_edges_are_gradient_magnitudes(shape):
    image = np.random.default_rng(0).random((2, *shape, 1)).astype(np.float32)
    sigmas = (0, *(0.7,) * len(shape))
    smoothed = scipy.ndimage.gaussian_filter(image[..., 0].astype(np.float64), sigmas, mode="nearest", truncate=3.0)
    gradient = np.stack(np.gradient(smoothed, axis=tuple(range(1, 1 + len(shape)))))
    expected = np.stack([image[..., 0], 2 * np.sqrt(np.square(gradient).sum(0))], axis=-1)
    np.testing.assert_allclose(
        with_edges(jnp.asarray(image)), expected, atol=2e-3
    )  # the small number under the root adds up to 0.002
    flat = jax.grad(lambda image: with_edges(image).sum())(jnp.ones((1, *shape, 1)))
    assert np.isfinite(flat).all()
