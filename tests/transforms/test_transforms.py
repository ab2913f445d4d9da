import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from air_jax import warp
from air_jax.transforms import corner_jacobian_determinant, identity_grid, jacobian_determinant

SHAPES = [(8, 8), (7, 9), (5, 12), (257, 33), (4, 5, 6), (9, 8, 7)]
# How SciPy names what map_coordinates calls "constant" and "wrap".
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


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("mode", SCIPY_MODES)
def test_zero_displacement_is_the_identity_to_the_last_bit(shape, order, mode):
    image = random_image(shape, channels=2)
    warped = warp(image, np.zeros((2, *shape, len(shape)), np.float32), order=order, mode=mode)
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


@pytest.mark.parametrize("shape", [(8, 8), (7, 9), (5, 6, 7)])
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


@pytest.mark.parametrize("shape", [(6, 7), (4, 5, 4)])
@pytest.mark.parametrize("argument", ["image", "displacement"])
def test_gradients_agree_with_finite_differences(shape, argument):
    # Away from integer coordinates, where linear interpolation has a kink; in float64, so that differences are exact.
    rng = np.random.default_rng(2)
    image = rng.random((1, *shape, 2))
    displacement = np.floor(rng.uniform(-2, 2, (1, *shape, len(shape)))) + rng.uniform(
        0.2, 0.8, (1, *shape, len(shape))
    )
    weights = rng.random(image.shape)
    with jax.enable_x64(True):

        def weighted_sum(value):
            arguments = {"image": image, "displacement": displacement} | {argument: value}
            # float64 coordinates: warp itself keeps them float32, which suffices to 1e-6 here
            return jnp.sum(weights * warp(**arguments))

        value = {"image": image, "displacement": displacement}[argument]
        gradient = np.asarray(jax.grad(weighted_sum)(jnp.asarray(value)))
        step = 2.0**-6
        for index in rng.permutation(list(np.ndindex(value.shape)))[:40]:
            offset = np.zeros_like(value)
            offset[tuple(index)] = step
            difference = (weighted_sum(value + offset) - weighted_sum(value - offset)) / (2 * step)
            np.testing.assert_allclose(gradient[tuple(index)], difference, atol=2e-5)


def test_batch_and_channels_are_independent():
    image, displacement = random_image((6, 7), channels=3, batch=4), random_displacement((6, 7), batch=4)
    whole = np.asarray(warp(image, displacement))
    for batch, channel in itertools.product(range(4), range(3)):
        one = warp(image[batch : batch + 1, ..., channel : channel + 1], displacement[batch : batch + 1])
        np.testing.assert_array_equal(whole[batch, ..., channel], np.asarray(one)[0, ..., 0])


@pytest.mark.parametrize("shape", [(6, 7), (4, 5, 6)])
def test_labels_without_channels_keep_their_integers(shape):
    labels = np.random.default_rng(0).integers(0, 40, (2, *shape))
    displacement = np.zeros((2, *shape, len(shape)), np.float32)
    displacement[..., 0] = 0.6  # nearest neighbour: the next one
    warped = np.asarray(warp(labels, displacement, order=0))
    assert np.issubdtype(warped.dtype, np.integer)
    np.testing.assert_array_equal(warped[:, :-1], labels[:, 1:])


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
        ((2, 6, 7, 1), (2, 6, 7, 2), {"order": 3}, "order is 3"),
        ((2, 6, 7, 1), (2, 6, 7, 2), {"mode": "edge"}, "mode is 'edge'"),
    ],
)
def test_mistakes_are_told_in_one_line(image_shape, displacement_shape, options, message):
    with pytest.raises(ValueError, match=message) as error:
        warp(np.zeros(image_shape), np.zeros(displacement_shape), **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("num_axes", [2, 3])
@pytest.mark.parametrize("function", [jacobian_determinant, corner_jacobian_determinant])
def test_jacobian_of_an_affine_map_is_its_determinant(function, num_axes):
    shape = (6, 7, 8)[:num_axes]
    matrix = np.eye(num_axes) + 0.3 * np.random.default_rng(3).standard_normal((num_axes, num_axes))
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    displacement = (grid @ (matrix - np.eye(num_axes)).T).astype(np.float32)[None]
    determinant = np.asarray(function(displacement))
    assert determinant.shape == (1, *(size - 2 for size in shape))
    np.testing.assert_allclose(determinant, np.linalg.det(matrix), rtol=1e-4)


def test_jacobian_agrees_with_numpy_gradient():
    displacement = random_displacement((7, 8, 9), batch=1, scale=0.3)
    derivatives = np.stack([np.stack(np.gradient(displacement[0, ..., n]), axis=-1) for n in range(3)], axis=-2)
    expected = np.linalg.det(derivatives + np.eye(3))[1:-1, 1:-1, 1:-1]
    np.testing.assert_allclose(np.asarray(jacobian_determinant(displacement))[0], expected, atol=1e-5)


def test_corner_determinant_sees_the_fold_that_central_differences_miss():
    displacement = np.zeros((1, 5, 5, 2), np.float32)
    displacement[0, 2, 2, 0] = 1.5  # this voxel alone jumps beyond its lower neighbour
    assert np.asarray(jacobian_determinant(displacement))[0, 1, 1] == 1
    # Forward difference along the rows at the voxel: (3 + 0) - (2 + 1.5) = -0.5
    np.testing.assert_allclose(np.asarray(corner_jacobian_determinant(displacement))[0, 1, 1], -0.5)


def test_corner_determinant_agrees_with_a_plain_loop():
    displacement = random_displacement((5, 6, 5), batch=1, scale=0.4)
    positions = displacement[0] + np.stack(np.meshgrid(*map(np.arange, (5, 6, 5)), indexing="ij"), axis=-1)
    corner = np.asarray(corner_jacobian_determinant(displacement))[0]
    for index in np.ndindex(corner.shape):
        p = np.array(index) + 1
        determinants = []
        for signs in itertools.product((1, -1), repeat=3):
            columns = [
                s * (positions[tuple(p + s * e)] - positions[tuple(p)])
                for s, e in zip(signs, np.eye(3, dtype=int), strict=True)
            ]
            determinants.append(np.linalg.det(np.stack(columns, axis=1)))
        np.testing.assert_allclose(corner[index], min(determinants), atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 5, 5, 3), (5, 5, 2), (1, 5, 2, 2), (1, 5, 1)])
def test_jacobian_refuses_what_is_no_displacement(shape):
    with pytest.raises(ValueError, match="displacement has shape"):
        jacobian_determinant(np.zeros(shape))
