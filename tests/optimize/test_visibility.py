"""What counts of a pair: filled images, weights of a pair, and weights on coarser grids."""

import jax.numpy as jnp
import numpy as np
import scipy.ndimage

from air_jax.losses import make_objective
from air_jax.optimize import Geometry, fill, objective_value
from air_jax.optimize.visibility import FILL_SIGMA, Images, pair_weights, shrink_images


def hidden_block(shape=(20, 24)):
    """An image `[1, *S, 1]` and weights `[1, *S]` that hide a block."""
    rng = np.random.default_rng(0)
    weights = rng.uniform(0.2, 1, (1, *shape)).astype(np.float32)
    weights[:, 5:9, 6:12] = 0
    return rng.random((1, *shape, 1), dtype=np.float32), weights


def test_fill_keeps_what_counts_and_continues_it():
    image, weights = hidden_block()
    hidden = (weights == 0)[..., None]
    filled = np.asarray(fill(np.where(hidden, np.nan, image), weights))
    np.testing.assert_array_equal(filled[~hidden], image[~hidden])

    def smooth(values):
        return scipy.ndimage.gaussian_filter(values.astype(float), FILL_SIGMA, mode="nearest", truncate=3)

    expected = smooth(weights[0] * image[0, ..., 0]) / smooth(weights[0])
    np.testing.assert_allclose(filled[hidden], expected[hidden[0, ..., 0]], rtol=1e-3)
    constant = fill(np.where(hidden, 9, 0.3).astype(np.float32), weights)
    np.testing.assert_allclose(constant, 0.3, rtol=1e-5)
    assert fill(image, None) is image


def test_weights_of_a_pair_are_a_product_and_0_outside():
    image, weights = hidden_block()
    moving_weights = weights[:, :, :17]
    matrix = np.array([[1.1, 0.1, -3], [0.05, 0.8, 2.5]])
    displacement = np.random.default_rng(1).uniform(-2, 2, (1, *image.shape[1:3], 2)).astype(np.float32)
    images = Images(image, image[:, :, :17], weights, moving_weights)
    found = pair_weights(images, displacement, jnp.asarray(matrix, jnp.float32)[None])
    points = np.stack(np.indices(image.shape[1:3]), axis=-1) + displacement[0]
    points = points @ matrix[:, :2].T + matrix[:, 2]
    seen = scipy.ndimage.map_coordinates(moving_weights[0], np.moveaxis(points, -1, 0), order=1, mode="grid-constant")
    assert (seen == 0).any()
    np.testing.assert_allclose(found[0], weights[0] * seen, atol=1e-5)
    assert pair_weights(images._replace(moving_weights=None), displacement, None) is weights


def test_coarse_voxels_that_count_in_part_count_little():
    weights = np.full((1, 16, 16), 0.5, np.float32)
    weights[:, :, 8:] = 0
    image = np.zeros((1, 16, 16, 1), np.float32)
    small = shrink_images(Images(image, image, weights, np.ones_like(weights)), (8, 8), (4, 4))
    np.testing.assert_allclose(small.moving_weights, 1, rtol=1e-5)
    np.testing.assert_allclose(small.weights[0, :, :3], 0.5, rtol=1e-5)
    np.testing.assert_allclose(small.weights[0, :, 5:], 0, atol=1e-6)
    # The antialiased average next to the edge counts 7/8 of its voxels, so it weighs half of that to the fourth power.
    np.testing.assert_allclose(small.weights[0, :, 3], 0.5 * 0.875**4, rtol=1e-4)
    np.testing.assert_allclose(small.weights[0, :, 4], 0.5 * 0.125**4, rtol=1e-3)


def test_objective_of_a_displacement_on_the_fixed_grid():
    image, weights = hidden_block()
    shift = np.zeros((1, *image.shape[1:3], 2), np.float32)
    shift[..., 0] = 1
    geometry = Geometry(jnp.asarray([[[1.0, 0, 0], [0, 1, 2]]]))
    value = objective_value(make_objective("mse"), image, image, shift, geometry=geometry, weights=weights)
    rows, columns = np.indices(image.shape[1:3])
    warped = image[0, np.minimum(rows + 1, 19), np.minimum(columns + 2, 23), 0]
    expected = np.average((warped - image[0, ..., 0]) ** 2, weights=weights[0])
    np.testing.assert_allclose(value, expected, rtol=1e-5)
